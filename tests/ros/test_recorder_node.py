"""The recorder as a process of its own: what is published is in the bag, however the recorder ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from node_process import PATIENCE_S

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed; `make test` installs it")

import yaml  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from timar_bag.bag import BagReader  # noqa: E402
from timar_bag.recorder import BagRecorder  # noqa: E402
from timar_bag.recorder_node import RecorderNode  # noqa: E402
from timar_common.base_node import message_type, qos_of  # noqa: E402
from timar_common.processes import RESTARTS_VARIABLE, START_REFUSED  # noqa: E402
from timar_common.topics import RECORDED_TOPICS as TOPICS  # noqa: E402

pytestmark = pytest.mark.ros

ROUNDS = 20
UNNUMBERED = 999


@pytest.fixture
def node():
    rclpy.init()
    node = rclpy.create_node("talker", namespace="/robot")
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


@pytest.fixture
def start_recorder(tmp_path: Path):
    started: list[subprocess.Popen] = []

    def start(restarts: int = 0, **parameters: object) -> subprocess.Popen:
        command = [sys.executable, "-m", "timar_bag.recorder_node", "--ros-args", "-r", "__ns:=/robot"]
        for name, value in {"out": str(tmp_path / "bag"), **parameters}.items():
            command += ["-p", f"{name}:={value}"]
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=os.environ | {"PYTHONUNBUFFERED": "1", RESTARTS_VARIABLE: str(restarts)},
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def publish_rounds(node, rounds: int = ROUNDS) -> None:
    """Publish on every topic of the table, numbering the messages from 0."""
    publishers = {
        name: node.create_publisher(message_type(topic.type_name), topic.name, qos_of(topic))
        for name, topic in TOPICS.items()
    }
    wait_for_recording(node, publishers)
    for number in range(rounds):
        for name, publisher in publishers.items():
            publisher.publish(numbered(name, number))
        time.sleep(0.03)


def wait_for_recording(node, publishers: dict) -> None:
    """Publish unnumbered messages until the recorder says that it writes them.

    A match seen by the publisher alone is not enough: until the subscriber has matched too, a topic that
    keeps one message loses all but the last.
    """
    written = [0]

    def read_report(array) -> None:
        values = {entry.key: entry.value for status in array.status for entry in status.values}
        written[0] = max(written[0], int(values.get("written", 0)))

    subscription = node.create_subscription(
        message_type("diagnostic_msgs/msg/DiagnosticArray"), "/diagnostics", read_report, 10
    )
    end = time.monotonic() + PATIENCE_S
    while written[0] < 3 * len(TOPICS):
        assert time.monotonic() < end, "the recorder does not record every topic"
        for name, publisher in publishers.items():
            if publisher.get_subscription_count() > 0:
                publisher.publish(numbered(name, UNNUMBERED))
        rclpy.spin_once(node, timeout_sec=0.05)
    node.destroy_subscription(subscription)


def numbered(topic: str, number: int):
    message = message_type(TOPICS[topic].type_name)()
    if topic == "/diagnostics":
        status = message_type("diagnostic_msgs/msg/DiagnosticStatus")(name=f"talker {number}")
        message.status = [status]
    elif topic == "position_commands":
        message.data = [float(number)]
    elif topic == "joints_held_by":
        message.data = str(number)
    else:
        message.header.stamp.sec = number
        message.header.frame_id = "frame"
    if hasattr(message, "samples") and not isinstance(message.samples, int):
        message.samples = [number, -number, 32767][: 1 + number % 3]
    if topic == "joint_trajectory":
        message.joint_names = ["jaw", "neck_yaw"]
    return message


def wait_until_on_disk(bag: Path, rounds: int = ROUNDS) -> None:
    """Wait until the bag, still being written, holds the last round of every topic."""
    end = time.monotonic() + PATIENCE_S
    while any(found[-1:] != [rounds - 1] for found in numbers_in(bag, []).values()):
        assert time.monotonic() < end, "the messages did not reach the disk"
        time.sleep(0.1)


def numbers_in(bag: Path, losses: list[str] | None = None) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {name: [] for name in TOPICS}
    with BagReader(bag) as reader:
        assert reader.namespace == "/robot"
        for topic, _, message in reader.messages():
            if topic == "position_commands":
                number = int(message.data[0])
            elif topic == "joints_held_by":
                number = int(message.data)
            elif topic != "/diagnostics":
                number = message.header.stamp.sec
            elif message.status[0].name.startswith("talker"):
                number = int(message.status[0].name.split()[1])
            else:
                continue
            if number != UNNUMBERED:
                found[topic].append(number)
        if losses is not None:
            losses.extend(reader.issues)
        else:
            assert reader.issues == []
    return found


def assert_whole(found: dict[str, list[int]]) -> None:
    """Hold every topic to all its messages; of one that keeps the newest alone, some may be missed."""
    for name, numbers in found.items():
        wanted = list(range(ROUNDS))
        if TOPICS[name].depth == 1:
            assert numbers == sorted(set(numbers)), name
            wanted = [*numbers[:-1], ROUNDS - 1]
        assert numbers == wanted, name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_every_message_of_every_topic_is_recorded_once_and_in_order(
    node, start_recorder, tmp_path: Path, number: signal.Signals
) -> None:
    recorder = start_recorder()
    publish_rounds(node)
    wait_until_on_disk(tmp_path / "bag")
    recorder.send_signal(number)
    assert recorder.wait(PATIENCE_S) == 0

    assert_whole(numbers_in(tmp_path / "bag"))
    information = yaml.safe_load((tmp_path / "bag/metadata.yaml").read_text())["rosbag2_bagfile_information"]
    counts = {
        entry["topic_metadata"]["name"]: entry["message_count"]
        for entry in information["topics_with_message_count"]
    }
    with BagReader(tmp_path / "bag") as reader:
        names = {name: topic.full_name for name, topic in reader.topics.items()}
        read = Counter(names[topic] for topic, _, _ in reader.raw_messages())
    assert counts == dict(read)
    assert set(counts) == {f"/robot/{name}" for name in TOPICS if name != "/diagnostics"} | {"/diagnostics"}


def test_receive_times_are_those_of_arrival(node, start_recorder, tmp_path: Path) -> None:
    before_ns = time.time_ns()
    recorder = start_recorder()
    publish_rounds(node, 5)
    wait_until_on_disk(tmp_path / "bag", 5)
    after_ns = time.time_ns()
    recorder.send_signal(signal.SIGINT)
    recorder.wait(PATIENCE_S)
    with BagReader(tmp_path / "bag") as reader:
        messages = list(reader.messages({"user/audio"}))
    times = [m.receive_ns for m in messages if m.message.header.stamp.sec != UNNUMBERED]
    assert times == sorted(times)
    assert before_ns < times[0] < times[-1] < after_ns
    # Five rounds, thirty milliseconds apart.
    assert 0.1e9 < times[-1] - times[0] < 5e9


def test_a_killed_recorder_leaves_a_bag_that_reads_to_shortly_before_the_kill(
    node, start_recorder, tmp_path: Path
) -> None:
    recorder = start_recorder(flush_s=0.1)
    publish_rounds(node)
    wait_until_on_disk(tmp_path / "bag")
    recorder.send_signal(signal.SIGKILL)
    recorder.wait(PATIENCE_S)
    assert not (tmp_path / "bag/metadata.yaml").exists()

    losses: list[str] = []
    assert_whole(numbers_in(tmp_path / "bag", losses))
    assert any("metadata.yaml is missing" in loss for loss in losses)
    assert any("cut short" in loss for loss in losses)


def test_recorder_that_is_started_again_goes_on_in_the_same_folder_and_both_read_as_one(
    node, start_recorder, tmp_path: Path
) -> None:
    for restarts, number in ((0, signal.SIGKILL), (1, signal.SIGINT)):
        recorder = start_recorder(restarts, flush_s=0.1)
        publish_rounds(node)
        folder = tmp_path / "bag" / "part_2" if restarts else tmp_path / "bag"
        wait_until_on_disk(folder)
        recorder.send_signal(number)
        recorder.wait(PATIENCE_S)
    assert numbers_in(tmp_path / "bag", [])["user/audio"] == [*range(ROUNDS), *range(ROUNDS)]


def test_recording_goes_on_in_a_new_part_when_a_full_disk_has_room_again(
    node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free: list[bool] = []
    monkeypatch.setattr(BagRecorder, "has_room", lambda self: bool(free))
    recorder = RecorderNode(parameter_overrides=[Parameter("out", value=str(tmp_path / "bag"))])
    recorder.trigger_configure()
    recorder.trigger_activate()
    try:
        end_s = time.monotonic() + PATIENCE_S
        while recorder.report().level == 0:
            assert time.monotonic() < end_s
        free.append(True)
        assert recorder.report().level == 0
        assert Path(str(recorder.report().values["path"])) == tmp_path / "bag" / "part_2"
    finally:
        recorder.close()
        recorder.destroy_node()
    with BagReader(tmp_path / "bag") as reader:
        assert set(reader.topics) == set(TOPICS)


def test_an_existing_folder_is_refused_and_left_as_it_is(start_recorder, tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag/precious").write_text("mine")
    recorder = start_recorder()
    _, log = recorder.communicate(timeout=PATIENCE_S)
    assert recorder.returncode == START_REFUSED
    assert "exists already" in log
    assert Counter(p.name for p in (tmp_path / "bag").iterdir()) == {"precious": 1}


def test_deactivating_closes_the_bag_and_activating_again_begins_another(node, tmp_path: Path) -> None:
    out = tmp_path / "bag"
    recorder = RecorderNode(parameter_overrides=[Parameter("out", value=str(out))])
    recorder.trigger_configure()
    assert not out.exists()
    for _ in range(2):
        recorder.trigger_activate()
        recorder.trigger_deactivate()
    recorder.close()
    recorder.destroy_node()
    for path in (out, tmp_path / "bag-2"):
        with BagReader(path) as reader:
            assert set(reader.topics) == set(TOPICS)
            assert reader.issues == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bag", "bag-2"]
