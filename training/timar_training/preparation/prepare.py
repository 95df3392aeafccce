"""Preparation of a split as flat arrays: speech features and motion of all clips, memory-mapped afterwards.

Features are those of the live session: computed from a clip's first sample on, by the model's own code, with
its causal loudness normaliser. Each clip is led in by the silent, unseen frames that stand before a
conversation.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from timar_common.atomic import replacing_folder
from timar_common.clock import SAMPLES_PER_FRAME
from timar_common.motion_file import MotionTrack
from timar_common.processes import process_pool
from timar_common.units import Frames, samples_of
from timar_model.architecture.config import ModelConfig
from timar_model.architecture.inputs import SpeechFeatures, speech_features
from timar_model.architecture.sequences import clip_features

from ..corpora.dyads import SPEAKERS, BadClipError, Clip, load_dyad
from ..corpora.index import file_states

FORMAT = 2
"""Grows when the same files would give other arrays."""
STREAMS = ("user_speech", "agent_speech", "user_motion", "agent_motion", "user_valid", "agent_valid")


@dataclasses.dataclass(frozen=True)
class PreparedSplit:
    """All clips of a split end to end; arrays are (rows, ...) and memory-mapped."""

    user_speech: np.ndarray
    """(rows, S) float32."""
    agent_speech: np.ndarray
    """(rows, S) float32."""
    user_motion: np.ndarray
    """(rows, 56) float32, in radians and FLAME units."""
    agent_motion: np.ndarray
    """(rows, 56) float32."""
    user_valid: np.ndarray
    """(rows, 3) bool: expression, jaw, neck."""
    agent_valid: np.ndarray
    """(rows, 3) bool."""
    first_rows: np.ndarray
    """(clips + 1,) where each clip starts, its lead included; the last one is the number of rows."""
    lead: int
    """Frames before each clip's first one."""
    names: tuple[str, ...]
    """Clips in order."""

    def frames(self, clip: int) -> int:
        """Return the number of frames of a clip, without its lead."""
        return int(self.first_rows[clip + 1] - self.first_rows[clip]) - self.lead


