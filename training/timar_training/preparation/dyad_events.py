"""Dyads as tracks by frame, to be judged like annotated meetings: who speaks, who nods, where that is known.

Speech is found in the voices, by the rule of the running head. Nods are those of ``NAME_events.json`` where
that lies beside a clip (`timar data from-ami`), else strokes found in the recorded motion of the neck.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from timar_common.clock import FRAMES_PER_SECOND
from timar_common.motion_file import NECK, MotionTrack
from timar_model.gestures.activity import SpeechActivity
from timar_model.metrics.movement import nod_spans

from ..corpora.ami import BadArchiveError, HeadEvent, Participant, Span, series_of
from ..corpora.dyads import Clip, Dyad, find_clips, load_dyad
from .annotated import LEAD_S, NOD_SEEN_FRAMES, AnnotatedTracks, BoolArray, active, frame_of

NECK_SEEN = 2
"""Column of a motion's validity."""
SHORTEST_SEEN_S = 2.0
"""Shorter stretches in which the neck was seen hold no nod that can be told from their ends."""


@dataclasses.dataclass(frozen=True)
class _Judged:
    """One person of a dyad, as the agent."""

    clip: Clip
    person: Participant
    own: BoolArray
    user: BoolArray
    user_nods: BoolArray

    @property
    def frames(self) -> int:
        """T."""
        return len(self.own)


def dyad_tracks(
    folder: Path, advance: Callable[[int, int], None] = lambda done, total: None
) -> tuple[AnnotatedTracks, list[Clip]]:
    """Read a folder of dyads; every side whose nods are known is a person.

    Args:
        folder: Of clips.
        advance: Called with (clips done, all).

    Returns:
        The tracks, and for each of their rows the clip in which this person is the agent.

    Raises:
        BadArchiveError: There is no nod in it.
        BadClipError: A file cannot be read.
    """
    clips, found = find_clips(folder), []
    for number, clip in enumerate(clips, start=1):
        path = folder / f"{clip.name}_events.json"
        if path.is_file():
            found.append(_annotated(clip, load_dyad(clip), _read_events(path)))
        else:
            found += [
                judged
                for view in (clip, clip.swapped())
                if (judged := _recorded(view, load_dyad(view))) is not None
            ]
        advance(number, len(clips))
    if not any(one.person.of_kind("nod") for one in found):
        raise BadArchiveError(
            f"{folder} holds no nod: expected NAME_events.json or recorded motion of necks beside its voices"
        )
    frames = max(one.frames for one in found)

    def padded(rows: list[BoolArray]) -> BoolArray:
        return np.stack([np.pad(row, (0, frames - len(row))) for row in rows])

    annotated = padded([active(one.person.annotated, one.frames) for one in found])
    annotated[:, : frame_of(LEAD_S)] = False
    return AnnotatedTracks(
        tuple(one.person for one in found),
        tuple(series_of(one.person.meeting) for one in found),
        padded([one.own for one in found]),
        padded([one.user for one in found]),
        padded([one.user_nods for one in found]),
        annotated,
    ), [one.clip for one in found]


def _annotated(clip: Clip, dyad: Dyad, events: dict[str, Any]) -> _Judged:
    person = Participant(
        meeting=str(events["meeting"]),
        letter="",
        name=str(events["person"]),
        words=(),
        events=tuple(HeadEvent(*event[:4]) for event in events["gestures"]),
        annotated=tuple(Span(*span[:2]) for span in events["annotated"]),
        gaze=(),
    )
    nods = [event for event in events["user_gestures"] if event[2] == "nod"]
    return _sides(clip, dyad, person, active(nods, dyad.frames))


def _recorded(view: Clip, dyad: Dyad) -> _Judged | None:
    if dyad.agent_motion is None or not dyad.agent_motion.valid[:, 2].any():
        return None
    nods, seen = _nods_in(dyad.agent_motion)
    spans = [Span(low / FRAMES_PER_SECOND, high / FRAMES_PER_SECOND) for low, high in seen]
    events = [
        HeadEvent(low / FRAMES_PER_SECOND, high / FRAMES_PER_SECOND, "nod", "found") for low, high in nods
    ]
    who = f"{view.name}, {view.motion_path(2).stem.rpartition('_')[2]}"
    person = Participant(view.name, "", who, (), tuple(events), tuple(spans), ())
    user = [
        (low / FRAMES_PER_SECOND, high / FRAMES_PER_SECOND) for low, high in _nods_in(dyad.user_motion)[0]
    ]
    return _sides(view, dyad, person, active(user, dyad.frames))


def _sides(clip: Clip, dyad: Dyad, person: Participant, user_nods: BoolArray) -> _Judged:
    late = np.pad(user_nods, (NOD_SEEN_FRAMES, 0))[: dyad.frames]
    own, user = (SpeechActivity().step(voice) for voice in (dyad.agent_voice, dyad.user_voice))
    return _Judged(clip, person, own, user, late)


def _nods_in(track: MotionTrack) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the nods in recorded motion, and the stretches in which they could be seen."""
    seen = track.valid[:, NECK_SEEN]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], seen, [False]]).astype(int)))
    stretches = [
        (int(low), int(high))
        for low, high in edges.reshape(-1, 2)
        if high - low >= SHORTEST_SEEN_S * FRAMES_PER_SECOND
    ]
    nods = [
        (low + first, low + end)
        for low, high in stretches
        for first, end in nod_spans(track.vector[low:high])
    ]
    return nods, stretches


def _read_events(path: Path) -> dict[str, Any]:
    try:
        events = json.loads(path.read_text("utf-8"))
        missing = {"meeting", "person", "gestures", "annotated", "user_gestures"} - set(events)
    except (ValueError, TypeError) as error:
        raise BadArchiveError(f"{path} cannot be read ({error}); make the clip again") from error
    if missing:
        raise BadArchiveError(f"{path} lacks {', '.join(sorted(missing))}; make the clip again")
    return dict(events)


def downward_speed(motion: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return how fast a head goes down in each frame (T,), 0 to 1: by its motion, how near a nod is."""
    pitch = motion[:, NECK.start]
    speed = np.maximum(np.diff(pitch, append=pitch[-1:]), 0.0) * FRAMES_PER_SECOND
    return np.asarray(1.0 - np.exp(-speed), np.float32)
