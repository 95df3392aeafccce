"""Voice activity by frame of 40 ms, from a level over an adaptive noise floor."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import numpy.typing as npt

SAMPLES_PER_FRAME = 640
SILENCE_DBFS = -120.0


@dataclasses.dataclass(frozen=True)
class SpeechActivityConfig:
    """When a frame counts as speech."""

    min_level_dbfs: float = -50.0
    """A frame below this is never speech."""
    above_noise_db: float = 12.0
    """Speech is this much louder than the noise floor."""
    rise_db_s: float = 3.0
    """The noise floor follows louder sound at this rate, and quieter sound at once."""
    max_noise_dbfs: float = -35.0
    hang_frames: int = 2
    """A frame after speech still counts so long, for syllables have gaps."""


class SpeechActivity:
    """Decide frame by frame whether one voice speaks; the same sound in any blocks gives the same answer."""

    def __init__(self, config: SpeechActivityConfig | None = None) -> None:
        self.config = config or SpeechActivityConfig()
        self._noise_dbfs = self.config.min_level_dbfs - self.config.above_noise_db
        self._hang = 0

    def step(self, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Take (640 n,) samples in [-1, 1) and return (n,) flags."""
        cfg = self.config
        power = np.mean(np.square(samples.reshape(-1, SAMPLES_PER_FRAME), dtype=np.float64), axis=1)
        levels = 10.0 * np.log10(np.maximum(power, 10.0 ** (SILENCE_DBFS / 10.0)))
        flags = np.zeros(len(levels), np.bool_)
        for frame, level in enumerate(levels.tolist()):
            is_loud = level > max(cfg.min_level_dbfs, self._noise_dbfs + cfg.above_noise_db)
            self._noise_dbfs = min(level, self._noise_dbfs + cfg.rise_db_s / 25.0, cfg.max_noise_dbfs)
            self._hang = cfg.hang_frames if is_loud else max(0, self._hang - 1)
            flags[frame] = is_loud or self._hang > 0
        return flags

    def peek(self, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Return the flags of the sound that follows, and forget it again."""
        return copy.copy(self).step(samples)
