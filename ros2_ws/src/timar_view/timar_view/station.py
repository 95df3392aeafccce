"""What the page says as microphone and loudspeaker, checked, and its clock placed in machine time."""

from __future__ import annotations

import collections
import dataclasses
import json
import math
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

HEADER = struct.Struct("<ddddfI")
"""Of a block: first frame, page time [ms], late frames, dropped frames, output latency [ms], frames."""
VOICE_HEADER = struct.Struct("<d")
"""Of voice for the page: the frame of its counter at which it is to be played."""
RATES_HZ = (8_000, 192_000)
MAX_TEXT = 200
_MOST = 2.0**53


@dataclasses.dataclass(frozen=True)
class StationBlock:
    """A run of frames that the page counted."""

    first_frame: int
    page_ms: float
    """When the counter stood at the end of these frames, by the page's own clock [ms]."""
    late_frames: int
    dropped_frames: int
    output_latency_ms: float
    frames: int
    samples: npt.NDArray[np.int16]
    """(frames,) what was heard, or (0,)."""


@dataclasses.dataclass(frozen=True)
class StationStart:
    """How a page begins to be the station."""

    tab: str
    rate_hz: int
    label: str
    """Of its microphone."""
    takes_over: bool


def read_block(data: bytes, rate_hz: int) -> StationBlock:
    """Read a block.

    Raises:
        ValueError: It cannot be true.
    """
    if len(data) < HEADER.size:
        raise ValueError(f"a block of {len(data)} bytes, expected at least {HEADER.size}")
    first, page_ms, late, dropped, latency_ms, frames = HEADER.unpack_from(data)
    if len(data) % 2:
        raise ValueError(f"a block of {len(data)} bytes, expected an even number")
    samples = np.frombuffer(data, "<i2", offset=HEADER.size).astype(np.int16)
    counts_are_true = all(0 <= value <= _MOST and value == int(value) for value in (first, late, dropped))
    if not (counts_are_true and math.isfinite(page_ms) and 0.0 <= latency_ms <= 2000.0):
        raise ValueError(
            f"a block at frame {first} and {page_ms} ms with {late} late and {dropped} dropped frames and "
            f"{latency_ms} ms latency; expected whole numbers of 0 or more, and 0 to 2000 ms"
        )
    if not 0 < frames <= rate_hz or samples.size not in (0, frames):
        raise ValueError(
            f"a block of {frames} frames with {samples.size} samples; expected 1..{rate_hz} frames, and as "
            "many samples or none"
            "samples or none"
        )
    return StationBlock(int(first), page_ms, int(late), int(dropped), latency_ms, frames, samples)


def read_message(text: str) -> dict[str, Any]:
    """Read a text message.

    Raises:
        ValueError: It is not one.
    """
    try:
        message = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"a text message of {len(text)} characters is nested too deeply") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ValueError("a text message without a type")
    return message


def read_start(message: dict[str, Any]) -> StationStart:
    """Read how a page begins.

    Raises:
        ValueError: It cannot be true.
    """
    rate_hz = message.get("rate_hz")
    if not isinstance(rate_hz, (int, float)) or not RATES_HZ[0] <= rate_hz <= RATES_HZ[1] or rate_hz % 1:
        raise ValueError(
            f"a page's rate is {rate_hz!r} Hz, expected a whole number of {RATES_HZ[0]}..{RATES_HZ[1]}"
        )
    return StationStart(
        printable(message.get("tab")),
        int(rate_hz),
        printable(message.get("label")),
        message.get("takes_over") is True,
    )


def read_pong(message: dict[str, Any]) -> tuple[int, float]:
    """Read the answer to a ping: its number, and what the page's clock shows [ms].

    Raises:
        ValueError: It cannot be true.
    """
    number, page_ms = message.get("id"), message.get("page_ms")
    if not isinstance(number, int) or not isinstance(page_ms, (int, float)) or not abs(page_ms) <= _MOST:
        raise ValueError(f"a pong {number!r} at {page_ms!r} ms, expected numbers")
    return number, float(page_ms)


def printable(text: Any) -> str:
    """Return what a page wrote as a short line for the log."""
    return "".join(letter for letter in str(text)[:MAX_TEXT] if letter.isprintable())


class PageClock:
    """Place a page's clock in machine time by exchanges with it; of the newest ones the quickest counts.

    Args:
        kept: So many exchanges are compared; crystals drift apart while they last.
    """

    def __init__(self, kept: int = 32) -> None:
        self._exchanges: collections.deque[tuple[int, float]] = collections.deque(maxlen=kept)
        """How long each took, and the page's zero in machine time [ns]."""

    @property
    def is_known(self) -> bool:
        """Whether an exchange was completed."""
        return bool(self._exchanges)

    @property
    def round_trip_ms(self) -> float:
        """How long the quickest exchange took [ms]: the place is known to half of it."""
        return min(self._exchanges)[0] / 1e6 if self._exchanges else math.nan

    def observe(self, sent_ns: int, page_ms: float, received_ns: int) -> None:
        """Take an exchange: asked at `sent_ns`, answered by the page's time, received at `received_ns`."""
        self._exchanges.append((received_ns - sent_ns, (sent_ns + received_ns) / 2 - page_ms * 1e6))

    def monotonic_ns(self, page_ms: float) -> int:
        """Return the machine time of an instant of the page, CLOCK_MONOTONIC [ns]."""
        return round(min(self._exchanges)[1] + page_ms * 1e6)
