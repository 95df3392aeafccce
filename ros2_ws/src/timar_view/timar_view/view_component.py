"""View component: keeps what the page shows, and publishes joint targets that are set by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt
from timar_common.component import Component, Output, Publish
from timar_common.diagnostics import Level, Report
from timar_common.messages import Header, Message, new
from timar_description import find_urdf
from timar_description.urdf import RobotModel, read_drawable_urdf

from timar_view.config import ViewConfig
from timar_view.station import StationBlock
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
    inputs: tuple[str, ...] = (
        "joint_states",
        "voice_activity",
        "turn_events",
        "floor",
        "agent/motion",
        "face",
        "joints_held_by",
        "/diagnostics",
    )
    outputs: tuple[str, ...] = ("joint_targets",)

    def __init__(self, config: ViewConfig, robot: RobotModel | None = None) -> None:
        self.config = config
        self.robot = robot or read_drawable_urdf(find_urdf(config.robot))
        self.on_voice: Callable[[str, int, npt.NDArray[np.int16]], None] = lambda page, frame, samples: None
        """Takes the voice for a page, and the frame of its counter at which it begins."""
        if config.has_station:
            self.inputs, self.outputs = (*self.inputs, "station/voice"), (*self.outputs, "station/sound")
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
        if topic == "station/voice":
            self.on_voice(message.page, message.first_frame, message.samples)
            return ()
        take = {
            "joint_states": self.state.add_joint_states,
            "voice_activity": self.state.add_voice_activity,
            "turn_events": self.state.add_turn_event,
            "floor": self.state.set_floor,
            "face": self.state.set_face,
            "joints_held_by": self.state.set_holder,
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

    def publish_sound(
        self, page: str, rate_hz: int, block: StationBlock, end_ns: int, now_ns: int
    ) -> Iterable[Output]:
        """Hand on what a page heard.

        Args:
            page: Its name.
            rate_hz: Of its counter [Hz].
            block: What it sent.
            end_ns: When its counter stood at the block's end, CLOCK_MONOTONIC [ns].
            now_ns: Now [ns].
        """
        message = new(
            "StationSound",
            header=Header(end_ns, "station"),
            page=page,
            sample_rate=rate_hz,
            first_frame=block.first_frame,
            frames=block.frames,
            output_latency_ms=block.output_latency_ms,
            late_frames=block.late_frames,
            dropped_frames=block.dropped_frames,
            samples=block.samples,
        )
        yield Publish("station/sound", message)

    def report(self) -> Report:
        """Report whether the robot is the one described."""
        report = Report()
        if self.state.unknown_joints:
            names = ", ".join(sorted(self.state.unknown_joints))
            report.worsen(Level.WARN, f"joint_states has joints that {self.config.robot} lacks: {names}")
        return report