def prepare(
    clips: list[Clip],
    config: ModelConfig,
    lead: int,
    cache: Path,
    *,
    processes: int = 1,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> PreparedSplit:
    """Compute, or find again, the arrays of a list of clips.

    Args:
        clips: In the order wanted.
        config: Says which features.
        lead: Frames before each clip.
        cache: Folder of earlier results; one entry per content of files and settings.
        processes: How many work at once.
        advance: Called with (done, total) after each clip.

    Raises:
        BadClipError: A clip cannot be read.
    """
    entry = cache / _key(clips, config, lead, speech_features(config))
    if not entry.is_dir():
        with replacing_folder(entry, is_first_kept=True) as scratch:
            _compute(clips, config, lead, scratch, processes, advance)
    facts = json.loads((entry / "facts.json").read_text(encoding="utf-8"))
    arrays = {name: np.load(entry / f"{name}.npy", mmap_mode="r") for name in STREAMS}
    return PreparedSplit(
        **arrays, first_rows=np.array(facts["first_rows"]), lead=lead, names=tuple(facts["names"])
    )


def voice_features(
    features: SpeechFeatures, config: ModelConfig, voice: np.ndarray, side: str, lead: int
) -> np.ndarray:
    """Return (lead + n, S) features of one whole voice, as the session's turns see it.

    Spectra do not care how a voice is cut. wav2vec 2.0 sees each turn's sound alone, so it is cut where the
    session cuts it: the agent's at turns, the user's by the margin before them. Frames that fill no such cut
    are dropped at the end and stand for silence at the start.

    Args:
        features: As of `speech_features`.
        config: The model.
        voice: (640 n,) 16 kHz.
        side: "user" or "agent".
        lead: Silent frames before it.
    """
    if config.speech_encoder != "wav2vec2":
        return clip_features(features, voice, lead)
    turn = config.turn_frames
    margin = config.user_lag_margin_frames if side == "user" and config.user_lag == "turn" else 0
    # As much silence as makes the cuts fall there, and every frame lie in a whole cut.
    before = margin + -(-max(0, lead - margin) // turn) * turn
    frames = len(voice) // SAMPLES_PER_FRAME
    after = -(before + frames) % turn
    padded = np.pad(voice, (samples_of(Frames(before)), samples_of(Frames(after))))
    state, rows = features.initial(), []
    for piece in padded.reshape(-1, turn * SAMPLES_PER_FRAME):
        found, state = features.compute(piece, state)
        rows.append(found)
    return np.concatenate(rows)[before - lead : before + frames]


def clip_streams(
    clip: Clip, features: SpeechFeatures, lead: int, config: ModelConfig | None = None
) -> dict[str, np.ndarray]:
    """Return the six streams of one clip, each led in by `lead` silent, unseen frames.

    Args:
        clip: The clip.
        features: As of `speech_features`.
        lead: Frames before it.
        config: The model; None: a streaming one.

    Raises:
        BadClipError: It cannot be read, or is shorter than a frame.
    """
    dyad = load_dyad(clip)
    if dyad.frames == 0:
        raise BadClipError(f"{clip.name} is shorter than one frame of 40 ms; leave it out")
    agent_motion = dyad.agent_motion or MotionTrack.unseen(dyad.frames)
    sides = ((dyad.user_voice, dyad.user_motion), (dyad.agent_voice, agent_motion))
    result: dict[str, np.ndarray] = {}
    for side, (voice, motion) in zip(SPEAKERS, sides, strict=True):
        result[f"{side}_speech"] = voice_features(features, config or ModelConfig(), voice, side, lead)
        result[f"{side}_motion"] = np.pad(motion.vector, ((lead, 0), (0, 0)))
        result[f"{side}_valid"] = np.pad(motion.valid, ((lead, 0), (0, 0)))
    return result


def _compute(
    clips: list[Clip],
    config: ModelConfig,
    lead: int,
    folder: Path,
    processes: int,
    advance: Callable[[int, int], None],
) -> None:
    parts: list[dict[str, np.ndarray]] = []
    for streams in _all_streams(clips, config, lead, processes):
        parts.append(streams)
        advance(len(parts), len(clips))
    for name in STREAMS:
        np.save(folder / f"{name}.npy", np.concatenate([streams[name] for streams in parts]))
    ends = np.cumsum([len(streams["user_speech"]) for streams in parts]).tolist()
    facts = {"first_rows": [0, *ends], "names": [clip.name for clip in clips]}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def _all_streams(
    clips: list[Clip], config: ModelConfig, lead: int, processes: int
) -> Iterator[dict[str, np.ndarray]]:
    if processes <= 1:
        _keep_features(config, lead)
        yield from map(_work, clips)
        return
    # Not forked: the fork of a process in which wav2vec 2.0 has run waits for threads that it does not have.
    spawn = multiprocessing.get_context("spawn")
    with process_pool(processes, spawn, _keep_features, (config, lead)) as pool:
        yield from pool.map(_work, clips, chunksize=2)


_WORKER: list[tuple[SpeechFeatures, int, ModelConfig]] = []
"""What a worker process needs for each clip."""


def _keep_features(config: ModelConfig, lead: int) -> None:
    _WORKER[:] = [(speech_features(config), lead, config)]


def _work(clip: Clip) -> dict[str, np.ndarray]:
    return clip_streams(clip, *_WORKER[0])


def _fingerprint(features: SpeechFeatures) -> str:
    """Name what a probe sound becomes: features whose code has changed are not taken for the old ones."""
    rng = np.random.default_rng(0)
    frames = 100
    level = np.repeat(10 ** rng.uniform(-3, -0.5, frames), SAMPLES_PER_FRAME)
    probe = (level * rng.uniform(-1, 1, frames * SAMPLES_PER_FRAME)).astype(np.float32)
    # Rounded, for the last digits differ between machines.
    return hashlib.sha256(np.round(clip_features(features, probe), 2).tobytes()).hexdigest()


def _key(clips: list[Clip], config: ModelConfig, lead: int, features: SpeechFeatures) -> str:
    """Name the content: a file that changes, or other features, give another entry."""
    facts: list[object] = [_fingerprint(features), FORMAT, lead, config.speech_encoder, config.mel_bands]
    facts += [config.speech_source, config.loudness, *config.level_memory_s]
    if config.speech_encoder == "wav2vec2":
        facts += [config.turn_frames, config.user_lag, config.user_lag_margin_frames]
    facts += [[clip.name, clip.is_swapped, file_states(clip)] for clip in clips]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:20]
