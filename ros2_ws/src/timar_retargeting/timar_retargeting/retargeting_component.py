"""Retargeting component: head motion in, joint commands out, and idle behavior when there is no motion."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.component import Component, Log, Output, Publish, ServiceReply
from timar_common.diagnostics import Level, Report
from timar_common.messages import Header, Message, constants, new, standard_types
from timar_common.trajectory_cdr import TrajectoryPoints
from timar_description.find import find_joint_map

from timar_retargeting.config import RetargetingConfig
from timar_retargeting.gesture_watch import FRAME_NS, GestureResult, GestureWatch
from timar_retargeting.idle_behavior import IdleBehavior
from timar_retargeting.motion_timeline import MotionFrames
from timar_retargeting.retargeting_core import GESTURE_SIGNALS, Mode, RetargetingCore
from timar_retargeting.robot import RobotDescription, load_robot
from timar_retargeting.trajectory_planner import JointPlan, PlanSampler

PLANNING_HZ = 20.0
"""How often the plan is looked at when no message came [Hz]."""
OUTPUT_TOPICS = {
    "trajectory": "joint_trajectory",
    "positions": "position_commands",
    "joint_states": "joint_states",
}
"""Topic of each value of the parameter `output`."""


class RetargetingComponent(Component):
    """Motion to joint commands of one robot.

    It waits for `joint_states` before it moves anything; without a driver (output: joint_states) it starts at
    neutral. Plans are published as trajectories when they change, or sampled at `output_rate_hz`.

    Args:
        config: Which robot, how it follows, and in which form it commands.
        robot: Its description; read from the files that the configuration names unless given.

    Raises:
        ValueError: The robot's files are wrong; the message names file, line and rule.
        OSError: They cannot be read.
    """

    NAME = "retargeting"
    Config = RetargetingConfig

    def __init__(self, config: RetargetingConfig, robot: RobotDescription | None = None) -> None:
        self.config = config
        self.robot = robot or load_robot(find_joint_map(config.robot), config.expression_map)
        self._has_driver = config.output != "joint_states"
        self._is_sampled = config.output != "trajectory"
        self._topic = OUTPUT_TOPICS[config.output]
        self.outputs = (self._topic, "face", "gesture")
        self.on_gesture_result: Callable[[GestureResult], object] = _ignore
        """Called with every request that is over; the action `gesture` answers then."""
        self._handlers: dict[str, Callable[[Message, int], JointPlan | None]] = {
            "agent/motion": self._on_motion,
            "turn_events": self._on_turn_event,
            "agent/intent": self._on_intent,
            "look_at": self._on_look_at,
            "joint_targets": self._on_joint_targets,
        }
        if self._has_driver:
            self._handlers["joint_states"] = self._on_joint_states
        self.inputs = tuple(self._handlers)
        # One timer serves both: commands are sampled at every n-th tick, plans looked at at every m-th.
        self._ticks_per_output = 1
        tick_hz = PLANNING_HZ
        if self._is_sampled:
            self._ticks_per_output = math.ceil(PLANNING_HZ / config.output_rate_hz)
            tick_hz = config.output_rate_hz * self._ticks_per_output
        self._ticks_per_planning = int(tick_hz / PLANNING_HZ)
        self.tick_s = 1.0 / tick_hz
        self._constants = constants("TurnEvent")
        intents = constants("AgentIntent").items()
        self._intents = {value: name for name, value in intents if name not in ("RULES", "DIALOGUE")}
        kinds = constants("Gesture").items()
        self._kinds = {value: name for name, value in kinds if name in GESTURE_SIGNALS}
        self._reset(0)
        self.core.warm_up()

    def _reset(self, now_ns: int) -> None:
        config, idle = self.config, IdleBehavior(self.config.idle(), self.config.seed)
        neutral = config.neutral(self.robot.neutral)
        self.core = RetargetingCore(self.robot, config.planning(), idle, neutral, config.neutral_estimate())
        self._sampler = PlanSampler()
        self.gestures = GestureWatch()
        self._ticks = 0
        self._active_since_ns = now_ns

    def start(self, now_ns: int) -> Iterable[Output]:
        """Wait for joint states: the joints may have been moved since."""
        self._reset(now_ns)
        notes = tuple(Log(Level.OK, note) for note in self._face_notes())
        if self._has_driver:
            return notes
        return (*notes, *self._publish(self.core.start(self.robot.offsets_rad, now_ns)))

    def _face_notes(self) -> Iterable[str]:
        """Say at the start what of a face this robot will not show."""
        said = self.robot.face_report()
        yield f"expression map: {said['expression_map']}"
        if self.robot.arkit and said["signals_without_joint_or_screen"] != "none":
            yield f"no joint or screen shows {said['signals_without_joint_or_screen']}"
        if self.robot.arkit and said["signals_not_told"] != "none":
            yield f"the map does not tell {said['signals_not_told']}: what they move stays at rest"

    def stop(self, now_ns: int) -> Iterable[Output]:
        """Bring the head to rest."""
        self._report_gestures(self.gestures.end_all(now_ns))
        return self._publish(self.core.stop(now_ns)) if self.core.is_started else ()

    def handle(self, topic: str, message: Message, now_ns: int) -> Iterable[Output]:
        """Plan again where a message changes what the joints should do."""
        return self._publish(self._handlers[topic](message, now_ns))

    def tick(self, now_ns: int) -> Iterable[Output]:
        """Extend the plan in time, and send the commands of this instant."""
        self._ticks += 1
        following = self.core.mode is Mode.FOLLOWING
        self._report_gestures(self.gestures.tick(following, self.core.mode.value, now_ns))
        outputs: list[Output] = []
        if self._ticks % self._ticks_per_planning == 0:
            if self.core.is_started:
                outputs += self._publish(self.core.tick(now_ns))
                outputs += self._face(now_ns)
            elif now_ns - self._active_since_ns > self.config.joint_states_timeout_s * 1e9:
                outputs.append(Log(Level.WARN, "no joint states came; taking the head to stand at neutral"))
                outputs += self._publish(self.core.start(self.robot.offsets_rad, now_ns))
        if self._is_sampled and self._ticks % self._ticks_per_output == 0:
            sample = self._sampler.at(now_ns)
            if sample is not None:
                outputs.append(Publish(self._topic, self._sampled_command(*sample, now_ns)))
        return outputs

    def report(self) -> Report:
        """Say what the head does, what was late, and what the limits did."""
        core, counters = self.core, self.core.timeline.counters
        report = Report(message=core.mode.value)
        report.values |= {"mode": core.mode.name.lower(), "late_runs": core.late_runs}
        report.values |= self.robot.face_report()
        report.values |= {"ignored_runs": core.ignored_runs, **dataclasses.asdict(counters)}
        if not core.neutral.is_fixed:
            rest = dict(zip(("neck_x", "neck_y", "neck_z", "jaw"), core.neutral.rest.tolist(), strict=True))
            report.values |= {f"rest_rad.{name}": value for name, value in rest.items()}
        if core.is_started:
            report.values |= core.planner.report.values(core.robot.joint_names)
        if counters.refused_frames:
            report.worsen(
                Level.WARN, f"{counters.refused_frames} frames of motion were not finite and left out"
            )
        return report

    @property
    def services(self) -> Mapping[str, Callable[[int], ServiceReply]]:
        """`stop` brings the head to rest where it is, `resume` lets it follow motion again."""
        return {"stop": self._stop, "resume": self._resume}

    def neutral_joint_states(self, now_ns: int) -> Message:
        """Return joint states of a head that stands at neutral, for a host that knows none."""
        return new(
            "sensor_msgs/msg/JointState",
            header=Header(now_ns),
            name=list(self.robot.joint_names),
            position=self.robot.offsets_rad,
        )

    def request_gesture(self, gesture: Message, wanted_ns: int, now_ns: int) -> Iterable[Output]:
        """Ask for a gesture and follow it; `on_gesture_result` is called when it is over.

        Args:
            gesture: timar_msgs/Gesture with an id.
            wanted_ns: When it shall begin to be seen, monotonic; 0: as soon as possible [ns].
            now_ns: Now.

        Raises:
            ValueError: It cannot be done; the message says why.
        """
        gesture_id = str(gesture.gesture_id)
        if gesture_id in self.gestures:
            raise ValueError(f"gesture_id {gesture_id!r} is on its way already")
        if int(gesture.kind) not in self._kinds:
            known = ", ".join(f"{value} ({name})" for value, name in self._kinds.items())
            raise ValueError(f"the kind is {gesture.kind}, expected one of {known}")
        size_rad, speed_hz = float(gesture.size_rad), float(gesture.speed_hz)
        if not (math.isfinite(size_rad) and math.isfinite(speed_hz)):
            raise ValueError(f"size and speed are {size_rad} and {speed_hz}, expected finite numbers")
        self.core.require_gesture(self._kinds[int(gesture.kind)], size_rad, speed_hz)
        self.gestures.add(gesture_id, wanted_ns, now_ns)
        return [Publish("gesture", new("GestureRequest", header=Header(wanted_ns), gesture=gesture))]

    def cancel_gesture(self, gesture_id: str, now_ns: int) -> Iterable[Output]:
        """Take a request back; what is seen already goes on to its end."""
        self.gestures.cancel(gesture_id)
        wanted = new("Gesture", gesture_id=gesture_id)
        return [Publish("gesture", new("GestureRequest", gesture=wanted, is_withdrawn=True))]

    def _report_gestures(self, results: Iterable[GestureResult]) -> None:
        for result in results:
            self.on_gesture_result(result)

    def _on_motion(self, message: Message, now_ns: int) -> JointPlan | None:
        self._report_gestures(self.gestures.on_motion(message, now_ns))
        for gesture in message.gestures if not message.is_preview else ():
            if not gesture.refused_because:
                self._give_way(message, gesture, now_ns)
        return self.core.on_motion(MotionFrames.of(message), now_ns)

    def _give_way(self, motion: Message, gesture: Message, now_ns: int) -> None:
        kind = self._kinds.get(int(gesture.kind), "")
        first_ns = motion.header.stamp + (int(gesture.first_frame) - int(motion.first_frame)) * FRAME_NS
        end_ns = first_ns + (0 if kind == "LOOK_BACK" else int(gesture.frames) * FRAME_NS)
        side_rad = gesture.side * gesture.size_rad if kind.startswith("LOOK") else 0.0
        self.core.on_gesture(side_rad, first_ns, end_ns, now_ns)

    def _on_intent(self, message: Message, now_ns: int) -> JointPlan | None:
        intent = self._intents.get(int(message.intent), "")
        if not intent:
            known = ", ".join(self._intents.values())
            raise ValueError(f"the intent is {message.intent}, expected one of {known}")
        end_s = (int(message.speech_end_sample) - int(message.since_sample)) / SAMPLE_RATE_HZ
        since_s = (now_ns - message.header.stamp) * 1e-9
        is_planned = message.speech_end_sample >= 0
        self.core.intend(intent, end_s - since_s if is_planned else 0.0, now_ns)
        return None

    def _on_turn_event(self, message: Message, now_ns: int) -> JointPlan | None:
        if message.kind not in (self._constants["START"], self._constants["INTERRUPTED"]):
            return None
        return self.core.take_floor(message.speaker == self._constants["AGENT"], now_ns)

    def _on_look_at(self, message: Message, now_ns: int) -> JointPlan | None:
        point_m = (message.point.x, message.point.y, message.point.z)
        return self.core.look_at(point_m, message.header.frame_id, now_ns)

    def _on_joint_targets(self, message: Message, now_ns: int) -> JointPlan | None:
        if len(message.name) != len(message.position):
            raise ValueError(
                f"{len(message.name)} joint names came with {len(message.position)} positions; send as many"
            )
        return self.core.move_by_hand(dict(zip(message.name, message.position, strict=True)), now_ns)

    def _on_joint_states(self, message: Message, now_ns: int) -> JointPlan | None:
        if self.core.is_started:
            return None
        measured = dict(zip(message.name, message.position, strict=False))
        missing = [name for name in self.robot.joint_names if name not in measured]
        if missing:
            raise ValueError(
                f"joint states lack {', '.join(missing)}; check that both nodes use the same robot"
            )
        return self.core.start(np.array([measured[name] for name in self.robot.joint_names]), now_ns)

    def _stop(self, now_ns: int) -> ServiceReply:
        if not self.core.is_started:
            return ServiceReply(False, "the head has not moved yet")
        outputs = self._publish(self.core.stop(now_ns))
        return ServiceReply(True, "the head comes to rest and stays; call resume to go on", outputs)

    def _resume(self, now_ns: int) -> ServiceReply:
        if self.core.mode is not Mode.STOPPED:
            return ServiceReply(False, "the head was not stopped")
        outputs = self._publish(self.core.resume(now_ns))
        return ServiceReply(True, "the head follows motion again", outputs)

    def _publish(self, plan: JointPlan | None) -> tuple[Output, ...]:
        """Publish a plan, or keep it for the samples."""
        if plan is None:
            return ()
        if self._is_sampled:
            self._sampler.add(plan)
            return ()
        start_ns = self.core.time_ns(plan.first_index)
        return (Publish(self._topic, trajectory_message(plan, self.robot.joint_names, start_ns)),)

    def _face(self, now_ns: int) -> tuple[Output, ...]:
        """Publish what screens show at the instant at which the voice is heard."""
        values = self.core.face_at(now_ns - round(self.robot.loudspeaker_delay_s * 1e9))
        if values is None or self.core.face is None:
            return ()
        names, header = list(self.core.face.names), Header(now_ns, "face")
        message = new("sensor_msgs/msg/JointState", header=header, name=names, position=values)
        return (Publish("face", message),)

    def _sampled_command(
        self, position: npt.NDArray[np.float64], velocity: npt.NDArray[np.float64], now_ns: int
    ) -> Message:
        if self._has_driver:
            return new("std_msgs/msg/Float64MultiArray", data=position)
        return new(
            "sensor_msgs/msg/JointState",
            header=Header(now_ns),
            name=list(self.robot.joint_names),
            position=position,
            velocity=velocity,
        )


def _ignore(_result: GestureResult) -> None:
    """Report to nobody."""


def trajectory_message(plan: JointPlan, joint_names: tuple[str, ...], start_ns: int) -> Message:
    """Return a plan as trajectory_msgs/JointTrajectory.

    Args:
        plan: (K, J) positions, velocities and accelerations.
        joint_names: J names.
        start_ns: When the plan begins, CLOCK_MONOTONIC [ns].
    """
    return new(
        "trajectory_msgs/msg/JointTrajectory",
        header=Header(start_ns),
        joint_names=list(joint_names),
        points=TrajectoryPoints(plan.curve, round(plan.step_s * 1e9), standard_types()),
    )
