"""A small robot on a simulated bus in simulated time, for tests of the driver."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from timar_driver.bus_driver import BusDriver, make_bus
from timar_driver.driver import JointLimits, Measurement
from timar_driver.hardware_file import Hardware, read_hardware
from timar_driver.simulated_bus import SimulatedBus, simulated_bus
from timar_driver.simulated_servo import MotorConfig, SimulatedServo

MS = 1_000_000
PERIOD_NS = 10 * MS
NAMES = ("pan", "tilt", "jaw")
LIMITS = JointLimits(np.array([-1.0, -0.5, 0.0]), np.array([1.0, 0.5, 0.4]), np.array([4.0, 4.0, 8.0]))

DYNAMIXEL = """\
bus: {protocol: dynamixel, port: /dev/null, baud: 1000000, watchdog_ms: 80}
stop: {category: park_then_release, park_within_s: 2.5}
park_rad: {tilt: 0.4}
servos:
  pan: {id: 1, model: XM430-W350}
  tilt: {id: 2, model: XC330-M288, sign: -1, zero_tick: 2000}
  jaw: {id: 7, model: XL330-M077, ratio: 2.0}
"""
FEETECH = """\
bus: {protocol: feetech, port: /dev/null}
stop: {category: ease_and_release}
servos:
  pan: {id: 1, model: STS3215}
  tilt: {id: 2, model: STS3215, sign: -1, zero_tick: 2000}
  jaw: {id: 7, model: STS3215, ratio: 2.0}
"""


def write_hardware(
    folder: Path, text: str, names: tuple[str, ...] = NAMES, limits: JointLimits = LIMITS
) -> Hardware:
    """Read a hardware file that holds this text."""
    path = folder / "bench.hardware.yaml"
    path.write_text(text, encoding="utf-8")
    return read_hardware(path, names, limits)


class SimulatedTransport:
    """A transport straight into a simulated bus, in simulated time: waiting costs no real time.

    Args:
        bus: The other end.
        baud: Bits a second; replies take as long as on a real line.
    """

    def __init__(self, bus: SimulatedBus, baud: int = 1_000_000) -> None:
        self.bus, self.now_ns = bus, 1_000_000_000
        self.is_unplugged = False
        self._ns_per_byte = 10 * 1_000_000_000 // baud
        self._waiting = bytearray()
        self._late: tuple[int, bytes] | None = None

    def write(self, data: bytes) -> None:
        """Send everything."""
        self._check()
        self.now_ns += len(data) * self._ns_per_byte
        reply = self.bus.receive(data, self.now_ns)
        if self.bus.answers_late_s:
            self._late = self.now_ns + round(1e9 * self.bus.answers_late_s), reply
        else:
            self._waiting += reply

    def read(self, size: int, timeout_s: float) -> bytes:
        """Return up to `size` bytes; time goes on by what they take, or by the whole timeout."""
        self._check()
        if self._late is not None and self._late[0] <= self.now_ns + round(timeout_s * 1e9):
            self.now_ns, self._waiting = max(self.now_ns, self._late[0]), self._waiting + self._late[1]
            self._late = None
        if not self._waiting or size <= 0:
            self.now_ns += round(timeout_s * 1e9) + 1
            return b""
        data = bytes(self._waiting[:size])
        del self._waiting[:size]
        self.now_ns += len(data) * self._ns_per_byte
        return data

    def discard(self) -> None:
        """Forget what came and was not read."""
        self._check()
        self._waiting.clear()

    def now_s(self) -> float:
        """Return the simulated time [s]."""
        return self.now_ns * 1e-9

    def close(self) -> None:
        """Forget everything on the line."""
        self._waiting.clear()

    def _check(self) -> None:
        if self.is_unplugged:
            raise OSError("the adapter was pulled out")


class Bench:
    """A robot of three joints: its driver, its bus, its servos, one clock."""

    def __init__(self, hardware: Hardware, motor: MotorConfig | None = None, seed: int = 0) -> None:
        assert hardware.bus is not None
        self.hardware, self.description = hardware, hardware.bus
        self.bus = simulated_bus(hardware.bus, motor, seed)
        self.wire = SimulatedTransport(self.bus, hardware.bus.baud)
        self.line = make_bus(hardware.bus, lambda: self.wire)
        self.driver = BusDriver(hardware.bus, self.line)

    @property
    def now_ns(self) -> int:
        return self.wire.now_ns

    def servo(self, joint: str) -> SimulatedServo:
        spec = self.description.servos[NAMES.index(joint)]
        return self.bus.servos[spec.servo_id]

    def rad(self, joint: str) -> float:
        """Where a joint really stands."""
        spec = self.description.servos[NAMES.index(joint)]
        return (self.servo(joint).position - spec.zero_tick) / spec.ticks_per_rad

    def place(self, **joints: float) -> None:
        """Put joints somewhere by hand."""
        for joint, rad in joints.items():
            spec = self.description.servos[NAMES.index(joint)]
            self.servo(joint).position = spec.zero_tick + spec.ticks_per_rad * rad
            self.servo(joint).set("goal_position", spec.tick(rad))

    def activate(self) -> Measurement:
        self.wait(1)
        return self.driver.activate(self.now_ns)

    def wait(self, ms: float) -> None:
        """Let time pass without a word on the bus."""
        self.wire.now_ns += round(ms * MS)
        self.bus.advance(self.wire.now_ns)

    def cycle(self, positions: object) -> Measurement:
        """One cycle of the loop: send, read, and wait for the next instant of a 100 Hz grid."""
        began_ns = self.now_ns
        self.driver.send(np.asarray(positions, np.float64), began_ns)
        try:
            return self.driver.read(began_ns)
        finally:
            left_ns = began_ns + PERIOD_NS - self.now_ns
            self.wait(max(0, left_ns) / MS)

    def run(self, positions: object, ms: float) -> list[Measurement]:
        """Cycles at one command."""
        return [self.cycle(positions) for _ in range(round(ms / 10))]
