"""A dialogue by a speech-to-speech server with a realtime WebSocket in OpenAI's style: sound in, sound out.

| ours | theirs |
|---|---|
| the user's sound, as it comes | `input_audio_buffer.append` |
| END of the user's turn | `input_audio_buffer.commit`, `response.create` |
| an interruption | `response.cancel`, `conversation.item.truncate` at what was heard |
| an answer's sound | `response.output_audio.delta` (in earlier versions `response.audio.delta`) |
| its end | `response.done` |

The server's own turn detection is switched off: the head's is on its own clock, and knows its own voice.
"""

from __future__ import annotations

import base64
import binascii
import collections
import contextlib
import json
import os
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr
from timar_common.clock import SAMPLE_RATE_HZ

from timar_dialogue.config import DialogueConfig
from timar_dialogue.dialogues import Act, DialogueError, Heard
from timar_dialogue.voices import Speech

RATE_HZ = 24_000
"""Of the protocol's pcm16 [Hz]."""
MAX_BLOCKS = 1500
"""So many blocks of the user's sound wait for the server, 30 s; older ones are left out and counted."""
_AUDIO = ("response.output_audio.delta", "response.audio.delta")
RETRY_S = 1.0
"""A server that is down is tried again so often; what is said meanwhile goes with the turn [s]."""


