"""Bring every voice to one loudness, causally: the gain of a frame knows nothing that comes after the frame.

The same code runs in training and live. Time goes by whole frames, so the cut into turns changes nothing.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from timar_model.config import FRAMES_PER_SECOND, SAMPLES_PER_FRAME

_NO_SIGNAL_DBFS = -90.0
"""Below this lies digital silence, which says nothing of the background either [dBFS]."""

Samples = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class LoudnessConfig:
    """How the level of a voice is followed."""

    target_dbfs: float = -23.0
    """Level a voice is brought to [dB relative to full scale]."""
    gate_dbfs: float = -60.0
    """Frames below are silence and teach nothing [dBFS]."""
    noise_margin_db: float = 9.0
    """How far above the noise floor a frame must stand to be speech [dB]."""
    noise_rise_db_per_s: float = 1.0
    """How fast the noise floor follows a rising background; it falls at once [dB/s]."""
    pause_margin_db: float = 20.0
    """Speech this far below the level heard so far is a tail or a breath: it lowers the level slowly [dB]."""
    pause_leak_db_per_s: float = 1.0
    """How slowly; a voice that stays so quiet is found again after all [dB/s]."""
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
    floor_dbfs: float
    """Level of the background."""
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
        cfg = self.config
        return LoudnessState(cfg.target_dbfs, cfg.trust_s * FRAMES_PER_SECOND, 0.0, 0.0)

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
        if frame_dbfs < _NO_SIGNAL_DBFS:
            return state
        floor = min(frame_dbfs, state.floor_dbfs + cfg.noise_rise_db_per_s / FRAMES_PER_SECOND)
        if frame_dbfs < max(cfg.gate_dbfs, floor + cfg.noise_margin_db):
            return dataclasses.replace(state, floor_dbfs=floor)
        heard, level = state.heard_frames, state.level_dbfs
        # Nobody's level is known from the first second: until then nothing counts as a pause.
        if heard > FRAMES_PER_SECOND and frame_dbfs < level - cfg.pause_margin_db:
            level -= cfg.pause_leak_db_per_s / FRAMES_PER_SECOND
        else:
            heard = min(heard + 1.0, cfg.time_constant_s * FRAMES_PER_SECOND)
            level += (frame_dbfs - level) / heard
        gain = min(cfg.max_gain_db, max(-cfg.max_gain_db, cfg.target_dbfs - level))
        return LoudnessState(level, heard, floor, gain)
