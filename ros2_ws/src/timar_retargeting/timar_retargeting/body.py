"""The body: takes motion as it becomes known, lives without it, and always has a plan that ends at rest."""

from __future__ import annotations

import dataclasses
import enum

import numpy as np
import numpy.typing as npt

from timar_retargeting.config import BodyConfig
from timar_retargeting.fit import State, grid_fit
from timar_retargeting.life import LIFE_SIGNALS, Life
from timar_retargeting.limits import soften
from timar_retargeting.planner import STEPS_MULTIPLE, Plan, Planner, blend
from timar_retargeting.robot import RobotDescription
from timar_retargeting.signals import MOTION_SIGNALS, Array, Neutral, motion_signals
from timar_retargeting.timeline import FrameRun, Timeline
from timar_retargeting.transitions import move_positions, stop_positions


class Mode(enum.Enum):
    """What moves the head now."""

    WAITING = "waiting for the first joint states"
    FOLLOWING = "following motion"
    EASING = "easing to neutral"
    IDLE = "living by itself"
    STOPPED = "stopped by a call of the stop service"


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
    """

    def __init__(
        self,
        robot: RobotDescription,
        config: BodyConfig | None = None,
        life: Life | None = None,
        neutral: Neutral | None = None,
    ) -> None:
        self.robot, self.config, self.life = robot, config or BodyConfig(), life or Life()
        self.neutral = neutral or robot.neutral
        self.mode = Mode.WAITING
        self.timeline = Timeline(len(robot.joints))
        self.late_runs = 0
        self.ignored_runs = 0
        self._limits = robot.limits
        self._offsets = robot.offsets_rad
        self._leads_ns = robot.leads_s * 1e9
        self._motion_names = (*MOTION_SIGNALS, *robot.expressions)
        self._motion_gains = robot.gains(self._motion_names)
        self._life_gains = robot.gains(LIFE_SIGNALS)
        self._lives_only = ~self._motion_gains.any(0)
        self._step_ns = self.config.step_ms * 1_000_000
        self._step_s = self.config.step_ms * 1e-3
        self._planner: Planner | None = None
        self._still_index = 0
        span = self._limits.upper - self._limits.lower
        self._reach = (self._limits.lower - 0.5 * span, self._limits.upper + 0.5 * span)

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
        targets = self._targets(np.asarray(run.motion))
        if self.mode in (Mode.WAITING, Mode.STOPPED):
            self.ignored_runs += 1
            return None
        frames = FrameRun(
            run.conversation_id, run.first_frame, run.due_ns, run.revision, targets, run.is_preview
        )
        if not self.timeline.add(frames, now_ns):
            return None
        index = self._index(now_ns)
        self.late_runs += not run.is_preview and run.due_ns - self._leads_ns.max() < index * self._step_ns
        if self.timeline.is_empty or self.timeline.last_ns - self._leads_ns.max() <= index * self._step_ns:
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

    def resume(self, now_ns: int) -> Plan:
        """Ease to neutral after a stop, and follow motion again."""
        return self._ease(self._index(now_ns))

    def time_ns(self, index: int) -> int:
        """Return the instant of a grid index, CLOCK_MONOTONIC [ns]."""
        return index * self._step_ns

    # What is wanted of the joints.

    def _targets(self, motion: npt.NDArray[np.floating]) -> Array:
        """Joint positions for motion, kept near the limits; NaN where the motion is not finite."""
        is_finite = np.isfinite(motion).all(1) if motion.ndim == 2 else np.ones(len(motion), bool)
        clean = np.where(is_finite[:, None], motion, 0.0) if motion.ndim == 2 else motion
        signals = motion_signals(clean, self.neutral, self.robot.expressions)
        stacked = np.stack([signals[name] for name in self._motion_names], axis=1)
        targets = np.clip(self._offsets + stacked @ self._motion_gains, *self._reach)
        return np.where(is_finite[:, None], targets, np.nan)

    def _lively(self, first_index: int, count: int) -> Array:
        """(count, J) what life adds at grid points [rad]."""
        signals = self.life.signals((first_index + np.arange(count)) * self._step_s)
        return np.stack([signals[name] for name in LIFE_SIGNALS], axis=1) @ self._life_gains

    def _follow(self, index: int) -> Plan:
        """Plan through all known frames, each joint as much earlier as it needs, then stop."""
        timeline, step_ns = self.timeline, self._step_ns
        lasts = np.floor((timeline.last_ns - self._leads_ns) / step_ns).astype(int)
        lasts = np.minimum(lasts, index + int(self.config.longest_horizon_s / self._step_s))
        # Life is known for ever; joints that only live do not stop with the motion, in the middle of a blink.
        lasts[self._lives_only] = index + int(self.config.life_horizon_s / self._step_s)
        lasts = np.maximum(lasts, index + 1) - (index - 1)
        count = int(lasts.max()) + 1
        times_ns = (index - 1 + np.arange(count)) * float(step_ns)
        wanted = np.empty((count, len(self.robot.joints)))
        for lead_ns in np.unique(self._leads_ns):
            columns = self._leads_ns == lead_ns
            wanted[:, columns] = timeline.positions(times_ns + lead_ns)[:, columns]
        wanted += self._lively(index - 1, count)
        return self._finish(index, wanted, lasts)

    def _idle(self, index: int) -> Plan:
        """Plan a stretch of life around neutral."""
        self.mode = Mode.IDLE
        count = int(self.config.idle_horizon_s / self._step_s) + 2
        wanted = self._offsets + self._lively(index - 1, count)
        return self._finish(index, wanted, np.full(len(self.robot.joints), count - 1))

    def _ease(self, index: int) -> Plan:
        """Plan the way to neutral; life sets in on the way."""
        self.mode = Mode.EASING
        cfg, start = self.config, self.planner.plan.state_at(index)
        moves = move_positions(
            start, self._offsets, self._limits, cfg.ease_share, cfg.ease_s, self._step_s, MAX_EASE_STEPS
        )
        return self.planner.follow(index, moves)

    def _finish(self, index: int, wanted: Array, lasts: npt.NDArray[np.intp]) -> Plan:
        """Soften, stop each joint after its last wanted row, blend from the running plan, and plan.

        Args:
            index: Grid index at which the plan starts.
            wanted: (count, J) from index - 1 on.
            lasts: (J,) row of each joint's last wanted position, 2 or more.
        """
        self.planner.report.clipped += self._count_clipped(wanted)
        wanted = soften(wanted, self._limits)
        joints = np.arange(wanted.shape[1])
        end, before, earlier = (wanted[lasts - back, joints] for back in range(3))
        velocity = np.clip(
            (1.5 * end - 2.0 * before + 0.5 * earlier) / self._step_s, *_both(self._limits.velocity)
        )
        acceleration = (end - 2.0 * before + earlier) / self._step_s**2
        acceleration = np.clip(acceleration, *_both(self._limits.acceleration))
        stops = stop_positions(
            State(end, velocity, acceleration),
            self._limits,
            self.config.stop_share,
            self._step_s,
            MAX_STOP_STEPS,
        )
        whole = np.concatenate([wanted, np.empty_like(stops)])
        moving = lasts[~self._lives_only]
        self._still_index = index - 1 + int(moving.max(initial=0)) + len(stops)
        for last in np.unique(lasts):
            columns = lasts == last
            whole[last + 1 : last + 1 + len(stops), columns] = stops[:, columns]
            whole[last + 1 + len(stops) :, columns] = stops[-1, columns]
        start = self.planner.plan.state_at(index)
        return self.planner.follow(index, blend(whole, start, self._limits, self._step_s))

    def _count_clipped(self, wanted: Array) -> npt.NDArray[np.bool_]:
        clipped: npt.NDArray[np.bool_] = np.asarray(
            ((wanted < self._limits.lower) | (wanted > self._limits.upper)).any(0)
        )
        return clipped

    def _is_more_known(self) -> bool:
        if self.timeline.is_empty:
            return False
        return self.timeline.last_ns - self._leads_ns.min() > self.planner.plan.last_index * self._step_ns

    def _index(self, now_ns: int) -> int:
        """The first grid index at which a plan made now may start; never before the running plan did."""
        earliest_ns = now_ns + int(self.config.headway_ms * 1e6)
        index = -(-earliest_ns // self._step_ns)
        return index if self._planner is None else max(index, self.planner.plan.first_index)


FURTHEST_DUE_NS = 30_000_000_000
MAX_STOP_STEPS = 60
MAX_EASE_STEPS = 250


def _both(bound: Array) -> tuple[Array, Array]:
    return -bound, bound