class RealtimeServer:
    """Talk by a server that hears and speaks for itself.

    One thread sends, one receives; a connection that breaks is made again with the next answer. The key is
    taken from the variable OPENAI_API_KEY.

    Args:
        config: `llm`, `llm_model`, `instruction` and `patience_s` count.

    Raises:
        ValueError: The URL is none.
    """

    hears_itself = True

    def __init__(self, config: DialogueConfig) -> None:
        if not config.llm.startswith(("ws://", "wss://")):
            raise ValueError(f"llm is {config.llm!r}, expected a URL such as wss://HOST/v1/realtime")
        self.lost_blocks = 0
        """Blocks of the user's sound that the server was too slow for."""
        self._config = config
        self._blocks: collections.deque[npt.NDArray[np.int16]] = collections.deque()
        self._changed = threading.Condition()
        self._events: queue.Queue[dict[str, Any]] = queue.Queue(maxsize=10_000)
        self._socket: Any = None
        self._is_closing = self._is_interrupted = False
        self._item = ""
        self._retry_at_s = 0.0
        self._upsampler = soxr.ResampleStream(SAMPLE_RATE_HZ, RATE_HZ, 1, dtype="int16")
        threading.Thread(target=self._send_sound, name="realtime sender", daemon=True).start()

    def hear(self, samples: npt.NDArray[np.int16]) -> None:
        """Queue the user's sound for the server."""
        with self._changed:
            if len(self._blocks) >= MAX_BLOCKS:
                self._blocks.popleft()
                self.lost_blocks += 1
            self._blocks.append(samples)
            self._changed.notify_all()

    def answer(self, heard: Heard) -> Iterator[str | Act | Speech]:
        """Ask for an answer and yield its sound as it comes."""
        self._is_interrupted = False
        self._item = ""
        self._drain()
        if self._await_sent():
            self._send({"type": "input_audio_buffer.commit"})
        else:
            # The connection was made anew, and the server heard nothing: it is given the turn as a whole.
            self._connect()
            self._append(soxr.resample(heard.samples, SAMPLE_RATE_HZ, RATE_HZ))
            self._send({"type": "input_audio_buffer.commit"})
        self._send({"type": "response.create"})
        deadline_s = time.monotonic() + self._config.patience_s
        while not self._is_interrupted:
            try:
                event = self._events.get(timeout=0.1)
            except queue.Empty:
                if time.monotonic() > deadline_s:
                    raise DialogueError(
                        f"the server {self._config.llm} says nothing; is it running?"
                    ) from None
                continue
            deadline_s = time.monotonic() + self._config.patience_s
            kind = event.get("type", "")
            if kind in _AUDIO:
                self._item = str(event.get("item_id", self._item))
                yield Speech(RATE_HZ, self._samples(event))
            elif kind == "response.done":
                return
            elif kind == "error":
                raise DialogueError(f"the server {self._config.llm} refuses: {self._reason(event)}")

    def was_heard(self, text: str, seconds: float, *, is_whole: bool) -> None:
        """Let the server forget what was not heard."""
        if is_whole or not self._item:
            return
        event = {"type": "conversation.item.truncate", "item_id": self._item, "content_index": 0}
        with contextlib.suppress(DialogueError):
            self._send({"type": "response.cancel"})
            self._send({**event, "audio_end_ms": round(seconds * 1000)})

    def interrupt(self) -> None:
        """End the answer at hand."""
        self._is_interrupted = True

    def close(self) -> None:
        """End both threads."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._disconnect()

    def _samples(self, event: dict[str, Any]) -> npt.NDArray[np.int16]:
        try:
            data = base64.b64decode(event["delta"], validate=True)
            return np.frombuffer(data, "<i2").astype(np.int16)
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise DialogueError(f"the server {self._config.llm} sends sound that is none: {error}") from error

    def _reason(self, event: dict[str, Any]) -> str:
        error = event.get("error")
        return str(error.get("message", error) if isinstance(error, dict) else error)[:300]

    def _drain(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._events.get_nowait()

    # The connection.

    def _connect(self) -> None:
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        self._disconnect()
        separator = "&" if "?" in self._config.llm else "?"
        model = f"{separator}model={self._config.llm_model}" if self._config.llm_model else ""
        key = os.environ.get("OPENAI_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            self._socket = connect(
                self._config.llm + model,
                additional_headers=headers,
                open_timeout=self._config.patience_s,
                max_size=1 << 24,
                proxy=None,
            )
        except (OSError, WebSocketException, TimeoutError) as error:
            raise DialogueError(f"the server {self._config.llm} cannot be reached: {error}") from error
        pcm = {"type": "audio/pcm", "rate": RATE_HZ}
        session = {
            "type": "realtime",
            "instructions": self._config.instruction,
            "output_modalities": ["audio"],
            "audio": {"input": {"format": pcm, "turn_detection": None}, "output": {"format": pcm}},
        }
        self._send({"type": "session.update", "session": session})
        threading.Thread(
            target=self._receive, args=(self._socket,), name="realtime receiver", daemon=True
        ).start()

    def _disconnect(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            with contextlib.suppress(Exception):  # It is given up, whatever it says to that.
                socket.close()

    def _send(self, event: dict[str, Any]) -> None:
        from websockets.exceptions import WebSocketException

        try:
            if self._socket is None:
                raise ConnectionError("there is no connection")
            self._socket.send(json.dumps(event))
        except (OSError, WebSocketException) as error:
            self._disconnect()
            raise DialogueError(f"the server {self._config.llm} is gone: {error}") from error

    def _append(self, samples: npt.NDArray[np.int16]) -> None:
        data = base64.b64encode(samples.astype("<i2").tobytes()).decode()
        self._send({"type": "input_audio_buffer.append", "audio": data})

    def _receive(self, socket: Any) -> None:
        with contextlib.suppress(Exception):  # Whatever ends a connection ends this thread.
            for text in socket:
                try:
                    event = json.loads(text)
                except ValueError:
                    event = {"type": "error", "error": f"what it sends is no JSON: {text[:100]!r}"}
                if not isinstance(event, dict):
                    event = {"type": "error", "error": f"what it sends is no event: {text[:100]!r}"}
                self._events.put(event, timeout=30.0)
        if self._socket is socket:
            self._socket = None
            with contextlib.suppress(queue.Full):
                self._events.put_nowait({"type": "error", "error": "it closed the connection"})

    def _send_sound(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._blocks or self._is_closing)
                if self._is_closing:
                    return
                samples = self._blocks[0]
            with contextlib.suppress(DialogueError):
                if self._socket is None and time.monotonic() >= self._retry_at_s:
                    self._retry_at_s = time.monotonic() + RETRY_S
                    self._connect()
                self._append(self._upsampler.resample_chunk(samples))
            with self._changed:
                if self._blocks and self._blocks[0] is samples:
                    self._blocks.popleft()
                self._changed.notify_all()

    def _await_sent(self) -> bool:
        """Wait until the server was sent all of the user's sound; return whether it was."""
        with self._changed:
            is_sent = self._changed.wait_for(lambda: not self._blocks, self._config.patience_s)
        return is_sent and self._socket is not None
