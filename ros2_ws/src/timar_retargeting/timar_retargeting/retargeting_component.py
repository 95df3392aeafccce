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
from timar_common.joint_trajectory import (
    RETARGETING_FRAME,
    TrajectoryCode,
    TrajectoryRefusedError,
    trajectory_of,
)
from timar_common.messages import Header, Message, constants, new, standard_types
from timar_common.trajectory_cdr import TrajectoryPoints
from timar_description.find import find_joint_map

from timar_retargeting.arbitration import JointHolder, Mode
from timar_retargeting.config import RetargetingConfig
from timar_retargeting.gesture_watch import FRAME_NS, GestureResult, GestureWatch
from timar_retargeting.idle_behavior import IdleBehavior
from timar_retargeting.motion_timeline import MotionFrames
from timar_retargeting.retargeting_core import GESTURE_SIGNALS, RetargetingCore
from timar_retargeting.robot import RobotDescription, load_robot
from timar_retargeting.trajectory_goal import (
    GoalTolerances,
    TrajectoryFeedback,
    TrajectoryGoal,
    TrajectoryResult,
)
from timar_retargeting.trajectory_planner import JointPlan, PlanSampler

_GOAL_FRAME = "follow_joint_trajectory/"
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
        self.outputs = (self._topic, "face", "gesture", "joints_held_by", "external/joint_trajectory")
        self.on_gesture_result: Callable[[GestureResult], object] = _ignore
        """Called with every request that is over; the action `gesture` answers then."""
        self.on_trajectory_result: Callable[[TrajectoryResult], object] = _ignore
        """Called with every goal of follow_joint_trajectory that is over."""
        self.on_trajectory_feedback: Callable[[TrajectoryFeedback], object] = _ignore
        """Called with every tick of a goal that is on its way."""
        self._handlers: dict[str, Callable[[Message, int], JointPlan | None]] = {
            "agent/motion": self._on_motion,
            "turn_events": self._on_turn_event,
            "agent/intent": self._on_intent,
            "look_at": self._on_look_at,
            "joint_targets": self._on_joint_targets,
            "external/joint_trajectory": self._on_trajectory,
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
        self._goal: TrajectoryGoal | None = None
        self._own: set[str] = set()
        """frame_id of what `_for_the_bag` sent."""
        self._measured: Message | None = None
        self._holder: JointHolder | None = None
        self._ticks = 0
        self._active_since_ns = now_ns

    def start(self, now_ns: int) -> Iterable[Output]:
        """Wait for joint states: the joints may have been moved since."""
        self._reset(now_ns)
        notes = tuple(Log(Level.OK, note) for note in self._face_notes())
        if self._has_driver:
            return (*notes, *self._holder_changed())
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
        outputs = self._publish(self.core.stop(now_ns)) if self.core.is_started else ()
        self._check_goal()
        return outputs

    def handle(self, topic: str, message: Message, now_ns: int) -> Iterable[Output]:
        """Plan again where a message changes what the joints should do."""
        outputs = self._publish(self._handlers[topic](message, now_ns))
        self._check_goal()
        return outputs

    def tick(self, now_ns: int) -> Iterable[Output]:
        """Extend the plan in time, and send the commands of this instant."""
        self._ticks += 1
        following = self.core.mode is Mode.FOLLOWING
        self._report_gestures(self.gestures.tick(following, self.core.mode.value, now_ns))
        outputs: list[Output] = []
        if self._ticks % self._ticks_per_planning == 0:
            if self.core.is_started:
                outputs += self._publish(self.core.tick(now_ns))
                outputs += self._left_out()
                outputs += self._follow_goal(now_ns)
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
        report.values["joints_held_by"] = core.holder.value
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

    def follow_trajectory(
        self, goal_id: str, trajectory: Message, tolerances: GoalTolerances, now_ns: int
    ) -> Iterable[Output]:
        """Follow a trajectory as a goal; `on_trajectory_result` is called when it is over, or refused.

        Args:
            goal_id: Whose; another one that is on its way is over with this.
            trajectory: trajectory_msgs/JointTrajectory.
            tolerances: What the goal asks of the joints.
            now_ns: Now.
        """
        try:
            wanted = trajectory_of(trajectory, now_ns)
            config = self.config
            defaults = {
                "path": config.path_tolerance_rad,
                "goal": config.goal_tolerance_rad,
                "time": config.goal_time_tolerance_s,
            }
            goal = TrajectoryGoal(goal_id, wanted, tolerances, self.robot.joint_names, defaults)
            plan = self.core.on_trajectory(wanted, now_ns)
        except TrajectoryRefusedError as error:
            self.on_trajectory_result(TrajectoryResult(goal_id, error.code, str(error)))
            return ()
        self._end_goal(TrajectoryCode.INVALID_GOAL, "another goal came")
        self._goal = goal
        return (*self._publish(plan), self._for_the_bag(goal_id, trajectory, wanted.start_ns))

    def cancel_trajectory(self, goal_id: str, now_ns: int) -> Iterable[Output]:
        """Stop as fast as the limits allow and stay; the goal is over with that."""
        if self._goal is None or self._goal.goal_id != goal_id:
            return ()
        self._end_goal(TrajectoryCode.SUCCESSFUL, "the goal was canceled", is_canceled=True)
        return self._hold(goal_id, now_ns)

    def is_on_its_way(self, goal_id: str) -> bool:
        """Return whether a goal of follow_joint_trajectory is followed, or waits for its start."""
        return self._goal is not None and self._goal.goal_id == goal_id

    def _end_goal(self, code: TrajectoryCode, text: str, *, is_canceled: bool = False) -> None:
        goal, self._goal = self._goal, None
        if goal is not None:
            self.on_trajectory_result(TrajectoryResult(goal.goal_id, code, text, is_canceled))

    def _check_goal(self) -> None:
        """End a goal whose joints somebody else has taken, or that was stopped."""
        goal, core = self._goal, self.core
        if goal is None or core.mode is Mode.TRAJECTORY or core.external.waiting is goal.trajectory:
            return
        self._end_goal(TrajectoryCode.INVALID_GOAL, f"the joints are held by {core.holder.value} now")

    def _follow_goal(self, now_ns: int) -> tuple[Output, ...]:
        """Tell where the joints of a goal are, and whether it is over."""
        self._check_goal()
        goal, core = self._goal, self.core
        if goal is None or core.mode is not Mode.TRAJECTORY:
            return ()
        measured_ns, actual = self._actual(now_ns)
        desired = core.external.desired(measured_ns)
        self.on_trajectory_feedback(goal.feedback(desired, actual, measured_ns))
        result = goal.check(now_ns, desired, actual, measured_ns)
        if result is None:
            return ()
        self._goal = None
        self.on_trajectory_result(result)
        # As joint_trajectory_controller: a goal that failed is not followed any further.
        return () if result.code is TrajectoryCode.SUCCESSFUL else self._hold(result.goal_id, now_ns)

    def _hold(self, goal_id: str, now_ns: int) -> tuple[Output, ...]:
        nothing = new("trajectory_msgs/msg/JointTrajectory")
        plan = self.core.hold_trajectory(now_ns)
        return (*self._publish(plan), self._for_the_bag(goal_id, nothing, now_ns))

    def _for_the_bag(self, goal_id: str, trajectory: Message, start_ns: int) -> Output:
        """Return what a goal wants as a message, for a replay knows no actions; live it is left out again."""
        frame_id = f"{_GOAL_FRAME}{goal_id}"
        self._own.add(frame_id)
        return Publish(
            "external/joint_trajectory",
            new(
                "trajectory_msgs/msg/JointTrajectory",
                header=Header(start_ns, frame_id),
                joint_names=list(trajectory.joint_names),
                points=list(trajectory.points),
            ),
        )

    def _actual(self, now_ns: int) -> tuple[int, npt.NDArray[np.float64]]:
        """Return when the joints were measured last and (3, J) their state; without a driver, the plan."""
        names, state = self.robot.joint_names, np.full((3, len(self.robot.joint_names)), np.nan)
        message = self._measured
        if not self._has_driver:
            state[:2] = self.core.planner.plan.sample(now_ns * 1e-9)
            return now_ns, state
        if message is None:
            return 0, state
        columns = {name: column for column, name in enumerate(message.name)}
        for row, values in enumerate((message.position, message.velocity)):
            if len(values) == len(message.name):
                state[row] = [values[columns[name]] if name in columns else np.nan for name in names]
        return message.header.stamp, state

    def _left_out(self) -> tuple[Output, ...]:
        """Say why trajectories that waited were left out."""
        core = self.core
        logs = tuple(Log(Level.WARN, f"external/joint_trajectory: {why}") for why in core.left_out)
        if logs and self._goal is not None and core.external.waiting is not self._goal.trajectory:
            self._end_goal(TrajectoryCode.INVALID_GOAL, core.left_out[-1])
        core.left_out.clear()
        return logs

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

    def _on_trajectory(self, message: Message, now_ns: int) -> JointPlan | None:
        if message.header.frame_id in self._own:
            return None
        if not len(message.points):
            plan, why = self.core.hold_trajectory(now_ns), "an empty trajectory came"
        else:
            plan = self.core.on_trajectory(trajectory_of(message, now_ns), now_ns)
            why = "a trajectory came on external/joint_trajectory"
        self._end_goal(TrajectoryCode.INVALID_GOAL, why)
        return plan

    def _on_joint_states(self, message: Message, now_ns: int) -> JointPlan | None:
        self._measured = message
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
        """Publish a plan, or keep it for the samples; and who holds the joints, when that has changed."""
        if plan is None:
            return self._holder_changed()
        if self._is_sampled:
            self._sampler.add(plan)
            return self._holder_changed()
        start_ns = self.core.time_ns(plan.first_index)
        message = trajectory_message(plan, self.robot.joint_names, start_ns)
        return (Publish(self._topic, message), *self._holder_changed())

    def _holder_changed(self) -> tuple[Output, ...]:
        if self.core.holder is self._holder:
            return ()
        self._holder = self.core.holder
        return (Publish("joints_held_by", new("std_msgs/msg/String", data=self._holder.value)),)

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


def _ignore(_result: object) -> None:
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
        header=Header(start_ns, RETARGETING_FRAME),
        joint_names=list(joint_names),
        points=TrajectoryPoints(plan.curve, round(plan.step_s * 1e9), standard_types()),
    )
