"""One register of a servo's control table: where it is, and how its bytes are read."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence


class Sign(enum.Enum):
    """How a register writes a negative number."""

    NONE = 0
    """It has none."""
    TWOS_COMPLEMENT = 1
    TOP_BIT = 2
    """The top bit means minus, the others are the magnitude."""
    BIT_10 = 3
    """Bit 10 means minus, bits 0 to 9 are the magnitude."""


@dataclasses.dataclass(frozen=True)
class Register:
    """A little-endian number in a control table."""

    name: str
    address: int
    size: int
    """[bytes]"""
    sign: Sign = Sign.NONE
    is_kept: bool = False
    """Whether it survives power-off (and is written only while the torque is off)."""
    is_read_only: bool = False

    @property
    def end(self) -> int:
        """One past its last address."""
        return self.address + self.size

    def to_bytes(self, value: int) -> bytes:
        """Write a number as it stands in the table.

        Raises:
            ValueError: It does not fit; the message names the register and its range.
        """
        low, high = self.range()
        if not low <= value <= high:
            raise ValueError(f"register {self.name} cannot hold {value}, expected {low} to {high}")
        bit = self._minus_bit()
        if value < 0:
            value = value + (1 << (8 * self.size)) if bit is None else (1 << bit) | -value
        return value.to_bytes(self.size, "little")

    def from_bytes(self, data: bytes) -> int:
        """Read a number as it stands in the table."""
        value = int.from_bytes(data[: self.size], "little")
        bit = self._minus_bit()
        if self.sign is Sign.TWOS_COMPLEMENT:
            return value - (1 << (8 * self.size)) if value >> (8 * self.size - 1) else value
        if bit is not None and value >> bit & 1:
            return -(value & ((1 << bit) - 1))
        return value

    def range(self) -> tuple[int, int]:
        """Return the smallest and the greatest number it can hold."""
        if self.sign is Sign.NONE:
            return 0, (1 << (8 * self.size)) - 1
        bit = self._minus_bit()
        most = (1 << (8 * self.size - 1 if bit is None else bit)) - 1
        return (-most - 1 if bit is None else -most), most

    def _minus_bit(self) -> int | None:
        if self.sign is Sign.TOP_BIT:
            return 8 * self.size - 1
        return 10 if self.sign is Sign.BIT_10 else None


@dataclasses.dataclass(frozen=True)
class RegisterBlock:
    """Registers that are read in one piece, from the first one's address to the last one's end."""

    registers: tuple[Register, ...]
    """In the order of their addresses; there may be gaps."""

    @property
    def address(self) -> int:
        """Where it begins."""
        return self.registers[0].address

    @property
    def size(self) -> int:
        """Its length, gaps taken in [bytes]."""
        return self.registers[-1].end - self.address

    def decode(self, data: Sequence[int]) -> dict[str, int]:
        """Read every register out of the block's bytes."""
        raw = bytes(data)
        return {
            register.name: register.from_bytes(raw[register.address - self.address :])
            for register in self.registers
        }
