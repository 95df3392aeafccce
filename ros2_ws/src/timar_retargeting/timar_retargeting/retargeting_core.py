"""Retargeting core: follows motion, idles without it, and always has a plan that ends at rest."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from timar_common.joint_trajectory import Trajectory, TrajectoryRefusedError
from timar_common.suggest import refuse_unknown
from timar_common.user_motion import MOTION_CHANNELS

from timar_retargeting.arbitration import HOLDERS, JointHolder, Mode, may_take
from timar_retargeting.config import PlanningConfig
from timar_retargeting.external_trajectory import ExternalTrajectories
from timar_retargeting.face_signals import FaceSignals
from timar_retargeting.idle_behavior import IDLE_SIGNALS, IdleBehavior
from timar_retargeting.limits import Indices
from timar_retargeting.motion_timeline import MotionFrames, MotionTimeline, spline_second_derivatives
from timar_retargeting.neutral_pose import NeutralConfig, NeutralPoseEstimator
from timar_retargeting.robot import RobotDescription
from timar_retargeting.signals import MOTION_SIGNALS, Array, Neutral, signal_columns
from timar_retargeting.spline_fit import spline_fit
from timar_retargeting.trajectory_planner import STEPS_MULTIPLE, JointPlan, TrajectoryPlanner, lead_in
from timar_retargeting.transitions import move_positions, stop_positions


@dataclasses.dataclass(frozen=True)
class JointGroup:
    """Joints that are planned alike: as early, and as far."""

    lead_ns: float
    is_idle_only: bool
    """Whether no motion moves them."""
    columns: Indices


class RetargetingCore:
    """Motion and idle behavior to certified plans.

    Args:
        robot: Its joints and limits.
        config: Timing.
        idle: What the head does by itself.
        neutral: Neutral pose of the motion; None: the robot description's.
        neutral_config: How the person's own neutral pose is estimated from there on; None: it is not.
    """

    def __init__(
        self,
        robot: RobotDescription,
        config: PlanningConfig | None = None,
        idle: IdleBehavior | None = None,
        neutral: Neutral | None = None,
        neutral_config: NeutralConfig | None = None,
    ) -> None:
        self.robot, self.config, self.idle = robot, config or PlanningConfig(), idle or IdleBehavior()
        self.neutral = NeutralPoseEstimator(
            neutral or robot.neutral, neutral_config or NeutralConfig(neutral_time_constant_s=0.0)
        )
        self.mode = Mode.WAITING
        self.mapper = robot.mapper
        self.timeline = MotionTimeline(len(self.mapper.axes))
        self.face = FaceSignals(robot, self.idle) if robot.has_face else None
        """What screens show; None: there is nothing that joints do not show."""
        self.late_runs = 0
        self.ignored_runs = 0
        self.external = ExternalTrajectories(robot, allow_partial=self.config.allow_partial_joints_goal)
        self.left_out: list[str] = []
        """Why trajectories that waited were left out when their start came; who reads it empties it."""
        self._limits = robot.limits
        leads_ns = robot.leads_s * 1e9  # (J,)
        self._first_lead_ns, self._last_lead_ns = float(leads_ns.max()), float(leads_ns.min())
        self._channels = tuple(robot.expressions.values())
        self._motion_gains = self.mapper.gains((*MOTION_SIGNALS, *robot.expressions))  # (S, A)
        self._idle_gains = self.mapper.gains(IDLE_SIGNALS)
        self._is_idle_only = ~self.mapper.depends[self._motion_gains.any(0)].any(0)  # (J,)
        kinds = np.stack([leads_ns, self._is_idle_only], axis=1)
        self._groups = [
            JointGroup(float(kind[0]), bool(kind[1]), np.flatnonzero((kinds == kind).all(1)))
            for kind in np.unique(kinds, axis=0)
        ]
        self._step_ns = self.config.step_ms * 1_000_000
        self._step_s = self.config.step_ms * 1e-3
        self._planner: TrajectoryPlanner | None = None
        self._still_index = 0
        self._manual_rad: Array = self.mapper.neutral.copy()
        self._manual_until_ns = self._look_until_ns = 0
        self._look = AHEAD
        self._wanted_until_ns = 0

    # What a component calls.

    @property
    def planner(self) -> TrajectoryPlanner:
        """The planner, once `start` was called.

        Raises:
            RuntimeError: It was not.
        """
        if self._planner is None:
            raise RuntimeError(
                "it is not known where the joints are; call start() with measured positions first"
            )
        return self._planner

    @property
    def is_started(self) -> bool:
        """Whether it is known where the joints are."""
        return self._planner is not None

    @property
    def holder(self) -> JointHolder:
        """Who moves the joints."""
        return HOLDERS[self.mode]

    def _may_take(self, wanted: JointHolder) -> bool:
        return may_take(wanted, self.holder, self.config.priorities)

    def warm_up(self, longest_s: float = 1.6) -> None:
        """Prepare the fits that a conversation needs, so that the first motion is not late."""
        for steps in range(2 * STEPS_MULTIPLE, int(longest_s / self._step_s) + 1, STEPS_MULTIPLE):
            spline_fit(steps, self._step_s)
        for frames in range(3, int(longest_s * 25.0) + 35):
            spline_second_derivatives(frames)

    def start(self, positions: Array, now_ns: int) -> JointPlan:
        """Take over joints that rest where they were measured, and ease to neutral.

        Args:
            positions: (J,) measured [rad], in the order of robot.joint_names.
            now_ns: CLOCK_MONOTONIC [ns].

        Raises:
            ValueError: A position is not finite; the message names the joint.
        """
        positions = np.asarray(positions, np.float64)
        if not np.isfinite(positions).all():
            joint = self.robot.joint_names[int(np.flatnonzero(~np.isfinite(positions))[0])]
            raise ValueError(
                f"the measured position of {joint} is not finite; the driver must report a number"
            )
        index = self._index(now_ns)
        self._planner = TrajectoryPlanner(
            self._limits, self.robot.bandwidths_hz, self._step_s, positions, index
        )
        return self._ease(index)

    def on_motion(self, motion: MotionFrames, now_ns: int) -> JointPlan | None:
        """Take motion in.

        Args:
            motion: (frames, 56); a frame with a number that is not finite is left out by itself.
            now_ns: CLOCK_MONOTONIC [ns].

        Returns:
            The new plan; None when the motion changes nothing any more, or the head is stopped or not
            started.

        Raises:
            ValueError: The motion has another shape, or is due more than half a minute from now.
        """
        if abs(motion.due_ns - now_ns) > FURTHEST_DUE_NS:
            raise ValueError(
                f"frame {motion.first_frame} is due {(motion.due_ns - now_ns) * 1e-9:.3g} s from now, "
                f"expected at most {FURTHEST_DUE_NS * 1e-9:g} s: check that both nodes use one ROS clock"
            )
        signals = self._signal_rows(np.asarray(motion.rows), motion.is_preview)
        if not self._may_take(JointHolder.CONVERSATION):
            self.ignored_runs += 1
            return None
        if self.face is not None:
            self.face.add(dataclasses.replace(motion, rows=signals), now_ns)
        wanted = self.mapper.wanted(signals, self._motion_gains)  # (frames, A); NaN where motion is
        if not self.timeline.add(dataclasses.replace(motion, rows=wanted), now_ns):
            return None
        index = self._index(now_ns)
        due_ns = motion.due_ns - self._first_lead_ns
        self.late_runs += not motion.is_preview and due_ns < index * self._step_ns
        if self.timeline.is_empty or self.timeline.last_ns - self._first_lead_ns <= index * self._step_ns:
            return None
        self.mode = Mode.FOLLOWING
        return self._follow(index)

    def tick(self, now_ns: int) -> JointPlan | None:
        """Let time pass; call it some twenty times a second.

        Returns:
            A new plan when there is one.
        """
        if self._planner is None or self.mode is Mode.STOPPED:
            return None
        index = self._index(now_ns)
        self.idle.let_pass(index * self._step_s)
        if self._look != AHEAD and now_ns >= self._look_until_ns:
            self._look = AHEAD
            self.idle.look_at(*AHEAD, index * self._step_s)
        if begun := self._begin_waiting(now_ns):
            return begun
        if self.mode is Mode.TRAJECTORY:
            return self._go_on_with_trajectory(index, now_ns)
        if self.mode is Mode.BY_HAND:
            return self._ease(index) if now_ns >= self._manual_until_ns else None
        rest_s = (self._planner.plan.last_index - index) * self._step_s
        if self.mode is Mode.FOLLOWING:
            if self._is_more_known() and rest_s < 0.5 * self.config.longest_horizon_s:
                return self._follow(index)
            if (index - self._still_index) * self._step_s >= self.config.hold_s:
                return self._ease(index)
        elif (self.mode is Mode.EASING and rest_s <= 0.0) or (
            self.mode is Mode.IDLE and rest_s < 0.5 * self.config.idle_horizon_s
        ):
            return self._idle(index)
        return None

    def stop(self, now_ns: int) -> JointPlan:
        """Stop as fast as the limits allow and stay; motion is left out until `resume`."""
        index = self._index(now_ns)
        start = self.planner.plan.state_at(index)
        self.mode = Mode.STOPPED
        self._forget_motion()
        self.external.waiting = None
        return self.planner.follow(index, self._stop_from(start))

    def resume(self, now_ns: int) -> JointPlan:
        """Ease to neutral after a stop, and follow motion again."""
        return self._ease(self._index(now_ns))

    def move_by_hand(self, positions: Mapping[str, float], now_ns: int) -> JointPlan | None:
        """Move joints to given positions, gently; motion and idle behavior are left out meanwhile.

        Args:
            positions: By joint, within its limits or brought there [rad]. The others stay.
            now_ns: CLOCK_MONOTONIC [ns].

        Returns:
            The new plan; None while the head is stopped or not started.

        Raises:
            ValueError: A joint is unknown, or a position is not finite.
        """
        names = self.robot.joint_names
        refuse_unknown("joint", positions, names)
        for name, position in positions.items():
            if not math.isfinite(position):
                raise ValueError(f"{name} is asked to go to {position}; send a finite number")
        if self._planner is None or self.mode is Mode.STOPPED:
            return None
        if not self._may_take(JointHolder.BY_HAND):
            raise ValueError(self._why_held())
        index = self._index(now_ns)
        if self.mode is Mode.TRAJECTORY:
            self._manual_rad = self._stop_from(self._planner.plan.state_at(index))[-1]
        elif self.mode is not Mode.BY_HAND:
            self._manual_rad = self._planner.plan.positions[-1].copy()
            self._forget_motion()
        self._manual_until_ns = now_ns + int(self.config.by_hand_s * 1e9)
        for name, position in positions.items():
            self._manual_rad[names.index(name)] = position
        target = np.clip(self._manual_rad, self._limits.lower, self._limits.upper)
        return self._move_to(target, 0.0, Mode.BY_HAND, index)

    def on_trajectory(self, trajectory: Trajectory, now_ns: int) -> JointPlan | None:
        """Follow a trajectory from outside from its start on; motion and idle behavior are left out.

        Args:
            trajectory: Joints that it does not name stay.
            now_ns: CLOCK_MONOTONIC [ns].

        Returns:
            The new plan; None while the trajectory waits for its start.

        Raises:
            TrajectoryRefusedError: Its joints, times or numbers are wrong, it breaks a certified limit, or
                somebody who goes before it holds the joints; the one before goes on.
        """
        if not self._may_take(JointHolder.TRAJECTORY):
            raise TrajectoryRefusedError(self._why_held())
        index, plan = self._index(now_ns), self.planner.plan
        if self.mode is Mode.TRAJECTORY:
            self.external.replace(trajectory, now_ns)
            return self._follow_trajectory(index)
        if trajectory.start_ns > now_ns + BEGIN_AHEAD_NS:
            still = np.zeros_like(plan.positions[-1])
            self.external.wait(trajectory, now_ns, np.stack([plan.positions[-1], still, still]))
            return None
        return self._begin_trajectory(trajectory, now_ns)

    def hold_trajectory(self, now_ns: int) -> JointPlan | None:
        """Forget trajectories from outside; stop the followed one as fast as the limits allow, and stay.

        Returns:
            The new plan when there is one.
        """
        self.external.waiting = None
        if self.mode is not Mode.TRAJECTORY:
            return None
        index = self._index(now_ns)
        stops = self._stop_from(self.planner.plan.state_at(index))
        self.external.rest(stops[-1], now_ns)
        return self.planner.follow(index, stops)

    def look_at(self, point_m: Sequence[float], frame: str, now_ns: int) -> JointPlan | None:
        """Look at a point until another is named or `look_timeout_s` is over.

        Args:
            point_m: x forward, y left, z up [m].
            frame: Frame of the point: that of the robot description's eyes, or empty for it.
            now_ns: CLOCK_MONOTONIC [ns].

        Returns:
            The new plan when there is one already now.

        Raises:
            ValueError: The frame is another, or the point is not finite or inside the head.
        """
        yaw, pitch = self.robot.eyes.direction_to(point_m, frame)
        self._look_until_ns = now_ns + int(self.config.look_timeout_s * 1e9)
        if abs(yaw - self._look[0]) + abs(pitch - self._look[1]) < SAME_LOOK_RAD:
            return None
        self._look = (yaw, pitch)
        self.idle.look_at(yaw, pitch, self._index(now_ns) * self._step_s)
        return self._idle_again(now_ns)

    def require_gesture(self, kind: str, size_rad: float, speed_hz: float) -> None:
        """Refuse a gesture that this robot cannot show, or cannot show now.

        Args:
            kind: As in timar_msgs/Gesture: NOD, SHAKE, TILT, LOOK_AWAY, LOOK_BACK.
            size_rad: From the neutral pose; 0: not known.
            speed_hz: [strokes/s]; 0: not known.

        Raises:
            ValueError: The message says why.
        """
        if self.mode is not Mode.FOLLOWING:
            raise ValueError(f"the head is {self.mode.value}, and a gesture goes with motion that it follows")
        signal = GESTURE_SIGNALS[kind]
        gains = self._motion_gains[MOTION_SIGNALS.index(signal)]
        if not gains.any():
            raise ValueError(f"the robot {self.robot.name} has no joint for {signal}, which this moves")
        names, ends = self.robot.joint_names, (size_rad, -size_rad)
        axes = self.mapper.offsets + np.outer([0.0, *ends], gains)
        for joint in np.flatnonzero(self.mapper.is_clipped(axes)[1:].all(0)):
            raise ValueError(f"{size_rad:g} rad of {signal} are beyond the limits of {names[joint]}")
        way = np.abs(np.diff(self.mapper.joints(axes)[:2], axis=0)[0])
        sides = 2.0 if kind == "SHAKE" else 1.0
        fastest = 2.0 * MINIMUM_JERK_PEAK * sides * way * speed_hz
        for joint in np.flatnonzero(fastest > self._limits.velocity):
            raise ValueError(
                f"{names[joint]} would have to move at {fastest[joint]:.1f} rad/s, "
                f"and its limit is {self._limits.velocity[joint]:g}; make the gesture smaller or slower"
            )

    def on_gesture(self, side_rad: float, first_ns: int, end_ns: int, now_ns: int) -> None:
        """Let idle behavior give way to a gesture that motion carries.

        Args:
            side_rad: How far the neck looks away, and the eyes with it; 0 for any other gesture [rad].
            first_ns: When it begins to be seen, monotonic [ns].
            end_ns: When it is over; with its begin: a look back.
            now_ns: Now.
        """
        first_s, end_s = max(first_ns, now_ns) * 1e-9, end_ns * 1e-9
        if side_rad:
            self.idle.glance(side_rad, first_s, end_s)
        else:
            self.idle.give_way(first_s, end_s)

    def intend(self, intent: str, speech_s: float, now_ns: int) -> None:
        """Let gaze follow what the agent does.

        Args:
            intent: LISTENING, THINKING, ABOUT_TO_SPEAK or SPEAKING.
            speech_s: How long the speech still lasts, as far as it is known [s].
            now_ns: Now.
        """
        self.idle.intend(intent, speech_s, self._index(now_ns) * self._step_s)

    def take_floor(self, is_speaking: bool, now_ns: int) -> JointPlan | None:
        """Shift posture, for the floor has changed.

        Args:
            is_speaking: Whether the head speaks now, or else listens.
            now_ns: CLOCK_MONOTONIC [ns].

        Returns:
            The new plan when there is one already now.
        """
        self.idle.take_floor(is_speaking, self._index(now_ns) * self._step_s)
        return self._idle_again(now_ns)

    def _idle_again(self, now_ns: int) -> JointPlan | None:
        """Plan again when idle behavior alone moves the head; else the next turn takes the change in."""
        return self._idle(self._index(now_ns)) if self.mode is Mode.IDLE else None

    def time_ns(self, index: int) -> int:
        """Return the instant of a grid index, CLOCK_MONOTONIC [ns]."""
        return index * self._step_ns

    # What is wanted of the joints.

    def _signal_rows(self, motion: npt.NDArray[np.floating], is_preview: bool) -> Array:
        """Signals (frames, S) of motion; NaN where it is not finite."""
        is_finite = np.isfinite(motion).all(1) if motion.ndim == 2 else np.ones(len(motion), np.bool_)
        clean = motion if is_finite.all() else np.where(is_finite[:, None], motion, 0.0)
        rest = self.neutral.rest  # (4,), or (frames, 4) where it moves
        if not (is_preview or self.neutral.is_fixed) and motion.shape[1:] == (MOTION_CHANNELS,):
            rest = self.neutral.update(motion.astype(np.float64))
        signals = signal_columns(clean, rest, self._channels)
        signals[~is_finite] = np.nan
        return signals

    def face_at(self, now_ns: int) -> Array | None:
        """Return what screens show now, in the order of `face.names`; None when there is nothing to show."""
        if self.face is None or self._planner is None:
            return None
        return self.face.at(now_ns, idles=self.mode not in (Mode.STOPPED, Mode.BY_HAND))

    def _forget_motion(self) -> None:
        self.timeline.clear()
        if self.face is not None:
            self.face.timeline.clear()

    def _idle_axes(self, first_index: int, count: int) -> Array:
        """(count, A) what idle behavior adds at grid points [rad]."""
        times_s: Array = self._step_s * np.arange(first_index, first_index + count, dtype=np.float64)
        return self.idle.rows(times_s) @ self._idle_gains  # (count, S) @ (S, A)

    def _follow(self, index: int) -> JointPlan:
        """Plan through all known frames, each joint as much earlier as it needs, then stop."""
        timeline, step_ns = self.timeline, self._step_ns
        longest = int(self.config.longest_horizon_s / self._step_s)
        lasts = np.empty(len(self.robot.joints), np.intp)
        for group in self._groups:
            # Idle behavior is known for ever; joints without motion do not stop with it, in the middle of a
            # blink.
            last = int((timeline.last_ns - group.lead_ns) // step_ns) - index
            idle_last = int(self.config.idle_only_horizon_s / self._step_s)
            last = idle_last if group.is_idle_only else min(last, longest)
            lasts[group.columns] = max(last, 1) + 1
        count = int(lasts.max()) + 1
        times_ns: Array = step_ns * np.arange(index - 1, index - 1 + count, dtype=np.float64)  # (count,)
        idle = self._idle_axes(index - 1, count)
        axes = {
            lead_ns: timeline.positions(times_ns + lead_ns) + idle
            for lead_ns in {group.lead_ns for group in self._groups}
        }
        return self._plan_through(index, axes, lasts)

    def _idle(self, index: int) -> JointPlan:
        """Plan a stretch of idle behavior around neutral."""
        self.mode = Mode.IDLE
        count = int(self.config.idle_horizon_s / self._step_s) + 2
        axes = self.mapper.offsets + self._idle_axes(index - 1, count)
        lasts = np.full(len(self.robot.joints), count - 1, np.intp)
        return self._plan_through(index, {group.lead_ns: axes for group in self._groups}, lasts)

    def _ease(self, index: int) -> JointPlan:
        """Plan the way to neutral; idle behavior sets in on the way."""
        return self._move_to(self.mapper.neutral, self.config.ease_s, Mode.EASING, index)

    def _move_to(self, target: Array, shortest_s: float, mode: Mode, index: int) -> JointPlan:
        """Plan a gentle move to (J,) positions, and stay there."""
        self.mode = mode
        start, share = self.planner.plan.state_at(index), self.config.ease_share
        moves = move_positions(start, target, self._limits, share, shortest_s, self._step_s, MAX_EASE_STEPS)
        return self.planner.follow(index, moves)

    def _plan_through(
        self, index: int, axes: Mapping[float, Array], lasts: npt.NDArray[np.intp]
    ) -> JointPlan:
        """Clip wanted axes (count, A), of each lead, softly to joint positions, and plan through these."""
        return self._plan_joints(index, self._joint_targets(axes), lasts)

    def _plan_joints(self, index: int, wanted: Array, lasts: npt.NDArray[np.intp]) -> JointPlan:
        """Stop each joint after its last wanted row, lead in from the running plan, and plan.

        Args:
            index: Grid index at which the plan starts.
            wanted: (count, J) positions from index - 1 on [rad].
            lasts: (J,) row of each joint's last wanted position, 2 or more.
        """
        joints, limits, step_s = np.arange(wanted.shape[1]), self._limits, self._step_s
        end, before, earlier = (wanted[lasts - back, joints] for back in range(3))  # (J,) each
        # One-sided differences of second order, and of first order for the acceleration.
        velocity = _within((1.5 * end - 2.0 * before + 0.5 * earlier) / step_s, limits.velocity)
        acceleration = _within((end - 2.0 * before + earlier) / step_s**2, limits.acceleration)
        state = np.stack([end, velocity, acceleration])
        stops = stop_positions(state, limits, self.config.stop_share, step_s, MAX_STOP_STEPS)
        moving = lasts[~self._is_idle_only]
        self._still_index = index - 1 + int(moving.max(initial=0)) + len(stops)
        whole = np.empty((int(lasts.max()) + 1 + len(stops), len(joints)))
        for group in self._groups:
            columns, stop_at = group.columns, int(lasts[group.columns[0]]) + 1
            whole[:stop_at, columns] = wanted[:stop_at, columns]
            whole[stop_at : stop_at + len(stops), columns] = stops[:, columns]
            whole[stop_at + len(stops) :, columns] = stops[-1, columns]
        start = self.planner.plan.state_at(index)
        return self.planner.follow(index, lead_in(whole, start, limits, step_s))

    def _joint_targets(self, axes: Mapping[float, Array]) -> Array:
        """Joint positions (count, J) of wanted axes, each joint of those for its lead; clipped ones count."""
        clipped = self.planner.report.clipped
        if len(axes) == 1:
            (rows,) = axes.values()
            clipped += self.mapper.is_clipped(rows)
            return self.mapper.joints(rows)
        wanted = np.empty((len(next(iter(axes.values()))), len(self.robot.joints)))
        for group in self._groups:
            rows, columns = axes[group.lead_ns], group.columns
            clipped[columns] += self.mapper.is_clipped(rows)[columns]
            wanted[:, columns] = self.mapper.joints(rows)[:, columns]
        return wanted

    # Trajectories from outside.

    def _why_held(self) -> str:
        if self.holder is JointHolder.STOPPED:
            return "the head was stopped; call the service resume first"
        if self.holder is JointHolder.NOBODY:
            return "it is not known yet where the joints are; check that the driver runs"
        return f"the joints are held by {self.holder.value}, which goes before (parameter joint_priorities)"

    def _begin_waiting(self, now_ns: int) -> JointPlan | None:
        trajectory = self.external.take_waiting(now_ns + BEGIN_AHEAD_NS)
        if trajectory is None:
            return None
        try:
            if not self._may_take(JointHolder.TRAJECTORY):
                raise TrajectoryRefusedError(self._why_held())
            return self._begin_trajectory(trajectory, now_ns)
        except TrajectoryRefusedError as error:
            self.left_out.append(str(error))
            return None

    def _begin_trajectory(self, trajectory: Trajectory, now_ns: int) -> JointPlan:
        """Hand the joints over at its start, which is at most a moment ahead."""
        index = max(self._index(now_ns), -(-trajectory.start_ns // self._step_ns))
        state = self.planner.plan.state_at(index)
        rest_rad = self._stop_from(state)[-1]
        self.external.begin(trajectory, index * self._step_ns, state, rest_rad)
        self.mode = Mode.TRAJECTORY
        self._forget_motion()
        return self._follow_trajectory(index)

    def _go_on_with_trajectory(self, index: int, now_ns: int) -> JointPlan | None:
        if now_ns >= self.external.end_ns + int(self.config.trajectory_hold_s * 1e9):
            return self._ease(index)
        is_more = self.external.end_ns > self._wanted_until_ns
        rest_s = (self.planner.plan.last_index - index) * self._step_s
        return self._follow_trajectory(index) if is_more and rest_s < 0.5 * TRAJECTORY_HORIZON_S else None

    def _follow_trajectory(self, index: int) -> JointPlan:
        """Plan a stretch of what trajectories from outside want, then stop."""
        count = round(TRAJECTORY_HORIZON_S / self._step_s) + 2
        times_ns = self._step_ns * np.arange(index - 1, index - 1 + count, dtype=np.int64)
        self._wanted_until_ns = int(times_ns[-1])
        lasts = np.full(len(self.robot.joints), count - 1, np.intp)
        return self._plan_joints(index, self.external.wanted(times_ns), lasts)

    def _stop_from(self, state: Array) -> Array:
        """Return (n, J) positions of the shortest stop from a state (3, J)."""
        return stop_positions(state, self._limits, 0.9, self._step_s, MAX_STOP_STEPS)

    def _is_more_known(self) -> bool:
        if self.timeline.is_empty:
            return False
        return self.timeline.last_ns - self._last_lead_ns > self.planner.plan.last_index * self._step_ns

    def _index(self, now_ns: int) -> int:
        """The first grid index at which a plan made now may start; never before the running plan did."""
        earliest_ns = now_ns + int(self.config.min_lead_ms * 1e6)
        index = -(-earliest_ns // self._step_ns)
        return index if self._planner is None else max(index, self._planner.plan.first_index)


GESTURE_SIGNALS = {
    "NOD": "neck_pitch", "SHAKE": "neck_yaw", "TILT": "neck_roll", "LOOK_AWAY": "neck_yaw",
    "LOOK_BACK": "neck_yaw",
}  # fmt: skip
MINIMUM_JERK_PEAK = 1.875
"""Highest speed of a minimum-jerk movement over its mean."""
FURTHEST_DUE_NS = 30_000_000_000
TRAJECTORY_HORIZON_S = 1.0
"""How far ahead a trajectory from outside is planned; it is known to its end."""
BEGIN_AHEAD_NS = 100_000_000
"""A trajectory is planned so long before its start, which time passes in steps of half of it."""
AHEAD = (0.0, 0.0)
SAME_LOOK_RAD = 0.02
"""A point less than this from the last is the same one, so that a tremble does not make the eyes restless."""
MAX_STOP_STEPS = 60
MAX_EASE_STEPS = 250


def _within(values: Array, bound: Array) -> Array:
    limited: Array = np.minimum(np.maximum(values, -bound), bound)
    return limited
