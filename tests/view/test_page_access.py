"""Nobody but who was given the page's address sees it or moves joints by it.

A web page of another origin once opened a WebSocket to the view, ticked "Move joints by hand" and moved the
jaw, and a request under a foreign Host name was served.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.client
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
import viser
import websockets
import zstandard
from headless_browser import HeadlessBrowser
from timar_description import find_urdf
from timar_description.urdf import read_drawable_urdf
from timar_view.config import ViewConfig
from timar_view.page import HeadPage
from timar_view.page_access import MAX_MESSAGE_BYTES, MAX_MESSAGES_PER_S, PageAccess

CAMERA = {
    "type": "ViewerCameraMessage",
    "wxyz": (1.0, 0.0, 0.0, 0.0),
    "position": (1.0, 0.0, 0.0),
    "fov": 1.0,
}
CAMERA |= {"near": 0.01, "far": 100.0, "image_height": 480, "image_width": 640}
CAMERA |= {"look_at": (0.0, 0.0, 0.0), "up_direction": (0.0, 0.0, 1.0)}
ELSEWHERE = "http://elsewhere.example"


@pytest.fixture(scope="module")
def page() -> Iterator[HeadPage]:
    page = HeadPage(ViewConfig(port=18_110), read_drawable_urdf(find_urdf()))
    page.open()
    yield page
    page.close()


def port_of(page: HeadPage) -> int:
    return urlsplit(page.look_address).port


def cookie_for(page: HeadPage, address: str) -> str:
    """Return the cookie that a browser keeps which opens an address."""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(page), timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", f"/?{urlsplit(address).query}")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Location"]) == (303, "/")
        assert "HttpOnly" in answer.headers["Set-Cookie"]
        assert "SameSite=Strict" in answer.headers["Set-Cookie"]
        return answer.headers["Set-Cookie"].partition(";")[0]


def mover(page: HeadPage) -> str:
    return cookie_for(page, page.look_address.replace(page.access.look_token, page.access.move_token))


def looker(page: HeadPage) -> str:
    return cookie_for(page, page.look_address)


def get(page: HeadPage, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(page), timeout=10)
    connection.request("GET", "/", headers=headers)
    answer = connection.getresponse()
    answer.body = answer.read()
    connection.close()
    return answer


def dial(page: HeadPage, cookie: str = "", origin: str | None = None, host: str | None = None):
    headers = {"Cookie": cookie} if cookie else {}
    return websockets.connect(
        f"ws://{host or '127.0.0.1'}:{port_of(page)}",
        host="127.0.0.1",
        port=port_of(page),
        origin=origin,
        additional_headers=headers,
        max_size=None,
        subprotocols=[f"viser-v{viser.__version__}"],
    )


def messages(data: bytes) -> list[dict]:
    size = int.from_bytes(data[8:16], "little")
    return msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(data[16 : 16 + size]))["messages"]


async def move_by_hand(page: HeadPage, cookie: str, origin: str | None) -> dict[str, float]:
    """Do what a page would that moves the jaw; return where the joints are to go by hand then."""
    async with dial(page, cookie, origin) as connection:
        found: dict[str, str] = {}
        with contextlib.suppress(asyncio.TimeoutError):
            while True:
                for message in messages(await asyncio.wait_for(connection.recv(), 1.0)):
                    if (
                        message["type"] == "GuiCheckboxMessage"
                        or message.get("props", {}).get("label") == "jaw"
                    ):
                        found[message["type"]] = message["uuid"]

        async def send(message: dict) -> None:
            await connection.send(msgspec.msgpack.encode(message))
            await asyncio.sleep(0.3)

        await send(CAMERA)
        for kind, value in (("GuiCheckboxMessage", True), ("GuiSliderMessage", 0.3)):
            await send({"type": "GuiUpdateMessage", "uuid": found[kind], "updates": {"value": value}})
        return page.targets()


def own_origin(page: HeadPage) -> str:
    return f"http://127.0.0.1:{port_of(page)}"


def test_the_printed_address_moves_joints_and_the_other_only_looks(page: HeadPage) -> None:
    assert asyncio.run(move_by_hand(page, looker(page), own_origin(page))) == {}
    moved = asyncio.run(move_by_hand(page, mover(page), own_origin(page)))
    assert moved["jaw"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    "origin", [ELSEWHERE, "null", "http://127.0.0.1:1", "http://127.0.0.1.elsewhere.example"]
)
def test_a_page_of_another_origin_is_refused_even_with_the_cookie(page: HeadPage, origin: str) -> None:
    async def connect() -> None:
        async with dial(page, mover(page), origin):
            pass

    with pytest.raises(websockets.InvalidStatus, match="403"):
        asyncio.run(connect())


def test_a_program_without_the_token_is_refused(page: HeadPage) -> None:
    async def connect() -> None:
        async with dial(page):
            pass

    with pytest.raises(websockets.InvalidStatus, match="403"):
        asyncio.run(connect())
    answer = get(page)
    assert answer.status == 403
    assert b"open the address that the view's log prints" in answer.body
    assert get(page, Cookie="; ".join([mover(page).partition("=")[0] + "=guess"])).status == 403


@pytest.mark.parametrize("host", ["elsewhere.example", "127.0.0.1.elsewhere.example", "", "10.0.0.1"])
def test_a_foreign_host_name_is_refused_even_with_the_cookie(page: HeadPage, host: str) -> None:
    assert get(page, Cookie=mover(page)).status == 200
    answer = get(page, Cookie=mover(page), Host=host)
    assert answer.status == 403
    assert b"is not served under the name" in answer.body


def test_no_other_page_may_show_this_one_in_a_frame(page: HeadPage) -> None:
    for answer in (get(page), get(page, Cookie=mover(page))):
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'"


@pytest.mark.parametrize(
    ("count", "data"),
    [(1, bytes(MAX_MESSAGE_BYTES + 1)), (3 * MAX_MESSAGES_PER_S, b"\xc0")],
    ids=["size", "rate"],
)
def test_who_sends_too_much_is_cut_off_and_others_are_not(page: HeadPage, count: int, data: bytes) -> None:
    async def read_all(connection: websockets.ClientConnection) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await connection.recv()

    async def flood() -> None:
        async with dial(page, mover(page), own_origin(page)) as other, dial(page, mover(page)) as connection:
            reading = asyncio.ensure_future(read_all(connection))
            with contextlib.suppress(websockets.ConnectionClosed):
                for _ in range(count):
                    await connection.send(data)
            await asyncio.wait_for(reading, 10.0)
            assert connection.close_code != 1000
            await (await other.ping())

    asyncio.run(flood())


def test_what_is_no_message_of_the_page_is_dropped_and_counted(page: HeadPage) -> None:
    async def send() -> None:
        async with dial(page, looker(page), own_origin(page)) as connection:
            nested = b"\x91" * 60_000  # Deeper than Python follows.
            kinds = (msgspec.msgpack.encode([1]), msgspec.msgpack.encode({"type": 1}))
            for data in (b"", b"\xff\xff", nested, *kinds):
                await connection.send(data)
            await asyncio.sleep(0.3)
            await (await connection.ping())

    before = page.access.refused
    asyncio.run(send())
    assert page.access.refused == before + 5


def test_each_start_has_tokens_of_its_own() -> None:
    first, second = PageAccess("127.0.0.1"), PageAccess("127.0.0.1")
    assert len({first.move_token, first.look_token, second.move_token, second.look_token}) == 4


@pytest.mark.parametrize(
    ("host", "header", "is_own"),
    [
        ("0.0.0.0", "192.168.1.20:8080", True),
        ("0.0.0.0", "[fe80::1]:8080", True),
        ("0.0.0.0", "elsewhere.example", False),
        ("192.168.1.20", "192.168.1.20:8080", True),
        ("127.0.0.1", "localhost:9000", True),
        ("127.0.0.1", "192.168.1.20", False),
    ],
)
def test_a_page_opened_on_purpose_answers_to_addresses_and_not_to_foreign_names(
    host: str, header: str, is_own: bool
) -> None:
    assert (PageAccess(host).refusal(websockets.Headers({"Host": header})) == "") is is_own


@pytest.mark.browser
@pytest.mark.slow
def test_a_browser_page_of_another_origin_cannot_reach_the_view(page: HeadPage, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        f"""<title>elsewhere</title><script>
        const socket = new WebSocket("ws://127.0.0.1:{port_of(page)}", "viser-v{viser.__version__}");
        socket.onopen = () => document.title = "let in";
        socket.onerror = () => document.title = "refused";
        </script>""",
        encoding="utf-8",
    )
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        HeadlessBrowser((400, 300)) as browser,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        # The same browser has the page open, and so the cookie: cookies do not tell ports apart.
        browser.go_to(page.look_address.replace(page.access.look_token, page.access.move_token))
        browser.go_to(f"http://127.0.0.1:{server.server_port}/")
        assert browser.wait_for("document.title !== 'elsewhere' && document.title") == "refused"
        server.shutdown()
