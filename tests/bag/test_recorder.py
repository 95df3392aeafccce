"""The recorder never waits for the disk, says what it lost, and what it wrote stays readable."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from timar_bag.bag import BagReader
from timar_bag.recorder import BagRecorder, RecorderConfig
from timar_common.topics import TOPICS

TOPIC = ("/user/audio", TOPICS["user/audio"])


def wait_until(condition, timeout_s: float = 30.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def raw(bag: Path) -> list[tuple[int, bytes]]:
    with BagReader(bag) as reader:
        return [(receive_ns, data) for _, receive_ns, data in reader.raw_messages()]


def test_everything_put_in_is_in_the_bag_after_closing(tmp_path: Path) -> None:
    recorder = BagRecorder(tmp_path / "bag")
    recorder.open([TOPIC])
    for number in range(1000):
        recorder.put("/user/audio", number, number.to_bytes(4, "little"))
    recorder.close()
    recorder.close()
    assert raw(tmp_path / "bag") == [(number, number.to_bytes(4, "little")) for number in range(1000)]
    counts = recorder.counts()
    assert (counts.written, counts.dropped, counts.waiting, counts.error) == (1000, 0, 0, "")


def test_messages_reach_the_disk_while_recording(tmp_path: Path) -> None:
    recorder = BagRecorder(tmp_path / "bag", RecorderConfig(flush_s=0.05))
    recorder.open([TOPIC])
    recorder.put("/user/audio", 1, b"data")
    wait_until(lambda: recorder.counts().written == 1)
    wait_until(lambda: raw(tmp_path / "bag") == [(1, b"data")])
    recorder.close()


def test_a_slow_disk_costs_the_oldest_messages_and_they_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    recorder = BagRecorder(tmp_path / "bag", RecorderConfig(max_queue_mb=0.1, flush_s=0.05))
    recorder.open([TOPIC])
    write = recorder._bag.write

    def slow_write(*message: object) -> None:
        release.wait(10)
        write(*message)

    monkeypatch.setattr(recorder._bag, "write", slow_write)
    recorder.put("/user/audio", 0, b"first")
    wait_until(lambda: recorder.counts().waiting == 0)
    begin = time.monotonic()
    for number in range(1, 251):
        recorder.put("/user/audio", number, bytes(1000))
    assert time.monotonic() - begin < 8.0
    assert recorder.counts().waiting == 100
    release.set()
    recorder.close()
    assert recorder.counts().dropped == 150
    assert [receive_ns for receive_ns, _ in raw(tmp_path / "bag")] == [0, *range(151, 251)]


FULL_DISK = """
import resource, sys, time
from pathlib import Path
from timar_common.topics import TOPICS
from timar_bag.recorder import BagRecorder, RecorderConfig

resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
recorder = BagRecorder(Path(sys.argv[1]), RecorderConfig(flush_s=0.05))
recorder.open([("/user/audio", TOPICS["user/audio"])])
number = 0
while not recorder.counts().error and number < 10_000:
    recorder.put("/user/audio", number, bytes(1000))
    number += 1
    time.sleep(0.001)
recorder.put("/user/audio", number, b"")
recorder.close()
counts = recorder.counts()
print(counts.dropped > 0, counts.error)
"""


def test_a_full_disk_is_said_and_what_was_written_stays_readable(tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    run = subprocess.run(
        [sys.executable, "-c", "import sys; sys.path[:0] = " + repr(sys.path) + FULL_DISK, str(bag)],
        capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    assert run.stdout.startswith("True recording to ")
    assert "there is no room left for it" in run.stdout
    assert "free some space" in run.stdout
    times = [receive_ns for receive_ns, _ in raw(bag)]
    assert times == list(range(len(times)))
    assert 100_000 < 1000 * len(times) < 200_000


def test_a_margin_is_left_on_the_disk_and_the_bag_is_whole(tmp_path: Path) -> None:
    recorder = BagRecorder(tmp_path / "bag", RecorderConfig(flush_s=0.05, min_free_mb=1e6))
    recorder.open([("/user/audio", TOPICS["user/audio"])])
    end_s = time.monotonic() + 30.0
    while not recorder.counts().is_full:
        assert time.monotonic() < end_s
        time.sleep(0.01)
    assert "there is no room left for it" in recorder.counts().error
    recorder.close()
    with BagReader(tmp_path / "bag") as reader:
        assert reader.issues == []


@pytest.mark.parametrize("options", [{"max_queue_mb": 0.0}, {"flush_s": 60.0}, {"out": 3}])
def test_an_impossible_configuration_is_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="RecorderConfig"):
        RecorderConfig(**options)
