"""Driver node: the ROS 2 host of the driver component and of its fixed-rate loop."""

from __future__ import annotations

import sys
import time

from timar_common.base_node import run
from timar_common.clock import NS_PER_S
from timar_common.component_node import ComponentNode
from timar_common.diagnostics import Level, Report
from timar_common.heartbeat import SHORTEST_ALLOWED_S

from timar_driver.driver_component import DriverComponent
from timar_driver.fixed_rate_loop import FixedRateLoop

NOT_CONFIRMED_STATUS = 3
"""What the process ends with when a servo may still hold torque, or move, against the stop."""


class DriverNode(ComponentNode):
    """Runs the driver's cycles in a thread of their own, at real-time priority where the kernel allows it."""

    component_type = DriverComponent
    component: DriverComponent
    _loop: FixedRateLoop | None = None

    def make_component(self) -> DriverComponent:
        """Return the driver, whose cycles this node's loop calls."""
        component = DriverComponent(self.config, has_loop=True)
        component.is_retargeting_there = self._is_retargeting_there
        return component

    def receives(self, topic_name: str) -> bool:
        """Leave trajectories from outside to whoever publishes joint_trajectory, which is retargeting."""
        return topic_name != "external/joint_trajectory" or not self.count_publishers("joint_trajectory")

    def _is_retargeting_there(self) -> bool:
        publishers = self.get_publishers_info_by_topic("joint_trajectory")
        return any(publisher.node_name == "retargeting" for publisher in publishers)

    def start(self) -> None:
        """Hold every joint where it stands, then follow."""
        super().start()
        component = self.component
        self._loop = FixedRateLoop(component.period_ns, component.cycle, self.config.realtime_priority)
        self._loop.start()

    def stop(self) -> None:
        """Bring the robot to its stop, then let go of the hardware."""
        loop = self._loop
        if loop is not None:
            self.component.begin_stop()
            end_s = time.monotonic() + self.component.stop_within_s
            while loop.is_running and not self.component.is_stopped and time.monotonic() < end_s:
                time.sleep(0.01)
                self.host.tick()
            loop.end()
        super().stop()
        self._loop = None
        if not self.component.is_stop_confirmed:
            self.exit_status = NOT_CONFIRMED_STATUS

    def hears(self) -> bool:
        """Obey nobody while a driver that was there before moves the same joints."""
        self.peers.check_early(time.monotonic_ns())
        return super().hears() and not self.peers.rival

    def hung(self, now_ns: int) -> str:
        """Say when the loop has not come round."""
        loop = self._loop
        if loop is not None and loop.last_ns and now_ns - loop.last_ns > SHORTEST_ALLOWED_S * NS_PER_S:
            return f"the driver's loop has not come round for {(now_ns - loop.last_ns) / NS_PER_S:.0f} s"
        return super().hung(now_ns)

    def report(self) -> Report:
        """Add how regularly the loop runs."""
        report = super().report()
        loop = self._loop
        if loop is None:
            return report
        report.values |= {"missed_cycles": loop.missed, "scheduling": loop.scheduling}
        report.values |= {f"late_ms_{key}": value for key, value in loop.late_ms.summary().items()}
        report.values |= {f"cycle_ms_{key}": value for key, value in loop.busy_ms.summary().items()}
        if not loop.is_running:
            report.worsen(Level.ERROR, "the driver's loop has ended; its traceback is in the log")
        return report


def main() -> int:
    """Run the driver in a process of its own."""
    return run([DriverNode])


if __name__ == "__main__":
    sys.exit(main())
