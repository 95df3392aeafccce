"""Estimates a person's own neutral pose while they move: slow, robust, and never a jump."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from timar_common.config import check, number
from timar_common.motion_file import JAW, NECK

from timar_retargeting.signals import Neutral

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class NeutralConfig:
    """How a person's neutral pose is estimated."""

    neutral_time_constant_s: float = number(
        40.0,
        "In this time the estimate follows a lasting change by two thirds; 0: no estimate.",
        0.0,
        3600.0,
        "s",
    )
    neutral_range_rad: float = number(
        0.35, "Furthest that it may lie from the given neutral pose.", 0.0, 1.0, "rad"
    )
    neutral_excursion_rad: float = number(
        0.15, "What lies further off counts as a gesture, whose size does not matter.", 0.01, 1.0, "rad"
    )
    neutral_jaw_opening_weight: float = number(
        0.25, "How much less an open jaw counts than a closed one: mouths rest closed.", 0.01, 1.0
    )

    def __post_init__(self) -> None:
        check(self)


SETTLING_S = 6.0
"""At first the estimate is this quick, for it knows nothing yet [s]."""
JAW_RATE_GAIN = 2.0
"""The jaw's estimate is this much quicker, to make up for what its openings count less."""


class NeutralPoseEstimator:
    """Neck (axis-angle) and jaw at rest, from all frames seen so far.

    Each frame pulls the estimate towards itself, a far one no more than one at `neutral_excursion_rad`, so
    that a gesture counts by how long it lasts and not by how far it goes. Within a run of frames the estimate
    moves evenly, so that what it is taken from stays smooth.

    Args:
        given: The pose to begin with.
        config: How quick, how far.
        frames_per_second: Of the motion.
    """

    def __init__(
        self, given: Neutral, config: NeutralConfig | None = None, frames_per_second: float = 25.0
    ) -> None:
        self.config = config or NeutralConfig()
        self._given = given.row()
        self._frame_s = 1.0 / frames_per_second
        self._rest = self._given.copy()
        self._seen_s = 0.0

    @property
    def is_fixed(self) -> bool:
        """Whether the given pose stays."""
        return self.config.neutral_time_constant_s == 0.0

    @property
    def rest(self) -> Array:
        """(4,) neck and jaw at rest now [rad]."""
        return self._rest.copy()

    def update(self, motion: Array) -> Array:
        """Take frames in and return the neutral pose at each.

        Args:
            motion: (frames, 56); frames that are not finite are left out.

        Returns:
            (frames, 4) neck and jaw at rest [rad].
        """
        cfg = self.config
        poses = np.concatenate([motion[:, NECK], motion[:, JAW.start : JAW.start + 1]], axis=1)
        poses = poses[np.isfinite(poses).all(1)]
        before = self._rest
        if len(poses):
            pull = np.minimum(
                np.maximum(poses - before, -cfg.neutral_excursion_rad), cfg.neutral_excursion_rad
            )
            pull[:, 3] *= JAW_RATE_GAIN * np.where(pull[:, 3] > 0.0, cfg.neutral_jaw_opening_weight, 1.0)
            length_s = len(poses) * self._frame_s
            self._seen_s += length_s
            # At first it is as slow as what was seen is short, and settles from there on.
            constant_s = min(cfg.neutral_time_constant_s, SETTLING_S + self._seen_s)
            moved = before + (1.0 - np.exp(-length_s / constant_s)) * pull.mean(0)
            low, high = self._given - cfg.neutral_range_rad, self._given + cfg.neutral_range_rad
            self._rest = np.minimum(np.maximum(moved, low), high)
        share = (np.arange(len(motion)) + 1.0)[:, None] / max(len(motion), 1)
        return before + share * (self._rest - before)
