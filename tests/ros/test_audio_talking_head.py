"""The example that answers: a turn brings an answer, a back-channel does not, an interruption ends it."""

from __future__ import annotations

import collections
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from node_process import PATIENCE_S

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed; `make test` installs it")

from rclpy.time import Time  # noqa: E402
from timar_common.base_node import message_type, qos_of  # noqa: E402
from timar_common.topics import TOPICS  # noqa: E402
from timar_msgs.msg import AudioChunk, TurnEvent  # noqa: E402

pytestmark = [
    pytest.mark.ros,
    pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed"),
]

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "02_a_head_that_talks.py"
BLOCK = 320


class Stage:
    """The user, and who watches."""

    def __init__(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("stage")
        self.heard: dict[str, list] = collections.defaultdict(list)
        topic = TOPICS["agent/audio"]
        self.node.create_subscription(
            message_type(topic.type_name), topic.name, self.heard["agent/audio"].append, qos_of(topic)
        )
        self.publishers = {
            name: self.node.create_publisher(message_type(TOPICS[name].type_name), name, qos_of(TOPICS[name]))
            for name in ("user/audio_raw", "user/audio", "turn_events")
        }
        self._executor = rclpy.executors.SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._start_s, self.place = time.monotonic(), 0

    def spin_until(self, condition, timeout_s: float = PATIENCE_S) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end
            while (time.monotonic() - self._start_s) * 16_000 >= self.place + BLOCK:
                message = AudioChunk(sample_rate=16_000, first_sample=self.place, samples=[50] * BLOCK)
                message.header.stamp = Time(nanoseconds=time.time_ns() - 20_000_000).to_msg()
                self.publishers["user/audio_raw"].publish(message)
                self.publishers["user/audio"].publish(message)
                self.place += BLOCK
            self._executor.spin_once(timeout_sec=0.005)

    def event(self, kind: int, turn: int, length: int = 16_000) -> None:
        first = max(0, self.place - length)
        end = first if kind == TurnEvent.START else self.place
        self.publishers["turn_events"].publish(
            TurnEvent(speaker=TurnEvent.USER, kind=kind, speech_turn=turn, first_sample=first, end_sample=end)
        )

    def loud(self) -> int:
        """How many samples of the head's voice were heard."""
        parts = [np.frombuffer(m.samples, np.int16) for m in self.heard["agent/audio"]]
        return int(np.count_nonzero(np.abs(np.concatenate([np.zeros(1, np.int16), *parts])) > 100))

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown()


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict]]]:
    """A server that speaks OpenAI's chat completions, and what it was asked."""
    asked: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            body = json.dumps({"choices": [{"message": {"content": "Seven. " * 12}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    http = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}/v1", asked
    http.shutdown()
    http.server_close()


def test_a_turn_is_answered_a_backchannel_is_not_and_an_interruption_ends_the_answer(stage, server):
    url, asked = server
    node = [sys.executable, "-m", "timar_common.base_node", "timar_audio.playback_node:PlaybackNode"]
    example = [sys.executable, str(EXAMPLE), "--server", url, "--model", "m"]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in (node, example)]
    try:
        stage.spin_until(lambda: stage.publishers["turn_events"].get_subscription_count() == 2)
        stage.spin_until(lambda: len(stage.heard["agent/audio"]) > 50)
        for kind in (TurnEvent.START, TurnEvent.BACKCHANNEL, TurnEvent.END):
            stage.event(kind, 0)
        before = len(stage.heard["agent/audio"])
        stage.spin_until(lambda: len(stage.heard["agent/audio"]) > before + 50)
        assert (asked, stage.loud()) == ([], 0)

        for kind in (TurnEvent.START, TurnEvent.END):
            stage.event(kind, 1)
        stage.spin_until(lambda: stage.loud() > 8000)
        stage.event(TurnEvent.INTERRUPTED, 2)
        before = len(stage.heard["agent/audio"])
        stage.spin_until(lambda: len(stage.heard["agent/audio"]) > before + 100)
        last = [np.frombuffer(m.samples, np.int16) for m in stage.heard["agent/audio"][-50:]]
        assert not np.concatenate(last).any()
    finally:
        logs = []
        for process in reversed(processes):
            process.send_signal(signal.SIGINT)
            try:
                logs.append(process.communicate(timeout=PATIENCE_S)[1])
            finally:
                process.kill()
    assert "> Seven." in logs[0]
    assert "interrupted after" in logs[0]
    sound = asked[0]["messages"][1]["content"][0]["input_audio"]
    assert sound["format"] == "wav"
    assert len(sound["data"]) > 16_000 * 2
