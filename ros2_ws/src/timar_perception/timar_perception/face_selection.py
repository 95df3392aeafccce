"""Selects the user among several faces: the nearest one, or the one that talks."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np
from timar_common.clock import NS_PER_S

from timar_perception.head_pose import HeadPose
from timar_perception.landmarks import FaceLandmarks

_SAME_WITHIN_SIZES = 0.6
"""From one image to the next a face moves by less than this fraction of its size."""
_NEARER_RATIO = 0.85
"""Another face must be nearer by this ratio to be selected instead, and stay so for _SWITCH_AFTER_S."""
_SWITCH_AFTER_S = 1.0
_CORRELATION_S = 2.5
"""Lips and voice are correlated over so long [s]."""
_CORRELATION_MARGIN = 0.25
"""By so much another face's correlation must be higher to be selected instead."""
_CORRELATION_STEP_S = 0.05
_MIN_LIP_RAD = 0.01
"""Lips that move less than this are still [rad]."""


@dataclasses.dataclass(frozen=True)
class MeasuredFace:
    """A face with its pose and jaw opening."""

    face: FaceLandmarks
    pose: HeadPose
    jaw_rad: float | None


class _FaceTrack:
    """One person over successive images."""

    def __init__(self) -> None:
        self.lips: collections.deque[tuple[int, float]] = collections.deque(maxlen=600)

    def append(self, face: MeasuredFace, taken_ns: int) -> None:
        self.face, self.seen_ns = face, taken_ns
        if face.jaw_rad is not None:
            self.lips.append((taken_ns, face.jaw_rad))

    @property
    def distance_m(self) -> float:
        return self.face.pose.distance_m


class FaceSelector:
    """Track faces over time and select one of them.

    Args:
        follow: "nearest" or "talking".
        timeout_ms: A face that was away for longer is another one [ms].

    Raises:
        ValueError: The rule is unknown, or the timeout not positive.
    """

    def __init__(self, follow: str, timeout_ms: int) -> None:
        if follow not in ("nearest", "talking") or timeout_ms <= 0:
            raise ValueError(
                f"the face to follow is {follow!r} with a timeout of {timeout_ms} ms; expected nearest or "
                "talking, and more than 0"
            )
        self.switches = 0
        """How often another face was selected than before."""
        self._follow = follow
        self._timeout_ns = timeout_ms * 1_000_000
        self._voice: collections.deque[tuple[int, float]] = collections.deque(maxlen=600)
        self.reset()

    def reset(self) -> None:
        """Forget all faces."""
        self._tracks: list[_FaceTrack] = []
        self._selected: _FaceTrack | None = None
        self._rival: tuple[_FaceTrack, int] | None = None

    def add_voice_activity(self, heard_ns: int, probability: float) -> None:
        """Take the probability that the user speaks at an instant, CLOCK_MONOTONIC [ns]."""
        self._voice.append((heard_ns, probability))

    def select(self, faces: list[MeasuredFace], taken_ns: int) -> tuple[MeasuredFace, bool] | None:
        """Select the face to track in this image.

        Args:
            faces: All that were found in the image.
            taken_ns: When it was taken, CLOCK_MONOTONIC [ns].

        Returns:
            The face, and whether it is another one than before or was found again after the timeout; None
            when the image does not show it.
        """
        self._tracks = [track for track in self._tracks if taken_ns - track.seen_ns <= self._timeout_ns]
        for face in faces:
            self._track_of(face, taken_ns).append(face, taken_ns)
        present = [track for track in self._tracks if track.seen_ns == taken_ns]
        chosen = self._choose(present, taken_ns)
        if chosen is None:
            return None
        is_new = chosen is not self._selected
        self.switches += is_new and self._selected is not None
        self._selected = chosen
        return chosen.face, is_new

    def _track_of(self, face: MeasuredFace, taken_ns: int) -> _FaceTrack:
        """Return the track whose face is nearest to this one, or a new track."""
        best: _FaceTrack | None = None
        best_sizes = _SAME_WITHIN_SIZES
        for track in self._tracks:
            if track.seen_ns == taken_ns:
                continue
            old, new = track.face.face, face.face
            sizes = float(np.linalg.norm(old.center_px - new.center_px)) / max(old.size_px, new.size_px, 1.0)
            if sizes < best_sizes:
                best, best_sizes = track, sizes
        if best is None:
            best = _FaceTrack()
            self._tracks.append(best)
        return best

    def _choose(self, present: list[_FaceTrack], taken_ns: int) -> _FaceTrack | None:
        if not present:
            return None
        best, before = self._best(present, taken_ns), self._selected
        if before not in self._tracks:
            return best
        if before not in present:
            # It may only be hidden for a moment: no other face is selected until its track times out.
            return None
        if best is before or not self._is_clearly_better(best, before, taken_ns):
            self._rival = None
            return before
        if self._rival is None or self._rival[0] is not best:
            self._rival = (best, taken_ns)
        is_long = taken_ns - self._rival[1] >= _SWITCH_AFTER_S * NS_PER_S
        return best if is_long else before

    def _best(self, present: list[_FaceTrack], taken_ns: int) -> _FaceTrack:
        nearest = min(present, key=lambda track: track.distance_m)
        if self._follow == "nearest" or len(present) == 1:
            return nearest
        best = max(present, key=lambda track: self._lip_voice_correlation(track, taken_ns))
        return best if self._lip_voice_correlation(best, taken_ns) > _CORRELATION_MARGIN else nearest

    def _is_clearly_better(self, best: _FaceTrack, before: _FaceTrack, taken_ns: int) -> bool:
        if self._follow == "nearest":
            return best.distance_m < _NEARER_RATIO * before.distance_m
        margin = self._lip_voice_correlation(best, taken_ns) - self._lip_voice_correlation(before, taken_ns)
        return margin > _CORRELATION_MARGIN

    def _lip_voice_correlation(self, track: _FaceTrack, taken_ns: int) -> float:
        """Correlation of lip motion with the user's voice activity over the last seconds, -1 to 1."""
        times = taken_ns - NS_PER_S * np.arange(_CORRELATION_S, 0.0, -_CORRELATION_STEP_S)
        if len(track.lips) < 10 or len(self._voice) < 10 or track.lips[0][0] > times[len(times) // 2]:
            return 0.0
        lips = np.array(track.lips)
        opening = np.interp(times, lips[:, 0], lips[:, 1])
        if np.ptp(opening) < _MIN_LIP_RAD:
            return 0.0
        moving = np.abs(np.gradient(opening))
        # Lips rest between syllables; a quarter of a second bridges them.
        moving = np.convolve(moving, np.full(5, 0.2), "same")
        voice = np.array(self._voice)
        speaking = np.interp(times, voice[:, 0], voice[:, 1])
        if np.ptp(speaking) < 0.1:
            return float(moving.mean() / (moving.mean() + _MIN_LIP_RAD)) * float(speaking.mean())
        return float(np.corrcoef(moving, speaking)[0, 1]) if np.ptp(moving) > 0.0 else 0.0
