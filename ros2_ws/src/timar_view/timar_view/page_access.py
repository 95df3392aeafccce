"""Who may see the page, and who may move joints, hear and speak on it: checks every request.

Any page that is open in a browser can send requests to 127.0.0.1, and so can any program of this machine. So
a request must carry a token made at this start. It stands in the address that the log prints, and becomes a
cookie with the first request. There are two: one to look, and one to move joints, hear and speak as well.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import http
import secrets
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import websockets.asyncio.server
from timar_common.clock import NS_PER_S
from timar_common.web_access import request_refusal
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

MESSAGES_OF_LOOKING = ("ViewerCameraMessage",)
"""What a browser that may only look can send: where its camera is."""
MAX_MESSAGE_BYTES = 64 * 1024
"""A browser sends camera poses and slider values; 1 kB is much."""
MAX_MESSAGES_PER_S = 500
"""A camera that is dragged sends one message a frame; so does each slider."""

SocketHandler = Callable[[ServerConnection, str], Awaitable[None]]
"""Serves a WebSocket; takes what its browser may do, too."""
HttpAnswer = Callable[[ServerConnection, Request], Response | None]


class PageAccess:
    """Decides about every request to the page's port.

    Args:
        host: The address that the server listens on.
        tls: What the server needs to speak TLS; None: it does not.
        secret: What tokens and cookie follow from, so that they outlast this process; empty: from chance.
        files: What is served beside the server's own, by path: JavaScript.
        add_script: One of the files that the page itself is to load; empty for none.

    Attributes:
        look_token: Lets a browser look.
        move_token: Lets a browser look, move joints, hear and speak.
        refused: How many requests were refused.
    """

    def __init__(
        self,
        host: str,
        tls: ssl.SSLContext | None = None,
        secret: str = "",
        files: Mapping[str, bytes] | None = None,
        add_script: str = "",
    ) -> None:
        self._tls, self._files, self._add_script = tls, files or {}, add_script
        key = (secret or secrets.token_urlsafe(32)).encode()

        def derived(purpose: str) -> str:
            return hmac.new(key, purpose.encode(), hashlib.sha256).hexdigest()[:32]

        self.look_token, self.move_token = derived("look"), derived("move")
        self.refused = 0
        self._host = host
        self._cookie = f"timar_view_{derived('cookie')[:8]}"

    def refusal(self, headers: Headers) -> str:
        """Return why a request with these headers is refused, whatever its token; empty when it is not."""
        return request_refusal(headers, self._host)

    def role(self, headers: Headers) -> str:
        """Return what the cookie of a request allows: "move", "look" or nothing."""
        try:
            cookie = SimpleCookie(headers.get("Cookie", "")).get(self._cookie)
        except CookieError:
            return ""
        return self._role_of(cookie.value if cookie is not None else "")

    def wrap(self, answer: HttpAnswer) -> HttpAnswer:
        """Return a server's function for requests that asks here first."""

        def checked(connection: ServerConnection, request: Request) -> Response | None:
            response = self._refuse_or_redirect(request)
            if response is not None:
                return response
            path = urlsplit(request.path).path
            if path in self._files:
                return _without_frames(_script(self._files[path]))
            if self._add_script and path == "/":
                del request.headers["Accept-Encoding"]  # So that it can be written into.
            response = answer(connection, request)
            if response is None:
                return None
            if self._add_script and path == "/":
                _add_script(response, self._add_script)
            return _without_frames(response)

        return checked

    @contextlib.contextmanager
    def guarding(self, sockets: Mapping[str, SocketHandler] | None = None) -> Iterator[None]:
        """Let the servers that are started within go through this check.

        viser has no place for one (as of 1.1). `HeadPage.open` asks afterwards whether the check is in place.

        Args:
            sockets: WebSockets beside the server's own, by path; each is told what its browser may do.
        """
        others = sockets or {}
        module: Any = websockets.asyncio.server
        serve = module.serve

        def guarded(handler: Any, host: str, port: int, **options: Any) -> Any:
            async def routed(connection: ServerConnection) -> None:
                path, role = _path_and_role(self, connection)
                await (others[path](connection, role) if path in others else handler(connection))

            options |= {
                "process_request": self.wrap(options["process_request"]),
                "create_connection": functools.partial(CheckedConnection, access=self, others=tuple(others)),
                "max_size": MAX_MESSAGE_BYTES,
                "ssl": self._tls,
            }
            return serve(routed, host, port, **options)

        module.serve = guarded
        try:
            yield
        finally:
            module.serve = serve

    def _refuse_or_redirect(self, request: Request) -> Response | None:
        reason = self.refusal(request.headers)
        token = parse_qs(urlsplit(request.path).query).get("token", [""])[0]
        if not reason and self._role_of(token):
            cookie = f"{self._cookie}={token}; HttpOnly; SameSite=Strict; Path=/"
            cookie += "; Secure" if self._tls else ""
            headers = Headers({"Location": "/", "Set-Cookie": cookie, "Content-Length": "0"})
            return _without_frames(Response(http.HTTPStatus.SEE_OTHER, "See Other", headers))
        if not reason and not self.role(request.headers):
            reason = "the address lacks the token of this start; open the address that the view's log prints"
        if not reason:
            return None
        self.refused += 1
        body = f"{reason}\n".encode()
        headers = Headers({"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))})
        return _without_frames(Response(http.HTTPStatus.FORBIDDEN, "Forbidden", headers, body))

    def _role_of(self, token: str) -> str:
        roles = {"move": self.move_token, "look": self.look_token}
        matches = [role for role, own in roles.items() if hmac.compare_digest(token.encode(), own.encode())]
        return matches[0] if matches else ""


class CheckedConnection(ServerConnection):
    """A browser's connection: drops what its cookie does not allow, and ends when it sends too much."""

    def __init__(
        self, *arguments: Any, access: PageAccess, others: tuple[str, ...] = (), **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._access, self._others = access, others
        self._budget = float(MAX_MESSAGES_PER_S)
        self._filled_ns = time.monotonic_ns()

    async def recv(self, decode: bool | None = None) -> Any:
        """Return the next message that may count."""
        while True:
            data = await super().recv(decode)
            now_ns = time.monotonic_ns()
            self._budget += MAX_MESSAGES_PER_S * (now_ns - self._filled_ns) / NS_PER_S
            self._budget = min(self._budget, MAX_MESSAGES_PER_S) - 1.0
            self._filled_ns = now_ns
            if self._budget < 0.0:
                self._access.refused += 1
                self.transport.abort()  # To close politely, what is queued would have to be read.
            elif self._may_count(data):
                return data
            else:
                self._access.refused += 1

    def _may_count(self, data: Any) -> bool:
        path, role = _path_and_role(self._access, self)
        if path in self._others:
            return True  # Its handler checks what came.
        try:
            kind = msgspec.msgpack.decode(data)["type"]
        except (msgspec.DecodeError, TypeError, KeyError, ValueError, RecursionError):
            return False
        return role == "move" or kind in MESSAGES_OF_LOOKING


def _path_and_role(access: PageAccess, connection: ServerConnection) -> tuple[str, str]:
    """Return which path a connection asked for, and what its cookie allows."""
    assert connection.request is not None  # There was a handshake.
    return urlsplit(connection.request.path).path, access.role(connection.request.headers)


def _script(content: bytes) -> Response:
    headers = Headers({"Content-Type": "text/javascript; charset=utf-8", "Content-Length": str(len(content))})
    headers["Cache-Control"] = "no-store"
    return Response(http.HTTPStatus.OK, "OK", headers, content)


def _add_script(response: Response, path: str) -> None:
    """Let a page load a script of ours."""
    before, end, after = (response.body or b"").rpartition(b"</body>")
    if response.status_code == http.HTTPStatus.OK and end:
        response.body = b"".join([before, f'<script src="{path}"></script>'.encode(), end, after])
        del response.headers["Content-Length"]
        response.headers["Content-Length"] = str(len(response.body))


def _without_frames(response: Response) -> Response:
    """Forbid other pages to show this one in a frame, and browsers to keep or tell where it is."""
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["Content-Security-Policy"] = "frame-ancestors 'none'"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
