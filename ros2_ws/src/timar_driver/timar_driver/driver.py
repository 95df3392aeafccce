"""Joint driver: the contract between the driver component and any hardware."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from timar_description.urdf import read_urdf

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class JointLimits:
    """What the hardware allows J joints, each (J,)."""

    lower: Array
    """[rad]"""
    upper: Array
    """[rad]"""
    velocity: Array
    """[rad/s]"""

    def __post_init__(self) -> None:
        ends = np.stack([self.lower, self.upper, self.velocity])
        for row, (lower, upper, velocity) in enumerate(ends.T.tolist()):
            if not (np.isfinite(ends[:, row]).all() and lower <= upper and velocity > 0.0):
                raise ValueError(
                    f"joint number {row} may go from {lower:g} to {upper:g} at up to {velocity:g}, expected "
                    "lower <= upper, a velocity above 0, and finite numbers"
                )


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What the joints report, each (J,)."""

    positions: Array
    """[rad]"""
    velocities: Array
    """[rad/s]"""


class JointDriver(abc.ABC):
    """A set of joints that can be commanded together.

    Lifecycle: `activate` opens it and leaves every joint where it stands (command = measured,
    torque on); `send` and `read` are called in turn, at a fixed rate, from one thread; `set_effort` eases
    the torque away where a stop wants it; `deactivate` lets go of the hardware as it then stands, and may be
    called in any state and more than once. A driver never moves a joint on its own.

    A fault of the hardware is a RuntimeError that names the joint, the fault and what to do. It is raised
    once: after it, the driver goes on with the joints that are left, so that they can be stopped in order.
    A `HardwareGoneError` means that none is left.
    """

    joint_names: tuple[str, ...]
    """Order of every array."""

    @abc.abstractmethod
    def activate(self, now_ns: int) -> Measurement:
        """Open the hardware, or set it up again when it is open, and hold every joint where it is.

        Returns:
            Where that is.

        Raises:
            RuntimeError: A joint is missing or not fit to move; nothing has moved.
        """

    @abc.abstractmethod
    def send(self, positions: Array, now_ns: int) -> Array:
        """Command (J,) finite positions [rad]; return what was really sent, within the hardware's limits."""

    @abc.abstractmethod
    def read(self, now_ns: int) -> Measurement:
        """Return the newest measurement."""

    @abc.abstractmethod
    def set_effort(self, share: float, now_ns: int) -> None:
        """Limit every joint's torque to a share of its full torque, 0..1; 0 switches it off."""

    @abc.abstractmethod
    def deactivate(self, now_ns: int) -> None:
        """Let go of the hardware; joints with torque go on holding."""

    def faults(self) -> tuple[str, ...]:
        """Return what is wrong with the hardware now, one sentence each; empty when nothing is."""
        return ()

    def unreached(self) -> tuple[str, ...]:
        """Return of which joints it is not known that the last stop reached them, a sentence each.

        After `set_effort(0)`: those that may still hold torque; after `deactivate`: those that could not be
        let go of as wanted. Each says what it does now.
        """
        return ()

    def values(self) -> dict[str, object]:
        """Return numbers about the hardware by name, for the diagnostics."""
        return {}


def check_command(joint_names: Sequence[str], positions: Array) -> Array:
    """Return a command as (J,) finite numbers.

    Raises:
        ValueError: A number is missing or not finite; the message names the joint.
    """
    command = np.asarray(positions, np.float64)
    if command.shape != (len(joint_names),):
        raise ValueError(f"the command has shape {command.shape}, expected ({len(joint_names)},)")
    if not np.isfinite(command).all():
        joint = joint_names[int(np.flatnonzero(~np.isfinite(command))[0])]
        raise ValueError(f"the command for {joint} is not finite; send a number")
    return command


def read_driven_joints(urdf: Path) -> tuple[tuple[str, ...], JointLimits]:
    """Return names and limits of the joints that have a motor: movable ones that mimic no other.

    Raises:
        ValueError: The file is not a URDF, has no such joint, or one without limits; the message names file
            and joint.
        OSError: It cannot be read.
    """
    joints = read_urdf(urdf).driven
    if not joints:
        raise ValueError(
            f"{urdf} has no driven joint; a robot needs at least one revolute or prismatic joint"
        )
    lower, upper, velocity = np.array([[joint.lower, joint.upper, joint.velocity] for joint in joints]).T
    return tuple(joint.name for joint in joints), JointLimits(lower, upper, velocity)


class HardwareGoneError(RuntimeError):
    """Nothing of the hardware can be reached any more."""
