"""What the limits did to each joint, as values of a diagnostics message and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from timar_retargeting.planner import LimitReport

COUNTS = ("clipped", "smoothed", "scaled")
SHARE = "smallest_share"


def limit_values(report: LimitReport, joint_names: Sequence[str]) -> dict[str, int | float]:
    """Return ``plans`` and, per joint, ``JOINT.clipped``, ``.smoothed``, ``.scaled``, ``.smallest_share``."""
    values: dict[str, int | float] = {"plans": report.plans}
    for joint, name in enumerate(joint_names):
        values |= {f"{name}.{count}": int(getattr(report, count)[joint]) for count in COUNTS}
        values[f"{name}.{SHARE}"] = float(report.smallest_share[joint])
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
