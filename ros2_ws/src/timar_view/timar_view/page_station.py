"""The page's WebSocket for sound: one page at a time is the head's microphone and loudspeaker."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from timar_common.diagnostics import Level, Report
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from timar_view.config import ViewConfig
from timar_view.station import (
    VOICE_HEADER,
    PageClock,
    StationBlock,
    StationStart,
    printable,
    read_block,
    read_message,
    read_pong,
    read_start,
)

STATIC = Path(__file__).parent / "static"
SOCKET_PATH = "/station/socket"
SCRIPTS = {f"/station/{path.name}": path for path in STATIC.glob("*.js")}
"""Files of the page, by their address."""
MAIN_SCRIPT = "/station/station.js"
"""What the page loads; it loads the others."""
DRAW_RATE_HZ = 50.0
"""A page whose voice one hears is drawn at least so often, so that its jaw is not late."""
MAX_WAITING = 64
"""Messages with voice that may wait for a page; then the oldest is dropped."""
PING_EVERY_S = 0.5
FIRST_PINGS, FIRST_PING_EVERY_S = 8, 0.05
IN_FLIGHT = 16
_TAKEN = "Another page is the head's microphone and loudspeaker now."
_OVER = "Another page has become the head's microphone and loudspeaker."

SoundSink = Callable[[str, int, StationBlock, int], None]
"""Takes a page's name, its rate [Hz], a block, and when its counter stood at the block's end [ns]."""
LogSink = Callable[[Level, str], None]


class _Page:
    """One connection, and what is under way to it. Used by the server's thread alone."""

    def __init__(self, connection: ServerConnection, name: str) -> None:
        self.connection = connection
        self.name = name
        self.clock = PageClock()
        self.start: StationStart | None = None
        self.problem = ""
        self.end_frame = 0
        self.dropped = 0
        self.asked: collections.OrderedDict[int, int] = collections.OrderedDict()
        self._waiting: collections.deque[bytes | str] = collections.deque()
        self._has_more = asyncio.Event()

    def put(self, data: bytes | str) -> None:
        """Send as soon as it can be; what waits too long is dropped."""
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(data)
        self._has_more.set()

    def put_message(self, kind: str, **fields: object) -> None:
        """Send a text message."""
        self.put(json.dumps({"type": kind, **fields}))

    async def send_all(self) -> None:
        """Send what waits, until the connection ends."""
        while True:
            await self._has_more.wait()
            self._has_more.clear()
            while self._waiting:
                await self.connection.send(self._waiting.popleft())

    async def ask_for_time(self) -> None:
        """Exchange clocks, quickly at first."""
        for number in itertools.count():
            self.asked[number] = time.monotonic_ns()
            while len(self.asked) > IN_FLIGHT:
                self.asked.popitem(last=False)
            await self.connection.send(json.dumps({"type": "ping", "id": number}))
            await asyncio.sleep(FIRST_PING_EVERY_S if number < FIRST_PINGS else PING_EVERY_S)


