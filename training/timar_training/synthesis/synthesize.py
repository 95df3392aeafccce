"""Synthesis of a folder of SYNTHETIC dyads: two voices, two heads, everything from one seed.

Every conversation has a generator of its own, seeded by its number, so that the result does not depend on how
many processes made it.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
from timar_common.atomic import write_json
from timar_common.config import Count, CountOrZero, Positive, Probability, Range, check
from timar_common.motion_file import PART_SIZES, MotionTrack
from timar_common.processes import process_pool

from ..corpora.dyads import SPEAKERS, Clip, write_motion, write_voice
from ..corpora.splits import SPLITS
from .conversation import RoomConfig, Speakers, TalkConfig, hold_conversation, record
from .gestures import GestureConfig, MotionStyle, move_head
from .voices import UNSEEN_VOICES, SpeakerVoice, available_voices

AGENT_ROOM = RoomConfig(gain_std_db=4.0, noise_db=(-90.0, -60.0), leak_db=(-80.0, -50.0), wet=(0.0, 0.12))
"""The agent's voice comes from a file or a synthesiser: hardly any reverberation, hardly any noise."""


@dataclasses.dataclass(frozen=True)
class CorpusConfig:
    """Size and make of a synthetic corpus."""

    hours: Positive = 2.0
    """Training conversations altogether [h]."""
    clip_s: Annotated[float, Range(4.0)] = 60.0
    """Length of one conversation [s]."""
    held_out: Count = 24
    """Number of conversations in each of validation, test and ood."""
    seed: CountOrZero = 20
    """Everything follows from it and from the voices installed."""
    unseen_probability: Probability = 0.25
    """How often the user is never seen."""
    partly_seen_probability: Probability = 0.25
    """How often the user is seen now and then."""
    has_gestures: bool = True
    """Whether the agent nods, beats and looks away; if not, its motion is what lies under drawn gestures."""

    def __post_init__(self) -> None:
        check(self)
        if self.unseen_probability + self.partly_seen_probability > 1:
            raise ValueError(
                f"CorpusConfig.unseen_probability {self.unseen_probability} and partly_seen_probability "
                f"{self.partly_seen_probability} are more than 1 together"
            )

    def counts(self) -> dict[str, int]:
        """Return the number of conversations of each split."""
        train = max(1, round(self.hours * 3600 / self.clip_s))
        return {"train": train, **dict.fromkeys(SPLITS[1:], self.held_out)}


