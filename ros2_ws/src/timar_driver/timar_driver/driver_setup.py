"""Choose what drives a robot's joints: simulated servos, a servo bus, or the driver its file names."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from timar_driver.bus_driver import BusDriver
from timar_driver.config import DriverConfig
from timar_driver.driver import Array, JointDriver, JointLimits, read_driven_joints
from timar_driver.hardware_file import BusDescription, hardware_file_of, read_hardware
from timar_driver.pty_bus import BusProcess
from timar_driver.simulated_driver import SimulatedDriver
from timar_driver.stop_sequence import StopConfig, check_parking


@dataclasses.dataclass
class DriverSetup:
    """What is needed to drive a robot; nothing is open yet."""

    driver: JointDriver
    limits: JointLimits
    stop: StopConfig
    park_rad: Array
    """(J,) [rad]."""
    bus: BusDescription | None = None
    bus_process: BusProcess | None = None
    """A simulated bus to start before the driver is activated."""
    period_s: float = 0.01
    """Between two cycles of the loop."""

    def open(self) -> None:
        """Start the simulated bus, when there is one, and let the driver use its port.

        Raises:
            RuntimeError: It did not start.
        """
        if self.bus_process is not None and self.bus is not None:
            port = self.bus_process.start()
            self.driver = BusDriver(dataclasses.replace(self.bus, port=port), period_s=self.period_s)

    def close(self) -> None:
        """End the simulated bus."""
        if self.bus_process is not None:
            self.bus_process.stop()


def set_up_driver(config: DriverConfig, urdf: Path) -> DriverSetup:
    """Read the robot's files and make its driver.

    Raises:
        ValueError: A file is wrong; the message names it, the line and the rule.
        OSError: A file cannot be read.
    """
    names, limits = read_driven_joints(urdf)
    path = Path(config.hardware).expanduser() if config.hardware else hardware_file_of(urdf)
    is_real = config.driver == "hardware"
    hardware = read_hardware(path, names, limits) if is_real or path.is_file() else None
    stop = hardware.stop if hardware else StopConfig()
    park_rad = hardware.park_rad if hardware else np.clip(0.0, limits.lower, limits.upper)
    if config.stop_category != "robot":
        stop = dataclasses.replace(stop, category=config.stop_category)
        check_parking(names, park_rad, hardware.limits if hardware else limits, stop)
    if not is_real or hardware is None:
        simulated = SimulatedDriver(names, limits, config.servo(), config.seed)
        return DriverSetup(simulated, limits, stop, park_rad)
    if hardware.driver is not None:
        if config.port:
            raise ValueError(
                f"port is {config.port!r}, and {path.name} names a driver and no bus; leave it out"
            )
        return DriverSetup(hardware.driver, hardware.limits, stop, park_rad)
    bus, process = hardware.servo_bus(), None
    if config.port == "simulated":
        process = BusProcess(urdf, path)
    elif config.port:
        bus = dataclasses.replace(bus, port=config.port)
    period_s = 1.0 / config.rate_hz
    bus.check_period(period_s)
    return DriverSetup(
        BusDriver(bus, period_s=period_s), hardware.limits, stop, park_rad, bus, process, period_s
    )
