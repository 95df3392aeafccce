"""View component: keeps what the page shows, and publishes joint targets that are set by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from timar_common.component import Component, Output, Publish
from timar_common.diagnostics import Level, Report
from timar_common.messages import Header, Message, new
from timar_description import find_urdf
from timar_description.urdf import RobotModel, read_drawable_urdf

from timar_view.config import ViewConfig
from timar_view.view_state import ViewState

REPEAT_NS = 1_000_000_000
"""Targets that did not change are published again so often, so that the joints stay."""


class ViewComponent(Component):
    """Messages to `state`; a page draws it and gives the positions of its sliders to `set_targets`.

    Args:
        config: Which robot, and how much of the conversation is kept.
        robot: Its description; read from the file that the configuration names unless given.

    Raises:
        ValueError: The robot's URDF is wrong.
        FileNotFoundError: It, or a mesh of it, is not there.
    """

    NAME = "view"
    Config = ViewConfig
    inputs = (
        "joint_states",
        "voice_activity",
        "turn_events",
        "floor",
        "agent/motion",
        "face",
        "/diagnostics",
    )
    outputs = ("joint_targets",)

    def __init__(self, config: ViewConfig, robot: RobotModel | None = None) -> None:
        self.config = config
        self.robot = robot or read_drawable_urdf(find_urdf(config.robot))
        self.start(0)

    def start(self, now_ns: int) -> Iterable[Output]:
        """Show nothing yet."""
        self.state = ViewState(self.robot.joints, self.config.history_s)
        self._targets: dict[str, float] = {}
        self._repeat_ns = 0
        return ()

    def handle(self, topic: str, message: Message, now_ns: int) -> Iterable[Output]:
        """Keep what a message says."""
        if topic == "agent/motion":
            self.state.add_motion(message, now_ns)
            return ()
        take = {
            "joint_states": self.state.add_joint_states,
            "voice_activity": self.state.add_voice_activity,
            "turn_events": self.state.add_turn_event,
            "floor": self.state.set_floor,
            "face": self.state.set_face,
            "/diagnostics": self.state.set_health,
        }[topic]
        take(message)
        return ()

    def set_targets(self, positions: Mapping[str, float], now_ns: int) -> Iterable[Output]:
        """Publish joint targets when they change, and once a second so that the joints stay.

        Args:
            positions: By joint name [rad or m]; empty: the joints are not moved by hand.
            now_ns: CLOCK_MONOTONIC [ns].
        """
        if positions and (positions != self._targets or now_ns >= self._repeat_ns):
            self._repeat_ns = now_ns + REPEAT_NS
            message = new(
                "sensor_msgs/msg/JointState",
                header=Header(now_ns),
                name=list(positions),
                position=np.array(list(positions.values())),
            )
            yield Publish("joint_targets", message)
        self._targets = dict(positions)

    def report(self) -> Report:
        """Report whether the robot is the one described."""
        report = Report()
        if self.state.unknown_joints:
            names = ", ".join(sorted(self.state.unknown_joints))
            report.worsen(Level.WARN, f"joint_states has joints that {self.config.robot} lacks: {names}")
        return report
