"""Client of the head's WebSocket for voice bots: speech out, the user's sound and turns in. No ROS.

async with HeadClient() as head:
speech = head.begin(sample_rate=24_000)
speech.write(pcm)                  # as fast as it is synthesised
speech.end()
done = await speech.done()         # outcome, and how much was heard
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidURI, WebSocketException

from timar_websocket.address import find_address
from timar_websocket.protocol import (
    MAX_MESSAGE_BYTES,
    ClearMessage,
    DoneMessage,
    EndMessage,
    FromBot,
    FromHead,
    HeardMessage,
    Intent,
    IntentMessage,
    ListenMessage,
    SpeakMessage,
    StartedMessage,
    TurnMessage,
    UserAudioMessage,
    decode_from_head,
    encode,
)

logger = logging.getLogger("timar.head")

MAX_UNSENT_BYTES = 64 * 1024 * 1024
"""So much sound may wait for the connection."""
PIECE_BYTES = 1024 * 1024
FIRST_RETRY_S, LAST_RETRY_S = 0.2, 5.0
DONE_WITHIN_S = 5.0
"""After `clear` the head tells within so long what was heard [s]."""

Listener = Callable[[FromHead], None]
SoundListener = Callable[[int, bytes], None]


class BotSpeech:
    """One utterance; made by `HeadClient.begin`."""

    def __init__(self, head: HeadClient, name: str, sample_rate: int, channels: int) -> None:
        self.name = name
        self.heard_s = 0.0
        """How much of it was heard so far [s]."""
        self.sent_s = 0.0
        """How much of it was written [s]."""
        self.on_started: Callable[[], None] = lambda: None
        self.on_heard: Callable[[], None] = lambda: None
        """Called when `heard_s` has grown."""
        self._head = head
        self._bytes_per_s = 2 * channels * sample_rate
        self._is_ended = False
        self._done: asyncio.Future[DoneMessage] = asyncio.get_running_loop().create_future()

    @property
    def is_done(self) -> bool:
        """Whether it is over, however it ended."""
        return self._done.done()

    def write(self, pcm: bytes | memoryview) -> None:
        """Send 16-bit samples, channels side by side; left out when the utterance is over or ended."""
        if self._is_ended or self.is_done:
            return
        self.sent_s += len(pcm) / self._bytes_per_s
        self._head._send_sound(self, bytes(pcm))

    def end(self) -> None:
        """Say that all of its sound was written."""
        if not self._is_ended and not self.is_done:
            self._is_ended = True
            self._head._end(self)

    async def done(self) -> DoneMessage:
        """Wait until it is over, and return how it ended and how much was heard."""
        return await asyncio.shield(self._done)

    def _finish(self, message: DoneMessage) -> None:
        self.heard_s = message.heard_s
        if not self.is_done:
            self._done.set_result(message)


class HeadClient:
    """A bot's connection to the head; it is made again when it breaks.

    Args:
        address: As the head's log prints it; empty: TIMAR_HEAD, or the head of this user on this machine.
        namespace: Of that head, where several run.
        is_listening: Whether the user's sound is wanted.
    """

    def __init__(self, address: str = "", namespace: str = "", *, is_listening: bool = True) -> None:
        self._address = address
        self._namespace = namespace
        self._is_listening = is_listening
        self._listeners: list[Listener] = []
        self._sound_listeners: list[SoundListener] = []
        self._begun = 0
        self._speeches: dict[str, BotSpeech] = {}
        self._incoming: BotSpeech | None = None
        self._unsent: asyncio.Queue[FromBot | bytes] = asyncio.Queue()
        self._unsent_bytes = 0
        self._next_sample = 0
        self._connecting = asyncio.Lock()
        """A transport's two ends both ask for it."""
        self._running: asyncio.Task[None] | None = None
        self._is_connected = False

    @property
    def is_connected(self) -> bool:
        """Whether the head is there now."""
        return self._is_connected

    async def __aenter__(self) -> HeadClient:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def connect(self) -> None:
        """Connect; does nothing when that was done before.

        Raises:
            OSError: The head is not there or lets nobody in; the message says what to do.
        """
        async with self._connecting:
            if self._running is None:
                connection = await self._open()
                self._running = asyncio.create_task(self._run(connection))

    async def close(self) -> None:
        """End the connection; what is being said ends with it."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
            self._running = None

    def on_message(self, listener: Listener) -> None:
        """Call back with every message of the head, in its order."""
        self._listeners.append(listener)

    def on_user_audio(self, listener: SoundListener) -> None:
        """Call back with the user's sound: place of its first sample, 16-bit mono at 16 kHz."""
        self._sound_listeners.append(listener)

    def begin(self, sample_rate: int, channels: int = 1, hold_s: float = 0.0) -> BotSpeech:
        """Begin an utterance; it is said after those that were begun before.

        Args:
            sample_rate: 8000..192000 [Hz].
            channels: 1..8; the head says their mean.
            hold_s: How much later than it could the head begins, 0..5 [s].

        Raises:
            ValueError: The head takes no such sound.
        """
        self._begun += 1
        message = SpeakMessage(f"{self._begun}", sample_rate, channels, hold_s)
        if self._incoming is not None:
            self._incoming.end()
        speech = BotSpeech(self, message.id, sample_rate, channels)
        if self._is_connected:
            self._speeches[message.id] = self._incoming = speech
            self._unsent.put_nowait(message)
        else:
            speech._finish(DoneMessage(message.id, "failed", 0.0, "the head is not there"))
        return speech

    def clear(self) -> None:
        """Stop what is said and drop what waits."""
        self._incoming = None
        for speech in self._speeches.values():
            speech._is_ended = True
        self._put(ClearMessage())

    def set_intent(self, intent: Intent, hold_s: float = 0.0) -> None:
        """Tell the head what the bot does: listening, thinking, about_to_speak or speaking.

        Args:
            intent: One of them.
            hold_s: For how long it counts, 0..60; 0 for the head's default [s].
        """
        self._put(IntentMessage(intent, hold_s))

    def _send_sound(self, speech: BotSpeech, pcm: bytes) -> None:
        if self._unsent_bytes + len(pcm) > MAX_UNSENT_BYTES:
            raise ValueError(f"{self._unsent_bytes} bytes of sound wait for the head already; send it slower")
        for first in range(0, len(pcm), PIECE_BYTES):
            piece = pcm[first : first + PIECE_BYTES]
            self._unsent_bytes += len(piece)
            self._unsent.put_nowait(piece)

    def _end(self, speech: BotSpeech) -> None:
        if self._incoming is speech:
            self._incoming = None
            self._put(EndMessage())

    def _put(self, message: FromBot) -> None:
        if self._is_connected:
            self._unsent.put_nowait(message)

    # The connection.

    async def _open(self) -> ClientConnection:
        address = self._address or find_address(self._namespace)
        try:
            connection = await connect(address, max_size=MAX_MESSAGE_BYTES, compression=None)
            self._unsent, self._unsent_bytes = asyncio.Queue(), 0
            self._is_connected = True
            if self._is_listening:
                self._put(ListenMessage())
            return connection
        except InvalidHandshake as error:
            response = getattr(error, "response", None)
            reason = response.body.decode(errors="replace").strip() if response and response.body else error
            raise OSError(f"the head lets nobody in: {reason}") from error
        except (InvalidURI, WebSocketException, TimeoutError) as error:
            raise OSError(f"the head cannot be reached at {address.partition('?')[0]}: {error}") from error
        except OSError as error:
            raise OSError(f"no head answers at {address.partition('?')[0]}: {error}") from error

    async def _run(self, connection: ClientConnection) -> None:
        while True:
            await self._use(connection)
            logger.warning("the connection to the head has ended; looking for it")
            wait_s = FIRST_RETRY_S
            while True:
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, LAST_RETRY_S)
                try:
                    connection = await self._open()
                    break
                except OSError as error:
                    logger.debug("%s", error)

    async def _use(self, connection: ClientConnection) -> None:
        sending = asyncio.create_task(self._send_all(connection))
        try:
            with contextlib.suppress(WebSocketException):
                async for data in connection:
                    self._take(data)
        finally:
            self._is_connected = False
            sending.cancel()
            self._fail_all()
            await connection.close()

    def _fail_all(self) -> None:
        self._incoming = None
        for speech in list(self._speeches.values()):
            self._tell(DoneMessage(speech.name, "failed", speech.heard_s, "the connection to the head ended"))

    async def _send_all(self, connection: ClientConnection) -> None:
        with contextlib.suppress(WebSocketException):
            while True:
                message = await self._unsent.get()
                if isinstance(message, bytes):
                    await connection.send(message)
                    self._unsent_bytes -= len(message)
                else:
                    await connection.send(encode(message))

    def _take(self, data: str | bytes) -> None:
        if isinstance(data, bytes):
            first = self._next_sample
            self._next_sample += len(data) // 2
            for listener in self._sound_listeners:
                listener(first, data)
            return
        message = decode_from_head(data)
        if isinstance(message, UserAudioMessage):
            self._next_sample = message.first_sample
        if message is not None:
            self._tell(message)

    def _tell(self, message: FromHead) -> None:
        if isinstance(message, (StartedMessage, HeardMessage, DoneMessage)):
            self._tell_speech(message)
        for listener in self._listeners:
            listener(message)

    def _tell_speech(self, message: StartedMessage | HeardMessage | DoneMessage) -> None:
        speech = self._speeches.get(message.id)
        if speech is None:
            return
        if isinstance(message, StartedMessage):
            speech.heard_s = message.ago_s
            speech.on_started()
        elif isinstance(message, HeardMessage):
            speech.heard_s = message.heard_s
            speech.on_heard()
        else:
            del self._speeches[message.id]
            if self._incoming is speech:
                self._incoming = None
            speech._finish(message)


