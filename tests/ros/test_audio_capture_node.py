"""The capture node and a microphone whose driver does not answer any more."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed; `make test` installs it")

from timar_audio.capture_node import CaptureNode  # noqa: E402
from timar_audio.sources import Sound  # noqa: E402
from timar_common.diagnostics import Level  # noqa: E402

pytestmark = pytest.mark.ros


class HangingMicrophone:
    """Brings a block, then does not return from `read` until it is released, as PortAudio's driver may."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.reads = 0

    def open(self) -> str:
        return "a microphone"

    def read(self) -> list[Sound]:
        self.reads += 1
        if self.reads == 2:
            self.released.wait()
        time.sleep(0.01)
        return [Sound(np.zeros(320, np.int16), 320.0 * self.reads, time.monotonic_ns())]

    def close(self) -> None:
        self.released.set()


def test_a_driver_that_hangs_is_an_error_until_it_answers(monkeypatch):
    """PortAudio hung when its sound server was killed, and diagnostics said that all was well."""
    microphone = HangingMicrophone()
    monkeypatch.setattr(CaptureNode, "_source", lambda node: microphone)
    monkeypatch.setattr("timar_audio.capture_node._HANGS_AFTER_NS", 0)
    rclpy.init()
    node = CaptureNode(
        parameter_overrides=[
            rclpy.Parameter("device", value="pulse"), rclpy.Parameter("vanished_after_ms", value=300),
        ]
    )  # fmt: skip
    try:
        node.trigger_configure()
        node.trigger_activate()
        deadline_s = time.monotonic() + 60
        while node.report().level is not Level.ERROR:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        assert "microphone 'pulse' has vanished: its driver has not answered for" in node.report().message
        microphone.released.set()
        while "vanished" in node.report().message:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
    finally:
        node.close()
        node.destroy_node()
        rclpy.shutdown()
