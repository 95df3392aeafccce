"""How steadily the driver node commands twelve simulated servos while other processes burn the CPU.

python benchmarks/driver_bus.py [--seconds 30] [--burners 1] [--priority 20]

Two clocks are read: the driver's own, when a cycle begins, and that of the simulated bus, a process of its
own, when the packet with the goals arrives. Between them lies a pseudo-terminal, whose bytes a worker of the
kernel hands over at ordinary priority; its own delay is measured beside. Writes
benchmarks/results/driver_bus.json.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import tty
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from harness import RESULTS, node_command, parser_of, percentiles, running, when, write_figures
from rclpy.node import Node
from timar_common.base_node import qos_of
from timar_common.topics import TOPICS
from timar_description.find import find_urdf
from timar_driver.driver import read_driven_joints
from timar_driver.fixed_rate_loop import ask_for_priority
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

PROMISED_P99_MS = 2.0
BURN = "while True: sum(range(10_000))"


def main() -> None:
    """Measure with and without load and print both."""
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--burners", type=int, default=1, help="busy processes beside the driver")
    parser.add_argument("--priority", type=int, default=20, help="real-time priority asked for; 0: none")
    arguments = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", "92")
    rclpy.init()
    result: dict[str, Any] = {"when": when(), "promised_p99_ms": PROMISED_P99_MS}
    cases = ((0, arguments.priority), (arguments.burners, arguments.priority), (arguments.burners, 0))
    rows = result["rows"] = [measure(arguments.seconds, *case) for case in cases]
    rclpy.try_shutdown()
    write_figures(RESULTS / "driver_bus.json", result)
    sys.stdout.write(f"{result['when']}\n")
    sys.stdout.write(
        "burners  scheduling              late p99 [ms]  terminal p99 [ms]  "
        "jitter at the bus p50, p99, max [ms]\n"
    )
    for row in rows:
        sys.stdout.write(
            f"{row['burners']:>7}  {row['scheduling']:<24} {row['late_ms_p99']:>13.2f}"
            f"  {row['terminal_ms_p99']:>17.2f}"
            f"  {row['jitter_ms']['p50']:.2f}, {row['jitter_ms']['p99']:.2f}, {row['jitter_ms']['max']:.2f}"
            f"   ({row['replies_missing_share']:.2%} of replies, {row['missed_cycles']} cycles missed)\n"
        )


def measure(seconds: float, burners: int, priority: int) -> dict[str, Any]:
    """Run bus, driver and load for a while; return what both clocks say."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "bus.json"
        simulate = [sys.executable, "-m", "timar_driver.bus_command", "simulate", "--log", str(log)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with running(simulate, signal.SIGTERM, **pipes) as bus:
            port = bus.stdout.readline().split()[-1]  # type: ignore[union-attr]
            node = "timar_driver.driver_node:DriverNode"
            parameters = {"driver": "hardware", "port": port, "realtime_priority": priority}
            with running(node_command(node, **parameters)), contextlib.ExitStack() as load:
                for _ in range(burners):
                    load.enter_context(running([sys.executable, "-c", BURN], signal.SIGKILL))
                values, terminal_ms = drive(seconds), terminal_delays_ms()
        goals_ns = np.array(json.loads(log.read_text(encoding="utf-8"))["goals_ns"])
    # The first second is the start; the stop at the end is as steady as the rest.
    goals_ns = goals_ns[goals_ns > goals_ns[0] + 1_000_000_000]
    jitter_ms = np.abs(np.diff(goals_ns) * 1e-6 - 10.0)
    replies, missing = int(values["bus_replies"]), int(values["bus_missing"])
    return {
        "burners": burners,
        "scheduling": values["scheduling"],
        **{name: int(values[name]) for name in ("cycles", "missed_cycles")},
        **{name: float(values[name]) for name in ("late_ms_p99", "cycle_ms_p99")},
        "terminal_ms_p99": percentiles(terminal_ms, 99)[0],
        "jitter_ms": dict(zip(("p50", "p99", "max"), percentiles(jitter_ms, 50, 99, 100), strict=True)),
        "replies_missing_share": missing / max(1, replies + missing),
    }


def terminal_delays_ms(messages: int = 500) -> np.ndarray:
    """Return how long a bare pseudo-terminal takes from one real-time process to another [ms]."""
    reader, writer = os.openpty()
    tty.setraw(writer)
    child = os.fork()
    if child == 0:
        ask_for_priority(20)
        for _ in range(messages):
            time.sleep(0.01)
            os.write(writer, struct.pack("<q", time.monotonic_ns()))
        os._exit(0)
    ask_for_priority(30)
    delays_ms = np.empty(messages)
    for k in range(messages):
        (sent_ns,) = struct.unpack("<q", os.read(reader, 8))
        delays_ms[k] = (time.monotonic_ns() - sent_ns) * 1e-6
    ask_for_priority(0)
    os.waitpid(child, 0)
    os.close(reader)
    os.close(writer)
    return delays_ms


def drive(seconds: float) -> dict[str, str]:
    """Send what retargeting sends, plans of a second, five times a second; return the diagnostics."""
    names, limits = read_driven_joints(find_urdf())
    middle, reach = 0.5 * (limits.lower + limits.upper), 0.25 * (limits.upper - limits.lower)
    node = Node("bench")
    publisher = node.create_publisher(JointTrajectory, "joint_trajectory", qos_of(TOPICS["joint_trajectory"]))
    seen: dict[str, str] = {}

    def on_diagnostics(message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith("/driver"):
                seen.update({item.key: item.value for item in status.values})

    node.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, 10)
    end_s = time.monotonic() + 15.0
    while not publisher.get_subscription_count() and time.monotonic() < end_s:
        rclpy.spin_once(node, timeout_sec=0.05)
    end_s, began_s = time.monotonic() + seconds, time.monotonic()
    while (now_s := time.monotonic()) < end_s:
        publisher.publish(_plan(names, middle, reach, now_s - began_s))
        until_s = now_s + 0.2
        while time.monotonic() < until_s:
            rclpy.spin_once(node, timeout_sec=0.02)
    node.destroy_node()
    return seen


def _plan(names: tuple[str, ...], middle: np.ndarray, reach: np.ndarray, since_s: float) -> JointTrajectory:
    message = JointTrajectory(joint_names=list(names))
    # It fades in, so that the first plan begins where the joints stand.
    fade = min(1.0, since_s / 2.0)
    for step in range(51):
        phase = 2 * np.pi * 0.5 * (since_s + 0.02 * step)
        positions = middle + fade * reach * np.sin(phase)
        velocities = fade * reach * np.pi * np.cos(phase) if step < 50 else np.zeros(len(names))
        point = JointTrajectoryPoint(positions=positions.tolist(), velocities=velocities.tolist())
        point.time_from_start.sec = step // 50
        point.time_from_start.nanosec = 20_000_000 * (step % 50)
        message.points.append(point)
    return message


if __name__ == "__main__":
    main()
