"""Time server node: tells an inference host the ROS time of the head, by which all sound is stamped."""

from __future__ import annotations

import sys
import time

from sensor_msgs.msg import TimeReference
from timar_common.base_node import BaseNode, run
from timar_common.diagnostics import Level, Report

from timar_audio.time_server import AskerWatch, TimeServerConfig


class TimeServerNode(BaseNode):
    """Answer clock/request at once."""

    NAME = "time_server"
    Config = TimeServerConfig

    def build(self) -> None:
        """Make publisher, subscription and timer."""
        self._watch = AskerWatch(self.config)
        self._replies = self.create_topic_publisher("clock/reply")
        self.create_topic_subscription("clock/request", self._on_request)
        self.create_steady_timer(0.5, self._on_timer)

    def report(self) -> Report:
        """Return whether the inference host asks."""
        report = Report()
        if self._watch.is_away:
            report.worsen(Level.WARN, "the inference host does not answer; the head idles")
        return report

    def _on_request(self, request: TimeReference) -> None:
        now_ns = time.monotonic_ns()
        header = self.header(now_ns)
        self._replies.publish(TimeReference(header=header, time_ref=request.time_ref, source=request.source))
        if self._watch.ask(now_ns):
            self.get_logger().info("the inference host is there")

    def _on_timer(self) -> None:
        if self._watch.has_gone(time.monotonic_ns()):
            self.get_logger().warning("the inference host is gone; the head idles until it is back")


def main() -> int:
    """Run the node until a signal."""
    return run([TimeServerNode])


if __name__ == "__main__":
    sys.exit(main())