def synthesize(
    folder: Path,
    config: CorpusConfig,
    *,
    processes: int | None = None,
    log: Callable[[str], None] = lambda message: None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write a synthetic corpus: clips, file lists and a manifest that says SYNTHETIC.

    Args:
        folder: Where to; made when missing.
        config: Size and seed.
        processes: How many work at once; None means one per core.
        log: Called with each voice that is missing.
        advance: Called with (done, total) after each conversation.

    Raises:
        FileExistsError: The folder already holds a corpus.
        RuntimeError: No voices are installed.
    """
    if (folder / "manifest.json").exists():
        raise FileExistsError(f"{folder} already holds a corpus; give another folder or remove this one")
    folder.mkdir(parents=True, exist_ok=True)
    voices = available_voices(log)
    jobs = list(_jobs(folder, config))
    with process_pool(processes or None, multiprocessing.get_context(), _keep_voices, (voices,)) as pool:
        records = []
        for done, record in enumerate(pool.map(_make_clip, jobs, chunksize=2), start=1):
            records.append(record)
            advance(done, len(jobs))
    for split in SPLITS:
        names = [record["name"] for record in records if record["split"] == split]
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    manifest = {
        "kind": "SYNTHETIC",
        "note": "Voices are recorded prompts or synthesised; motion is made by rules, not recorded. "
        "Expression is absent (zeros, marked invalid).",
        # The lists but ood draw from the same few voices; what differs is the conversation and the person.
        "voices_are_shared": True,
        "config": dataclasses.asdict(config),
        "talk": dataclasses.asdict(TalkConfig()),
        "gestures": dataclasses.asdict(GestureConfig()),
        "voices": {
            voice.name: {"licence": voice.licence, "utterances": len(voice.utterances)} for voice in voices
        },
        "clips": records,
    }
    write_json(folder / "manifest.json", manifest, indent=1)


@dataclasses.dataclass(frozen=True)
class _Job:
    folder: Path
    config: CorpusConfig
    split: str
    name: str
    seed: tuple[int, int, int]


def _jobs(folder: Path, config: CorpusConfig) -> Iterator[_Job]:
    for number, (split, count) in enumerate(config.counts().items()):
        for index in range(count):
            yield _Job(folder, config, split, f"synthetic_{split}_{index:05d}", (config.seed, number, index))


_VOICES: list[SpeakerVoice] = []


def _keep_voices(voices: list[SpeakerVoice]) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    _VOICES[:] = voices


def _make_clip(job: _Job) -> dict[str, object]:
    rng = np.random.default_rng(job.seed)
    is_ood = job.split == "ood"
    speakers = _draw_speakers(_VOICES, is_ood, rng)
    talk = hold_conversation(speakers, job.config.clip_s, TalkConfig(), rng)
    # The user's camera stands anywhere; the agent's neutral pose is its own.
    styles = (MotionStyle.draw(rng, 0.14, is_unusual=is_ood), MotionStyle.draw(rng, 0.012, is_unusual=is_ood))
    gestures = (True, job.config.has_gestures)
    motions = [
        move_head(talk, side, styles[side], GestureConfig(), rng, has_gestures=gestures[side])
        for side in (0, 1)
    ]
    seen = draw_seen(len(motions[0]), job.config.unseen_probability, job.config.partly_seen_probability, rng)
    clip = Clip(job.name, job.folder)
    rooms = (RoomConfig(), AGENT_ROOM)
    for side, speaker in enumerate(SPEAKERS.values()):
        sound = record(talk.voices[side], talk.voices[1 - side], rooms[side], rng)
        write_voice(clip.voice_path(speaker), sound)
        valid = np.ones((len(motions[side]), 3), np.bool_)
        valid[:, 0] = False
        valid[:, 1:] &= seen[:, None] | (side == 1)
        if valid.any():
            known = np.where(np.repeat(valid, PART_SIZES, axis=1), motions[side], np.float32(0.0))
            write_motion(clip.motion_path(speaker), MotionTrack(known, valid))
    return {
        "name": job.name,
        "split": job.split,
        "voices": [voice.name for voice in speakers],
        "user_seen": float(seen.mean()),
        "styles": [dataclasses.asdict(style) for style in styles],
    }


def _draw_speakers(voices: list[SpeakerVoice], is_ood: bool, rng: np.random.Generator) -> Speakers:
    """Draw two different voices; recorded ones weigh as much as all synthesised ones together."""
    unseen = [voice for voice in voices if voice.name in UNSEEN_VOICES]
    usual = [voice for voice in voices if voice.name not in UNSEEN_VOICES]
    pool = unseen if is_ood and len(unseen) >= 2 else usual if len(usual) >= 2 else voices
    weight = np.array([3.0 if voice.name.startswith("recorded") else 1.0 for voice in pool])
    first, second = rng.choice(len(pool), 2, replace=False, p=weight / weight.sum())
    return pool[first], pool[second]


def draw_seen(frames: int, unseen: float, partly_seen: float, rng: np.random.Generator) -> np.ndarray:
    """Draw when the user is seen, (frames,): never, in stretches, or always.

    Args:
        frames: Length.
        unseen: Probability of never.
        partly_seen: Probability of stretches.
        rng: Source of chance.
    """
    kind = rng.random()
    if kind < unseen:
        return np.zeros(frames, np.bool_)
    seen = np.ones(frames, np.bool_)
    if kind < unseen + partly_seen:
        edges = np.cumsum(rng.uniform(10, 150, frames // 20 + 2)).astype(int)
        seen[:] = (np.searchsorted(edges, np.arange(frames), side="right") + rng.integers(2)) % 2 == 0
    return seen
