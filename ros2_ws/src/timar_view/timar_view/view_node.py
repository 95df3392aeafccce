"""Shows the head in a browser: what the joints do, who speaks, who holds the floor, how late motion is."""

from __future__ import annotations

import os
import sys
import time
import webbrowser
from typing import Any

from sensor_msgs.msg import JointState
from timar_common.base_node import BaseNode, run
from timar_common.diagnostics import Level, Report
from timar_description import find_urdf
from timar_description.urdf import read_drawable_urdf

from timar_view.config import ViewConfig
from timar_view.view import HeadView


class ViewNode(BaseNode):
    """Listens, and feeds the view."""

    NAME = "view"
    Config = ViewConfig
    _view: HeadView | None = None

    def build(self) -> None:
        """Read the robot and subscribe."""
        self._view = HeadView(self.config, read_drawable_urdf(find_urdf(self.config.robot)))
        self.create_topic_subscription("joint_states", self._on_joint_states)
        self.create_topic_subscription("voice_activity", self._on_voice_activity)
        self.create_topic_subscription("turn_events", self._on_turn_event)
        self.create_topic_subscription("floor", self._on_floor)
        self.create_topic_subscription("agent/motion", self._on_motion)
        self.create_topic_subscription("/diagnostics", self._on_diagnostics)
        self._targets = self.create_topic_publisher("joint_targets")
        self.create_steady_timer(1.0 / self.config.rate_hz, self._draw)

    def start(self) -> None:
        """Open the page."""
        url = self._view.open()
        self.get_logger().info(f"the head is to be seen at {url}")
        has_screen = sys.platform == "darwin" or bool(
            os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        )
        if self.config.open_browser and not (has_screen and webbrowser.open(url)):
            self.get_logger().warning(f"no browser could be opened here; open {url} yourself")

    def stop(self) -> None:
        """Close the page."""
        self._view.close()

    def release(self) -> None:
        """Drop the view."""
        if self._view is not None:
            self._view.close()
            self._view = None

    def report(self) -> Report:
        """Say who looks on and whether the robot is the one described."""
        report = Report(values={"lookers": self._view.lookers, "draws": self._view.draws})
        if self._view.unknown_joints:
            names = ", ".join(sorted(self._view.unknown_joints))
            report.worsen(Level.WARN, f"joint_states has joints that {self.config.robot} lacks: {names}")
        return report

    def _draw(self) -> None:
        now_ns = time.monotonic_ns()
        self._view.draw(now_ns)
        targets = self._view.targets(now_ns)
        if targets:
            self._targets.publish(JointState(name=list(targets), position=list(targets.values())))

    def _on_joint_states(self, message: Any) -> None:
        self._view.update_joints(message.name, message.position)

    def _on_voice_activity(self, message: Any) -> None:
        self._view.conversation.hear(
            message.speaker, message.first_sample, message.samples, message.level_dbfs, message.is_speaking
        )

    def _on_turn_event(self, message: Any) -> None:
        self._view.conversation.mark(message.speaker, message.kind, message.first_sample, message.end_sample)

    def _on_floor(self, message: Any) -> None:
        self._view.conversation.take_floor(message.state, message.since_sample)

    def _on_motion(self, message: Any) -> None:
        if message.is_preview:
            return
        lead_ns = self.monotonic_ns(message.header) - time.monotonic_ns()
        self._view.conversation.take_motion(message.compute_ms, lead_ns / 1e6)

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            self._view.conversation.take_health(status.name, status.level[0], status.message)


def main() -> int:
    """Run the view."""
    return run([ViewNode])


if __name__ == "__main__":
    sys.exit(main())
