"""The driver node: follows joint_trajectory in a steady loop and publishes joint_states."""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from timar_common.diagnostics import Level, Percentiles, Report
from timar_common.room_node import RoomNode, run
from timar_description.find import find_urdf

from timar_driver.config import DriverConfig
from timar_driver.driver import JointDriver
from timar_driver.follower import Follower, Trajectory
from timar_driver.simulated import SimulatedDriver
from timar_driver.urdf import read_driven_joints


class DriverNode(RoomNode):
    """Joints that follow trajectories."""

    NAME = "driver"
    Config = DriverConfig

    def build(self) -> None:
        """Open topics; the hardware opens on activation."""
        names, limits = read_driven_joints(find_urdf(self.config.robot))
        self._driver: JointDriver = SimulatedDriver(names, limits, self.config.servo(), self.config.seed)
        self._follower: Follower | None = None
        self._fault = ""
        self._cycles = 0
        self._late_ms = Percentiles()
        self._cycle_ms = Percentiles()
        self._last_ns = 0
        self._half_period_ns = round(0.5e9 / self.config.rate_hz)
        self._states = self.publish_on("joint_states")
        self.listen_to("joint_trajectory", self._on_trajectory)
        self.every(1.0 / self.config.rate_hz, self._cycle)
        self.serve(Trigger, "~/hold", self._on_hold)

    def start(self) -> None:
        """Hold every joint where it stands."""
        now_ns = time.monotonic_ns()
        self._follower = Follower(self._driver.joint_names, self._driver.activate(now_ns).positions)
        self._last_ns = 0

    def stop(self) -> None:
        """Leave the joints in their safe state."""
        self._driver.deactivate(time.monotonic_ns())
        self._follower = None

    def report(self) -> Report:
        """Say how steadily the loop runs and what the hardware complains of."""
        report = Report(
            values={
                "cycles": self._cycles,
                "trajectories": 0 if self._follower is None else self._follower.accepted,
            }
        )
        report.values |= {f"period_error_ms_{key}": value for key, value in self._late_ms.summary().items()}
        report.values |= {f"cycle_ms_{key}": value for key, value in self._cycle_ms.summary().items()}
        for fault in self._driver.faults():
            report.worsen(Level.WARN, fault)
        if self._fault:
            report.worsen(Level.ERROR, self._fault)
        return report

    def _on_trajectory(self, message: Any) -> None:
        if self._follower is None:
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
        self._follower.accept(
            Trajectory(
                names,
                start_ns,
                np.array(times_s, np.float64),
                np.array([point.positions for point in points], np.float64).reshape(len(points), len(names)),
                np.array([point.velocities for point in points], np.float64).reshape(len(points), len(names)),
            ),
            now_ns,
        )

    def _cycle(self) -> None:
        if self._follower is None or self._fault:
            return
        now_ns = time.monotonic_ns()
        if self._last_ns:
            self._late_ms.add((now_ns - self._last_ns) * 1e-6 - 1e3 / self.config.rate_hz)
        self._last_ns = now_ns
        try:
            # A command is in force until the next: half a period ahead is right on average.
            self._driver.send(self._follower.sample(now_ns + self._half_period_ns)[0], now_ns)
            measured = self._driver.read(now_ns)
        except RuntimeError as error:
            self._fault = str(error)
            self.get_logger().fatal(f"{error}; the driver stops sending")
            self._driver.deactivate(now_ns)
            return
        if self._cycles % self.config.states_every == 0:
            self._states.publish(
                JointState(
                    header=self.header(now_ns),
                    name=list(self._driver.joint_names),
                    position=measured.positions.tolist(),
                    velocity=measured.velocities.tolist(),
                )
            )
        self._cycles += 1
        self._cycle_ms.add((time.monotonic_ns() - now_ns) * 1e-6)

    def _on_hold(self, request: Any, response: Any) -> Any:
        if self._follower is None:
            response.success, response.message = False, "the driver is not active; nothing moves"
            return response
        self._follower.hold(time.monotonic_ns())
        response.success, response.message = True, "every joint holds; the next trajectory moves it again"
        return response


def main() -> int:
    """Run the driver in a process of its own."""
    return run([DriverNode])


if __name__ == "__main__":
    sys.exit(main())
