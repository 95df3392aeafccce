"""What a page that wants to talk may send, who may, and the certificate that lets a phone do it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import ssl
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import websockets
from timar_common.diagnostics import Level
from timar_description import find_urdf
from timar_description.urdf import read_drawable_urdf
from timar_view.certificate import certificate_file, ensure_certificate
from timar_view.config import ViewConfig
from timar_view.page import HeadPage
from timar_view.page_access import PageAccess
from timar_view.page_station import MAX_WAITING, SOCKET_PATH, PageStation
from timar_view.station import (
    HEADER,
    PageClock,
    StationBlock,
    read_block,
    read_message,
    read_pong,
    read_start,
)

RATE_HZ = 48_000
START = {"type": "start", "tab": "one", "rate_hz": RATE_HZ, "label": "made", "takes_over": False}


class Served:
    """A page with its station, as programs see it."""

    def __init__(self, **config: object) -> None:
        self.config = ViewConfig(port=18_130, page_microphone=True, page_loudspeaker=True, **config)
        self.log: list[str] = []
        self.blocks: list[tuple[str, StationBlock, int]] = []
        self.station = PageStation(self.config, self._take, lambda level, text: self.log.append(text))
        self.page = HeadPage(self.config, read_drawable_urdf(find_urdf()), self.station)
        self.address = urlsplit(self.page.open())

    def _take(self, page: str, rate_hz: int, block: StationBlock, end_ns: int) -> None:
        self.blocks.append((page, block, end_ns))

    def request(self, path: str, cookie: str = "") -> http.client.HTTPResponse:
        connection: http.client.HTTPConnection
        if self.address.scheme == "https":
            context = ssl.create_default_context(cafile=certificate_file())
            connection = http.client.HTTPSConnection("127.0.0.1", self.address.port, context=context)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.address.port)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
            answer = connection.getresponse()
            answer.body = answer.read()
            return answer

    def cookie(self, token: str = "") -> str:
        answer = self.request(f"/?token={token or self.page.access.move_token}")
        return answer.headers["Set-Cookie"].partition(";")[0]

    def dial(self, cookie: str, origin: str | None = None) -> websockets.connect:
        address = f"ws://127.0.0.1:{self.address.port}{SOCKET_PATH}"
        return websockets.connect(address, additional_headers={"Cookie": cookie}, origin=origin)


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    served = Served()
    yield served
    served.page.close()


@pytest.fixture
def served(shared: Served) -> Served:
    shared.log.clear()
    shared.blocks.clear()
    return shared


def block_bytes(
    first: float, samples: np.ndarray, *, page_ms: float = 0.0, frames: int | None = None
) -> bytes:
    frames = samples.size if frames is None else frames
    return HEADER.pack(first, page_ms, 0.0, 0.0, 20.0, frames) + samples.astype("<i2").tobytes()


async def begin(connection: websockets.ClientConnection, **fields: object) -> str:
    """Become the station as a page does, and return what the head says to it."""
    await connection.send(json.dumps(START | fields))
    while True:
        message = json.loads(await asyncio.wait_for(connection.recv(), 10.0))
        if message["type"] == "ping":
            page_ms = time.monotonic() * 1000
            await connection.send(json.dumps({"type": "pong", "id": message["id"], "page_ms": page_ms}))
        elif message["type"] != "hello":
            return message["type"]


async def until(holds: object) -> None:
    deadline_s = time.monotonic() + 10.0
    while not holds():
        assert time.monotonic() < deadline_s, "it did not happen within 10 s"
        await asyncio.sleep(0.01)


def test_only_a_page_with_the_token_of_who_may_move_hears_and_speaks(served: Served) -> None:
    async def attempt(cookie: str, origin: str | None = None) -> int:
        async with served.dial(cookie, origin) as connection:
            with contextlib.suppress(websockets.ConnectionClosed):
                await connection.send(json.dumps(START))
                while True:
                    await asyncio.wait_for(connection.recv(), 10.0)
            return connection.close_code

    mover = served.cookie()
    for cookie, origin in (("", None), (mover, "http://elsewhere.example"), (mover, "null")):
        with pytest.raises(websockets.InvalidStatus, match="403"):
            asyncio.run(attempt(cookie, origin))
    assert asyncio.run(attempt(served.cookie(served.page.access.look_token))) == 1008
    assert not served.station.has_page
    assert served.request("/station/station.js").status == 403
    page = served.request("/", mover)
    assert page.body.count(b'<script src="/station/station.js"></script></body>') == 1
    for name in ("station.js", "station_worker.js", "station_worklet.js"):
        answer = served.request(f"/station/{name}", mover)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "text/javascript; charset=utf-8")


def test_blocks_are_handed_on_in_the_machines_time_and_a_hole_is_counted(served: Served) -> None:
    async def talk() -> None:
        async with served.dial(served.cookie()) as connection:
            assert await begin(connection) == "started"
            await asyncio.sleep(0.2)
            now_ms = time.monotonic() * 1000
            for first in (1000, 2024, 5096):
                await connection.send(block_bytes(first, np.arange(1024), page_ms=now_ms))
            await until(lambda: len(served.blocks) == 3)
            end_ns = served.blocks[0][2]
            assert abs(end_ns - now_ms * 1e6) < 20e6
        await until(lambda: not served.station.has_page)

    before = served.station.lost_frames
    asyncio.run(talk())
    assert served.station.lost_frames - before == 2048
    np.testing.assert_array_equal(served.blocks[2][1].samples, np.arange(1024))
    assert any("microphone (made, 48000 Hz) and loudspeaker" in line for line in served.log)


@pytest.mark.parametrize(
    "data",
    [
        b"short",
        block_bytes(0, np.zeros(10), frames=11),
        block_bytes(0, np.zeros(10), page_ms=float("nan")),
        block_bytes(float("inf"), np.zeros(10)),
        block_bytes(0.5, np.zeros(10)),
        block_bytes(0, np.zeros(10)) + b"x",
        "no json",
        '{"type": "dance"}',
        json.dumps(START | {"rate_hz": "fast"}),
        '{"type": "pong", "id": [1], "page_ms": 0}',
    ],
)
def test_what_cannot_be_ends_the_connection_with_a_line_in_the_log(served: Served, data: bytes | str) -> None:
    async def send() -> None:
        async with served.dial(served.cookie()) as connection:
            await begin(connection)
            with contextlib.suppress(websockets.ConnectionClosed):
                await connection.send(data)
                while True:
                    await asyncio.wait_for(connection.recv(), 10.0)
            assert connection.close_code == 1008

    asyncio.run(send())
    assert not served.blocks
    assert any("what cannot be" in line for line in served.log)


def test_voice_that_a_page_does_not_take_is_dropped_and_counted(served: Served) -> None:
    async def stall() -> None:
        async with served.dial(served.cookie()) as connection:
            assert await begin(connection) == "started"
            await connection.send(block_bytes(0, np.zeros(128)))
            await until(lambda: served.blocks)
            connection.transport.pause_reading()
            # More than the sockets' own buffers hold: they take megabytes.
            for _ in range(12 * MAX_WAITING):
                served.station.play(served.blocks[0][0], 0, np.zeros(32_000, np.int16))
            await until(lambda: served.station.report().values["station_voice_dropped"] > before)
            connection.transport.abort()
        await until(lambda: not served.station.has_page)

    before = served.station.report().values["station_voice_dropped"]
    asyncio.run(stall())


def test_the_pages_clock_is_placed_by_its_quickest_exchange() -> None:
    clock = PageClock()
    assert not clock.is_known
    rng = np.random.default_rng(0)
    for number in range(32):
        sent_ns = 1_000_000_000 * number
        there_ns, back_ns = (round(part) for part in rng.exponential(20e6, 2))
        clock.observe(sent_ns, (sent_ns + there_ns) / 1e6 - 500.0, sent_ns + there_ns + back_ns)
    assert abs(clock.monotonic_ns(1000.0) - 1_500_000_000) <= clock.round_trip_ms / 2 * 1e6
    assert clock.round_trip_ms < 15.0


def test_a_block_keeps_its_counters_and_a_start_is_written_short() -> None:
    block = read_block(block_bytes(2.0**40, np.arange(-3, 3)), RATE_HZ)
    assert (block.first_frame, block.frames, block.output_latency_ms) == (2**40, 6, 20.0)
    np.testing.assert_array_equal(block.samples, np.arange(-3, 3))
    start = read_start(START | {"label": "a\nb" + "c" * 1000})
    assert start.label == "ab" + "c" * 197
    for rate_hz in (None, 0, 7999, 48_000.5, 1e9):
        with pytest.raises(ValueError, match="rate"):
            read_start(START | {"rate_hz": rate_hz})


def test_a_page_for_the_network_comes_by_https_with_a_certificate_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    served = Served(host="0.0.0.0")
    try:
        assert served.page.look_address.startswith("https://")
        cookie = served.request(f"/?token={served.page.access.move_token}").headers["Set-Cookie"]
        assert "; Secure" in cookie
        assert served.request("/", served.cookie()).status == 200
        assert served.request("/").status == 403
    finally:
        served.page.close()
    path = certificate_file()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    fingerprint = ensure_certificate(path, ["127.0.0.1"])
    assert fingerprint == served.page.fingerprint
    assert len(fingerprint.split(":")) == 32
    other = ensure_certificate(path, ["192.168.7.7"])
    assert other != fingerprint
    assert ensure_certificate(path, ["192.168.7.7", "127.0.0.1"]) == other
    path.write_text("damaged", encoding="utf-8")
    assert ensure_certificate(path, []) != other


def test_tokens_of_one_graph_outlast_its_view() -> None:
    first, again, other = (PageAccess("127.0.0.1", secret=secret) for secret in ("one", "one", "two"))
    assert (first.move_token, first.look_token) == (again.move_token, again.look_token)
    assert first.move_token != first.look_token
    assert first.move_token != other.move_token


def test_without_a_page_the_station_says_what_to_do() -> None:
    station = PageStation(ViewConfig(page_loudspeaker=True), lambda *_: None, lambda *_: None)
    report = station.report()
    assert report.level is Level.WARN
    assert "press Start" in report.message
    assert station.invitation == "press Start on that page: the head uses its loudspeaker"


def test_texts_that_no_page_sends_are_refused_and_never_end_the_station():
    """Deep nesting and a time of 400 digits once raised errors that nobody caught."""
    for text in ("[" * 60_000, "{", '{"type": 1}', "[]"):
        with pytest.raises(ValueError, match=r".+"):
            read_message(text)
    for page_ms in (10**400, float("nan"), "1", None):
        with pytest.raises(ValueError, match="a pong"):
            read_pong({"id": 1, "page_ms": page_ms})
