"""Annotated meetings as tracks by frame: who speaks, who nods, where annotation is.

N   participants with annotation
T   frames of 25 Hz, of the longest
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from timar_model.gestures.features import RATE_HZ
from timar_model.gestures.predictor import SOON_S

from ..corpora.ami import BadArchiveError, Meeting, Participant

BoolArray = npt.NDArray[np.bool_]

LEAD_S = 10.0
"""Nothing is asked of the first seconds: what was before them is not known."""
NOD_SEEN_FRAMES = 6
"""A nod is recognised in a moving head this much after it began: when a stroke turned round."""


@dataclasses.dataclass(frozen=True)
class AnnotatedTracks:
    """Everybody with annotation, side by side."""

    people: tuple[Participant, ...]
    series: tuple[str, ...]
    own: BoolArray
    """(N, T) whether they speak."""
    user: BoolArray
    """(N, T) whether anybody else in the meeting speaks."""
    user_nods: BoolArray
    """(N, T) whether anybody else is known to nod."""
    annotated: BoolArray
    """(N, T) on camera, after the lead."""

    @property
    def shape(self) -> tuple[int, int]:
        """N and T."""
        return self.own.shape[0], self.own.shape[1]

    def subset(self, which: npt.NDArray[np.int_]) -> AnnotatedTracks:
        """Return some of the people."""
        return AnnotatedTracks(
            tuple(self.people[i] for i in which), tuple(self.series[i] for i in which),
            self.own[which], self.user[which], self.user_nods[which], self.annotated[which],
        )  # fmt: skip

    def onsets(self, kind: str) -> BoolArray:
        """Return where gestures of a kind begin, (N, T)."""
        out = np.zeros(self.shape, np.bool_)
        for row, person in zip(out, self.people, strict=True):
            row[[min(frame_of(event.start_s), len(row) - 1) for event in person.of_kind(kind)]] = True
        return out

    def busy(self, kind: str | None = None) -> BoolArray:
        """Return where a gesture, of a kind or any, is under way (N, T); its first frame is not."""
        out = np.zeros(self.shape, np.bool_)
        for row, person in zip(out, self.people, strict=True):
            for event in person.events:
                if kind in (None, event.kind):
                    row[frame_of(event.start_s) + 1 : frame_of(event.end_s) + 1] = True
        return out

    def speaks_soon(self) -> BoolArray:
        """Return whether there is own speech in this frame or the second after it, (N, T)."""
        return within(self.own, RATE_HZ)


def within(track: BoolArray, frames: int) -> BoolArray:
    """Return whether (N, T) holds in a frame or one of so many after it."""
    counts = np.cumsum(np.pad(track, ((0, 0), (1, frames))), 1, dtype=np.int32)
    return counts[:, frames + 1 :] > counts[:, : -frames - 1]


def begins_soon(onsets: BoolArray) -> BoolArray:
    """Return whether a gesture begins within `SOON_S` of a frame, (N, T)."""
    return within(onsets, int(SOON_S * RATE_HZ))


def frame_of(time_s: float) -> int:
    """Return the frame in which a time lies."""
    return int(time_s * RATE_HZ + 1e-6)


def active(spans: Iterable[tuple], frames: int) -> BoolArray:
    """Return (frames,) where spans (start_s, end_s, ...) lie; each fills one frame at least."""
    out = np.zeros(frames, np.bool_)
    for start_s, end_s, *_ in spans:
        out[frame_of(start_s) : max(frame_of(end_s), frame_of(start_s) + 1)] = True
    return out


def annotated_tracks(meetings: Sequence[Meeting]) -> AnnotatedTracks:
    """Lay everybody with annotation side by side.

    Raises:
        BadArchiveError: Nobody is annotated.
    """
    found = [(m, p) for m in meetings for p in m.participants if p.is_annotated]
    if not found:
        raise BadArchiveError(f"nobody in {len(meetings)} meetings has 5 annotated head gestures or more")
    frames = max(frame_of(person.end_s) for _, person in found) + 1
    tracks = {
        (m.name, p.letter): (active(p.words, frames), active(p.of_kind("nod"), frames))
        for m in meetings for p in m.participants
    }  # fmt: skip
    others = [[tracks[m.name, other.letter] for other in m.others(p)] for m, p in found]
    nothing = (np.zeros(frames, np.bool_),) * 2
    spoken, nodded = (
        np.stack([np.logical_or.reduce([pair[k] for pair in (*row, nothing)]) for row in others])
        for k in (0, 1)
    )
    seen_late = np.pad(nodded, ((0, 0), (NOD_SEEN_FRAMES, 0)))[:, :frames]
    annotated = np.stack([active(p.annotated, frames) for _, p in found])
    annotated[:, : frame_of(LEAD_S)] = False
    return AnnotatedTracks(
        tuple(p for _, p in found), tuple(m.series for m, _ in found),
        np.stack([tracks[m.name, p.letter][0] for m, p in found]), spoken, seen_late, annotated,
    )  # fmt: skip


def folds_by_series(tracks: AnnotatedTracks, folds: int) -> npt.NDArray[np.int_]:
    """Return each person's fold (N,), all of a series in one, with about as many nods in each.

    Raises:
        BadArchiveError: There are fewer series than folds.
    """
    nods: dict[str, int] = {}
    for series, person in zip(tracks.series, tracks.people, strict=True):
        nods[series] = nods.get(series, 0) + len(person.of_kind("nod"))
    if len(nods) < folds:
        raise BadArchiveError(
            f"the archive has {len(nods)} series of meetings, expected at least {folds}, one a fold"
        )
    load, fold = [0] * folds, {}
    for series in sorted(nods, key=lambda name: (-nods[name], name)):
        fold[series] = int(np.argmin(load))
        load[fold[series]] += nods[series]
    return np.array([fold[series] for series in tracks.series])