class UserTurns:
    """The user's turns as voice bots know them, from the head's events.

    A turn begins when he has the floor: speech into the bot's own that turns out a back-channel is none.
    """

    def __init__(self) -> None:
        self.is_open = False
        """Whether the user has the turn."""
        self._is_agent_speaking = False
        self._is_pending = False
        """Whether he speaks into the bot's turn and has not taken the floor."""

    def push(self, event: TurnMessage) -> list[str]:
        """Return what has happened: started, stopped, backchannel."""
        if event.speaker == "agent":
            self._is_agent_speaking = event.kind != "end" and (
                self._is_agent_speaking or event.kind == "start"
            )
            return [] if self._is_agent_speaking or not self._is_pending else self._start()
        if event.kind == "start":
            self._is_pending = self._is_agent_speaking
            return [] if self._is_pending else self._start()
        if event.kind == "interrupted":
            return self._start()
        if event.kind == "backchannel":
            was_pending, self._is_pending = self._is_pending, False
            return ["backchannel"] if was_pending else []
        if event.kind == "end":
            return self._stop()
        return []

    def _start(self) -> list[str]:
        self._is_pending = False
        was_open, self.is_open = self.is_open, True
        return [] if was_open else ["started"]

    def _stop(self) -> list[str]:
        started = self._start() if self._is_pending else []
        was_open, self.is_open = self.is_open, False
        return [*started, "stopped"] if was_open else started
