"""Inference node: runs the inference component on ROS 2, beside the head or on another machine."""

from __future__ import annotations

import sys
import time
import uuid

from rclpy.time import Time
from sensor_msgs.msg import TimeReference
from timar_common.base_node import run
from timar_common.cancellation import run_interruptibly
from timar_common.clock import RosAnchor
from timar_common.component_node import ComponentNode
from timar_common.diagnostics import Level, Report
from timar_common.notify import notify
from timar_common.peer_clock import PeerClock
from timar_common.processes import own_restarts

from timar_inference.inference_component import InferenceComponent
from timar_inference.runtime import open_runtime


class InferenceNode(ComponentNode):
    """Generate head motion turn by turn, in a worker thread.

    On another machine than the head's, ROS time is the head's: no message is taken before its clock is known.
    """

    component_type = InferenceComponent
    head_clock: PeerClock | None = None

    def make_component(self) -> InferenceComponent:
        """Load, measure and warm the model; conversation ids differ from those of every other start."""

        def log(line: str) -> None:
            self.get_logger().info(line)
            notify(STATUS=line)

        runtime = run_interruptibly(lambda: open_runtime(self.config, log))
        name = f"{self.get_name()}-{uuid.uuid4().hex[:8]}"
        return InferenceComponent(self.config, runtime, name, is_restarted=own_restarts() > 0)

    def follow_clock(self) -> None:
        """Take ROS time from the head, where it is another machine."""
        super().follow_clock()
        if self.config.clock_of_head:
            self.ros_clock = self.head_clock = PeerClock()
            self.is_time_known = self._is_away = False

    def build(self) -> None:
        """Make the component, and what asks for the head's clock."""
        super().build()
        if self.head_clock is None:
            return
        self._asker = uuid.uuid4().hex
        self._request = self.create_topic_publisher("clock/request")
        self.create_topic_subscription("clock/reply", self._on_reply)
        self.create_steady_timer(self.head_clock.config.burst_period_s, self._ask)

    def report(self) -> Report:
        """Return the health of the component, and of the way to the head."""
        report = super().report()
        if self.head_clock is None:
            return report
        report.values |= {
            "clock_error_ms": self.head_clock.error_ns * 1e-6,
            "clock_steps": self.head_clock.steps,
            **{f"round_trip_{key}_ms": ms for key, ms in self.head_clock.round_trips_ms.summary().items()},
        }
        if self.head_clock.is_away(time.monotonic_ns()):
            report.worsen(Level.WARN, "the head does not answer")
        return report

    def _ask(self) -> None:
        now_ns = time.monotonic_ns()
        assert self.head_clock is not None
        if self.is_time_known and self.head_clock.is_away(now_ns) and not self._is_away:
            self._is_away = True
            self.get_logger().warning("the head does not answer any more; waiting for it")
        if self.head_clock.ask(now_ns):
            stamp = Time(nanoseconds=now_ns).to_msg()
            self._request.publish(TimeReference(time_ref=stamp, source=self._asker))

    def _on_reply(self, reply: TimeReference) -> None:
        received_ns = time.monotonic_ns()
        if reply.source != self._asker:
            return
        assert self.head_clock is not None
        sent_ns, head_ns = (
            Time.from_msg(stamp).nanoseconds for stamp in (reply.time_ref, reply.header.stamp)
        )
        if not self.head_clock.take(sent_ns, head_ns, received_ns):
            return
        round_trip_ms = self.head_clock.round_trips_ms.summary()
        self.host.call(self.component.allow_for_way, self.head_clock.way_ms)
        if not self.is_time_known:
            self.anchor = RosAnchor()
        self.is_time_known, self._is_away = True, False
        self.get_logger().info(
            f"the head's clock is known to {self.head_clock.error_ns * 1e-6:.1f} ms; there and back takes "
            f"{round_trip_ms['p50']:.1f} ms, p99 {round_trip_ms['p99']:.1f} ms; the margin of the next "
            f"conversation allows {self.head_clock.way_ms:.0f} ms for it"
        )


def main() -> int:
    """Run the node until a signal."""
    return run([InferenceNode])


if __name__ == "__main__":
    sys.exit(main())
