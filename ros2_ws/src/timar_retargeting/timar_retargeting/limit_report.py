"""What the limits did to each joint: counted by the planner, sent in diagnostics, read back from a bag.

A stop that a joint reaches by design (a closed mouth) is no hit and is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

COUNTS = ("clipped", "smoothed", "scaled")
SHARE = "smallest_share"


class LimitReport:
    """Counts for J joints, all (J,)."""

    def __init__(self, joints: int) -> None:
        self.clipped = np.zeros(joints, np.int64)
        """Plans in which a wanted position was bent into the position limits."""
        self.smoothed = np.zeros(joints, np.int64)
        """Plans with fast motion made smaller to keep velocity or acceleration."""
        self.scaled = np.zeros(joints, np.int64)
        """Plans of which only a share could be blended into the plan before."""
        self.smallest_share: npt.NDArray[np.float64] = np.ones(joints)
        """The smallest such share, 1 when there was none."""
        self.plans = 0

    def values(self, joint_names: Sequence[str]) -> dict[str, int | float]:
        """Return ``plans``; per joint ``JOINT.clipped``, ``.smoothed``, ``.scaled``, ``.smallest_share``."""
        values: dict[str, int | float] = {"plans": self.plans}
        for joint, name in enumerate(joint_names):
            values |= {f"{name}.{count}": int(getattr(self, count)[joint]) for count in COUNTS}
            values[f"{name}.{SHARE}"] = float(self.smallest_share[joint])
        return values


def read_limit_values(values: Mapping[str, str]) -> dict[str, dict[str, int | float]]:
    """Read them back from the values of a diagnostics message, by joint; what is no such value is left out.

    Raises:
        ValueError: A value of such a name is no number.
    """
    joints: dict[str, dict[str, int | float]] = {}
    for key, value in values.items():
        joint, _, kind = key.rpartition(".")
        if joint and kind in COUNTS:
            joints.setdefault(joint, {})[kind] = int(value)
        elif joint and kind == SHARE:
            joints.setdefault(joint, {})[kind] = float(value)
    return joints
