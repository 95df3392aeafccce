"""Driver component: follows joint_trajectory in cycles of a fixed rate and publishes joint_states."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping

from timar_common.component import Component, Log, Output, Publish, ServiceReply
from timar_common.diagnostics import Level, Report
from timar_common.joint_trajectory import RETARGETING_FRAME, trajectory_of
from timar_common.messages import Header, Message, new
from timar_description.find import find_urdf

from timar_driver.config import DriverConfig
from timar_driver.driver import Measurement
from timar_driver.driver_setup import DriverSetup, set_up_driver
from timar_driver.trajectory_controller import Phase, TrajectoryController

_STATES_KEPT = 16
STOP_MARGIN_S = 1.0
"""A stop that takes so much longer than its category says is given up [s]."""


class DriverComponent(Component):
    """Joints that follow trajectories.

    A loop calls `cycle` at the rate of the configuration, in a thread of its own where the host has one; only
    `cycle` touches the hardware then. Without a loop (a replay, a test) every call first carries out the
    cycles that were due before it, on a grid of instants: the same calls give the same joint states.

    Args:
        config: Parameters.
        setup: What drives the joints; None: as the parameters say.
        has_loop: Whether the host calls `cycle`.
    """

    NAME = "driver"
    Config = DriverConfig
    inputs = ("joint_trajectory", "external/joint_trajectory")
    outputs = ("joint_states",)

    def __init__(
        self, config: DriverConfig, setup: DriverSetup | None = None, *, has_loop: bool = False
    ) -> None:
        self.config = config
        self.period_ns = round(1e9 / config.rate_hz)
        # Twice as often as there are states, so that none waits long.
        self.tick_s = 0.5 * config.states_every / config.rate_hz
        self._setup = setup or set_up_driver(config, find_urdf(config.robot))
        self._has_loop = has_loop
        self._controller: TrajectoryController | None = None
        self._samples: collections.deque[tuple[int, Measurement]] = collections.deque(maxlen=_STATES_KEPT)
        self._cycles = self._left_out = self._due_ns = 0
        self._reported_fault = ""
        self.is_stop_confirmed = True
        """Whether every joint confirmed the last stop."""
        self.is_retargeting_there: Callable[[], bool] = _always
        """Asked after a first trajectory of retargeting came: whether it still is the one publisher."""
        self._obeys_retargeting = False

    @property
    def services(self) -> Mapping[str, Callable[[int], ServiceReply]]:
        """Hold, stop by the robot's category, and resume after a stop."""
        return {"~/hold": self._hold, "~/stop": self._stop, "~/resume": self._resume}

    @property
    def is_stopped(self) -> bool:
        """Whether the joints have come to their stop."""
        return self._controller is None or self._controller.is_stopped

    @property
    def stop_within_s(self) -> float:
        """Return how long a stop is waited for [s]."""
        return self._setup.stop.within_s + STOP_MARGIN_S

    def start(self, now_ns: int) -> Iterable[Output]:
        """Open the hardware; every joint holds where it stands, then follows.

        Raises:
            RuntimeError: The hardware is not fit to move.
        """
        allow_partial = self.config.allow_partial_joints_goal
        controller = TrajectoryController(self._setup, self.period_ns, allow_partial=allow_partial)
        try:
            controller.start(now_ns)
        except RuntimeError:
            controller.finish(now_ns)
            raise
        self._controller, self._due_ns = controller, now_ns
        return ()

    def begin_stop(self) -> None:
        """Let the next cycle begin the robot's stop."""
        if self._controller is not None:
            self._controller.stop("the driver is deactivated")

    def stop(self, now_ns: int) -> Iterable[Output]:
        """Let go of the hardware after the robot's stop, carried out here where the host has no loop."""
        controller = self._controller
        if controller is None:
            return ()
        outputs: list[Output] = []
        if not self._has_loop:
            self._run_due(now_ns)
            self.begin_stop()
            end_ns = now_ns + round(1e9 * self.stop_within_s)
            while not controller.is_stopped and self._due_ns < end_ns:
                self._run_due(self._due_ns)
                outputs += self._states()
            now_ns = max(now_ns, self._due_ns - self.period_ns)
        controller.finish(now_ns)
        outputs += self._states()
        missed = controller.driver.unreached()
        if controller.phase is Phase.GONE and not missed:
            missed = ("nothing confirmed the stop",)
        self.is_stop_confirmed = not missed
        if missed:
            named = "; ".join(missed)
            text = f"{controller.phase.value}: {named}; support the head and cut the servos' power"
            outputs.append(Log(Level.ERROR, text))
        else:
            outputs.append(Log(Level.OK, f"stopped: {controller.phase.value}"))
        self._controller = None
        return outputs

    def cycle(self, now_ns: int) -> None:
        """Command the joints and measure them, once; may run beside the other calls."""
        controller = self._controller
        if controller is None:
            return
        measured = controller.step(now_ns)
        if measured is not None and self._cycles % self.config.states_every == 0:
            self._samples.append((now_ns, measured))
        self._cycles += 1

    def tick(self, now_ns: int) -> Iterable[Output]:
        """Publish the states since the last call; log a fault once."""
        self._run_due(now_ns)
        return self._states()

    def handle(self, topic: str, message: Message, now_ns: int) -> Iterable[Output]:
        """Take a trajectory over; one publisher is obeyed, which is retargeting where it runs.

        Raises:
            ValueError: It is rejected as a whole; the one before goes on.
        """
        self._run_due(now_ns)
        if message.header.frame_id == RETARGETING_FRAME:
            self._obeys_retargeting = True
        elif self._obeys_retargeting and self.is_retargeting_there():
            raise ValueError(
                "retargeting moves the joints, and this trajectory came from somebody else; send it to "
                "external/joint_trajectory, where retargeting takes it"
            )
        if self._controller is not None and not len(message.points):
            self._controller.hold(now_ns)  # As joint_trajectory_controller takes an empty one.
        elif self._controller is not None:
            is_accepted = self._controller.accept(trajectory_of(message, now_ns), now_ns)
            self._left_out += not is_accepted
        return ()

    def report(self) -> Report:
        """Return what the joints do and what is wrong with their hardware."""
        report = Report(values={"cycles": self._cycles, "left_out_trajectories": self._left_out})
        controller = self._controller
        if controller is None:
            return report
        report.message = controller.phase.value
        report.values |= {"phase": controller.phase.name.lower(), "trajectories": controller.accepted}
        report.values |= controller.driver.values()
        for fault in controller.driver.faults():
            report.worsen(Level.WARN, fault)
        if controller.fault:
            report.worsen(Level.ERROR, controller.fault)
        elif controller.phase is not Phase.FOLLOWING:
            report.worsen(Level.WARN, f"{controller.phase.value}: {controller.cause}")
        return report

    def _run_due(self, now_ns: int) -> None:
        while not self._has_loop and self._controller is not None and self._due_ns <= now_ns:
            self.cycle(self._due_ns)
            self._due_ns += self.period_ns

    def _states(self) -> list[Output]:
        outputs: list[Output] = []
        while self._samples:
            measured_ns, measured = self._samples.popleft()
            state = new(
                "sensor_msgs/msg/JointState",
                header=Header(measured_ns),
                name=self._setup.driver.joint_names,
                position=measured.positions,
                velocity=measured.velocities,
            )
            outputs.append(Publish("joint_states", state))
        controller = self._controller
        if controller is not None and controller.fault != self._reported_fault:
            self._reported_fault = controller.fault
            if controller.fault:
                outputs.append(Log(Level.ERROR, f"{controller.fault}; {controller.phase.value}"))
        return outputs

    def _hold(self, now_ns: int) -> ServiceReply:
        self._run_due(now_ns)
        if self._controller is not None and self._controller.hold(now_ns):
            return ServiceReply(True, "every joint holds; the next trajectory moves it again")
        return ServiceReply(False, "the driver follows nothing; nothing moves")

    def _stop(self, now_ns: int) -> ServiceReply:
        self._run_due(now_ns)
        if self._controller is None:
            return ServiceReply(False, "the driver is not active; nothing moves")
        self._controller.stop("the stop service was called")
        stop = self._setup.stop
        return ServiceReply(True, f"{stop.category}, at most {stop.within_s:.1f} s; call ~/resume to go on")

    def _resume(self, now_ns: int) -> ServiceReply:
        self._run_due(now_ns)
        if self._controller is not None and self._controller.resume():
            return ServiceReply(True, "the hardware is set up again, and the next trajectory moves it")
        return ServiceReply(False, "the driver is not stopped (or not yet); nothing changes")


def _always() -> bool:
    """Say that retargeting is still there, where nobody can tell."""
    return True
