"""A process of nodes beats on node_health, and tells in its diagnostics what its supervisor knows of all."""

from __future__ import annotations

import time

import pytest
from node_process import PATIENCE_S, running_nodes

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed; `make test` installs it")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from timar_common.base_node import qos_of  # noqa: E402
from timar_common.supervision import SupervisionBoard  # noqa: E402
from timar_common.topics import TOPICS  # noqa: E402

pytestmark = pytest.mark.ros

WHY = "was killed by SIGKILL, 6 times within 60 s"


def test_process_beats_and_says_which_processes_stay_down(monkeypatch: pytest.MonkeyPatch) -> None:
    board = SupervisionBoard()
    board.write({"driver": 0, "view": 5}, {"view": WHY})
    for name, value in board.environment.items():
        monkeypatch.setenv(name, value)
    found: dict[str, list[DiagnosticStatus]] = {"node_health": [], "/diagnostics": []}
    rclpy.init()
    node = rclpy.create_node("listener")
    try:
        for name, messages in found.items():
            node.create_subscription(
                DiagnosticArray,
                TOPICS[name].name,
                lambda array, messages=messages: messages.extend(array.status),
                qos_of(TOPICS[name]),
            )
        with running_nodes(["timar_driver.driver_node:DriverNode"], {}):
            end_s = time.monotonic() + 2 * PATIENCE_S
            while len(found["node_health"]) < 3 or len(found["/diagnostics"]) < 2:
                assert time.monotonic() < end_s
                rclpy.spin_once(node, timeout_sec=0.1)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
        board.close()
    beat = found["node_health"][-1]
    assert (beat.name, beat.level[0], beat.values[0].key) == ("/driver", 0, "allowed_s")
    told = next(status for status in found["/diagnostics"] if status.name == "/processes")
    assert (told.level[0], told.message) == (2, f"view stays down: {WHY}")
    assert {item.key: item.value for item in told.values}["restarts.view"] == "5"
