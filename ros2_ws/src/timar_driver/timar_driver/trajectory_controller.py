"""Joint trajectory controller: follow trajectories; stop on request or fault, by the robot's category."""

from __future__ import annotations

import enum
import threading

import numpy as np
from timar_common.joint_trajectory import Trajectory, TrajectoryConfig
from timar_common.trajectory_follower import TrajectoryFollower

from timar_driver.driver import Array, HardwareGoneError, Measurement
from timar_driver.driver_setup import DriverSetup
from timar_driver.stop_sequence import StopSequence, StopStage


class Phase(enum.Enum):
    """What the controller does."""

    FOLLOWING = "following trajectories"
    STOPPING = "stopping"
    HELD = "stopped, torque on"
    RELEASED = "stopped, torque off"
    UNREACHED = "stopped, but not every servo confirmed it"
    GONE = "the hardware is gone"


class TrajectoryController:
    """Joints that follow trajectories until they are stopped.

    One thread calls `step` at a fixed rate, and only it touches the hardware; the other methods may be
    called from any thread and take effect with the next step.

    Args:
        setup: The hardware, its limits, and how the robot stops.
        period_ns: Time between two steps, > 0.
        allow_partial: Whether a trajectory may leave joints out.
    """

    def __init__(self, setup: DriverSetup, period_ns: int, *, allow_partial: bool = True) -> None:
        self.setup, self.driver = setup, setup.driver
        limits = setup.limits
        self._rules = TrajectoryConfig(
            limits.lower, limits.upper, limits.velocity, allow_partial=allow_partial
        )
        self.phase = Phase.RELEASED
        self.fault = ""
        """Why it stopped by itself; empty when nothing broke."""
        self.cause = ""
        """Why it last stopped."""
        self._half_ns = period_ns // 2
        self._lock = threading.Lock()
        self._follower: TrajectoryFollower | None = None
        self._stop: StopSequence | None = None
        self._effort = 0.0
        self._is_stop_wanted = self._is_resume_wanted = self._is_resuming = False
        self._positions: Array = np.zeros(len(setup.driver.joint_names))
        self._velocities: Array = np.zeros(len(setup.driver.joint_names))
        self._measured = Measurement(self._positions, self._velocities)

    @property
    def accepted(self) -> int:
        """Trajectories taken over."""
        return 0 if self._follower is None else self._follower.accepted

    @property
    def is_stopped(self) -> bool:
        """Whether a stop has ended."""
        with self._lock:
            return not self._is_stop_wanted and self.phase in (
                Phase.HELD,
                Phase.RELEASED,
                Phase.UNREACHED,
                Phase.GONE,
            )

    def start(self, now_ns: int) -> None:
        """Open the hardware, or set it up again; every joint holds where it stands.

        Raises:
            RuntimeError: The hardware is not fit to move.
        """
        measured = self.driver.activate(now_ns)
        with self._lock:
            self._measured = measured
            self._follower = TrajectoryFollower(self.driver.joint_names, measured.positions, self._rules)
            self._positions, self._velocities = measured.positions.copy(), np.zeros_like(measured.positions)
            self._stop, self._effort = None, 1.0
            self.fault = self.cause = ""
            self.phase = Phase.FOLLOWING

    def accept(self, trajectory: Trajectory, now_ns: int) -> bool:
        """Take a trajectory over.

        Returns:
            False when the joints are stopped and it is left out.

        Raises:
            ValueError: It is rejected; the message says why.
        """
        with self._lock:
            if self._follower is None or self.phase is not Phase.FOLLOWING:
                return False
            self._follower.accept(trajectory, now_ns)
            return True

    def hold(self, now_ns: int) -> bool:
        """Forget every trajectory and hold; return False when nothing moves anyway."""
        with self._lock:
            if self._follower is None or self.phase is not Phase.FOLLOWING:
                return False
            self._follower.hold(now_ns + self._half_ns)
            return True

    def stop(self, cause: str) -> None:
        """Stop as the robot's category says."""
        with self._lock:
            self._is_resume_wanted = False
            if self.phase is Phase.FOLLOWING or self._is_resuming:
                self._is_stop_wanted, self.cause = True, cause

    def resume(self) -> bool:
        """Set the hardware up again and follow; return False when it does so already."""
        with self._lock:
            if self.phase in (Phase.FOLLOWING, Phase.STOPPING):
                return False
            self._is_resume_wanted = True
            return True

    def step(self, now_ns: int) -> Measurement | None:
        """Do what is due now; return where the joints are, or None when that cannot be known."""
        try:
            self._obey(now_ns)
            if self.phase is Phase.GONE:
                return None
            self._command(now_ns)
            self._measured = self.driver.read(now_ns)
        except HardwareGoneError as error:
            self._break(str(error))
            self.phase = Phase.GONE
            self.driver.deactivate(now_ns)
            return None
        except RuntimeError as error:
            self._break(str(error))
            with self._lock:
                self._is_stop_wanted |= self.phase is Phase.FOLLOWING
        return self._measured

    def finish(self, now_ns: int) -> None:
        """Let go of the hardware as it stands."""
        self.driver.deactivate(now_ns)
        with self._lock:
            self._follower = None
            if self.driver.unreached() and self.phase is not Phase.GONE:
                self.phase = Phase.UNREACHED
            elif self.phase in (Phase.FOLLOWING, Phase.STOPPING):
                self.phase = Phase.HELD if self._effort > 0.0 else Phase.RELEASED
            elif self.phase is Phase.UNREACHED:
                # Who was silent has confirmed it at last.
                self.phase = Phase.HELD if self._effort > 0.0 else Phase.RELEASED

    def _break(self, fault: str) -> None:
        self.fault = f"{self.fault}; {fault}" if self.fault else fault
        self.cause = self.fault

    def _obey(self, now_ns: int) -> None:
        with self._lock:
            self._is_resuming, self._is_resume_wanted = self._is_resume_wanted, False
            wants_stop, self._is_stop_wanted = self._is_stop_wanted, False
            if wants_stop and self.phase is Phase.FOLLOWING:
                self._stop = StopSequence(
                    self.setup.stop,
                    self.setup.limits,
                    self.setup.park_rad,
                    self._positions,
                    self._velocities,
                    now_ns,
                )
                self.phase = Phase.STOPPING
        if self._is_resuming:
            try:
                self.start(now_ns)
            finally:
                self._is_resuming = False

    def _command(self, now_ns: int) -> None:
        if self.phase is Phase.STOPPING and self._stop is not None:
            self._go_on_stopping(self._stop, now_ns)
        elif self.phase is Phase.FOLLOWING and self._follower is not None:
            with self._lock:
                # A command is in force until the next: half a period ahead is right on average.
                positions, self._velocities, _ = self._follower.sample(now_ns + self._half_ns)
            self._positions = self.driver.send(positions, now_ns)
        elif self.phase is Phase.HELD:
            # The servos' watchdogs need a command as long as this runs.
            self.driver.send(self._positions, now_ns)

    def _go_on_stopping(self, stop: StopSequence, now_ns: int) -> None:
        positions, effort = stop.step(self._measured.positions, now_ns)
        if effort < self._effort:
            self._effort = effort
            self.driver.set_effort(effort, now_ns)
        if effort > 0.0:
            self._positions = self.driver.send(positions, now_ns)
        if not stop.is_over:
            return
        is_held = stop.stage is StopStage.HELD
        with self._lock:
            self.phase = Phase.HELD if is_held else Phase.RELEASED
        if missed := self.driver.unreached():
            self.phase = Phase.UNREACHED
            self._break("; ".join(missed))
        if is_held and self.setup.stop.category == "park_then_release":
            far = int(np.argmax(stop.shortfall_rad))
            self._break(
                f"not parked: {self.driver.joint_names[far]} stands {stop.shortfall_rad[far]:.2f} rad off "
                "its parking pose, so the torque stays on; free it, or support the head and release it"
            )
