"""Parameters of the driver: which robot, what moves it, how often, how it stops."""

from __future__ import annotations

import dataclasses

from timar_common.config import check, number, option

from timar_driver.stop_sequence import CATEGORIES


@dataclasses.dataclass(frozen=True)
class DriverConfig:
    """Which joints, how they are driven, how often."""

    robot: str = option("timar_head", "Name of a robot description, or path of a URDF.")
    driver: str = option(
        "simulated",
        "What moves the joints: numbers only, or what the robot's hardware file says.",
        choices=("simulated", "hardware"),
    )
    hardware: str = option("", "Path of the hardware file; empty: ROBOT.hardware.yaml beside the URDF.")
    port: str = option(
        "", "The servo bus, in place of the hardware file's; `simulated` starts one without any hardware."
    )
    stop_category: str = option(
        "robot",
        "How the robot stops; robot: as its hardware file says, or hold without one.",
        choices=("robot", *CATEGORIES),
    )
    rate_hz: float = number(100.0, "Commands a second.", 20.0, 500.0, "Hz")
    states_every: int = number(2, "A joint state is published every so many commands.", 1, 100)
    realtime_priority: int = number(
        20, "Real-time priority of the loop, where the kernel allows one; 0 asks for none.", 0, 90
    )
    allow_partial_joints_goal: bool = option(
        True, "Whether a trajectory may leave joints out, which then stay; as joint_trajectory_controller's."
    )
    servo_delay_ms: float = number(
        20.0, "How far a simulated servo stays behind a steadily moving command.", 2.0, 200.0, "ms"
    )
    servo_noise_rad: float = number(0.0, "Standard deviation of a simulated position.", 0.0, 0.05, "rad")
    watchdog_ms: float = number(
        100.0,
        "Simulated servos stop by themselves after this long without a command; two cycles at least.",
        20.0,
        2000.0,
        "ms",
    )
    seed: int = number(0, "Of the simulated noise.", 0, 2**31 - 1)

    def __post_init__(self) -> None:
        check(self)
        if self.port and self.driver != "hardware":
            raise ValueError(
                f"DriverConfig.port is {self.port!r} and driver is 'simulated'; set driver to hardware"
            )
        if self.watchdog_ms < 2e3 / self.rate_hz:
            raise ValueError(
                f"DriverConfig.watchdog_ms is {self.watchdog_ms:g} at {self.rate_hz:g} commands a second, "
                f"expected at least two cycles, {2e3 / self.rate_hz:g} ms: raise it, or rate_hz"
            )
