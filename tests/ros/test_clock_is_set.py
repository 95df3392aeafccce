"""A wall clock that is set while the head moves: motion goes on without a jump, stamps follow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from node_process import PATIENCE_S
from wrong_clock import SteppedClock

pytestmark = pytest.mark.ros

rclpy = pytest.importorskip("rclpy", reason="needs ROS 2: run `make setup`")

from sensor_msgs.msg import JointState  # noqa: E402
from timar_common.base_node import qos_of  # noqa: E402
from timar_common.topics import TOPICS  # noqa: E402

NODES = ("timar_driver.driver_node:DriverNode", "timar_retargeting.retargeting_node:RetargetingNode")
STEPS_S = (3600, -3600, 86_400, -86_400)
NECK_LIMIT_RAD_S = 4.0


def test_head_moves_on_while_the_clock_is_set_by_hours_and_days(tmp_path: Path) -> None:
    clock = SteppedClock(tmp_path)
    namespace = f"/clock_{os.getpid()}"
    rclpy.init()
    node = rclpy.create_node("onlooker", namespace=namespace)
    rows: list[tuple[float, float, list[float]]] = []

    def take(message: JointState) -> None:
        at = dict(zip(message.name, message.position, strict=True))
        stamp_s = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
        neck = [at[f"neck_{axis}"] for axis in ("yaw", "pitch", "roll")]
        rows.append((time.monotonic(), stamp_s - time.time(), neck))

    node.create_subscription(JointState, "joint_states", take, qos_of(TOPICS["joint_states"]))
    command = [sys.executable, "-m", "timar_common.base_node"]
    log = (tmp_path / "log").open("w+")
    processes = [
        subprocess.Popen(
            [*command, name, "--ros-args", "-r", f"__ns:={namespace}"],
            env={**os.environ, **clock.environment},
            stderr=log,
        )
        for name in NODES
    ]

    def moves(since: int) -> bool:
        return len(rows) > since + 10 and np.ptp([row[2] for row in rows[since:]], axis=0).max() > 1e-3

    def until(condition, what: str) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end_s, f"never: {what}; {(tmp_path / 'log').read_text()}"
            rclpy.spin_once(node, timeout_sec=0.05)

    try:
        until(lambda: moves(0), "the head idles")
        for step_s in STEPS_S:
            clock.set(step_s)
            begin, begin_s = len(rows), time.monotonic()
            until(lambda: len(rows) > begin and abs(rows[-1][1] - step_s) < 60, "stamps follow")  # noqa: B023
            assert rows[-1][0] - begin_s < 10.0
            until(lambda: moves(begin), "the head moves on")  # noqa: B023
        times_s, joints = np.array([row[0] for row in rows]), np.array([row[2] for row in rows])
        steps_s = np.maximum(np.diff(times_s), 0.01)
        assert np.abs(np.diff(joints, axis=0) / steps_s[:, None]).max() < NECK_LIMIT_RAD_S
        assert "the ROS clock stepped" in (tmp_path / "log").read_text()
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
        ends = [process.wait(PATIENCE_S) for process in processes]
        log.close()
        node.destroy_node()
        rclpy.try_shutdown()
    assert ends == [0, 0]
