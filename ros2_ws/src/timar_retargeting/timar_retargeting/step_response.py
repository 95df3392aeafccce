"""How far a servo stays behind what it is told, from a commanded and a measured movement."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicHermiteSpline
from scipy.optimize import minimize_scalar

Array = npt.NDArray[np.float64]

LONGEST_S = 0.5
LEAST_MOVE_RAD = 0.01
WORST_MATCH = 0.25


@dataclasses.dataclass(frozen=True)
class StepResponse:
    """What a step told about one joint."""

    delay_s: float
    """The command, so much later, matches the measurement best."""
    gain: float
    """Measured size by commanded size."""
    offset_rad: float
    """Measured less commanded position, at rest."""
    mismatch: float
    """What the best match leaves, as a share of the step."""
    overshoot: float
    """How far it went beyond what it was ever told, as a share of the step."""


class CommandTrack:
    """Commanded positions of one joint over time, from the trajectories as they came."""

    def __init__(self) -> None:
        self._pieces: list[tuple[float, CubicHermiteSpline, float]] = []

    def add(self, start_s: float, times_s: Array, positions: Array, velocities: Array) -> None:
        """Take a trajectory in; it is in force from its start on.

        Args:
            start_s: When its first point is due [s].
            times_s: (K,) rising, after the start [s].
            positions: (K,) [rad].
            velocities: (K,) [rad/s].
        """
        if len(times_s) > 1:
            spline = CubicHermiteSpline(start_s + times_s, positions, velocities)
            self._pieces.append((start_s, spline, float(start_s + times_s[-1])))

    def at(self, times_s: Array) -> Array:
        """Return (K,) positions; before the first trajectory its first point holds, after the last its last.

        Raises:
            ValueError: There is no trajectory.
        """
        if not self._pieces:
            raise ValueError("no trajectory came; is the retargeting node running, with output trajectory?")
        first_s, spline, _ = self._pieces[0]
        positions = np.full(len(times_s), float(spline(first_s)))
        for start_s, spline, end_s in self._pieces:
            since = times_s >= start_s
            positions[since] = spline(np.minimum(times_s[since], end_s))
        return positions


def measure_step(command: CommandTrack, times_s: Array, positions: Array) -> StepResponse:
    """Find the delay of one joint.

    Args:
        command: What it was told.
        times_s: (K,) instants of the measurements, rising, from before the step until it rests again [s].
        positions: (K,) measured [rad].

    Raises:
        ValueError: The command hardly moves, too little was measured, or what was measured does not follow
            the command.
    """
    if len(times_s) < 10:
        raise ValueError(f"{len(times_s)} measurements came, expected 10 or more; does joint_states run?")
    told = command.at(times_s)
    size = float(np.ptp(told))
    if size < LEAST_MOVE_RAD:
        raise ValueError(f"the command moves by {size:.3g} rad, expected {LEAST_MOVE_RAD:g} or more")

    def match(delay_s: float) -> tuple[float, float]:
        shifted = command.at(times_s - delay_s)
        matrix = np.stack([shifted, np.ones_like(shifted)], axis=1)
        (gain, offset), *_ = np.linalg.lstsq(matrix, positions, rcond=None)
        return float(np.sqrt(np.mean((matrix @ [gain, offset] - positions) ** 2))), float(gain)

    grid = np.arange(0.0, LONGEST_S, 0.004)
    best = float(grid[np.argmin([match(delay)[0] for delay in grid])])
    found = minimize_scalar(
        lambda delay: match(delay)[0], bounds=(max(best - 0.004, 0.0), best + 0.004), method="bounded"
    )
    error, gain = match(float(found.x))
    if error > WORST_MATCH * size or gain < 0.2:
        raise ValueError(
            f"the measurement does not follow the command (gain {gain:.2g}, {error / size:.0%} left over); "
            "is the joint blocked, its torque off, or its sign wrong?"
        )
    resting = float(np.mean(positions[-3:]) - told[-1])
    beyond = max(positions.max() - told.max() - resting, told.min() + resting - positions.min(), 0.0)
    return StepResponse(float(found.x), gain, resting, error / size, float(beyond) / size)