class PageStation:
    """Serve the pages that want to be the station, and let one of them be it.

    Args:
        config: Whether the page is microphone, loudspeaker or both.
        on_sound: Called with each block, from the server's thread.
        log: Takes a line, from the server's thread.
    """

    def __init__(self, config: ViewConfig, on_sound: SoundSink, log: LogSink) -> None:
        self.config = config
        self.dropped_voice = 0
        """Messages with voice that a page did not take in time."""
        self.lost_frames = 0
        """Frames that the page counted and did not bring."""
        self._on_sound, self._log = on_sound, log
        self._station: _Page | None = None
        self._problem = ""
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def invitation(self) -> str:
        """Return what a person is to do, for the log."""
        uses = ["its microphone"] * self.config.page_microphone + [
            "its loudspeaker"
        ] * self.config.page_loudspeaker
        return f"press Start on that page: the head uses {' and '.join(uses)}"

    @property
    def has_page(self) -> bool:
        """Whether a page is the station."""
        return self._station is not None

    async def serve(self, connection: ServerConnection, role: str) -> None:
        """Serve one page until its connection ends; one that may only look is told so."""
        self._loop = asyncio.get_running_loop()
        if role != "move":
            await connection.close(1008, "this address may only look")
            return
        page = _Page(connection, secrets.token_hex(4))
        config = self.config
        page.put_message(
            "hello",
            hears=config.page_microphone,
            plays=config.page_loudspeaker,
            echo_cancellation=config.echo_cancellation,
        )
        tasks = [asyncio.create_task(page.send_all()), asyncio.create_task(page.ask_for_time())]
        try:
            async for data in connection:
                self._take(page, data)
        except ValueError as error:
            self._log(Level.ERROR, f"the page sent what cannot be: {error}; its connection is closed")
            await connection.close(1008, "what was sent cannot be")
        except ConnectionClosed:
            pass
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(ConnectionClosed):
                await asyncio.gather(*tasks, return_exceptions=True)
            self._release(page, "its connection has ended")

    def play(self, page: str, first_frame: int, samples: npt.NDArray[np.int16]) -> None:
        """Send voice to the page it is for, if that is still the station; from any thread."""
        station, loop = self._station, self._loop
        if station is None or loop is None or station.name != page:
            return
        data = VOICE_HEADER.pack(first_frame) + samples.astype("<i2").tobytes()
        with contextlib.suppress(RuntimeError):  # the server has ended
            loop.call_soon_threadsafe(station.put, data)

    def report(self) -> Report:
        """Report who is the station, and what is wrong with it."""
        station = self._station
        report = Report(
            values={
                "station": station.start.label or "a page" if station and station.start else "",
                "station_round_trip_ms": station.clock.round_trip_ms if station else 0.0,
                "station_lost_frames": self.lost_frames,
                "station_voice_dropped": self.dropped_voice + (station.dropped if station else 0),
            }
        )
        if problem := self._problem:
            report.worsen(Level.ERROR, f"the page says: {problem}")
        elif station is None:
            report.worsen(Level.WARN, "no page is microphone and loudspeaker: open its address, press Start")
        return report

    def _take(self, page: _Page, data: bytes | str) -> None:
        if isinstance(data, bytes):
            self._take_block(page, data)
            return
        message = read_message(data)
        kind = message["type"]
        if kind == "pong":
            received_ns = time.monotonic_ns()
            number, page_ms = read_pong(message)
            if (sent_ns := page.asked.pop(number, None)) is not None:
                page.clock.observe(sent_ns, page_ms, received_ns)
        elif kind == "start":
            self._begin(page, read_start(message))
        elif kind == "stop":
            self._release(page, "it was stopped there")
        elif kind == "problem":
            self._complain(printable(message.get("text")))
        else:
            raise ValueError(f"a message of type {printable(kind)!r}")

    def _take_block(self, page: _Page, data: bytes) -> None:
        if page is not self._station or page.start is None or not page.clock.is_known:
            return
        block = read_block(data, page.start.rate_hz)
        if block.first_frame < page.end_frame:
            raise ValueError(f"a block at frame {block.first_frame} after one that ended at {page.end_frame}")
        self.lost_frames += block.first_frame - page.end_frame if page.end_frame else 0
        page.end_frame = block.first_frame + block.frames
        self._problem = ""
        self._on_sound(page.name, page.start.rate_hz, block, page.clock.monotonic_ns(block.page_ms))

    def _begin(self, page: _Page, start: StationStart) -> None:
        current = self._station
        if current is not None and current is not page and current.start is not None:
            if not (start.takes_over or start.tab == current.start.tab):
                page.put_message("taken", text=_TAKEN)
                return
            current.put_message("ended", text=_OVER)
            self._release(current, "another page took its place")
        # A name for each beginning: the page's counter begins anew, too.
        page.name, page.start, page.end_frame = secrets.token_hex(4), start, 0
        self._station, self._problem = page, ""
        page.put_message("started")
        what = " and ".join(
            [f"microphone ({start.label or 'without a name'}, {start.rate_hz} Hz)"]
            * self.config.page_microphone
            + ["loudspeaker"] * self.config.page_loudspeaker
        )
        self._log(Level.OK, f"the page is {what} now")

    def _release(self, page: _Page, why: str) -> None:
        if page is self._station:
            self._station = None
            self.dropped_voice += page.dropped
            self._log(Level.WARN, f"the page is no longer microphone and loudspeaker: {why}")

    def _complain(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            self._log(Level.ERROR, f"the page says: {problem}")
