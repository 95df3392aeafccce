"""Baselines without a network: the mean pose, the nearest training clip, and a rule of energy and pauses."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import spatial
from timar_common.clock import FRAMES_PER_SECOND
from timar_common.motion_file import JAW, NECK, MotionTrack
from timar_common.suggest import refuse_unknown
from timar_common.units import Frames, samples_of
from timar_common.user_motion import MOTION_CHANNELS

from ..corpora.dyads import Clip, Dyad, FloatArray, load_dyad
from ..corpora.levels import FINE_RATE_HZ, frame_level_db, is_speaking
from .predictor import Predictor

BASELINES = ("mean-pose", "nearest-clip", "energy-rule")

SEGMENT_FRAMES = 100
SEGMENT_STEP_FRAMES = 25
JOIN_FRAMES = 5
ENVELOPE_FRAMES = 5
QUIET_DB = -50.0
NOD_DELAY_S = 0.4
NOD_S = 0.5
MAX_TRAINING_CLIPS = 200


class MeanPose:
    """The mean of the training motion, always."""

    name = "mean-pose"
    turn_frames = 1
    delay_frames = 0

    def __init__(self, clips: list[Dyad]) -> None:
        self._mean = np.concatenate([_known(dyad) for dyad in clips]).mean(axis=0, dtype=np.float64)

    def predict(self, dyad: Dyad, seed: int) -> FloatArray:
        """Return (T, 56)."""
        return np.tile(self._mean.astype(np.float32), (dyad.frames, 1))


class NearestClip:
    """The motion of those four training seconds whose two voices are most like the ones at hand.

    It looks at the whole segment, so it is not causal: an upper bound on what retrieval by loudness brings.
    """

    name = "nearest-clip"
    turn_frames = SEGMENT_FRAMES
    delay_frames = 0

    def __init__(self, clips: list[Dyad]) -> None:
        keys, motion = [], []
        for dyad in clips:
            truth = _truth(dyad)
            for start in range(0, dyad.frames - SEGMENT_FRAMES + 1, SEGMENT_STEP_FRAMES):
                valid = truth.valid[start : start + SEGMENT_FRAMES, 1:]
                if valid.all():
                    keys.append(_envelope(dyad, start))
                    motion.append(truth.vector[start : start + SEGMENT_FRAMES])
        if not keys:
            raise ValueError(
                f"no training clip has {SEGMENT_FRAMES} frames in a row with the agent's motion; "
                "nearest-clip has nothing to choose from"
            )
        self._tree = spatial.cKDTree(np.stack(keys))
        self._motion = motion

    def predict(self, dyad: Dyad, seed: int) -> FloatArray:
        """Return (T, 56); segments are joined over a fifth of a second."""
        made = np.zeros((dyad.frames, MOTION_CHANNELS), np.float32)
        for start in range(0, dyad.frames, SEGMENT_FRAMES):
            _, index = self._tree.query(_envelope(dyad, start))
            length = min(SEGMENT_FRAMES, dyad.frames - start)
            made[start : start + length] = self._motion[int(index)][:length]
            if start:
                joined = min(JOIN_FRAMES, length)
                share = (np.arange(1, joined + 1) / (JOIN_FRAMES + 1))[:, None]
                rows = slice(start, start + joined)
                made[rows] = (1 - share) * made[start - 1] + share * made[rows]
        return made


class EnergyRule:
    """The jaw as a line of the own voice's amplitude, and a nod after each pause of the user.

    The line is a least-squares fit; the nod is as deep as the training heads' pitch spreads.
    """

    name = "energy-rule"
    turn_frames = 1
    delay_frames = 0

    def __init__(self, clips: list[Dyad]) -> None:
        self._mean = np.concatenate([_known(dyad) for dyad in clips]).mean(axis=0, dtype=np.float64)
        amplitude: list[npt.NDArray[np.float64]] = []
        opening, pitch = [], []
        for dyad in clips:
            truth = _truth(dyad)
            known = np.flatnonzero(truth.valid[:, 1:].all(axis=1))
            amplitude.append(_amplitude(dyad.agent_voice)[known])
            opening.append(truth.vector[known, JAW])
            pitch.append(truth.vector[known, NECK.start].std())
        rows = np.stack([np.concatenate(amplitude), np.ones(sum(track.size for track in amplitude))], axis=1)
        self._line = np.linalg.lstsq(rows, np.concatenate(opening).astype(np.float64), rcond=None)[0]
        self._depth_rad = float(np.mean(pitch))

    def predict(self, dyad: Dyad, seed: int) -> FloatArray:
        """Return (T, 56)."""
        made = np.tile(self._mean, (dyad.frames, 1))
        loud = _amplitude(dyad.agent_voice)
        made[:, JAW] = np.stack([loud, np.ones_like(loud)], axis=1) @ self._line
        nod = np.hanning(round(NOD_S * FRAMES_PER_SECOND) + 2)[1:-1] * 2 * self._depth_rad
        speaking = is_speaking(dyad.user_voice)
        ends = np.flatnonzero(speaking[:-1] & ~speaking[1:]) / FINE_RATE_HZ
        for end_s in ends:
            first = round((end_s + NOD_DELAY_S) * FRAMES_PER_SECOND)
            rows = slice(first, min(first + len(nod), dyad.frames))
            made[rows, NECK.start] += nod[: max(0, rows.stop - rows.start)]
        return made.astype(np.float32)


def fit_baseline(name: str, clips: list[Clip]) -> Predictor:
    """Fit a baseline on training clips that have the agent's motion.

    Raises:
        ValueError: There is no such baseline, or no clip has motion.
    """
    kinds = {kind.name: kind for kind in (MeanPose, NearestClip, EnergyRule)}
    refuse_unknown("baseline", [name], kinds)
    read = [load_dyad(clip) for clip in clips[:MAX_TRAINING_CLIPS]]
    moving = [dyad for dyad in read if dyad.agent_motion is not None]
    if not moving:
        raise ValueError(f"no training clip has motion of its agent, which {name} needs")
    return kinds[name](moving)


def _truth(dyad: Dyad) -> MotionTrack:
    if dyad.agent_motion is None:
        raise ValueError(f"{dyad.name} has no motion of its agent; a baseline cannot learn from it")
    return dyad.agent_motion


def _known(dyad: Dyad) -> FloatArray:
    truth = _truth(dyad)
    return truth.vector[truth.valid[:, 1:].all(axis=1)]


def _amplitude(voice: FloatArray) -> npt.NDArray[np.float64]:
    return np.asarray(10 ** (frame_level_db(voice) / 20))


def _envelope(dyad: Dyad, start: int) -> npt.NDArray[np.float64]:
    """Return both voices' levels five times a second over a segment, silence after the end."""
    parts = []
    span = slice(samples_of(Frames(start)), samples_of(Frames(start + SEGMENT_FRAMES)))
    for voice in (dyad.agent_voice, dyad.user_voice):
        level = np.maximum(frame_level_db(voice[span]), QUIET_DB)
        level = np.pad(level, (0, SEGMENT_FRAMES - len(level)), constant_values=QUIET_DB)
        parts.append(level.reshape(-1, ENVELOPE_FRAMES).mean(axis=1))
    return np.concatenate(parts)
