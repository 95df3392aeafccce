"""Which of the faces in a picture is the user: the nearest one, or the one that talks. Pure."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
from timar_common.clock import NS_PER_S

from timar_perception.head_pose import HeadPose
from timar_perception.landmarks import Face

_SAME_WITHIN_SIZES = 0.6
"""From one picture to the next a face moves by less than this share of its size."""
_NEARER_BY = 0.85
"""Another face must be so much nearer to be followed instead, and stay so for _CALM_S."""
_CALM_S = 1.0
_TALK_S = 2.5
"""Lips and voice are compared over so long [s]."""
_TALK_BY = 0.25
"""By so much another face's correlation must be higher to be followed instead."""
_STEP_S = 0.05
_LEAST_LIP_RAD = 0.01
"""Lips that move less than this are still [rad]."""


@dataclasses.dataclass(frozen=True)
class SeenFace:
    """A face with what was read from it."""

    face: Face
    pose: HeadPose
    jaw_rad: float | None


@dataclasses.dataclass(frozen=True)
class Choice:
    """The face that is followed."""

    face: SeenFace
    is_new: bool
    """Whether it is another one than before, or was found again after long."""


class _Track:
    """One person over pictures."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.face: SeenFace | None = None
        self.seen_ns = 0
        self.lips: collections.deque[tuple[int, float]] = collections.deque(maxlen=600)

    def see(self, face: SeenFace, taken_ns: int) -> None:
        self.face, self.seen_ns = face, taken_ns
        if face.jaw_rad is not None:
            self.lips.append((taken_ns, face.jaw_rad))


class FaceChooser:
    """Keep faces apart over time and follow one of them.

    Args:
        follow: "nearest" or "talking".
        forget_ms: A face that was away for longer is another one [ms].
    """

    def __init__(self, follow: str, forget_ms: int) -> None:
        self.switches = 0
        """How often another face was followed than before."""
        self._follow = follow
        self._forget_ns = forget_ms * 1_000_000
        self._voice: collections.deque[tuple[int, float]] = collections.deque(maxlen=600)
        self._numbers = 0
        self.restart()

    def restart(self) -> None:
        """Forget all faces."""
        self._tracks: list[_Track] = []
        self._followed: int | None = None
        self._rival: tuple[int, int] | None = None

    def hear(self, heard_ns: int, voice: float) -> None:
        """Take in how sure it is that the user speaks, 0 to 1, at an instant (CLOCK_MONOTONIC) [ns]."""
        self._voice.append((heard_ns, voice))

    def choose(self, faces: list[SeenFace], taken_ns: int) -> Choice | None:
        """Return the face that is followed in this picture; None when it is not there.

        Args:
            faces: All that were found in it.
            taken_ns: When it was taken, CLOCK_MONOTONIC [ns].
        """
        self._tracks = [track for track in self._tracks if taken_ns - track.seen_ns <= self._forget_ns]
        for face in faces:
            self._track_of(face, taken_ns).see(face, taken_ns)
        present = [track for track in self._tracks if track.seen_ns == taken_ns]
        known = {track.number: track for track in self._tracks}
        before = known.get(self._followed) if self._followed is not None else None
        chosen = self._chosen(present, before, taken_ns)
        if chosen is None or chosen.face is None:
            return None
        is_new = chosen.number != self._followed
        self.switches += is_new and self._followed is not None
        self._followed = chosen.number
        return Choice(chosen.face, is_new)

    def _track_of(self, face: SeenFace, taken_ns: int) -> _Track:
        """Find the person whose face is nearest to where this one is, or begin a new one."""
        best: _Track | None = None
        best_sizes = _SAME_WITHIN_SIZES
        for track in self._tracks:
            if track.face is None or track.seen_ns == taken_ns:
                continue
            old, new = track.face.face, face.face
            sizes = float(np.linalg.norm(old.middle_px - new.middle_px)) / max(old.size_px, new.size_px, 1.0)
            if sizes < best_sizes:
                best, best_sizes = track, sizes
        if best is None:
            self._numbers += 1
            best = _Track(self._numbers)
            self._tracks.append(best)
        return best

    def _chosen(self, present: list[_Track], before: _Track | None, taken_ns: int) -> _Track | None:
        if not present:
            return None
        if before is None:
            return self._best(present, taken_ns)
        if len(present) == 1 and present[0] is before:
            self._rival = None
            return before
        if before not in present:
            # It may only be hidden for a moment: the others wait until it is forgotten.
            return None
        best = self._best(present, taken_ns)
        if best is before or not self._is_clearly_better(best, before, taken_ns):
            self._rival = None
            return before
        if self._rival is None or self._rival[0] != best.number:
            self._rival = (best.number, taken_ns)
        is_long = taken_ns - self._rival[1] >= _CALM_S * NS_PER_S
        return best if is_long else before

    def _best(self, present: list[_Track], taken_ns: int) -> _Track:
        nearest = min(present, key=_distance_m)
        if self._follow == "nearest" or len(present) == 1:
            return nearest
        best = max(present, key=lambda track: self._talking(track, taken_ns))
        return best if self._talking(best, taken_ns) > _TALK_BY else nearest

    def _is_clearly_better(self, best: _Track, before: _Track, taken_ns: int) -> bool:
        if self._follow == "talking":
            return self._talking(best, taken_ns) > self._talking(before, taken_ns) + _TALK_BY
        return _distance_m(best) < _NEARER_BY * _distance_m(before)

    def _talking(self, track: _Track, taken_ns: int) -> float:
        """Correlation of how lips move with how surely the user speaks, over the last seconds; -1 to 1."""
        times = taken_ns - NS_PER_S * np.arange(_TALK_S, 0.0, -_STEP_S)
        if len(track.lips) < 10 or len(self._voice) < 10 or track.lips[0][0] > times[len(times) // 2]:
            return 0.0
        lips = np.array(track.lips)
        opening = np.interp(times, lips[:, 0], lips[:, 1])
        if np.ptp(opening) < _LEAST_LIP_RAD:
            return 0.0
        moving = np.abs(np.gradient(opening))
        # Lips rest between syllables; a quarter of a second bridges them.
        moving = np.convolve(moving, np.full(5, 0.2), "same")
        voice = np.array(self._voice)
        speaking = np.interp(times, voice[:, 0], voice[:, 1])
        if np.ptp(speaking) < 0.1:
            return float(moving.mean() / (moving.mean() + _LEAST_LIP_RAD)) * float(speaking.mean())
        return float(np.corrcoef(moving, speaking)[0, 1]) if np.ptp(moving) > 0.0 else 0.0


def _distance_m(track: _Track) -> float:
    return np.inf if track.face is None else track.face.pose.distance_m
