"""Joint gains for ARKit's blendshapes, from a few poses set on the robot and made to the camera."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from timar_common.arkit import ARKIT_NAMES

from timar_retargeting.signals import Array

MOST_POSES, LEAST_POSES = 12, 3
SUGGESTED = (
    "a resting face",
    "a wide smile",
    "brows up",
    "brows down",
    "eyes closed",
    "eyes wide open",
    "mouth open",
    "lips pursed",
    "corners of the mouth down",
    "cheeks puffed",
    "nose wrinkled",
    "one side smiling",
)
"""Said to the operator one by one; any other will do as well."""
POSES_PER_TERM = 3
"""So many poses stand behind each blendshape a joint follows, or a pose set wrong would be fitted too."""
LEAST_SEEN = 0.15
"""A blendshape that never changed by this much between poses tells nothing."""
STILL_RAD = 0.005
"""Less than this is no movement, and no residual worth another blendshape [rad]."""
WORTH = 0.67
"""Another blendshape must leave less than this share of the residual."""


@dataclasses.dataclass(frozen=True)
class JointFit:
    """How a joint follows blendshapes, and how far that is off its poses."""

    joint: str
    gains: dict[str, float]
    offset_rad: float
    residuals_rad: Array
    """(poses,) measured less fitted."""
    moved_rad: float
    """By how much the poses moved the joint."""

    @property
    def rms_rad(self) -> float:
        """Of the residuals."""
        return _rms(self.residuals_rad)


def fit_poses(joint_names: Sequence[str], positions: Array, shapes: Array) -> tuple[JointFit, ...]:
    """Fit each joint as offset + sum of gain x blendshape, by a few blendshapes chosen one by one.

    Args:
        joint_names: J names.
        positions: (poses, J) where the operator set the joints [rad].
        shapes: (poses, 52) what the camera saw of the operator's face, in the order of ARKIT_NAMES.

    Raises:
        ValueError: There are too few or too many poses, shapes disagree, a number is not finite, or the face
            was the same in all of them.
    """
    poses = len(positions)
    if not LEAST_POSES <= poses <= MOST_POSES:
        raise ValueError(f"there are {poses} poses, expected {LEAST_POSES} to {MOST_POSES}")
    if positions.shape != (poses, len(joint_names)) or shapes.shape != (poses, len(ARKIT_NAMES)):
        raise ValueError(
            f"positions {positions.shape} and blendshapes {shapes.shape} do not belong together, expected "
            f"({poses}, {len(joint_names)}) and ({poses}, {len(ARKIT_NAMES)})"
        )
    if not (np.isfinite(positions).all() and np.isfinite(shapes).all()):
        raise ValueError("a position or a blendshape is not finite; make that pose again")
    seen = np.flatnonzero(np.ptp(shapes, axis=0) >= LEAST_SEEN).tolist()
    if not seen:
        raise ValueError("the camera saw the same face in every pose; make each face clearly, and hold it")
    return tuple(
        _fit_joint(name, positions[:, column], shapes, seen) for column, name in enumerate(joint_names)
    )


def _fit_joint(name: str, wanted: Array, shapes: Array, seen: Sequence[int]) -> JointFit:
    """Add the blendshape that leaves least, as long as it takes a third of the rest (matching pursuit)."""
    chosen: list[int] = []
    weights, residuals = _solve(shapes[:, chosen], wanted)
    while len(chosen) < (len(wanted) - 1) // POSES_PER_TERM and _rms(residuals) > STILL_RAD:
        left = {
            column: _rms(_solve(shapes[:, [*chosen, column]], wanted)[1])
            for column in seen
            if column not in chosen
        }
        if not left or min(left.values()) > WORTH * _rms(residuals):
            break
        # Both corners of a mouth often smile alike: of equals, the one on the joint's own side.
        equals = [column for column, rms in left.items() if rms <= min(left.values()) + STILL_RAD]
        column = min(equals, key=lambda one: (-_same_side(name, ARKIT_NAMES[one]), left[one]))
        chosen.append(column)
        weights, residuals = _solve(shapes[:, chosen], wanted)
    gains = {ARKIT_NAMES[column]: float(weight) for column, weight in zip(chosen, weights[1:], strict=True)}
    return JointFit(name, gains, float(weights[0]), residuals, float(np.ptp(wanted)))


def _same_side(joint: str, shape: str) -> int:
    side = next((side for side in ("left", "right") if side in joint.lower()), "")
    return int(bool(side) and shape.lower().endswith(side))


def _solve(chosen: Array, wanted: Array) -> tuple[Array, Array]:
    """Return the least squares weights, offset first, and the residuals."""
    terms = np.column_stack([np.ones(len(wanted)), chosen])
    weights: Array = np.asarray(np.linalg.lstsq(terms, wanted, rcond=None)[0], np.float64)
    return weights, wanted - terms @ weights


def _rms(values: Array) -> float:
    return float(np.sqrt((values**2).mean()))


def poses_text(fits: Sequence[JointFit]) -> str:
    """Return a line per joint: how far the poses moved it, what the fit leaves, and where it is worst."""
    lines = [f"{'joint':18s} {'moved':>7s} {'residual':>9s} {'worst':>7s}  [rad]"]
    for fit in fits:
        worst = int(np.abs(fit.residuals_rad).argmax())
        verdict = "follows " + ", ".join(fit.gains) if fit.gains else "follows no blendshape"
        if fit.moved_rad < STILL_RAD:
            verdict = "was not moved by the poses"
        lines.append(
            f"{fit.joint:18s} {fit.moved_rad:7.3f} {fit.rms_rad:9.4f} {fit.residuals_rad[worst]:+7.3f} in "
            f"pose {worst + 1}; {verdict}"
        )
    return "\n".join(lines) + "\n"


def poses_yaml(fits: Sequence[JointFit]) -> str:
    """Return the part of a robot's YAML that the poses tell."""
    lines = ["joints:"]
    for fit in fits:
        if fit.gains:
            gains = ", ".join(f"{name}: {gain:.4g}" for name, gain in fit.gains.items())
            lines += [f"  {fit.joint}:", f"    signals: {{{gains}}}", f"    offset_rad: {fit.offset_rad:.4g}"]
    return "\n".join(lines) + "\n"


def draw_poses(fits: Sequence[JointFit], path: Path, title: str) -> None:
    """Draw each joint's residual at each pose.

    Raises:
        OSError: The picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 1.0 + 0.5 * len(fits)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    largest = max(max(float(np.abs(fit.residuals_rad).max()), fit.rms_rad) for fit in fits) or 1.0
    for row, fit in enumerate(fits):
        poses = len(fit.residuals_rad)
        axes.bar(
            np.arange(poses) + 1.0,
            0.45 * fit.residuals_rad / largest,
            width=0.6,
            bottom=-float(row),
            color=np.where(np.abs(fit.residuals_rad) > 2.0 * fit.rms_rad, "#c0392b", "#14727f"),
        )
        axes.axhline(-float(row), color="#8a949c", linewidth=0.6)
    axes.set_yticks([-float(row) for row in range(len(fits))])
    axes.set_yticklabels([f"{fit.joint}\n{fit.rms_rad:.3f} rad" for fit in fits], fontsize=8)
    axes.set_xlabel(f"pose (a bar as high as half a row is {largest:.3f} rad)")
    axes.set_xticks(np.arange(len(fits[0].residuals_rad)) + 1)
    axes.set_title(title, fontsize=10)
    figure.savefig(path, dpi=110)
