"""The capture node and a microphone whose driver does not answer any more."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed; `make test` installs it")

from timar_audio.blocks import AudioBlock  # noqa: E402
from timar_audio.capture_component import CaptureComponent  # noqa: E402
from timar_audio.capture_node import CaptureNode  # noqa: E402
from timar_audio.sources import Sound  # noqa: E402
from timar_common.diagnostics import Level  # noqa: E402

pytestmark = pytest.mark.ros

BLOCK = 320


class HangingMicrophone:
    """Counts in real time; one call of the kind named does not return until it is released."""

    def __init__(self, hangs_in: str) -> None:
        self.released = threading.Event()
        self.hangs = threading.Event()
        self._hangs_in, self._reads = hangs_in, 0

    def open(self) -> str:
        self._opened_ns, self._counter = time.monotonic_ns(), 0
        return "a microphone"

    def read(self) -> list[Sound]:
        self._reads += 1
        if self._reads == 20:
            if self._hangs_in == "close":
                raise OSError("the microphone has vanished")
            self._hang()
        time.sleep(0.01)
        now_ns = time.monotonic_ns()
        before, self._counter = self._counter, (now_ns - self._opened_ns) * 16_000 // 1_000_000_000
        return [Sound(np.ones(self._counter - before, np.int16), float(self._counter), now_ns)]

    def close(self) -> None:
        if self._hangs_in == "close" and self._reads == 20:
            self._hang()

    def _hang(self) -> None:
        self.hangs.set()
        self.released.wait()


@pytest.fixture
def published(monkeypatch) -> Iterator[list[tuple[AudioBlock, int]]]:
    """Blocks of user/audio_raw, and when they were published [ns]."""
    blocks = []

    def publish(component, block, now_ns, original=CaptureComponent.publish):
        blocks.append((block, now_ns))
        return original(component, block, now_ns)

    monkeypatch.setattr(CaptureComponent, "publish", publish)
    rclpy.init()
    yield blocks
    rclpy.shutdown()


@pytest.mark.parametrize("hangs_in", ["read", "close"])
def test_the_clock_goes_on_with_silence_while_the_driver_hangs_and_nothing_shifts(
    monkeypatch, published, hangs_in
):
    """PortAudio hung when its sound server was killed or stood still: no block came until it answered."""
    microphone = HangingMicrophone(hangs_in)
    monkeypatch.setattr(CaptureNode, "_source", lambda node: microphone)
    node = CaptureNode(
        parameter_overrides=[
            rclpy.Parameter("device", value="pulse"), rclpy.Parameter("vanished_after_ms", value=300),
        ]
    )  # fmt: skip
    try:
        node.trigger_configure()
        node.trigger_activate()
        assert microphone.hangs.wait(60)
        hung = len(published)
        wait_until(lambda: len(published) >= hung + 50)
        report = node.report()
        assert report.level is Level.ERROR
        assert "has vanished" in report.message
        if hangs_in == "read":
            assert "microphone 'pulse' has vanished: its driver has not answered for" in report.message
        assert report.values["samples_lost"] >= 49 * BLOCK
        microphone.released.set()
        wait_until(lambda: published[-1][0].filled_samples == 0)
        wait_until(lambda: not node.component.failure)
        back = len(published)
        wait_until(lambda: len(published) >= back + 20)
    finally:
        microphone.released.set()
        node.close()
        node.destroy_node()
    blocks = [block for block, _ in published]
    assert [block.first_sample for block in blocks] == list(range(0, BLOCK * len(blocks), BLOCK))
    assert all((block.samples == 0).sum() == block.filled_samples for block in blocks)
    stamps_ms = np.array([block.monotonic_ns for block in blocks]) / 1e6
    assert np.abs(stamps_ms - stamps_ms[0] - 20.0 * np.arange(len(blocks))).max() < 15
    arrived_ms = np.array([now_ns for _, now_ns in published]) / 1e6
    assert (arrived_ms - stamps_ms)[hung + 30 :].max() < 500  # while it hangs, blocks come in their time


def test_a_process_that_was_held_up_itself_goes_on_with_its_open_device(monkeypatch, published):
    """Of what it missed the device says how much; to open it again would lose another second or two."""
    held_up_ns = 0

    class Microphone(HangingMicrophone):
        opened = 0

        def open(self) -> str:
            self.opened += 1
            return super().open()

        def _hang(self) -> None:
            nonlocal held_up_ns
            held_up_ns = 2_000_000_000

        def read(self) -> list[Sound]:
            (sound,) = super().read()
            return [dataclasses.replace(sound, monotonic_ns=sound.monotonic_ns + held_up_ns)]

    microphone = Microphone("read")
    monkeypatch.setattr(CaptureNode, "_source", lambda node: microphone)
    monkeypatch.setattr(CaptureNode, "now_ns", lambda node: time.monotonic_ns() + held_up_ns)
    node = CaptureNode(parameter_overrides=[rclpy.Parameter("vanished_after_ms", value=300)])
    try:
        node.trigger_configure()
        node.trigger_activate()
        wait_until(lambda: held_up_ns and published[-1][0].filled_samples == 0)
        count = len(published)
        wait_until(lambda: len(published) >= count + 20)
        assert (microphone.opened, node.component.failure, node.component.outages) == (1, "", 0)
        assert node.report().values["samples_lost"] == pytest.approx(32_000, abs=BLOCK)
    finally:
        node.close()
        node.destroy_node()


def wait_until(condition) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
