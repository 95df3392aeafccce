"""What any servo bus can do, whatever its protocol: find, read and write servos, one or many at once."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from timar_driver.driver import HardwareGoneError
from timar_driver.registers import Register, RegisterBlock
from timar_driver.servo_models import ServoFamily

_Result = TypeVar("_Result")


class BusError(RuntimeError):
    """A servo did not answer, or refused; the message names the servo by its id."""


class BusGoneError(HardwareGoneError):
    """The line itself is gone: nothing can be sent any more."""


@dataclasses.dataclass
class BusCounters:
    """What went over the bus."""

    requests: int = 0
    replies: int = 0
    missing: int = 0
    """Replies that never came whole."""
    corrupt: int = 0
    """Replies, or pieces of one, that failed their checksum."""


class ServoBus(abc.ABC):
    """Servos on one line. Every method but `open` and `close` may raise BusGoneError."""

    QUIET_S = 0.03
    """After a failure the line rests for so long: a late answer must not pass for the next one [s]."""

    family: ServoFamily
    counters: BusCounters
    attempts: int = 3
    """How often a single read or write is tried; a running loop has time for one only."""

    @abc.abstractmethod
    def open(self) -> None:
        """Open the line; does nothing when it is open.

        Raises:
            BusGoneError: It cannot be opened.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Close the line; may be called at any time."""

    @abc.abstractmethod
    def ping(self, servo_id: int) -> int | None:
        """Return a servo's model number; None when nobody answers."""

    @abc.abstractmethod
    def reboot(self, servo_id: int) -> None:
        """Let a servo start anew."""

    @abc.abstractmethod
    def sync_write(self, register: Register, values: Mapping[int, int]) -> None:
        """Write one register of many servos (value by id) in one packet, unconfirmed."""

    @abc.abstractmethod
    def sync_read(self, block: RegisterBlock, servo_ids: Sequence[int]) -> dict[int, dict[str, int]]:
        """Read the same registers of many servos; those that did not answer whole are left out."""

    @abc.abstractmethod
    def read_once(self, servo_id: int, register: Register) -> int:
        """Read one register; see `read`."""

    @abc.abstractmethod
    def write_once(self, servo_id: int, register: Register, value: int) -> None:
        """Write one register; see `write`."""

    @abc.abstractmethod
    def now_s(self) -> float:
        """Return the time by which replies are waited for [s]; the line must be open."""

    @abc.abstractmethod
    def settle(self) -> None:
        """Let `QUIET_S` pass, then forget what came."""

    def read(self, servo_id: int, name: str) -> int:
        """Read one register of one servo.

        Raises:
            BusError: No whole answer came, for all attempts.
        """
        register = self.family.register(name)
        return self._tried(lambda: self.read_once(servo_id, register))

    def write(self, servo_id: int, name: str, value: int) -> None:
        """Write one register of one servo and have it confirmed.

        Raises:
            BusError: It was not confirmed, for all attempts, or refused.
        """
        register = self.family.register(name)
        self._tried(lambda: self.write_once(servo_id, register, value))

    def _tried(self, call: Callable[[], _Result]) -> _Result:
        for _ in range(self.attempts - 1):
            try:
                return call()
            except BusError:
                self.settle()
        return call()
