"""Mean and spread of each motion dimension: the model works on motion that has mean 0 and deviation 1."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from timar_model.config import MOTION_DIM


@dataclasses.dataclass(frozen=True)
class MotionStatistics:
    """(56,) mean and standard deviation of motion; the identity when nothing is known."""

    mean: npt.NDArray[np.float32] = dataclasses.field(
        default_factory=lambda: np.zeros(MOTION_DIM, np.float32)
    )
    std: npt.NDArray[np.float32] = dataclasses.field(default_factory=lambda: np.ones(MOTION_DIM, np.float32))

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = np.asarray(getattr(self, name), np.float32)
            if value.shape != (MOTION_DIM,) or not np.all(np.isfinite(value)):
                raise ValueError(
                    f"the motion's {name} has shape {value.shape}, expected {MOTION_DIM} finite numbers"
                )
            object.__setattr__(self, name, value)
        if self.std.min() <= 0:
            raise ValueError(f"the motion's std is {self.std.min():g} in one dimension, expected more than 0")

    @classmethod
    def of(cls, motion: npt.NDArray[np.float32], std_floor: float = 1e-3) -> MotionStatistics:
        """Measure motion (frames, 56); a dimension that hardly moves counts as moving by `std_floor`."""
        mean = motion.mean(axis=0, dtype=np.float64)
        std = np.maximum(motion.std(axis=0, dtype=np.float64), std_floor)
        return cls(mean.astype(np.float32), std.astype(np.float32))

    def normalise(self, motion: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Take motion (..., 56) to the model's units."""
        return (motion - self.mean) / self.std

    def restore(self, motion: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Take the model's (..., 56) back to motion."""
        return motion * self.std + self.mean
