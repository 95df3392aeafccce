"""Blind pairs of heads for a person to rate: annotated gestures beside drawn ones, in a page for a browser.

Both heads have the same voice, jaw and posture, and differ in gestures alone. key.json says which is which.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from timar_common.atomic import write_json, write_text
from timar_common.clock import FRAMES_PER_SECOND, SAMPLE_RATE_HZ
from timar_common.config import Count, CountOrZero, Positive, check
from timar_model.gestures.features import PLAN_FRAMES
from timar_model.gestures.predictor import APART_FRAMES, GestureNetwork, PredictorStream

from ..corpora.ami import Meeting, Participant
from ..corpora.dyads import write_voice
from ..corpora.levels import FINE_RATE_HZ
from ..prediction.free_running import LAG_FRAMES
from ..preparation.annotated import active
from ..synthesis.annotated_corpus import add_gesture, speak_words
from ..synthesis.gestures import GestureConfig, jaw_opening
from ..synthesis.posture import posture
from ..synthesis.speakers import available_speakers, draw_speaker

WARM_UP_S = 60.0
FEWEST_GESTURES = 2
PAGE = Path(__file__).parent / "listen.html"


@dataclasses.dataclass(frozen=True)
class ListenConfig:
    """How many pairs are made."""

    pairs: Count = 12
    """Clips of two heads each."""
    seconds: Positive = 20.0
    """Length of a clip [s]."""
    seed: CountOrZero = 0
    """Of the choice, the sides, voices and what is drawn."""

    def __post_init__(self) -> None:
        check(self)


def make_pairs(
    meetings: Sequence[Meeting],
    weights_for: Callable[[str], GestureNetwork],
    folder: Path,
    config: ListenConfig,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write index.html with pairs of heads, their sounds, and key.json; return how many pairs.

    Args:
        meetings: Annotated ones.
        weights_for: Weights by the series of a meeting.
        folder: Where to.
        config: Size and seed.
        advance: Called with (pairs done, all).

    Raises:
        ValueError: There is no clip with enough gestures.
    """
    rng = np.random.default_rng(config.seed)
    places = [
        (meeting, person, float(start))
        for meeting in meetings
        for person in meeting.participants
        if person.is_annotated
        for start in np.arange(WARM_UP_S, person.end_s - config.seconds, config.seconds)
        if _is_lively(person, start, config.seconds)
    ]
    if not places:
        raise ValueError(
            f"no clip of {config.seconds:g} s holds {FEWEST_GESTURES} gestures; give a larger archive"
        )
    chosen = rng.permutation(len(places))[: config.pairs]
    swapped = rng.permutation(np.arange(len(chosen)) % 2 == 1)
    pairs, key = [], []
    for number, index in enumerate(chosen):
        meeting, person, start_s = places[index]
        own, others = _voices(meeting, person, start_s, config.seconds, rng)
        write_voice(folder / f"clip_{number:02d}.wav", np.clip(own + others, -1, 1))
        seed = int(rng.integers(2**31))
        heads = [
            _head(events, own, start_s, config.seconds, seed)
            for events in (
                _annotated(person),
                _drawn(meeting, person, start_s, config.seconds, weights_for, rng),
            )
        ]
        pairs.append(heads[::-1] if swapped[number] else heads)
        key.append({"clip": number, "meeting": meeting.name, "person": person.letter, "start_s": start_s,
                    "left": "drawn" if swapped[number] else "annotated"})  # fmt: skip
        advance(number + 1, len(chosen))
    page = PAGE.read_text("utf-8").replace("PAIRS_OF_HEADS", json.dumps(pairs))
    write_text(folder / "index.html", page)
    write_json(folder / "key.json", key)
    return len(pairs)


def _is_lively(person: Participant, start_s: float, seconds: float) -> bool:
    inside = sum(start_s + 1 <= event.start_s < start_s + seconds - 1 for event in person.events)
    is_seen = any(s.start_s <= start_s and start_s + seconds <= s.end_s for s in person.annotated)
    return inside >= FEWEST_GESTURES and is_seen


def _voices(
    meeting: Meeting, person: Participant, start_s: float, seconds: float, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    samples, speakers = round(seconds * SAMPLE_RATE_HZ), available_speakers()
    tracks = [
        speak_words(
            someone.words,
            draw_speaker(speakers, is_female=someone.name.startswith("F"), is_unseen=False, rng=rng),
            start_s,
            samples,
        )
        for someone in [person, *meeting.others(person)]
    ]
    return tracks[0], 0.6 * np.sum(tracks[1:], axis=0, dtype=np.float32)


Events = list[tuple[float, float, str]]


def _annotated(person: Participant) -> Events:
    return [(event.start_s, event.end_s - event.start_s, event.kind) for event in person.events]


def _drawn(
    meeting: Meeting,
    person: Participant,
    start_s: float,
    seconds: float,
    weights_for: Callable[[str], GestureNetwork],
    rng: np.random.Generator,
) -> Events:
    """Run a head that draws from a minute before the clip to its end."""
    weights = weights_for(meeting.series)
    frames = round((start_s + seconds) * FRAMES_PER_SECOND)
    own = np.pad(active(person.words, frames), (0, PLAN_FRAMES + 1))
    others = [active(other.words, frames) for other in meeting.others(person)]
    user = np.logical_or.reduce([*others, np.zeros(frames, np.bool_)])
    stream, found, free = PredictorStream(weights), [], 0
    for frame in range(round((start_s - WARM_UP_S) * FRAMES_PER_SECOND), frames):
        heard = bool(user[frame - LAG_FRAMES]) if frame >= LAG_FRAMES else False
        forecast = stream.step(own[frame : frame + 1 + PLAN_FRAMES], heard)
        begins = rng.random(len(weights.kinds)) < forecast.hazard
        if begins.any() and frame >= free:
            kind = weights.kinds[int(np.argmax(begins))]
            strokes = stream.draw(kind, rng)
            length_s = strokes.count / strokes.speed_hz
            free = frame + round(length_s * FRAMES_PER_SECOND) + APART_FRAMES
            found.append((frame / FRAMES_PER_SECOND, length_s, kind.name.lower()))
    return found


def _head(
    events: Events, voice: npt.NDArray[np.float32], start_s: float, seconds: float, seed: int
) -> list[list[float]]:
    """Return pitch, yaw, roll [rad] and jaw 0..1 by frame; the same seed has the same posture."""
    frames = round(seconds * FRAMES_PER_SECOND)
    rng = np.random.default_rng(seed)
    step = FINE_RATE_HZ // FRAMES_PER_SECOND
    neck = posture(step * frames, rng)[::step]
    for begins_s, length_s, kind in events:
        first = round((begins_s - start_s) * FRAMES_PER_SECOND)
        if -50 < first < frames:
            add_gesture(neck, first, kind, length_s, rng)
    jaw = np.zeros(frames)
    if np.abs(voice).max(initial=0.0) > 1e-3:
        opening = jaw_opening(voice, GestureConfig())
        at = np.arange(frames) * FINE_RATE_HZ / FRAMES_PER_SECOND
        jaw = np.interp(at, np.arange(len(opening)), opening)
    return np.column_stack([neck, jaw]).round(4).tolist()
