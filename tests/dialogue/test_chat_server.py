"""A server of chat completions over real HTTP: streamed, interrupted, and every way in which it can fail."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from timar_dialogue.chat_server import ChatServer
from timar_dialogue.config import DialogueConfig
from timar_dialogue.dialogues import DialogueError, Heard

NO_SOUND = np.zeros(0, np.int16)


class LocalServer:
    """Speaks OpenAI's streamed chat completions on this machine; `behave` writes the body of an answer."""

    def __init__(self) -> None:
        self.asked: list[dict] = []
        self.status = 200
        self.behave: Callable[[Callable[[bytes], None]], None] = lambda write: write(b"")
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(server.status)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                try:
                    server.behave(lambda data: (self.wfile.write(data), self.wfile.flush()))
                except (BrokenPipeError, ConnectionResetError):
                    server.hung_up.set()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.hung_up = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


def event(text: str) -> bytes:
    return f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n".encode()


@pytest.fixture
def server() -> Iterator[LocalServer]:
    server = LocalServer()
    yield server
    server.http.shutdown()
    server.http.server_close()


def ask(server: LocalServer, text: str = "Hello?", **options) -> tuple[ChatServer, list[str]]:
    chat = ChatServer(
        DialogueConfig(dialogue="chat", llm=server.url, llm_model="m", patience_s=0.5, **options)
    )
    return chat, list(chat.answer(Heard(text, NO_SOUND)))


def test_an_answer_comes_piece_by_piece_and_only_what_was_heard_stays_in_the_context(server):
    go_on = threading.Event()

    def behave(write):
        write(b": a comment\n\n" + event("One. "))
        go_on.wait(10)
        write(event("Two. ") + b"data: [DONE]\n\n")

    server.behave = behave
    chat = ChatServer(DialogueConfig(dialogue="chat", llm=server.url, llm_model="m"))
    pieces = chat.answer(Heard("Count.", NO_SOUND))
    assert next(pieces) == "One. "
    go_on.set()
    assert list(pieces) == ["Two. "]
    chat.was_heard("One.", 0.5, is_whole=False)
    list(chat.answer(Heard("Go on.", NO_SOUND)))
    assert [m["role"] for m in server.asked[1]["messages"]] == ["system", "user", "assistant", "user"]
    assert server.asked[1]["messages"][2]["content"] == "One. —"
    assert server.asked[1]["stream"] is True


def test_an_interruption_breaks_the_connection_at_once_and_without_a_message(server):
    server.behave = lambda write: [write(event("word ")) and time.sleep(0.02) for _ in range(500)]
    chat = ChatServer(DialogueConfig(dialogue="chat", llm=server.url, llm_model="m", patience_s=30.0))
    pieces = chat.answer(Heard("Talk.", NO_SOUND))
    assert next(pieces) == "word "
    threading.Timer(0.1, chat.interrupt).start()
    began_s = time.monotonic()
    assert len(list(pieces)) < 200
    assert time.monotonic() - began_s < 5.0
    assert server.hung_up.wait(10)


def test_an_endless_answer_ends_at_its_longest(server):
    server.behave = lambda write: [write(event("and so on ")) for _ in itertools.repeat(0)]
    _, pieces = ask(server, max_answer_chars=100)
    assert 100 <= len("".join(pieces)) < 120
    assert server.hung_up.wait(10)


@pytest.mark.parametrize(
    ("behave", "status", "message"),
    [
        (lambda write: time.sleep(3), 200, "says nothing; is it running"),
        (lambda write: write(b"\x00\xff\xfe garbage\n"), 200, "did not answer with a streamed chat"),
        (lambda write: write(b'data: {"choices": 7}\n\n'), 200, "did not answer with a streamed chat"),
        (lambda write: write(b"data: " + b"x" * 3_000_000), 200, "did not answer with a streamed chat"),
        (lambda write: write(b"data: [DONE]\n\n"), 200, "gave an empty answer"),
        (lambda write: write(b"no such model"), 404, "answers 404: no such model"),
    ],
    ids=["slow", "garbage", "other json", "endless line", "empty", "refusal"],
)
def test_a_server_that_fails_is_named_in_one_sentence(server, behave, status, message):
    server.behave, server.status = behave, status
    with pytest.raises(DialogueError, match=message) as raised:
        ask(server)
    assert server.url in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


def test_a_server_that_is_down_is_named(server):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        chat = ChatServer(DialogueConfig(dialogue="chat", llm=url))
        with pytest.raises(DialogueError, match=r"cannot be asked.*is it running"):
            list(chat.answer(Heard("Hello?", NO_SOUND)))


def test_a_url_that_is_none_is_refused():
    with pytest.raises(ValueError, match="expected a URL such as"):
        ChatServer(DialogueConfig(dialogue="chat", llm="localhost:8000"))
    with pytest.raises(ValueError, match="llm is empty"):
        DialogueConfig(dialogue="chat")
