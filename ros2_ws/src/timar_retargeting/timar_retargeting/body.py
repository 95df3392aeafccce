"""The body: takes motion as it becomes known, lives without it, and always has a plan that ends at rest."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from timar_common.suggest import unknown_name

from timar_retargeting.config import BodyConfig
from timar_retargeting.fit import State, grid_fit
from timar_retargeting.life import LIFE_SIGNALS, Life
from timar_retargeting.look import look_direction
from timar_retargeting.neutral import RestConfig, RunningNeutral
from timar_retargeting.planner import STEPS_MULTIPLE, Plan, Planner, blend
from timar_retargeting.robot import RobotDescription
from timar_retargeting.signals import MOTION_SIGNALS, MOTION_SIZE, Array, Neutral, signal_columns
from timar_retargeting.timeline import FrameRun, Timeline, bends_of
from timar_retargeting.transitions import move_positions, stop_positions


class Mode(enum.Enum):
    """What moves the head now."""

    WAITING = "waiting for the first joint states"
    FOLLOWING = "following motion"
    EASING = "easing to neutral"
    IDLE = "living by itself"
    STOPPED = "stopped by a call of the stop service"
    BY_HAND = "moved by hand"


@dataclasses.dataclass(frozen=True)
class _Kind:
    """Joints that are planned alike: as early, and as far."""

    lead_ns: float
    lives_only: bool
    columns: npt.NDArray[np.intp]


@dataclasses.dataclass(frozen=True)
class Motion:
    """A run of motion frames as they came from the model."""

    conversation_id: str
    first_frame: int
    due_ns: int
    """When the first frame is to be seen, CLOCK_MONOTONIC [ns]."""
    revision: int
    motion: npt.NDArray[np.floating]
    """(frames, 56); a frame with a number that is not finite is refused by itself."""
    is_preview: bool = False
    """Whether the frames are a guess until they are made."""


class Body:
    """Motion and life to certified plans.

    Args:
        robot: Its joints and limits.
        config: Timing.
        life: What the head does by itself.
        neutral: Resting pose of the motion; None: the robot description's.
        rest: How the person's own resting pose is estimated from there on.
    """

    def __init__(
        self,
        robot: RobotDescription,
        config: BodyConfig | None = None,
        life: Life | None = None,
        neutral: Neutral | None = None,
        rest: RestConfig | None = None,
    ) -> None:
        self.robot, self.config, self.life = robot, config or BodyConfig(), life or Life()
        self.neutral = RunningNeutral(
            neutral or robot.neutral, rest or RestConfig(neutral_time_constant_s=0.0)
        )
        self.mode = Mode.WAITING
        self.mapper = robot.mapper
        self.timeline = Timeline(len(self.mapper.axes))
        self.late_runs = 0
        self.ignored_runs = 0
        self._limits = robot.limits
        self._neutral_rad = self.mapper.neutral
        self._leads_ns = robot.leads_s * 1e9
        self._first_lead_ns, self._last_lead_ns = float(self._leads_ns.max()), float(self._leads_ns.min())
        self._channels = tuple(robot.expressions.values())
        self._motion_gains = self.mapper.gains((*MOTION_SIGNALS, *robot.expressions))
        self._life_gains = self.mapper.gains(LIFE_SIGNALS)
        moves = self._motion_gains.any(0)
        self._lives_only = ~self.mapper.depends[moves].any(0)
        kinds = np.stack([self._leads_ns, self._lives_only], axis=1)
        self._kinds = [
            _Kind(float(kind[0]), bool(kind[1]), np.flatnonzero((kinds == kind).all(1)))
            for kind in np.unique(kinds, axis=0)
        ]
        self._step_ns = self.config.step_ms * 1_000_000
        self._step_s = self.config.step_ms * 1e-3
        self._planner: Planner | None = None
        self._still_index = 0
        self._by_hand: Array = self._neutral_rad.copy()
        self._by_hand_until_ns = self._look_until_ns = 0
        self._look = AHEAD

    # What a node calls.

    @property
    def planner(self) -> Planner:
        """The planner, once `start` was called.

        Raises:
            RuntimeError: It was not.
        """
        if self._planner is None:
            raise RuntimeError(
                "the body does not know where its joints are; call start() with measured positions"
            )
        return self._planner

    @property
    def is_started(self) -> bool:
        """Whether the body knows where its joints are."""
        return self._planner is not None

    def warm_up(self, longest_s: float = 1.6) -> None:
        """Prepare the fits that a conversation needs, so that the first motion is not late."""
        for steps in range(2 * STEPS_MULTIPLE, int(longest_s / self._step_s) + 1, STEPS_MULTIPLE):
            grid_fit(steps, self._step_s)
        for frames in range(3, int(longest_s * 25.0) + 35):
            bends_of(frames)

    def start(self, positions: Array, now_ns: int) -> Plan:
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
        self._planner = Planner(self._limits, self.robot.bandwidths_hz, self._step_s, positions, index)
        return self._ease(index)

    def on_motion(self, run: Motion, now_ns: int) -> Plan | None:
        """Take motion in.

        Returns:
            The new plan; None when the motion changes nothing any more, or the body is stopped or not
            started.

        Raises:
            ValueError: The motion has another shape, or is due more than half a minute from now.
        """
        if abs(run.due_ns - now_ns) > FURTHEST_DUE_NS:
            raise ValueError(
                f"frame {run.first_frame} is due {(run.due_ns - now_ns) * 1e-9:.3g} s from now, "
                f"expected at most {FURTHEST_DUE_NS * 1e-9:g} s: check that both nodes use one ROS clock"
            )
        targets = self._targets(np.asarray(run.motion), run.is_preview)
        if self.mode in (Mode.WAITING, Mode.STOPPED, Mode.BY_HAND):
            self.ignored_runs += 1
            return None
        frames = FrameRun(
            run.conversation_id, run.first_frame, run.due_ns, run.revision, targets, run.is_preview
        )
        if not self.timeline.add(frames, now_ns):
            return None
        index = self._index(now_ns)
        self.late_runs += not run.is_preview and run.due_ns - self._first_lead_ns < index * self._step_ns
        if self.timeline.is_empty or self.timeline.last_ns - self._first_lead_ns <= index * self._step_ns:
            return None
        self.mode = Mode.FOLLOWING
        return self._follow(index)

    def tick(self, now_ns: int) -> Plan | None:
        """Let time pass; call it some twenty times a second.

        Returns:
            A new plan when there is one.
        """
        if self._planner is None or self.mode is Mode.STOPPED:
            return None
        index = self._index(now_ns)
        if self._look != AHEAD and now_ns >= self._look_until_ns:
            self._look = AHEAD
            self.life.look_at(*AHEAD, index * self._step_s)
        if self.mode is Mode.BY_HAND:
            return self._ease(index) if now_ns >= self._by_hand_until_ns else None
        rest_steps = self.planner.plan.last_index - index
        still_steps = index - self._still_index
        if self.mode is Mode.FOLLOWING:
            if self._is_more_known() and rest_steps * self._step_s < 0.5 * self.config.longest_horizon_s:
                return self._follow(index)
            if still_steps * self._step_s >= self.config.patience_s:
                return self._ease(index)
        elif (self.mode is Mode.EASING and rest_steps <= 0) or (
            self.mode is Mode.IDLE and rest_steps * self._step_s < 0.5 * self.config.idle_horizon_s
        ):
            return self._idle(index)
        return None

    def stop(self, now_ns: int) -> Plan:
        """Stop as fast as the limits allow and stay; motion is left out until `resume`."""
        index = self._index(now_ns)
        start = self.planner.plan.state_at(index)
        self.mode = Mode.STOPPED
        self.timeline.clear()
        return self.planner.follow(
            index, stop_positions(start, self._limits, 0.9, self._step_s, MAX_STOP_STEPS)
        )

    def aim(self, positions: Mapping[str, float], now_ns: int) -> Plan | None:
        """Move joints to positions said by hand, gently; motion and life are left out meanwhile.

        Args:
            positions: By joint, within its limits or brought there [rad]. The others stay.
            now_ns: CLOCK_MONOTONIC [ns].

        Returns:
            The new plan; None while the body is stopped or not started.

        Raises:
            ValueError: A joint is unknown, or a position is not finite.
        """
        names = self.robot.joint_names
        for name, position in positions.items():
            if name not in names:
                raise ValueError(unknown_name("joint", name, names))
            if not math.isfinite(position):
                raise ValueError(f"{name} is asked to go to {position}; send a finite number")
        if self._planner is None or self.mode is Mode.STOPPED:
            return None
        index = self._index(now_ns)
        start = self.planner.plan.state_at(index)
        if self.mode is not Mode.BY_HAND:
            self._by_hand = self.planner.plan.curve.positions[-1].copy()
            self.timeline.clear()
        self.mode = Mode.BY_HAND
        self._by_hand_until_ns = now_ns + int(self.config.by_hand_s * 1e9)
        for name, position in positions.items():
            self._by_hand[names.index(name)] = position
        target = np.clip(self._by_hand, self._limits.lower, self._limits.upper)
        cfg = self.config
        moves = move_positions(start, target, self._limits, cfg.ease_share, 0.0, self._step_s, MAX_EASE_STEPS)
        return self.planner.follow(index, moves)

    def look_at(self, point_m: Sequence[float], frame: str, now_ns: int) -> Plan | None:
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
        eyes = self.robot.eyes
        if frame not in ("", eyes.frame):
            raise ValueError(
                f"the point to look at is given in {frame!r}, expected {eyes.frame!r}: transform it"
            )
        yaw, pitch = look_direction(point_m, eyes.origin_m)
        self._look_until_ns = now_ns + int(self.config.look_timeout_s * 1e9)
        if abs(yaw - self._look[0]) + abs(pitch - self._look[1]) < SAME_LOOK_RAD:
            return None
        self._look = (yaw, pitch)
        self.life.look_at(yaw, pitch, self._index(now_ns) * self._step_s)
        return self._live_on(now_ns)

    def take_floor(self, is_speaking: bool, now_ns: int) -> Plan | None:
        """Shift posture, for the floor has changed.

        Args:
            is_speaking: Whether the head speaks now, or else listens.
            now_ns: CLOCK_MONOTONIC [ns].

        Returns:
            The new plan when there is one already now.
        """
        self.life.take_floor(is_speaking, self._index(now_ns) * self._step_s)
        return self._live_on(now_ns)

    def _live_on(self, now_ns: int) -> Plan | None:
        """Plan anew when life alone moves the head; else the next turn takes the change in."""
        return self._idle(self._index(now_ns)) if self.mode is Mode.IDLE else None

    def resume(self, now_ns: int) -> Plan:
        """Ease to neutral after a stop, and follow motion again."""
        return self._ease(self._index(now_ns))

    def time_ns(self, index: int) -> int:
        """Return the instant of a grid index, CLOCK_MONOTONIC [ns]."""
        return index * self._step_ns

    # What is wanted of the joints.

    def _targets(self, motion: npt.NDArray[np.floating], is_preview: bool) -> Array:
        """Axis positions for motion, kept near the limits; NaN where the motion is not finite."""
        is_finite = np.isfinite(motion).all(1) if motion.ndim == 2 else np.ones(len(motion), np.bool_)
        clean = motion if is_finite.all() else np.where(is_finite[:, None], motion, 0.0)
        rest = self.neutral.rest
        if not (is_preview or self.neutral.is_fixed) and motion.shape[1:] == (MOTION_SIZE,):
            rest = self.neutral.follow(motion.astype(np.float64))
        targets = self.mapper.wanted(signal_columns(clean, rest, self._channels), self._motion_gains)
        targets[~is_finite] = np.nan
        return targets

    def _lively(self, first_index: int, count: int) -> Array:
        """(count, A) what life adds at grid points [rad]."""
        times_s: Array = self._step_s * np.arange(first_index, first_index + count, dtype=np.float64)
        return self.life.rows(times_s) @ self._life_gains

    def _follow(self, index: int) -> Plan:
        """Plan through all known frames, each joint as much earlier as it needs, then stop."""
        timeline, step_ns = self.timeline, self._step_ns
        longest = int(self.config.longest_horizon_s / self._step_s)
        lasts = np.empty(len(self.robot.joints), np.intp)
        for kind in self._kinds:
            # Life is known for ever; joints that only live do not stop with the motion, in the middle of a
            # blink.
            last = int((timeline.last_ns - kind.lead_ns) // step_ns) - index
            last = int(self.config.life_horizon_s / self._step_s) if kind.lives_only else min(last, longest)
            lasts[kind.columns] = max(last, 1) + 1
        count = int(lasts.max()) + 1
        times_ns: Array = step_ns * np.arange(index - 1, index - 1 + count, dtype=np.float64)
        life = self._lively(index - 1, count)
        axes = {
            lead_ns: timeline.positions(times_ns + lead_ns) + life
            for lead_ns in {kind.lead_ns for kind in self._kinds}
        }
        return self._finish(index, axes, lasts)

    def _idle(self, index: int) -> Plan:
        """Plan a stretch of life around neutral."""
        self.mode = Mode.IDLE
        count = int(self.config.idle_horizon_s / self._step_s) + 2
        axes = self.mapper.offsets + self._lively(index - 1, count)
        lasts = np.full(len(self.robot.joints), count - 1, np.intp)
        return self._finish(index, {kind.lead_ns: axes for kind in self._kinds}, lasts)

    def _ease(self, index: int) -> Plan:
        """Plan the way to neutral; life sets in on the way."""
        self.mode = Mode.EASING
        cfg, start = self.config, self.planner.plan.state_at(index)
        moves = move_positions(
            start, self._neutral_rad, self._limits, cfg.ease_share, cfg.ease_s, self._step_s, MAX_EASE_STEPS
        )
        return self.planner.follow(index, moves)

    def _finish(self, index: int, axes: Mapping[float, Array], lasts: npt.NDArray[np.intp]) -> Plan:
        """Soften, stop each joint after its last wanted row, blend from the running plan, and plan.

        Args:
            index: Grid index at which the plan starts.
            axes: (count, A) wanted from index - 1 on, for each lead.
            lasts: (J,) row of each joint's last wanted position, 2 or more.
        """
        wanted = self._joints(axes)
        joints, limits = np.arange(wanted.shape[1]), self._limits
        end, before, earlier = (wanted[lasts - back, joints] for back in range(3))
        velocity = _within((1.5 * end - 2.0 * before + 0.5 * earlier) / self._step_s, limits.velocity)
        acceleration = _within((end - 2.0 * before + earlier) / self._step_s**2, limits.acceleration)
        share = self.config.stop_share
        state = State(end, velocity, acceleration)
        stops = stop_positions(state, limits, share, self._step_s, MAX_STOP_STEPS)
        moving = lasts[~self._lives_only]
        self._still_index = index - 1 + int(moving.max(initial=0)) + len(stops)
        whole = np.empty((int(lasts.max()) + 1 + len(stops), len(joints)))
        for kind in self._kinds:
            last = int(lasts[kind.columns[0]])
            whole[: last + 1, kind.columns] = wanted[: last + 1, kind.columns]
            whole[last + 1 : last + 1 + len(stops), kind.columns] = stops[:, kind.columns]
            whole[last + 1 + len(stops) :, kind.columns] = stops[-1, kind.columns]
        start = self.planner.plan.state_at(index)
        return self.planner.follow(index, blend(whole, start, limits, self._step_s))

    def _joints(self, axes: Mapping[float, Array]) -> Array:
        """Joint positions (count, J) of wanted axes, each joint of those for its lead; clipped ones count."""
        clipped = self.planner.report.clipped
        if len(axes) == 1:
            (rows,) = axes.values()
            clipped += self.mapper.is_clipped(rows)
            return self.mapper.joints(rows)
        wanted = np.empty((len(next(iter(axes.values()))), len(self.robot.joints)))
        for kind in self._kinds:
            rows, columns = axes[kind.lead_ns], kind.columns
            clipped[columns] += self.mapper.is_clipped(rows)[columns]
            wanted[:, columns] = self.mapper.joints(rows)[:, columns]
        return wanted

    def _is_more_known(self) -> bool:
        if self.timeline.is_empty:
            return False
        return self.timeline.last_ns - self._last_lead_ns > self.planner.plan.last_index * self._step_ns

    def _index(self, now_ns: int) -> int:
        """The first grid index at which a plan made now may start; never before the running plan did."""
        earliest_ns = now_ns + int(self.config.headway_ms * 1e6)
        index = -(-earliest_ns // self._step_ns)
        return index if self._planner is None else max(index, self.planner.plan.first_index)


FURTHEST_DUE_NS = 30_000_000_000
AHEAD = (0.0, 0.0)
SAME_LOOK_RAD = 0.02
"""A point less than this from the last is the same one, so that a tremble does not make the eyes restless."""
MAX_STOP_STEPS = 60
MAX_EASE_STEPS = 250


def _within(values: Array, bound: Array) -> Array:
    limited: Array = np.minimum(np.maximum(values, -bound), bound)
    return limited
