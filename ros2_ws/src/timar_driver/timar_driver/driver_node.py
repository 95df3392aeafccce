"""The driver node: follows joint_trajectory in a steady loop and publishes joint_states."""

from __future__ import annotations

import collections
import sys
import time
from typing import Any

import numpy as np
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from timar_common.base_node import BaseNode, run
from timar_common.diagnostics import Level, Report
from timar_description.find import find_urdf

from timar_driver.config import DriverConfig
from timar_driver.drive import Drive, Phase, Sample
from timar_driver.factory import Assembly, assemble
from timar_driver.follower import Trajectory
from timar_driver.steady import SteadyLoop

_STATES_KEPT = 16
_STOP_MARGIN_S = 1.0


class DriverNode(BaseNode):
    """Joints that follow trajectories."""

    NAME = "driver"
    Config = DriverConfig

    def build(self) -> None:
        """Read the robot's files and open topics; the hardware opens on activation."""
        self._assembly: Assembly = assemble(self.config, find_urdf(self.config.robot))
        self._drive: Drive | None = None
        self._loop: SteadyLoop | None = None
        self._period_ns = round(1e9 / self.config.rate_hz)
        self._cycles = self._left_out = 0
        self._said = ""
        self._samples: collections.deque[Sample] = collections.deque(maxlen=_STATES_KEPT)
        self._states = self.create_topic_publisher("joint_states")
        self.create_topic_subscription("joint_trajectory", self._on_trajectory)
        self.create_steady_timer(0.5 * self.config.states_every / self.config.rate_hz, self._publish_states)
        for name, answer in (("hold", self._on_hold), ("stop", self._on_stop), ("resume", self._on_resume)):
            self.create_named_service(Trigger, f"~/{name}", answer)

    def start(self) -> None:
        """Hold every joint where it stands, then follow."""
        self._assembly.open()
        assembly = self._assembly
        drive = Drive(assembly.driver, assembly.limits, assembly.stop, assembly.park_rad, self._period_ns)
        try:
            drive.start(time.monotonic_ns())
        except RuntimeError:
            drive.finish(time.monotonic_ns())
            assembly.close()
            raise
        self._drive = drive
        self._loop = SteadyLoop(self._period_ns, self._cycle, self.config.realtime_priority)
        self._loop.start()

    def stop(self) -> None:
        """Bring the robot to its stop, then let go of the hardware."""
        if self._drive is None or self._loop is None:
            return
        self._drive.stop("the driver is deactivated")
        end_s = time.monotonic() + self._assembly.stop.within_s + _STOP_MARGIN_S
        while self._loop.is_running and not self._drive.is_stopped and time.monotonic() < end_s:
            time.sleep(0.01)
            self._publish_states()
        self._loop.end()
        self._drive.finish(time.monotonic_ns())
        self._publish_states()
        self.get_logger().info(f"stopped: {self._drive.phase.value}")
        self._assembly.close()
        self._drive = self._loop = None

    def report(self) -> Report:
        """Say how steadily the loop runs and what the hardware complains of."""
        report = Report(values={"cycles": self._cycles, "left_out_trajectories": self._left_out})
        drive, loop = self._drive, self._loop
        if drive is None or loop is None:
            return report
        report.message = drive.phase.value
        report.values |= {"phase": drive.phase.name.lower(), "trajectories": drive.accepted}
        report.values |= {"missed_cycles": loop.missed, "scheduling": loop.scheduling}
        report.values |= {f"late_ms_{key}": value for key, value in loop.late_ms.summary().items()}
        report.values |= {f"cycle_ms_{key}": value for key, value in loop.busy_ms.summary().items()}
        report.values |= drive.driver.values()
        for fault in drive.driver.faults():
            report.worsen(Level.WARN, fault)
        if drive.fault:
            report.worsen(Level.ERROR, drive.fault)
        elif drive.phase is not Phase.FOLLOWING:
            report.worsen(Level.WARN, f"{drive.phase.value}: {drive.cause}")
        if not loop.is_running:
            report.worsen(Level.ERROR, "the driver's loop has ended; its traceback is in the log")
        return report

    def _cycle(self, now_ns: int) -> None:
        """Runs in the loop's thread."""
        drive = self._drive
        if drive is None:
            return
        sample = drive.step(now_ns)
        if sample is not None and self._cycles % self.config.states_every == 0:
            self._samples.append(sample)
        self._cycles += 1

    def _publish_states(self) -> None:
        while self._samples:
            sample = self._samples.popleft()
            self._states.publish(
                JointState(
                    header=self.header(sample.now_ns),
                    name=list(self._assembly.driver.joint_names),
                    position=sample.measured.positions.tolist(),
                    velocity=sample.measured.velocities.tolist(),
                )
            )
        if self._drive is not None and self._drive.fault != self._said:
            self._said = self._drive.fault
            if self._said:
                self.get_logger().fatal(f"{self._said}; {self._drive.phase.value}")

    def _on_trajectory(self, message: Any) -> None:
        if self._drive is None:
            return
        points, names = message.points, tuple(message.joint_names)
        now_ns = time.monotonic_ns()
        # An empty stamp means "from now on", as in ros2_control.
        is_stamped = message.header.stamp.sec or message.header.stamp.nanosec
        start_ns = self.monotonic_ns(message.header) if is_stamped else now_ns
        times_s = [point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec for point in points]
        for number, point in enumerate(points):
            if len(point.positions) != len(names) or len(point.velocities) != len(names):
                raise ValueError(
                    f"point {number} has {len(point.positions)} positions and "
                    f"{len(point.velocities)} velocities, "
                    f"expected one of each for {len(names)} joints"
                )
        shape = (len(points), len(names))
        trajectory = Trajectory(
            names,
            start_ns,
            np.array(times_s, np.float64),
            np.array([point.positions for point in points], np.float64).reshape(shape),
            np.array([point.velocities for point in points], np.float64).reshape(shape),
        )
        if not self._drive.accept(trajectory, now_ns):
            self._left_out += 1

    def _on_hold(self, request: Any, response: Any) -> Any:
        response.success = self._drive is not None and self._drive.hold(time.monotonic_ns())
        response.message = (
            "every joint holds; the next trajectory moves it again"
            if response.success
            else "the driver follows nothing; nothing moves"
        )
        return response

    def _on_stop(self, request: Any, response: Any) -> Any:
        if self._drive is None:
            response.success, response.message = False, "the driver is not active; nothing moves"
            return response
        self._drive.stop("the stop service was called")
        stop = self._assembly.stop
        response.success = True
        response.message = f"{stop.category}, at most {stop.within_s:.1f} s; call ~/resume to go on"
        return response

    def _on_resume(self, request: Any, response: Any) -> Any:
        response.success = self._drive is not None and self._drive.resume()
        response.message = (
            "the hardware is set up anew, and the next trajectory moves it"
            if response.success
            else "the driver is not stopped (or not yet); nothing changes"
        )
        return response


def main() -> int:
    """Run the driver in a process of its own."""
    return run([DriverNode])


if __name__ == "__main__":
    sys.exit(main())
