"""What may be set in the driver node."""

from __future__ import annotations

import dataclasses

from timar_common.config import check, option

from timar_driver.simulated_driver import ServoConfig
from timar_driver.stop_sequence import CATEGORIES

_SERVO = ServoConfig()


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
    rate_hz: float = option(100.0, "Commands a second.", unit="Hz", minimum=20.0, maximum=500.0)
    states_every: int = option(
        2, "A joint state is published every so many commands.", minimum=1, maximum=100
    )
    realtime_priority: int = option(
        20,
        "Real-time priority of the loop, where the kernel allows one; 0 asks for none.",
        minimum=0,
        maximum=90,
    )
    servo_delay_ms: float = option(
        _SERVO.delay_ms, "Delay of a simulated servo.", unit="ms", minimum=2.0, maximum=200.0
    )
    servo_noise_rad: float = option(
        _SERVO.noise_rad, "Noise of a simulated position.", unit="rad", minimum=0.0, maximum=0.05
    )
    watchdog_ms: float = option(
        _SERVO.watchdog_ms,
        "Simulated servos stop by themselves after this long without a command.",
        unit="ms",
        minimum=20.0,
        maximum=2000.0,
    )
    seed: int = option(0, "Of the simulated noise.", minimum=0, maximum=2**31 - 1)

    def __post_init__(self) -> None:
        check(self)
        if self.port and self.driver != "hardware":
            raise ValueError(
                f"DriverConfig.port is {self.port!r} and driver is 'simulated'; set driver to hardware"
            )

    def servo(self) -> ServoConfig:
        """Return the simulated servos' part."""
        return ServoConfig(self.servo_delay_ms, self.servo_noise_rad, self.watchdog_ms)
