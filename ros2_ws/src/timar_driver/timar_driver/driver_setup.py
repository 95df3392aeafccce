"""From parameters to a driver: the robot's joints, its hardware file, its way to stop."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from timar_driver.bus_driver import BusDriver
from timar_driver.config import DriverConfig
from timar_driver.driver import Array, JointDriver, JointLimits
from timar_driver.hardware_file import Hardware, hardware_file_of, read_hardware
from timar_driver.pty_bus import BusProcess
from timar_driver.reachy_mini import ReachyMiniDriver
from timar_driver.simulated_driver import SimulatedDriver
from timar_driver.stop_sequence import StopConfig, check_parking
from timar_driver.urdf import read_driven_joints


@dataclasses.dataclass
class DriverSetup:
    """What is needed to drive a robot; nothing is open yet."""

    driver: JointDriver
    limits: JointLimits
    stop: StopConfig
    park_rad: Array
    bus_process: BusProcess | None = None
    """A simulated bus to start before the driver is activated."""
    hardware: Hardware | None = None
    period_s: float = 0.01
    """Between two cycles of the loop."""

    def open(self) -> None:
        """Start the simulated bus, when there is one, and let the driver use its port.

        Raises:
            RuntimeError: It did not start.
        """
        if self.bus_process is None or self.hardware is None or self.hardware.bus is None:
            return
        port = self.bus_process.start()
        self.driver = BusDriver(dataclasses.replace(self.hardware.bus, port=port), period_s=self.period_s)

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
    hardware = None
    if config.driver == "hardware" or path.is_file():
        hardware = read_hardware(path, names, limits)
    stop = hardware.stop if hardware else StopConfig()
    park_rad = hardware.park_rad if hardware else np.clip(0.0, limits.lower, limits.upper)
    if config.stop_category != "robot":
        stop = dataclasses.replace(stop, category=config.stop_category)
        check_parking(names, park_rad, hardware.limits if hardware else limits, stop)
    if config.driver == "simulated" or hardware is None:
        simulated = SimulatedDriver(names, limits, config.servo(), config.seed)
        return DriverSetup(simulated, limits, stop, park_rad, hardware=hardware)
    if hardware.daemon is not None:
        if config.port:
            raise ValueError(
                f"port is {config.port!r}, and {path.name} names a daemon and no bus; leave it out"
            )
        daemon = ReachyMiniDriver(names, hardware.limits, hardware.daemon.host, hardware.daemon.port)
        return DriverSetup(daemon, hardware.limits, stop, park_rad, hardware=hardware)
    bus = hardware.bus
    if bus is None:
        raise ValueError(f"{path} has neither bus nor daemon; add one of them")
    if config.port and config.port != "simulated":
        bus = dataclasses.replace(bus, port=config.port)
    process = BusProcess(urdf, path) if config.port == "simulated" else None
    driver = BusDriver(bus, period_s=1.0 / config.rate_hz)
    return DriverSetup(driver, hardware.limits, stop, park_rad, process, hardware, 1.0 / config.rate_hz)
