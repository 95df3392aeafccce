"""Two robots on one network: each waits for its own nodes only."""

from __future__ import annotations

import time

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from node_process import PATIENCE_S
from timar_audio.capture_node import CaptureNode

pytestmark = pytest.mark.ros


def test_nodes_of_another_robot_are_not_waited_for():
    """A file once began because another robot's nodes were ready."""
    rclpy.init()
    capture = CaptureNode(namespace="/head1")
    others = [
        rclpy.create_node(name, namespace=namespace)
        for name, namespace in (("inference", "/head1"), ("inference", "/head2"), ("driver", "/head2"))
    ]
    try:
        for node in others:
            node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        deadline_s = time.monotonic() + PATIENCE_S
        while capture.count_publishers("/diagnostics") < 3 and time.monotonic() < deadline_s:
            time.sleep(0.02)
        assert capture.count_publishers("/diagnostics") == 3
        while capture._count_configured_nodes() < 1 and time.monotonic() < deadline_s:
            time.sleep(0.02)
        assert capture._count_configured_nodes() == 1
    finally:
        for node in (capture, *others):
            node.destroy_node()
        rclpy.shutdown()
