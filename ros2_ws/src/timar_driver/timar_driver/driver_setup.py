"""Choose what drives a robot's joints: simulated servos, a servo bus, or the driver its file names."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np

from timar_driver.bus_driver import BusDriver, make_bus
from timar_driver.config import DriverConfig
from timar_driver.driver import Array, JointDriver, JointLimits, read_driven_joints
from timar_driver.hardware_file import hardware_file_of, read_hardware
from timar_driver.pty_bus import SimulatedProcessTransport
from timar_driver.simulated_driver import SimulatedDriver
from timar_driver.stop_sequence import StopConfig, check_parking


@dataclasses.dataclass(frozen=True)
class DriverSetup:
    """What drives a robot and how it stops; nothing is open yet."""

    driver: JointDriver
    limits: JointLimits
    stop: StopConfig
    park_rad: Array
    """(J,) [rad]."""


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
        simulated = SimulatedDriver(names, limits, config)
        return DriverSetup(simulated, limits, stop, park_rad)
    if hardware.driver is not None:
        if config.port:
            raise ValueError(
                f"port is {config.port!r}, and {path.name} names a driver and no bus; leave it out"
            )
        return DriverSetup(hardware.driver, hardware.limits, stop, park_rad)
    bus, period_s = hardware.servo_bus(), 1.0 / config.rate_hz
    bus.check_period(period_s)
    open_transport = None
    if config.port == "simulated":
        open_transport = functools.partial(SimulatedProcessTransport, urdf, path, bus.baud)
    elif config.port:
        bus = dataclasses.replace(bus, port=config.port)
    driver = BusDriver(bus, make_bus(bus, open_transport), period_s)
    return DriverSetup(driver, hardware.limits, stop, park_rad)
