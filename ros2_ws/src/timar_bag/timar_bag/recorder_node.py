"""Recorder node: writes every topic of the graph into a rosbag2 folder, as it came."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, ClassVar

from timar_common.base_node import BaseNode, message_type, qos_of, run
from timar_common.diagnostics import Level, Report
from timar_common.processes import own_restarts
from timar_common.topics import RECORDED_TOPICS, Topic

from timar_bag.recorder import BagRecorder, RecorderConfig, next_part

BURST_MESSAGES = 200
"""How many messages of one topic may arrive at once."""
RETRY_S = 10.0
"""After a full disk a new part is tried no more often than this [s]."""


class RecorderNode(BaseNode):
    """Record all topics of the table from activation to deactivation."""

    NAME: ClassVar[str] = "recorder"
    Config: ClassVar[type] = RecorderConfig

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._recorder: BagRecorder | None = None
        self._recordings = 0
        self._recorded: list[Any] = []
        self._retry_s = 0.0
        self._goes_on = False
        """Whether the next recording is a part of the same bag."""

    def start(self) -> None:
        """Begin a bag of its own, then subscribe: who sees the subscription knows that it is recorded."""
        recorder = BagRecorder(self._next_path(), self.config)
        topics = RECORDED_TOPICS.values()
        recorder.open((self.resolve_topic_name(topic.name), topic) for topic in topics)
        self._recorder = recorder
        self._recordings += 1
        self._recorded = [self._subscribe(topic, recorder) for topic in topics]
        self.get_logger().info(f"recording {len(topics)} topics to {recorder.path}")

    def stop(self) -> None:
        """Close the bag, so that it has its index and metadata."""
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        for subscription in self._recorded:
            self.destroy_subscription(subscription)
        self._recorded = []
        try:
            recorder.close()
        except TimeoutError as error:
            self.get_logger().error(str(error))
        counts = recorder.counts()
        if counts.error:
            self.get_logger().error(counts.error)
        else:
            self.get_logger().info(f"recorded {counts.written} messages to {recorder.path}")
        if counts.dropped:
            self.get_logger().warning(f"{counts.dropped} messages were not recorded")

    def report(self) -> Report:
        """Return how many messages are on the disk, and what went wrong."""
        report = Report()
        if self._recorder is None:
            return report
        counts = self._recorder.counts()
        if counts.is_full and self._recorder.has_room() and time.monotonic() >= self._retry_s:
            self._go_on(self._recorder)
            counts = self._recorder.counts()
        report.values.update(
            path=str(self._recorder.path),
            written=counts.written,
            dropped=counts.dropped,
            waiting=counts.waiting,
        )
        if counts.dropped:
            report.worsen(Level.WARN, f"{counts.dropped} messages were not recorded: the disk is too slow")
        if counts.error:
            report.worsen(Level.ERROR, counts.error)
            self.get_logger().error(counts.error, throttle_duration_sec=30.0)
        return report

    def _go_on(self, ended: BagRecorder) -> None:
        """Begin a new part after the disk was full."""
        self._retry_s = time.monotonic() + RETRY_S
        self.get_logger().info("the disk has room again; recording goes on")
        self._goes_on = True
        self.stop()
        try:
            self.start()
        except (OSError, ValueError) as error:
            self.get_logger().error(f"recording does not go on: {error}")
            self._recorder = ended

    def _subscribe(self, topic: Topic, recorder: BagRecorder) -> Any:
        name = self.resolve_topic_name(topic.name)

        # The time of arrival is read here, for the events executor of Kilted delivers no message information.
        def deliver(data: bytes) -> None:
            if now_ns := self.ros_now_ns():  # 0: with use_sim_time /clock has not come yet
                recorder.put(name, now_ns, data)

        qos = qos_of(topic)
        # Deeper than the other readers': a record must not lose what they may replace by something newer.
        qos.depth = max(qos.depth, BURST_MESSAGES)
        return self.create_subscription(message_type(topic.type_name), topic.name, deliver, qos, raw=True)

    def _next_path(self) -> Path:
        out = self.config.out or time.strftime("recordings/%Y%m%d-%H%M%S")
        path = Path(out).expanduser().absolute()
        goes_on, self._goes_on = self._goes_on, False
        if goes_on or (own_restarts() and path.exists() and not self._recordings):
            return next_part(path)
        return path.with_name(f"{path.name}-{self._recordings + 1}") if self._recordings else path


def main() -> int:
    """Run the recorder until a signal."""
    return run([RecorderNode])


if __name__ == "__main__":
    sys.exit(main())
