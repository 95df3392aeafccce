"""A dialogue by any server that speaks OpenAI's chat completions, streamed as server-sent events."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import os
import socket
import urllib.parse
import wave
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ

from timar_dialogue.config import DialogueConfig
from timar_dialogue.dialogues import Act, DialogueError, Heard, PlainDialogue
from timar_dialogue.voices import Speech

MAX_LINE = 1 << 20
"""No event of an answer is longer [bytes]."""
MAX_MESSAGES = 40
"""So much of the conversation the server is sent."""


class ChatServer(PlainDialogue):
    """Ask a server; its context holds of an interrupted answer only what was heard.

    The key is taken from the variable OPENAI_API_KEY.

    Args:
        config: `llm`, `llm_model`, `llm_hears`, `instruction`, `patience_s` and `max_answer_chars` count.

    Raises:
        ValueError: The URL is none.
    """

    def __init__(self, config: DialogueConfig) -> None:
        self._config = config
        self._url = urllib.parse.urlsplit(config.llm.rstrip("/"))
        if self._url.scheme not in ("http", "https") or not self._url.hostname:
            raise ValueError(f"llm is {config.llm!r}, expected a URL such as http://127.0.0.1:8000/v1")
        self._messages: list[dict[str, Any]] = []
        self._socket: socket.socket | None = None
        """Of the answer at hand; the connection lets go of it before the answer is read."""
        self._is_interrupted = False

    def answer(self, heard: Heard) -> Iterator[str | Act | Speech]:
        """Yield the answer as the server makes it."""
        self._is_interrupted = False
        self._messages.append({"role": "user", "content": self._content(heard)})
        del self._messages[:-MAX_MESSAGES]
        yielded = 0
        try:
            for piece in self._stream():
                yield piece
                yielded += len(piece)
                if yielded > self._config.max_answer_chars:
                    return
        except (OSError, http.client.HTTPException) as error:
            if self._is_interrupted:
                return
            what = "says nothing" if isinstance(error, TimeoutError) else f"cannot be asked: {error}"
            raise DialogueError(f"the server {self._config.llm} {what}; is it running?") from error
        finally:
            self._socket = None
        if not yielded and not self._is_interrupted:
            raise DialogueError(f"the server {self._config.llm} gave an empty answer")

    def was_heard(self, text: str, seconds: float, *, is_whole: bool) -> None:
        """Keep what was heard in the context."""
        if text:
            self._messages.append({"role": "assistant", "content": text if is_whole else f"{text} —"})

    def interrupt(self) -> None:
        """Break the connection, so that whoever reads from it goes on."""
        self._is_interrupted = True
        if (answering := self._socket) is not None:
            with contextlib.suppress(OSError):
                answering.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Break the connection."""
        self.interrupt()

    def _content(self, heard: Heard) -> Any:
        if not self._config.llm_hears:
            return heard.text
        sound = {"data": base64.b64encode(wav_of(heard.samples)).decode(), "format": "wav"}
        words = [{"type": "text", "text": heard.text}] if heard.text else []
        return [*words, {"type": "input_audio", "input_audio": sound}]

    def _stream(self) -> Iterator[str]:
        """Yield the text of each event of an answer.

        Raises:
            OSError: The server cannot be reached, or says nothing for `patience_s`.
            DialogueError: It refuses, or speaks something else.
        """
        with contextlib.closing(self._ask()) as response:
            yield from self._events_of(response)

    def _events_of(self, response: http.client.HTTPResponse) -> Iterator[str]:
        if response.status != 200:
            reason = response.read(2000).decode(errors="replace").strip()
            raise DialogueError(f"the server {self._config.llm} answers {response.status}: {reason[:300]}")
        while line := response.readline(MAX_LINE):
            if not line.startswith(b"data:"):
                # Between events are empty lines and comments; anything else is another protocol.
                if line.strip() and not line.startswith((b":", b"event:", b"id:", b"retry:")):
                    raise self._no_chat(line)
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            try:
                choices = json.loads(data)["choices"]
                piece = choices[0]["delta"].get("content") if choices else None
            except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                raise self._no_chat(data) from error
            if isinstance(piece, str) and piece:
                yield piece

    def _ask(self) -> http.client.HTTPResponse:
        is_secure = self._url.scheme == "https"
        connect = http.client.HTTPSConnection if is_secure else http.client.HTTPConnection
        assert self._url.hostname is not None
        connection = connect(self._url.hostname, self._url.port, timeout=self._config.patience_s)
        body = {
            "model": self._config.llm_model,
            "messages": [{"role": "system", "content": self._config.instruction}, *self._messages],
            "stream": True,
        }
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if key := os.environ.get("OPENAI_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        connection.request("POST", f"{self._url.path}/chat/completions", json.dumps(body), headers)
        self._socket = connection.sock
        return connection.getresponse()

    def _no_chat(self, data: bytes) -> DialogueError:
        return DialogueError(
            f"the server {self._config.llm} did not answer with a streamed chat completion: {data[:200]!r}"
        )


def wav_of(samples: npt.NDArray[np.int16]) -> bytes:
    """Return samples at 16 kHz as a WAV file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(samples.tobytes())
    return out.getvalue()
