"""The WebSocket server: lets bots in, reads what they send, and sends what the head tells."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hmac
import http
import logging
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import numpy as np
import numpy.typing as npt
from timar_common.diagnostics import Report
from timar_common.web_access import request_refusal
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from timar_websocket.config import WebsocketConfig
from timar_websocket.protocol import (
    INTENTS,
    MAX_MESSAGE_BYTES,
    ClearMessage,
    EndMessage,
    ErrorMessage,
    FromHead,
    HelloMessage,
    IntentMessage,
    ListenMessage,
    SpeakMessage,
    UserAudioMessage,
    decode_from_bot,
    encode,
)
from timar_websocket.relay import CancelUtterance, HandOn, OpenUtterance, SpeechRelay, Step

MAX_UNSENT = 500
"""So many messages may wait for a bot that does not read: ten seconds of the user's sound."""
PORTS_TRIED = 20
TICK_S = 0.02
CLOSE_WITHIN_S = 3.0


class HeadSpeech(Protocol):
    """How the server reaches the head; called in the server's thread."""

    def open_utterance(self, utterance_id: str, rate_hz: int) -> None:
        """Ask playback to wait for an utterance."""

    def hand_on(self, piece: HandOn) -> None:
        """Send a piece of speech."""

    def cancel(self, utterance_id: str) -> None:
        """Ask playback to end an utterance."""

    def request_intent(self, intent: int, hold_s: float) -> None:
        """Set the agent's intent."""


class _Bot:
    """One connected bot."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.prefix = f"bot-{uuid.uuid4().hex[:8]}"
        self.relay = SpeechRelay(self.prefix)
        self.is_listening = False
        self.unsent: asyncio.Queue[str | bytes] = asyncio.Queue(MAX_UNSENT)
        self.next_sample = -1
        """Where the user's sound goes on that it was sent; -1: nowhere."""


