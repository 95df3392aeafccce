"""The contract between the driver node and any hardware."""

from __future__ import annotations

import abc
import dataclasses

import numpy as np
import numpy.typing as npt

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


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What the joints report, each (J,)."""

    positions: Array
    """[rad]"""
    velocities: Array
    """[rad/s]"""


class JointDriver(abc.ABC):
    """A set of joints that can be commanded together.

    The life of a driver: `activate` opens it and leaves every joint where it stands (command = measured);
    `send` and `read` are called in turn, at a steady rate, from one thread; `deactivate` ends it in its safe
    state and may be called in any state and more than once. A driver never moves a joint on its own, apart
    from its safe state. A fault of the hardware is a RuntimeError that names the joint, the fault and what to
    do.
    """

    joint_names: tuple[str, ...]
    """Order of every array."""

    @abc.abstractmethod
    def activate(self, now_ns: int) -> Measurement:
        """Open the hardware and hold every joint where it is; return where that is."""

    @abc.abstractmethod
    def send(self, positions: Array, now_ns: int) -> Array:
        """Command (J,) finite positions [rad]; return what was really sent, within the hardware's limits."""

    @abc.abstractmethod
    def read(self, now_ns: int) -> Measurement:
        """Return the newest measurement."""

    @abc.abstractmethod
    def deactivate(self, now_ns: int) -> None:
        """End in the safe state."""

    def faults(self) -> tuple[str, ...]:
        """Return what is wrong with the hardware now, one sentence each; empty when nothing is."""
        return ()
