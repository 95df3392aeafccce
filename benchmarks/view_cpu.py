"""Measure what the view node costs while nobody looks, and while one browser does.

    python benchmarks/view_cpu.py      (in a sourced workspace, with Chromium)

The feed is that of the running graph: 50 joint states, 100 voice activities and 5 motions a second.
"""

from __future__ import annotations

import math
import re
import sys
import tempfile
import time

import harness
import rclpy
from headless_browser import HeadlessBrowser  # beside the tests; harness says where
from timar_common.base_node import message_type, qos_of
from timar_common.topics import TOPICS
from timar_description import find_urdf
from timar_description.urdf import read_drawable_urdf

PORT = 18_500
PERIOD_S = 0.02
MEASURE_S = 15.0
LIMIT_SHARE = 0.10
"""Of one core, while nobody looks."""


class Feed:
    """Publishes what the view listens to most."""

    def __init__(self, node: rclpy.node.Node) -> None:
        self._step = 0
        self._joints = [joint.name for joint in read_drawable_urdf(find_urdf()).actuated]
        self._publishers = {
            name: node.create_publisher(message_type(TOPICS[name].type_name), name, qos_of(TOPICS[name]))
            for name in ("joint_states", "voice_activity", "agent/motion")
        }

    def wait_for_listener(self) -> None:
        """Return when the view hears everything."""
        while not all(publisher.get_subscription_count() for publisher in self._publishers.values()):
            time.sleep(0.05)

    def run(self, duration_s: float) -> None:
        """Publish at the graph's pace for a while [s]."""
        due_s = time.monotonic()
        for _ in range(round(duration_s / PERIOD_S)):
            self._send()
            due_s += PERIOD_S
            time.sleep(max(0.0, due_s - time.monotonic()))

    def _send(self) -> None:
        now_s = self._step * PERIOD_S
        positions = [0.1 + 0.1 * math.sin(5.0 * now_s + n) for n in range(len(self._joints))]
        self._publish("joint_states", name=self._joints, position=positions)
        for speaker in (0, 1):
            place = {"speaker": speaker, "first_sample": self._step * 320, "samples": 320}
            self._publish("voice_activity", **place, level_dbfs=-30.0 + 10.0 * math.sin(now_s + speaker))
        if self._step % 10 == 0:
            numbers = {"expression": [0.0] * 250, "jaw": [0.0] * 15, "neck": [0.0] * 15}
            self._publish("agent/motion", frames=5, fps=25.0, compute_ms=40.0, **numbers)
        self._step += 1

    def _publish(self, topic: str, /, **fields: object) -> None:
        self._publishers[topic].publish(message_type(TOPICS[topic].type_name)(**fields))


def share_of_a_core(pid: int, feed: Feed) -> float:
    begin_s, begin_cpu_s = time.monotonic(), harness.processor_s(pid)
    feed.run(MEASURE_S)
    return (harness.processor_s(pid) - begin_cpu_s) / (time.monotonic() - begin_s)


def main() -> int:
    rclpy.init()
    feed = Feed(rclpy.create_node("feed", namespace="/bench"))
    command = [sys.executable, "-m", "timar_view.view_node", "--ros-args", "-r", "__ns:=/bench"]
    command += ["-p", f"port:={PORT}"]
    with tempfile.TemporaryFile("w+") as log, harness.running(command, stderr=log) as process:
        feed.wait_for_listener()
        feed.run(2.0)
        alone = share_of_a_core(process.pid, feed)
        with HeadlessBrowser() as browser:
            log.seek(0)
            browser.go_to(re.search(r"shown at (\S+)", log.read()).group(1))
            feed.run(4.0)
            watched = share_of_a_core(process.pid, feed)
    rclpy.shutdown()
    print(harness.when())
    print(f"view node, nobody looks: {100 * alone:.1f} % of a core (at most {100 * LIMIT_SHARE:.0f} %)")
    print(f"view node, one browser:  {100 * watched:.1f} % of a core")
    return int(alone > LIMIT_SHARE)


if __name__ == "__main__":
    sys.exit(main())
