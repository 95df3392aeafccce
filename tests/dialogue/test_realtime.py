"""A realtime server over a real WebSocket: sound both ways, an interruption, and how it can fail."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from timar_dialogue.config import DialogueConfig
from timar_dialogue.dialogues import DialogueError, Heard
from timar_dialogue.realtime import RATE_HZ, RealtimeServer
from websockets.sync.server import ServerConnection, serve

TURN = np.full(16_000, 700, np.int16)


class LocalServer:
    """Speaks OpenAI's realtime protocol; `behave` answers a `response.create`."""

    def __init__(self) -> None:
        self.events: list[dict] = []
        self.got_truncate = threading.Event()
        self.behave: Callable[[ServerConnection], None] = lambda connection: None
        self._server = serve(self._serve, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/v1/realtime"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _serve(self, connection: ServerConnection) -> None:
        for text in connection:
            event = json.loads(text)
            self.events.append(event)
            if event["type"] == "response.create":
                self.behave(connection)
            if event["type"] == "conversation.item.truncate":
                self.got_truncate.set()

    def heard(self) -> np.ndarray:
        data = b"".join(
            base64.b64decode(e["audio"]) for e in self.events if e["type"] == "input_audio_buffer.append"
        )
        return np.frombuffer(data, "<i2")

    def close(self) -> None:
        self._server.shutdown()


def sound(value: int) -> str:
    data = base64.b64encode(np.full(2400, value, "<i2").tobytes()).decode()
    return json.dumps({"type": "response.output_audio.delta", "item_id": "item1", "delta": data})


@pytest.fixture
def talk() -> Iterator[tuple[LocalServer, RealtimeServer]]:
    server = LocalServer()
    config = DialogueConfig(dialogue="realtime", llm=server.url, llm_model="m", patience_s=1.0)
    dialogue = RealtimeServer(config)
    yield server, dialogue
    dialogue.close()
    server.close()


def test_a_turn_is_heard_as_it_comes_and_its_answer_is_sound_until_it_is_interrupted(talk):
    server, dialogue = talk

    def behave(connection: ServerConnection) -> None:
        for value in (100, 200):
            connection.send(sound(value))
        connection.send(json.dumps({"type": "response.done"}))

    server.behave = behave
    for block in np.split(TURN, 50):
        dialogue.hear(block)
    speeches = list(dialogue.answer(Heard("", TURN)))
    assert [(s.rate_hz, int(s.samples[0]), s.samples.size) for s in speeches] == [
        (RATE_HZ, 100, 2400), (RATE_HZ, 200, 2400),
    ]  # fmt: skip
    kinds = [event["type"] for event in server.events]
    assert (kinds[0], kinds[-2:]) == ("session.update", ["input_audio_buffer.commit", "response.create"])
    assert server.events[0]["session"]["audio"]["input"]["turn_detection"] is None
    assert 0.95 * 24_000 < server.heard().size <= 24_000
    assert np.median(server.heard()) == 700

    dialogue.was_heard("", 0.123, is_whole=False)
    assert server.got_truncate.wait(10)
    assert server.events[-2]["type"] == "response.cancel"
    assert {key: server.events[-1][key] for key in ("item_id", "audio_end_ms")} == {
        "item_id": "item1", "audio_end_ms": 123,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("behave", "message"),
    [
        (lambda connection: None, "says nothing; is it running"),
        (lambda connection: connection.send("{"), "no JSON"),
        (lambda connection: connection.send("[1]"), "no event"),
        (
            lambda connection: connection.send(sound(1).replace('"delta": "', '"delta": "?')),
            "sound that is none",
        ),
        (
            lambda connection: connection.send('{"type": "error", "error": {"message": "no quota"}}'),
            "no quota",
        ),
        (lambda connection: connection.close(), "closed the connection"),
    ],
    ids=["slow", "garbage", "other json", "no sound", "refusal", "hang-up"],
)
def test_a_server_that_fails_is_named_and_the_next_turn_is_answered(talk, behave, message):
    server, dialogue = talk
    server.behave = behave
    dialogue.hear(TURN)
    with pytest.raises(DialogueError, match=message) as raised:
        list(dialogue.answer(Heard("", TURN)))
    assert server.url in str(raised.value)
    server.behave = lambda connection: (
        connection.send(sound(9)) or connection.send('{"type": "response.done"}')
    )
    dialogue.hear(TURN)
    assert [int(speech.samples[0]) for speech in dialogue.answer(Heard("", TURN))] == [9]


def test_a_server_that_is_down_is_named(talk):
    server, _ = talk
    server.close()
    dialogue = RealtimeServer(DialogueConfig(dialogue="realtime", llm=server.url, patience_s=1.0))
    dialogue.hear(TURN)
    with pytest.raises(DialogueError, match="cannot be reached"):
        list(dialogue.answer(Heard("", TURN)))
    dialogue.close()
