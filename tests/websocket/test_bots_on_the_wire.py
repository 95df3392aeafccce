"""Server and client on a real WebSocket, with real playback in real time; no ROS."""

from __future__ import annotations

import asyncio
import json
import stat
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from playback_head import PlaybackHead
from timar_websocket.address import address_file, find_address, leave_address, remove_address
from timar_websocket.client import HeadClient, UserTurns
from timar_websocket.protocol import DoneMessage, ErrorMessage, FromHead, TurnMessage
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

PATIENCE_S = 30.0
THINKING = 1


@pytest.fixture
def head() -> Iterator[PlaybackHead]:
    with PlaybackHead() as head:
        yield head


def tone(seconds: float, rate_hz: int = 16_000) -> bytes:
    return np.full(round(seconds * rate_hz), 6000, "<i2").tobytes()


def converse(head: PlaybackHead, script: Callable[[HeadClient], Awaitable[None]]) -> None:
    async def run() -> None:
        async with HeadClient(head.address) as client:
            await asyncio.wait_for(script(client), PATIENCE_S)

    asyncio.run(run())


async def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.01)


def test_speech_is_sent_faster_than_real_time_and_what_was_heard_comes_back(head: PlaybackHead) -> None:
    async def script(client: HeadClient) -> None:
        begin_s = time.monotonic()
        speeches = []
        for rate_hz in (8000, 24_000, 48_000):
            speeches.append(client.begin(rate_hz))
            speeches[-1].write(tone(0.5, rate_hz))
            speeches[-1].end()
        assert time.monotonic() - begin_s < 0.5
        done = [await speech.done() for speech in speeches]
        assert [(one.outcome, round(one.heard_s, 2)) for one in done] == [("finished", 0.5)] * 3

    converse(head, script)
    # Resampling rings on for a few samples where a tone begins or ends.
    assert head.loud() == pytest.approx(24_000, abs=400)


def test_cleared_speech_is_silent_and_says_how_much_was_heard(head: PlaybackHead) -> None:
    async def script(client: HeadClient) -> None:
        speech = client.begin(16_000)
        speech.write(tone(20.0))
        await until(lambda: speech.heard_s > 0.4)
        client.clear()
        done = await speech.done()
        assert done.outcome == "canceled"
        await asyncio.sleep(0.3)
        assert done.heard_s == pytest.approx(head.loud() / 16_000, abs=0.03)
        following = client.begin(16_000)
        following.write(tone(0.2))
        following.end()
        assert (await following.done()).outcome == "finished"

    converse(head, script)


def test_a_user_who_takes_the_floor_ends_speech_and_the_bot_is_told(head: PlaybackHead) -> None:
    async def script(client: HeadClient) -> None:
        turns, changes = UserTurns(), []

        def listen(message: FromHead) -> None:
            if isinstance(message, TurnMessage):
                changes.extend(turns.push(message))

        client.on_message(listen)
        speech = client.begin(16_000)
        speech.write(tone(20.0))
        await until(lambda: speech.heard_s > 0.2)
        head.barge_in()
        done = await speech.done()
        assert done.outcome == "interrupted"
        await asyncio.sleep(0.3)
        assert done.heard_s == pytest.approx(head.loud() / 16_000, abs=0.03)
        assert changes == ["started"]
        speech.write(tone(1.0))  # a synthesiser that has not noticed yet

    converse(head, script)


def test_the_users_sound_arrives_whole_and_at_its_place(head: PlaybackHead) -> None:
    head.user_sound = np.arange(320 * 40, dtype=np.int16)

    async def script(client: HeadClient) -> None:
        heard: list[tuple[int, bytes]] = []
        client.on_user_audio(lambda first, pcm: heard.append((first, pcm)))
        await until(lambda: len(heard) > 30)
        first = heard[0][0]
        assert [place for place, _ in heard] == list(range(first, first + 320 * len(heard), 320))
        for place, pcm in heard:
            start = place % (head.user_sound.size - 319)
            np.testing.assert_array_equal(np.frombuffer(pcm, "<i2"), head.user_sound[start : start + 320])

    converse(head, script)