class BotServer:
    """Serves bots in a thread of its own.

    Args:
        config: Address, token and limits.
        head: Where speech goes.
        log: Takes lines for the log.
    """

    def __init__(self, config: WebsocketConfig, head: HeadSpeech, log: Callable[[str], None]) -> None:
        self.refused = 0
        """Requests that were refused."""
        self.dropped = 0
        """Blocks of the user's sound that a bot did not read in time."""
        self._config = config
        self._head = head
        self._log = log
        self._token = config.token or secrets.token_urlsafe(16)
        self._bots: dict[str, _Bot] = {}
        self._loop = asyncio.new_event_loop()
        self._server: Server | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="websocket", daemon=True)

    # Of any thread.

    def open(self) -> str:
        """Begin to serve, and return the address for bots, token included.

        Raises:
            OSError: No port can be had.
        """
        self._thread.start()
        port = self._run(self._open()).result()
        name = "127.0.0.1" if self._config.host in ("0.0.0.0", "::") else self._config.host
        return f"ws://{f'[{name}]' if ':' in name else name}:{port}/?token={self._token}"

    def close(self) -> None:
        """Let bots go and stop serving."""
        with contextlib.suppress(FutureTimeoutError):
            self._run(self._close()).result(CLOSE_WITHIN_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_WITHIN_S)

    def report(self) -> Report:
        """Count bots and what was refused or dropped."""
        bots = list(self._bots.values())
        return Report(
            values={
                "bots": len(bots),
                "refused_requests": self.refused,
                "dropped_user_blocks": self.dropped,
                "late_bytes": sum(bot.relay.late_bytes for bot in bots),
            }
        )

    def tell_all(self, message: FromHead) -> None:
        """Send a message to every bot."""

        def send() -> None:
            for bot in self._bots.values():
                self._send(bot, message)

        self._soon(send)

    def send_user_audio(self, first_sample: int, samples: npt.NDArray[np.int16]) -> None:
        """Send a block of the user's sound to every bot that listens."""

        def send() -> None:
            for bot in self._bots.values():
                self._send_block(bot, first_sample, samples)

        self._soon(send)

    def on_accepted(self, utterance_id: str) -> None:
        """Playback waits for an utterance's sound."""
        self._relay(utterance_id, lambda relay: relay.on_accepted(utterance_id, time.monotonic_ns()))

    def on_refused(self, utterance_id: str, reason: str) -> None:
        """Playback does not take an utterance."""
        self._relay(utterance_id, lambda relay: relay.on_refused(utterance_id, reason, time.monotonic_ns()))

    def on_feedback(self, utterance_id: str, heard: int, wanted: int) -> None:
        """Playback tells how far an utterance is heard."""
        self._relay(
            utterance_id, lambda relay: relay.on_feedback(utterance_id, heard, wanted, time.monotonic_ns())
        )

    def on_result(self, utterance_id: str, outcome: int, heard: int, message: str) -> None:
        """Playback tells how an utterance ended."""
        self._relay(
            utterance_id,
            lambda relay: relay.on_result(utterance_id, outcome, heard, message, time.monotonic_ns()),
        )

    def _relay(self, utterance_id: str, call: Callable[[SpeechRelay], list[Step]]) -> None:
        def run() -> None:
            bot = self._bots.get(utterance_id.rpartition("-")[0])
            if bot is not None:
                self._carry_out(bot, call(bot.relay))

        self._soon(run)

    def _soon(self, call: Callable[[], Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: there is nobody to tell
            self._loop.call_soon_threadsafe(call)

    def _run(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    # In the server's thread.

    async def _open(self) -> int:
        # Its own lines would tell of every probe and handshake that fails.
        quiet = logging.getLogger("timar_websocket.server")
        quiet.setLevel(logging.CRITICAL)
        ports = range(self._config.port, self._config.port + PORTS_TRIED)
        for port in ports:
            try:
                self._server = await serve(
                    self._serve_bot,
                    self._config.host,
                    port,
                    process_request=self._check,
                    max_size=MAX_MESSAGE_BYTES,
                    compression=None,
                    logger=quiet,
                )
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise OSError(f"cannot serve bots on {self._config.host}:{port}: {error}") from error
                continue
            self._ticking = asyncio.create_task(self._tick())
            return port
        raise OSError(f"ports {ports.start} to {ports.stop - 1} are all taken; give another one as port")

    async def _close(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def _check(self, connection: ServerConnection, request: Request) -> Response | None:
        reason, status = request_refusal(request.headers, self._config.host), http.HTTPStatus.FORBIDDEN
        token = parse_qs(urlsplit(request.path).query).get("token", [""])[0]
        if not reason and not hmac.compare_digest(token.encode(), self._token.encode()):
            reason = "the address lacks the token of this start; take the address that the head's log prints"
        if not reason and len(self._bots) >= self._config.max_bots:
            reason, status = f"{len(self._bots)} bots are here already", http.HTTPStatus.SERVICE_UNAVAILABLE
        if not reason:
            return None
        self.refused += 1
        return connection.respond(status, reason + "\n")

    async def _serve_bot(self, connection: ServerConnection) -> None:
        bot = _Bot(connection)
        self._bots[bot.prefix] = bot
        self._log(f"a bot is connected, {len(self._bots)} in all")
        self._send(bot, HelloMessage())
        sending = asyncio.create_task(_send_all(bot))
        try:
            async for data in connection:
                self._take(bot, data)
        except ConnectionClosed:
            pass  # a bot that died: what follows is the same
        finally:
            sending.cancel()
            self._carry_out(bot, bot.relay.clear(time.monotonic_ns()))
            del self._bots[bot.prefix]
            self._log(f"a bot has gone, {len(self._bots)} are left; what it said is ended")

    def _take(self, bot: _Bot, data: str | bytes) -> None:
        now_ns = time.monotonic_ns()
        try:
            if isinstance(data, bytes):
                self._carry_out(bot, bot.relay.append(data, now_ns))
                return
            message = decode_from_bot(data)
        except ValueError as error:
            self._send(bot, ErrorMessage(str(error)))
            return
        if isinstance(message, SpeakMessage):
            self._carry_out(bot, bot.relay.begin(message, now_ns))
        elif isinstance(message, EndMessage):
            self._carry_out(bot, bot.relay.end(now_ns))
        elif isinstance(message, ClearMessage):
            self._carry_out(bot, bot.relay.clear(now_ns))
        elif isinstance(message, IntentMessage):
            self._head.request_intent(INTENTS.index(message.intent), message.hold_s)
        elif isinstance(message, ListenMessage):
            bot.is_listening = True

    def _carry_out(self, bot: _Bot, steps: list[Step]) -> None:
        for step in steps:
            if isinstance(step, OpenUtterance):
                self._head.open_utterance(step.utterance_id, step.rate_hz)
            elif isinstance(step, HandOn):
                self._head.hand_on(step)
            elif isinstance(step, CancelUtterance):
                self._head.cancel(step.utterance_id)
            else:
                self._send(bot, step)

    def _send(self, bot: _Bot, message: FromHead) -> None:
        try:
            bot.unsent.put_nowait(encode(message))
        except asyncio.QueueFull:
            # It has read nothing for seconds: to close politely it would have to read.
            bot.connection.transport.abort()

    def _send_block(self, bot: _Bot, first_sample: int, samples: npt.NDArray[np.int16]) -> None:
        if not bot.is_listening:
            return
        if bot.unsent.qsize() > MAX_UNSENT - 50:  # the rest is for messages
            self.dropped += 1
            return
        if first_sample != bot.next_sample:
            self._send(bot, UserAudioMessage(first_sample))
        bot.next_sample = first_sample + samples.size
        bot.unsent.put_nowait(samples.astype("<i2", copy=False).tobytes())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for bot in list(self._bots.values()):
                if not bot.relay.is_idle:
                    self._carry_out(bot, bot.relay.tick(time.monotonic_ns()))


async def _send_all(bot: _Bot) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            await bot.connection.send(await bot.unsent.get())
