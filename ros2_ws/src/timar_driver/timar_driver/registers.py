"""Registers of a servo's control table: address, size, sign, and how bytes become numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Register:
    """A little-endian number in a control table."""

    name: str
    address: int
    size: int
    """[bytes]"""
    is_signed: bool = False
    """Whether it is in two's complement."""
    minus_bit: int | None = None
    """The bit that means minus, all below it being the magnitude; None: there is no such bit."""
    is_kept: bool = False
    """Whether it survives power-off (and is written only while the torque is off)."""
    is_read_only: bool = False

    @property
    def end(self) -> int:
        """One past its last address."""
        return self.address + self.size

    def to_bytes(self, value: int) -> bytes:
        """Return a number as it stands in the table.

        Raises:
            ValueError: It does not fit; the message names the register and its range.
        """
        low, high = self.range()
        if not low <= value <= high:
            raise ValueError(f"register {self.name} cannot hold {value}, expected {low} to {high}")
        if self.minus_bit is not None and value < 0:
            value = 1 << self.minus_bit | -value
        return value.to_bytes(self.size, "little", signed=self.is_signed)

    def from_bytes(self, data: bytes) -> int:
        """Return the number that stands in the table."""
        value = int.from_bytes(data[: self.size], "little", signed=self.is_signed)
        if self.minus_bit is not None and value >> self.minus_bit & 1:
            return -(value & (1 << self.minus_bit) - 1)
        return value

    def range(self) -> tuple[int, int]:
        """Return the smallest and the greatest number it can hold."""
        if self.minus_bit is not None:
            return 1 - (1 << self.minus_bit), (1 << self.minus_bit) - 1
        bits = 8 * self.size - self.is_signed
        return (-(1 << bits) if self.is_signed else 0), (1 << bits) - 1


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


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a kept register must hold so that the others mean what the driver takes them for."""

    register: str
    value: int = 0
    """Of the bits of `mask`."""
    mask: int = -1
    """The bits that count; all by default."""
    is_written: bool = True
    """Whether the driver may write it; otherwise it refuses a servo that holds another value."""
    moves_zero: bool = False
    """Whether another value means that positions were counted otherwise, which a person must hear of."""
    why: str = ""
    """What another value does."""

    def is_met(self, held: int) -> bool:
        """Tell whether a register's value is as wanted."""
        return held & self.mask == self.value

    def applied(self, held: int) -> int:
        """Return a register's value with the bits that count as wanted."""
        return held & ~self.mask | self.value
