"""The view as a process of its own: what is published is what the page shows."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from headless_browser import HeadlessBrowser
from node_process import PATIENCE_S

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed; `make test` installs it")

from timar_common.base_node import message_type, qos_of  # noqa: E402
from timar_common.processes import START_REFUSED  # noqa: E402
from timar_common.topics import TOPICS  # noqa: E402

pytestmark = pytest.mark.ros

HEARD = ("joint_states", "voice_activity", "turn_events", "floor", "agent/motion", "/diagnostics")


class ViewProcess:
    """The node, its log, and a publisher for everything it listens to."""

    def __init__(self, node: rclpy.node.Node, **parameters: object) -> None:
        command = [sys.executable, "-m", "timar_view.view_node", "--ros-args", "-r", "__ns:=/robot"]
        for name, value in {"port": 18_300, **parameters}.items():
            command += ["-p", f"{name}:={value}"]
        self.process = subprocess.Popen(
            command, env=os.environ | {"PYTHONUNBUFFERED": "1"}, stderr=subprocess.PIPE, text=True
        )
        self.log: list[str] = []
        self._reading = threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
        self._reading.start()
        self.publishers = {
            name: node.create_publisher(message_type(TOPICS[name].type_name), name, qos_of(TOPICS[name]))
            for name in HEARD
        }

    def wait_for(self, holds: Callable[[], object], what: str, timeout_s: float = PATIENCE_S) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < deadline_s, f"{what} did not happen; the log says: {''.join(self.log)}"
            time.sleep(0.05)

    def wait_until_it_listens(self) -> str:
        """Return the page's address."""
        address = re.compile(r"shown at (http://\S+)")
        self.wait_for(lambda: address.search("".join(self.log)), "the page")
        for name, publisher in self.publishers.items():
            self.wait_for(publisher.get_subscription_count, f"a subscription of {name}")
        return address.search("".join(self.log)).group(1)

    def send(self, topic: str, /, **fields: object) -> None:
        message = message_type(TOPICS[topic].type_name)()
        for field, value in fields.items():
            setattr(message, field, value)
        self.publishers[topic].publish(message)

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(timeout=PATIENCE_S)
        self._reading.join(timeout=PATIENCE_S)
        return status


@pytest.fixture
def node() -> Iterator[rclpy.node.Node]:
    rclpy.init()
    node = rclpy.create_node("talker", namespace="/robot")
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


@pytest.fixture
def start(node: rclpy.node.Node) -> Iterator[Callable[..., ViewProcess]]:
    started: list[ViewProcess] = []

    def begin(**parameters: object) -> ViewProcess:
        started.append(ViewProcess(node, **parameters))
        return started[-1]

    yield begin
    for view in started:
        view.process.kill()
        view.process.wait()


@pytest.mark.browser
@pytest.mark.slow
def test_what_is_published_is_what_the_page_shows(start: Callable[..., ViewProcess]) -> None:
    view = start()
    url = view.wait_until_it_listens()
    view.send("joint_states", name=["jaw", "neck_yaw"], position=[0.31, -0.25])
    view.send("voice_activity", speaker=1, first_sample=0, samples=320, level_dbfs=-17.0, is_speaking=True)
    view.send("floor", state=2, since_sample=24_000)
    view.send("turn_events", speaker=1, kind=0, first_sample=24_000, end_sample=24_000)
    view.send("agent/motion", compute_ms=37.0, frames=5)
    with HeadlessBrowser((1000, 700)) as browser:
        browser.go_to(url)
        text = browser.wait_for(
            "document.body.innerText.includes('AGENT holds the floor') && document.body.innerText"
        )
        assert "-17 dB" in text
        assert "since 1.5 s" in text
        assert "agent start" in text
        assert "compute 37 ms" in text
        assert "/robot/view: running" in browser.wait_for(
            "document.body.innerText.includes('/robot/view') && document.body.innerText"
        )
        browser.click("Joints")
        browser.wait_for(
            "document.body.innerText.includes('+0.31') && document.body.innerText.includes('-0.25')"
        )
    assert view.end() == 0


def test_bad_messages_are_counted_and_said_and_the_view_lives_on(
    start: Callable[..., ViewProcess], node: rclpy.node.Node
) -> None:
    view = start()
    view.wait_until_it_listens()
    values: dict[str, str] = {}

    def take(message: object) -> None:
        for status in message.status:
            if status.name == "/robot/view":
                values.update({item.key: item.value for item in status.values}, message=status.message)

    node.create_subscription(
        message_type(TOPICS["/diagnostics"].type_name), "/diagnostics", take, qos_of(TOPICS["/diagnostics"])
    )
    view.send("joint_states", name=["jaw"], position=[float("nan")])
    view.send("joint_states", name=["jaw"], position=[])
    view.send("floor", state=7)
    view.send("joint_states", name=["tail"], position=[1.0])

    def is_told() -> bool:
        rclpy.spin_once(node, timeout_sec=0.1)
        return values.get("bad_messages") == "3" and "tail" in values.get("message", "")

    view.wait_for(is_told, "a report of three bad messages and an unknown joint")
    assert view.end() == 0
    assert "joint jaw stands at nan" in "".join(view.log)


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"robot": "no_such_head"}, "there is no no_such_head.urdf"),
        ({"port": 80}, "port"),
        ({"colour": "red"}, "has no parameter 'colour'"),
    ],
)
def test_a_wrong_setting_ends_the_node_with_a_clear_word(
    start: Callable[..., ViewProcess], parameters: dict[str, object], word: str
) -> None:
    view = start(**parameters)
    assert view.process.wait(timeout=PATIENCE_S) == START_REFUSED
    view._reading.join(timeout=PATIENCE_S)
    assert word in "".join(view.log)
