"""A server with OpenAI's voice endpoints: hears what it is told to, answers from a list, speaks in tones."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

RATE_HZ = 24_000
SECONDS_PER_WORD = 0.25


class VoiceServices:
    """Use it as a context.

    Args:
        heard: What the user is taken to have said, one utterance after the other.
        answers: What the language model says, one answer after the other.
    """

    def __init__(self, heard: Sequence[str], answers: Sequence[str]) -> None:
        self.asked: list[list[dict]] = []
        """The messages of every request to the language model."""
        self.spoken: list[str] = []
        """Every text that was synthesised."""
        heard_left, answers_left = list(heard), list(answers)
        services = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path.endswith("/audio/transcriptions"):
                    text = heard_left.pop(0) if heard_left else ""
                    self.answer(json.dumps({"text": text}).encode(), "application/json")
                elif self.path.endswith("/chat/completions"):
                    services.asked.append(json.loads(body)["messages"])
                    self.answer(_streamed(answers_left.pop(0) if answers_left else ""), "text/event-stream")
                elif self.path.endswith("/audio/speech"):
                    services.spoken.append(json.loads(body)["input"])
                    self.answer(_tone(len(services.spoken[-1].split())), "audio/pcm")

            def answer(self, content: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> VoiceServices:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


def _streamed(text: str) -> bytes:
    pieces = [{"delta": {"role": "assistant", "content": word + " "}} for word in text.split()]
    pieces.append({"delta": {}, "finish_reason": "stop"})
    lines = [
        {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m",
         "choices": [{"index": 0, "finish_reason": None, **piece}]}
        for piece in pieces
    ]  # fmt: skip
    return "".join(f"data: {json.dumps(line)}\n\n" for line in lines).encode() + b"data: [DONE]\n\n"


def _tone(words: int) -> bytes:
    """Return a quarter of a second of tone for each word, each in a pitch of its own."""
    time_s = np.arange(round(SECONDS_PER_WORD * RATE_HZ)) / RATE_HZ
    tones = [np.sin(2 * np.pi * (200.0 + 20.0 * word) * time_s) for word in range(words)]
    return (8000 * np.concatenate([np.zeros(0), *tones])).astype("<i2").tobytes()
