"""Bring every voice to one loudness, causally: the gain of a frame knows nothing that comes after the frame.

The same code runs in training and live. Time goes by whole frames, so the cut into turns changes nothing.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from timar_model.config import SAMPLES_PER_FRAME

Samples = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class LoudnessConfig:
    """How the level of a voice is followed."""

    target_dbfs: float = -23.0
    """Level a voice is brought to [dB relative to full scale]."""
    gate_dbfs: float = -55.0
    """Frames below are silence and teach nothing [dBFS]."""
    relative_gate_db: float = 20.0
    """Frames this far below the level heard so far are pauses and teach nothing [dB]."""
    time_constant_s: float = 10.0
    """How slowly the level follows once it is known [s of speech]."""
    trust_s: float = 0.4
    """How much speech the first guess, the target itself, is worth [s]."""
    max_gain_db: float = 24.0
    """Largest gain and largest attenuation [dB]."""


@dataclasses.dataclass(frozen=True)
class LoudnessState:
    """What is known of one voice."""

    level_dbfs: float
    """Level of its speech so far."""
    heard_frames: float
    """How many frames that is worth."""
    gain_db: float
    """Gain at the end of the last frame."""


class LoudnessNormaliser:
    """Follow one voice's speech level and take the difference to the target away."""

    def __init__(self, kind: str = "causal", config: LoudnessConfig | None = None) -> None:
        if kind not in ("causal", "none"):
            raise ValueError(f"the loudness normalisation is {kind!r}, expected 'causal' or 'none'")
        self.kind = kind
        self.config = config or LoudnessConfig()

    def initial(self) -> LoudnessState:
        """Return what is known before anything was heard."""
        return LoudnessState(self.config.target_dbfs, self.config.trust_s * 25.0, 0.0)

    def apply(self, samples: Samples, state: LoudnessState) -> tuple[Samples, LoudnessState]:
        """Normalise whole frames of one voice.

        Args:
            samples: (640 n,) float32 in [-1, 1].
            state: What was known before them.

        Returns:
            The samples at the target's loudness, and what is known after them.
        """
        if self.kind == "none":
            return samples, state
        frames = samples.reshape(-1, SAMPLES_PER_FRAME)
        power = np.mean(frames.astype(np.float64) ** 2, axis=1)
        out = np.empty_like(frames)
        ramp = np.arange(1, SAMPLES_PER_FRAME + 1) / SAMPLES_PER_FRAME
        for index, frame in enumerate(frames):
            before_db = state.gain_db
            state = self._learn(float(power[index]), state)
            gain_db = before_db + (state.gain_db - before_db) * ramp
            out[index] = frame * (10.0 ** (gain_db / 20.0))
        return out.reshape(-1), state

    def _learn(self, power: float, state: LoudnessState) -> LoudnessState:
        cfg = self.config
        frame_dbfs = 10.0 * math.log10(power + 1e-12)
        if frame_dbfs < max(cfg.gate_dbfs, state.level_dbfs - cfg.relative_gate_db):
            return state
        heard = min(state.heard_frames + 1.0, cfg.time_constant_s * 25.0)
        level = state.level_dbfs + (frame_dbfs - state.level_dbfs) / heard
        gain = min(cfg.max_gain_db, max(-cfg.max_gain_db, cfg.target_dbfs - level))
        return LoudnessState(level, heard, gain)