def test_when_a_bot_dies_in_the_middle_of_a_sentence_the_head_falls_silent(head: PlaybackHead) -> None:
    async def run() -> None:
        connection = await connect(head.address)
        await connection.send('{"type": "speak", "id": "1", "sample_rate": 16000}')
        await connection.send(tone(20.0))
        await until(lambda: head.loud() > 3200)
        connection.transport.abort()  # no farewell, as of a killed process
        await until(lambda: not head.server.report().values["bots"])
        await asyncio.sleep(0.2)
        before = head.loud()
        await asyncio.sleep(0.4)
        assert head.loud() == before

    asyncio.run(run())


def test_a_stalling_synthesiser_is_waited_for_and_nothing_is_left_out(head: PlaybackHead) -> None:
    async def script(client: HeadClient) -> None:
        speech = client.begin(16_000)
        speech.write(tone(0.4))
        await asyncio.sleep(1.2)
        speech.write(tone(0.4))
        speech.end()
        assert await speech.done() == DoneMessage(speech.name, "finished", 0.8)

    converse(head, script)


def test_what_a_bot_does_becomes_the_heads_intent(head: PlaybackHead) -> None:
    async def script(client: HeadClient) -> None:
        client.set_intent("thinking", 3.0)
        await until(lambda: head.intents == [(THINKING, 3.0)])

    converse(head, script)


def test_a_client_finds_the_head_again_and_its_speech_has_failed_meanwhile() -> None:
    async def run() -> None:
        first = PlaybackHead(token="known").__enter__()
        client = HeadClient(first.address)
        await client.connect()
        speech = client.begin(16_000)
        speech.write(tone(20.0))
        await until(lambda: speech.heard_s > 0.0)
        await asyncio.to_thread(first.__exit__)
        done = await speech.done()
        assert (done.outcome, done.message) == ("failed", "the connection to the head ended")
        assert (await client.begin(16_000).done()).message == "the head is not there"
        with PlaybackHead(token="known") as second:
            await until(lambda: client.is_connected)
            speech = client.begin(16_000)
            speech.write(tone(0.2))
            speech.end()
            assert (await speech.done()).outcome == "finished"
            assert second.loud() > 2800
            await client.close()

    asyncio.run(run())


BAD_MESSAGES = {
    "not JSON": ("hello", "no message of this protocol"),
    "of no type": ('{"id": "1"}', "missing required field `type`"),
    "of an unknown type": ('{"type": "sing"}', "Invalid value 'sing'"),
    "with a word too many": ('{"type": "end", "now": true}', "unknown field `now`"),
    "of an impossible rate": ('{"type": "speak", "id": "1", "sample_rate": 4000}', "expected 8000..192000"),
    "of too many channels": ('{"type": "speak", "id": "1", "sample_rate": 16000, "channels": 9}', "1..8"),
    "of no intent": ('{"type": "intent", "intent": "dreaming"}', "Invalid enum value 'dreaming'"),
    "nested too deeply": ('{"type": ' + "[" * 5000, "maximum recursion depth exceeded"),
    "emoji": ("🙂" * 100_000, "no message of this protocol"),
    "sound outside an utterance": (tone(0.1), "send a message of type speak first"),
}


@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_what_cannot_be_taken_is_named_and_the_bot_goes_on(head: PlaybackHead, name: str) -> None:
    sent, said = BAD_MESSAGES[name]

    async def run(connection: ClientConnection) -> None:
        assert json.loads(await connection.recv())["type"] == "hello"
        await connection.send(sent)
        answer = json.loads(await connection.recv())
        assert answer["type"] == ErrorMessage.__struct_config__.tag
        assert said in answer["message"]
        assert len(answer["message"]) < 400
        await connection.send('{"type": "speak", "id": "then", "sample_rate": 16000}')
        await connection.send('{"type": "end"}')
        assert json.loads(await connection.recv())["outcome"] == "finished"

    async def connected() -> None:
        async with connect(head.address) as connection:
            await asyncio.wait_for(run(connection), PATIENCE_S)

    asyncio.run(connected())


