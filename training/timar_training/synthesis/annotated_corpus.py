"""Dyads of annotated meetings: people's words and gestures at their true times, spoken by synthetic voices.

The agent is one participant, the user all others of the meeting, mixed; where the user is seen, the head is
that of the other who says most. Timing is genuine; prosody is the voices' own and the motion between gestures
is made up, so the folder calls itself SYNTHETIC. Beside each clip lies ``NAME_events.json``: gestures, gaze
and words, and where each is annotated.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import json
import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from timar_common.atomic import write_json, write_text
from timar_common.clock import FRAMES_PER_SECOND, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from timar_common.config import CountOrZero, NonNegative, Range, check
from timar_common.motion_file import NECK, PART_SIZES, MotionTrack
from timar_common.processes import pool_or_cluster
from timar_model.gestures.gesture import MAX_SPEED_RAD_S, SIZES_RAD, Gesture, GestureKind
from timar_model.gestures.kinematics import read_kinematics
from timar_model.gestures.predictor import strokes_lasting
from timar_model.gestures.rendering import render

from ..corpora.ami import GazeTarget, Meeting, Participant, Word, read_meetings
from ..corpora.dyads import AGENT_SPEAKER, USER_SPEAKER, Clip, write_motion, write_voice
from ..corpora.head_capture import stroke_arrays
from ..corpora.levels import active_level_db
from ..corpora.splits import RECORDINGS_FILE, SPLITS
from .conversation import RoomConfig, SyntheticConversation, record
from .gestures import GestureConfig, MotionStyle, move_head
from .speakers import PhraseSpeaker, available_speakers, draw_speaker
from .synthesize import AGENT_ROOM, draw_seen
from .voices import WANTED_LEVEL_DB

FloatArray = npt.NDArray[np.float32]

PHRASE_GAP_S = 0.25
UNSEEN_PROBABILITY, PARTLY_SEEN_PROBABILITY = 0.4, 0.2
"""How often the user is never seen, and seen now and then."""
USER_REST_RAD, AGENT_REST_RAD = 0.14, 0.012
"""Spread of the neck at rest: the user's camera stands anywhere, the agent's neutral pose is its own."""


@dataclasses.dataclass(frozen=True)
class AnnotatedCorpusConfig:
    """Size and make of a corpus of annotated meetings."""

    clip_s: Annotated[float, Range(8.0, 600.0)] = 60.0
    """Length of a clip [s]."""
    hours: NonNegative = 0.0
    """Of clips at most, spread over all people [h]; 0: all there is."""
    seed: CountOrZero = 0
    """Of voices, rooms, noise and the motion between gestures."""
    has_gestures: bool = True
    """Whether the agent makes the annotated gestures; if not, its motion is what lies under drawn ones."""

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True)
class _Job:
    archive: Path
    folder: Path
    config: AnnotatedCorpusConfig
    meeting: str
    letter: str
    start_s: float
    split: str

    @property
    def clip(self) -> Clip:
        """Where it is written."""
        return Clip(f"ami_{self.meeting}_{self.letter}_{int(self.start_s):04d}", self.folder)

    @property
    def events_path(self) -> Path:
        """The file that is written last: a clip that has it is whole."""
        return self.folder / f"{self.clip.name}_events.json"


def make_corpus(
    archive: Path,
    folder: Path,
    config: AnnotatedCorpusConfig,
    *,
    workers: int = 1,
    cluster: str = "",
    log: Callable[[str], None] = lambda message: None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the clips that are not there yet, file lists and a manifest; return how many clips there are.

    Args:
        archive: AMI's manual annotations.
        folder: Where to; a folder of an earlier run with the same settings is gone on with.
        config: Size and seed.
        workers: Processes on this machine; each holds one clip and one meeting's annotation.
        cluster: Address of a Dask scheduler; empty: this machine.
        log: Called with what is left out.
        advance: Called with (clips done, all).

    Raises:
        ValueError: The archive cannot be read, or the folder holds another corpus.
        RuntimeError: No voice is installed, or Dask is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"archive": archive.name, "config": dataclasses.asdict(config)}
    _continue_or_refuse(folder / "manifest.json", settings)
    meetings = read_meetings(archive, log)
    speakers = available_speakers(log)
    jobs = _jobs(archive, folder, config, meetings)
    voices = {speaker.name: {"licence": speaker.licence} for speaker in speakers}
    write_json(
        folder / "manifest.json", {**_ABOUT, **settings, "voices": voices, "clips": len(jobs)}, indent=1
    )
    waiting = [job for job in jobs if not job.events_path.is_file()]
    done = len(jobs) - len(waiting)
    advance(done, len(jobs))
    if workers == 1 and not cluster:
        for job in waiting:
            _make_clip(job)
            advance(done := done + 1, len(jobs))
    elif waiting:
        with pool_or_cluster(workers, cluster, __name__) as pool:
            for future in concurrent.futures.as_completed([pool.submit(_make_clip, job) for job in waiting]):
                future.result()
                advance(done := done + 1, len(jobs))
    for split in SPLITS:
        if names := [job.clip.name for job in jobs if job.split == split]:
            write_text(folder / f"{split}.txt", "".join(f"{name}\n" for name in names))
    rows = "".join(f"{job.clip.name},{job.meeting}\n" for job in jobs)
    write_text(folder / RECORDINGS_FILE, f"clip,recording\n{rows}")
    return len(jobs)


_ABOUT = {
    "kind": "SYNTHETIC",
    "note": "Words, their times and head gestures are of annotated people; voices are synthesised or say "
    "other words, rooms and the motion between gestures are made up. Expression is absent (marked invalid).",
    "source": "AMI Meeting Corpus, the AMI Consortium, https://groups.inf.ed.ac.uk/ami, CC BY 4.0",
    "voices_are_shared": True,
}


def _continue_or_refuse(manifest: Path, settings: dict[str, Any]) -> None:
    if not manifest.is_file():
        return
    found = json.loads(manifest.read_text("utf-8"))
    if {key: found.get(key) for key in settings} != settings:
        raise ValueError(
            f"{manifest.parent} holds a corpus of other settings, {found.get('config')} of "
            f"{found.get('archive')}; give these settings, or another folder"
        )


def splits_by_series(series: Sequence[str]) -> dict[str, str]:
    """Return a split for each series; fewer than four series all train."""
    names = sorted(set(series), key=lambda name: zlib.crc32(name.encode()))
    held = len(names) // 6 or 1
    order = ["ood", *["test"] * held, *["validation"] * held] if len(names) >= 4 else []
    return {name: order[k] if k < len(order) else "train" for k, name in enumerate(names)}


def _jobs(
    archive: Path, folder: Path, config: AnnotatedCorpusConfig, meetings: Sequence[Meeting]
) -> list[_Job]:
    split = splits_by_series([meeting.series for meeting in meetings])
    jobs = [
        _Job(archive, folder, config, meeting.name, person.letter, float(start), split[meeting.series])
        for meeting in meetings
        for person in meeting.participants
        if person.is_annotated
        for start in np.arange(0.0, person.end_s - config.clip_s, config.clip_s)
        if any(span.start_s < start + config.clip_s and start < span.end_s for span in person.annotated)
    ]
    if config.hours:
        count = max(1, round(config.hours * 3600 / config.clip_s))
        jobs = [jobs[k] for k in np.unique(np.linspace(0, len(jobs) - 1, count).astype(int))]
    return jobs


@functools.lru_cache(maxsize=1)
def _meeting(archive: Path, name: str) -> Meeting:
    return read_meetings(archive, only=name)[0]


def _make_clip(job: _Job) -> None:
    meeting = _meeting(job.archive, job.meeting)
    agent = next(person for person in meeting.participants if person.letter == job.letter)
    rng = np.random.default_rng([job.config.seed, zlib.crc32(job.clip.name.encode())])
    is_ood = job.split == "ood"
    samples = round(job.config.clip_s * SAMPLE_RATE_HZ) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME
    spoken, voices = {}, {}
    for person in meeting.participants:
        # AMI's names begin with the speaker's sex.
        speaker = draw_speaker(_speakers(), is_female=person.name.startswith("F"), is_unseen=is_ood, rng=rng)
        voices[person.letter] = speaker.name
        spoken[person.letter] = speak_words(person.words, speaker, job.start_s, samples)
    sounding = {letter: float(np.square(voice).sum()) for letter, voice in spoken.items()}
    own = spoken.pop(job.letter)
    others: FloatArray = np.stack(list(spoken.values())).sum(axis=0, dtype=np.float32)
    write_voice(job.clip.voice_path(USER_SPEAKER), record(others, own, RoomConfig(), rng))
    write_voice(job.clip.voice_path(AGENT_SPEAKER), record(own, others, AGENT_ROOM, rng))
    write_motion(
        job.clip.motion_path(AGENT_SPEAKER),
        _motion(agent, own, others, job, rng, AGENT_REST_RAD, has_gestures=job.config.has_gestures),
    )
    other = max(meeting.others(agent), key=lambda person: sounding[person.letter])
    rest = sum((voice for letter, voice in spoken.items() if letter != other.letter), own)
    motion = _motion(other, spoken[other.letter], rest, job, rng, USER_REST_RAD)
    motion = _as_seen(motion, draw_seen(len(motion.valid), UNSEEN_PROBABILITY, PARTLY_SEEN_PROBABILITY, rng))
    if motion.valid.any():
        write_motion(job.clip.motion_path(USER_SPEAKER), motion)
    events = _events(agent, meeting.others(agent), job.start_s, job.config.clip_s)
    seen = other.letter if motion.valid.any() else ""
    write_json(job.events_path, {"split": job.split, "voices": voices, "seen": seen, **events}, indent=None)


@functools.lru_cache(maxsize=1)
def _speakers() -> tuple[PhraseSpeaker, ...]:
    return available_speakers()


def _as_seen(motion: MotionTrack, seen: npt.NDArray[np.bool_]) -> MotionTrack:
    valid = motion.valid & seen[:, None]
    return MotionTrack(np.where(np.repeat(valid, PART_SIZES, axis=1), motion.vector, np.float32(0.0)), valid)


def speak_words(words: Sequence[Word], speaker: PhraseSpeaker, start_s: float, samples: int) -> FloatArray:
    """Return (samples,) a person's words from a time on, each phrase at its time and of its length.

    Args:
        words: In order.
        speaker: Who says them.
        start_s: Of the clip [s].
        samples: Its length.
    """
    out = np.zeros(samples, np.float32)
    for low_s, high_s, text in _phrases(words, start_s, start_s + samples / SAMPLE_RATE_HZ):
        wanted = max(round((high_s - low_s) * SAMPLE_RATE_HZ), SAMPLE_RATE_HZ // 50)
        sound = speaker.say(text, wanted)
        sound = sound * 10 ** ((WANTED_LEVEL_DB - active_level_db(sound)) / 20)
        first = round((low_s - start_s) * SAMPLE_RATE_HZ)
        sound = sound[max(0, -first) : max(0, samples - first)]
        out[max(0, first) : max(0, first) + len(sound)] += sound
    return out


def _phrases(words: Sequence[Word], low_s: float, high_s: float) -> list[tuple[float, float, str]]:
    """Return (start, end, text) of words without a gap, broken at punctuation too."""
    out: list[tuple[float, float, str]] = []
    is_open = False
    for word in words:
        if word.start_s >= high_s or word.end_s <= low_s or not re.search(r"\w", word.text):
            continue
        if is_open and word.start_s - out[-1][1] < PHRASE_GAP_S:
            out[-1] = (out[-1][0], max(out[-1][1], word.end_s), f"{out[-1][2]} {word.text}{word.mark}")
        else:
            out.append((word.start_s, word.end_s, word.text + word.mark))
        is_open = word.mark == ""
    return out


def _motion(
    person: Participant,
    own: FloatArray,
    others: FloatArray,
    job: _Job,
    rng: np.random.Generator,
    rest_spread_rad: float,
    *,
    has_gestures: bool = True,
) -> MotionTrack:
    """Return a person's motion: at rest by rules, with gestures at their times; jaw by the voice.

    Where the person was off camera a neck with gestures is not known; without them it is known everywhere.
    """
    talk = SyntheticConversation((others, own), ([], []))
    style = MotionStyle.draw(rng, rest_spread_rad)
    vector = move_head(talk, 1, style, GestureConfig(), rng, has_gestures=False)
    frames = len(vector)
    valid = np.ones((frames, 3), np.bool_)
    valid[:, 0] = False
    if has_gestures:
        neck = vector[:, NECK].astype(np.float64)
        for event in person.events:
            first = round((event.start_s - job.start_s) * FRAMES_PER_SECOND)
            if -50 < first < frames:
                add_gesture(neck, first, event.kind, event.end_s - event.start_s, rng)
        vector[:, NECK] = neck
        valid[:, 2] = False
        for span in person.annotated:
            low, high = (round((time_s - job.start_s) * FRAMES_PER_SECOND) for time_s in span)
            valid[max(0, low) : max(0, high), 2] = True
        vector[~valid[:, 2], NECK] = 0.0
    return MotionTrack(vector, valid)


def add_gesture(
    neck: npt.NDArray[np.float64], first: int, kind: str, duration_s: float, rng: np.random.Generator
) -> None:
    """Add an annotated gesture of a drawn shape to the neck (frames, 3) [rad]."""
    which = GestureKind[kind.upper()]
    shape = stroke_arrays(read_kinematics(), (kind,))
    strokes = strokes_lasting(which, max(duration_s, 0.2), shape["stroke_hz"][0], shape["size_rad"][0], rng)
    fastest = MAX_SPEED_RAD_S / (4 if which is GestureKind.SHAKE else 2) / strokes.speed_hz
    size = float(np.clip(strokes.size_rad, SIZES_RAD[0], min(0.99 * fastest, SIZES_RAD[1])))
    side = 1 if which is GestureKind.NOD or rng.random() < 0.5 else -1
    gesture = Gesture(
        which, first, strokes.count, size, strokes.speed_hz, side, 0.0, int(rng.integers(2**31))
    )
    moved = render(gesture)
    low, high = max(0, first), min(len(neck), first + len(moved))
    if high > low:
        neck[low:high] += moved[low - first : high - first]


def _events(
    person: Participant, others: Sequence[Participant], start_s: float, length_s: float
) -> dict[str, Any]:
    """Return a clip's annotation in seconds of the clip."""

    def cut(low_s: float, high_s: float) -> list[float] | None:
        low_s, high_s = low_s - start_s, high_s - start_s
        return (
            None
            if high_s <= 0 or low_s >= length_s
            else [round(max(0.0, low_s), 3), round(min(length_s, high_s), 3)]
        )

    def tracks(spans: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
        return [[*found, *span[2:]] for span in spans if (found := cut(*span[:2])) is not None]

    letters = {other.letter for other in others}
    gaze = [
        GazeTarget(g.start_s, g.end_s, "user" if g.target in letters else g.target or "unspecified")
        for g in person.gaze
    ]
    return {
        "person": person.name, "meeting": person.meeting, "start_s": start_s, "length_s": length_s,
        "gestures": tracks(person.events), "annotated": tracks(person.annotated), "gaze": tracks(gaze),
        "own_words": tracks(person.words),
        "user_words": [word for other in others for word in tracks(other.words)],
        "user_gestures": [event for other in others for event in tracks(other.events)],
    }  # fmt: skip