@pytest.mark.parametrize(
    ("change", "origin", "reason"),
    [
        (lambda address: address.partition("?")[0], None, "lacks the token"),
        (lambda address: address + "x", None, "lacks the token"),
        (lambda address: address, "http://elsewhere.example", "may not reach the head"),
        # As a name that was bound anew to this machine would bring it.
        (
            lambda address: address.replace("127.0.0.1", "elsewhere.example"),
            None,
            "not served under the name",
        ),
    ],
)
def test_who_lacks_the_token_or_is_a_foreign_page_is_not_let_in(
    head: PlaybackHead, change: Callable[[str], str], origin: str | None, reason: str
) -> None:
    async def run() -> None:
        port = urlsplit(head.address).port
        with pytest.raises(InvalidStatus) as refused:
            async with connect(change(head.address), origin=origin, host="127.0.0.1", port=port):
                pass
        assert reason in refused.value.response.body.decode()

    asyncio.run(run())
    assert head.server.refused == 1


def test_one_bot_too_many_is_told_so() -> None:
    async def run(address: str) -> None:
        async with connect(address):
            client = HeadClient(address)
            with pytest.raises(OSError, match="1 bots are here already"):
                await client.connect()

    with PlaybackHead(max_bots=1) as head:
        asyncio.run(run(head.address))


def test_a_bot_that_does_not_read_costs_the_others_nothing(head: PlaybackHead) -> None:
    async def run() -> None:
        async with connect(head.address, max_queue=1) as silent:
            await silent.send('{"type": "listen"}')
            silent.transport.pause_reading()
            head.user_sound = np.zeros(320, np.int16)
            for place in range(0, 32_000_000, 16_000):
                head.server.send_user_audio(place, np.zeros(16_000, np.int16))
            await until(lambda: head.server.dropped > 0)
            async with HeadClient(head.address) as client:
                speech = client.begin(16_000)
                speech.write(tone(0.2))
                speech.end()
                assert (await speech.done()).outcome == "finished"
            silent.transport.abort()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("events", "changes"),
    [
        (["user start", "user end"], ["started", "stopped"]),
        (["agent start", "user start", "user backchannel", "user end"], ["backchannel"]),
        (["agent start", "user start", "user lowered", "user interrupted", "agent end", "user end"],
         ["started", "stopped"]),
        (["agent start", "user start", "user paused", "user resumed", "user backchannel", "user end"],
         ["backchannel"]),
        (["agent start", "user start", "agent end", "user end"], ["started", "stopped"]),
        (["agent start", "agent end", "user start", "user end"], ["started", "stopped"]),
    ],
)  # fmt: skip
def test_a_turn_of_the_user_begins_when_he_has_the_floor(events: list[str], changes: list[str]) -> None:
    turns = UserTurns()
    found = [turns.push(TurnMessage(*event.split(), 0, 0, 0, 0.0)) for event in events]
    assert [change for some in found for change in some] == changes
    assert not turns.is_open


def test_the_address_is_found_by_its_user_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("TIMAR_HEAD", raising=False)
    with pytest.raises(OSError, match="start one with websocket:=true"):
        find_address()
    path = leave_address("ws://127.0.0.1:8765/?token=t", "/")
    assert path == address_file()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert find_address() == "ws://127.0.0.1:8765/?token=t"
    leave_address("ws://127.0.0.1:8766/?token=u", "/lab/head2")
    assert find_address("lab/head2") == "ws://127.0.0.1:8766/?token=u"
    remove_address("ws://127.0.0.1:8765/?token=t", "/lab/head2")
    assert address_file("lab/head2").exists(), "a newer head's address stays"
    remove_address("ws://127.0.0.1:8766/?token=u", "/lab/head2")
    assert not address_file("lab/head2").exists()
    monkeypatch.setenv("TIMAR_HEAD", "ws://robot:8765/?token=v")
    assert find_address() == "ws://robot:8765/?token=v"
