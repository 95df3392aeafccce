"""Servo bus driver: commands and reads servos; recovers those that restart, reports those that fail."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from timar_driver.command_limiter import CommandLimiter
from timar_driver.driver import Array, JointDriver, Measurement
from timar_driver.hardware_file import BusDescription
from timar_driver.servo_bus import BusCounters, BusError, ServoBus
from timar_driver.servo_setup import ServoSetup
from timar_driver.servo_state import ServoState
from timar_driver.transport import SerialTransport, Transport

_LONGEST_ASKED_NS = 50_000_000


def make_bus(description: BusDescription, open_transport: Callable[[], Transport] | None = None) -> ServoBus:
    """Return the bus of a description, not yet open; `open_transport` stands in for its serial port."""
    opener = open_transport or (lambda: SerialTransport(description.port, description.baud))
    return ServoBus(description.family, opener, description.baud, description.timing.reply_margin_ms)


class BusDriver(JointDriver):
    """Servos on a bus behind the contract of every driver.

    Faults of the line (noise, lost replies) are tolerated and counted. A servo that restarted, or whose
    watchdog stopped it, is set up again and moves slowly to its command. A servo that is silent for too long,
    shuts itself down, or keeps restarting is given up: `read` raises once, and the others go on.

    Args:
        description: The bus and its servos.
        bus: The line; None: the one described.
        period_s: Time between two cycles, into which `send` and `read` should fit.
    """

    SLOW_SHARES = 5
    """State and health, in turn, follow the fast reading of every cycle, each time of one servo in so many:
    all servos at once would not fit into a cycle of 10 ms."""
    SLOW_SKIPS = 4
    """So many cycles in a row may leave it out, because late replies left no time for it."""

    def __init__(
        self, description: BusDescription, bus: ServoBus | None = None, period_s: float = 0.01
    ) -> None:
        self.description, self._period_s = description, period_s
        self.joint_names, self.limits = description.joint_names, description.limits
        self.watchdog_stops = self.restarts = 0
        self._bus = bus or make_bus(description)
        self._setup = ServoSetup(self._bus, description.protocol, description.watchdog_ms)
        self._limiter = CommandLimiter(self.joint_names, self.limits)
        self._servos = [ServoState(spec) for spec in description.servos]
        self._row_by_id = {spec.servo_id: row for row, spec in enumerate(description.servos)}
        self._family = family = description.family
        self._goal = family.registers["goal_position"]
        self._motion = family.block(family.motion)
        self._slow = tuple(family.block(names) for names in (family.state, family.health))
        self._zero = np.array([spec.zero_tick for spec in description.servos], np.float64)
        self._per_rad = np.array([spec.ticks_per_rad for spec in description.servos])
        # Velocity register of a servo to velocity of its joint: [rad/s] of the servo, in ticks, by its ratio.
        self._velocity_unit = family.rad_s_per_unit * family.ticks_per_turn / (2 * np.pi) / self._per_rad
        self._positions: Array = np.zeros(len(self._servos))
        self._velocities: Array = np.zeros(len(self._servos))
        self._effort = 0.0
        self._slow_turn = self._slow_skips = 0
        self._sent_ns = self._read_ns = 0
        self._pending_fault = ""

    def activate(self, now_ns: int) -> Measurement:
        """Find every servo, set it up, and let it hold where it stands."""
        self._bus.open()
        self._bus.attempts = ServoBus.attempts
        self._bus.settle()
        specs = self.description.servos
        self._setup.find(specs)
        for row, spec in enumerate(specs):
            tick = self._setup.arm(spec)
            self._positions[row] = (tick - self._zero[row]) / self._per_rad[row]
        self._setup.start_watchdogs(specs)
        self._velocities[:] = 0.0
        self._servos = [ServoState(spec) for spec in specs]
        self._limiter.start(self._positions, now_ns)
        # A joint found outside its limits was commanded to the nearest one; it is led there, not thrown.
        for outside in np.flatnonzero(np.abs(self._limiter.command - self._positions) > 1e-3).tolist():
            self._limiter.rejoin(outside, float(self._positions[outside]))
        for servo in self._servos:
            servo.read_limits(self._bus)
        self._effort, self._sent_ns, self._read_ns, self._pending_fault = 1.0, 0, now_ns, ""
        self._bus.counters = BusCounters()
        # From here on the loop runs: what fails is tried again in a later cycle.
        self._bus.attempts = 1
        return Measurement(self._positions.copy(), self._velocities.copy())

    def send(self, positions: Array, now_ns: int) -> Array:
        """Command positions, as far as the limits allow."""
        command = self._limiter.step(positions, now_ns)
        watchdog_ns = self.description.watchdog_ms * 1e6
        if watchdog_ns and self._sent_ns and now_ns - self._sent_ns > 0.75 * watchdog_ns:
            self._after_a_gap(now_ns)
            command = self._limiter.command
        self._sent_ns = now_ns
        ticks = np.rint(self._zero + self._per_rad * command).astype(int)
        values = {
            servo.spec.servo_id: servo.spec.nearest_tick(int(tick))
            for servo, tick in zip(self._servos, ticks, strict=True)
            if not servo.is_given_up
        }
        if values and self._effort > 0.0:
            self._bus.sync_write(self._goal, values)
        return command

    def read(self, now_ns: int) -> Measurement:
        """Read where the joints are, and of a few how they are."""
        found = self._bus.sync_read(self._motion, self._living())
        for servo_id, values in found.items():
            row = self._row_by_id[servo_id]
            self._positions[row] = (values["position"] - self._zero[row]) / self._per_rad[row]
            self._velocities[row] = values["velocity"] * self._velocity_unit[row]
            self._servos[row].silent_ns = 0
            self._servos[row].values |= values
        # Waiting for lost replies twice would not fit into one cycle; the slow reading comes a cycle later.
        if len(found) == len(self._living()):
            self._read_slow(now_ns)
        self._look_for_lost({self._row_by_id[servo_id] for servo_id in found}, now_ns)
        if self._pending_fault:
            fault, self._pending_fault = self._pending_fault, ""
            raise RuntimeError(fault)
        return Measurement(self._positions.copy(), self._velocities.copy())

    def set_effort(self, share: float, now_ns: int) -> None:
        """Limit the torque, or switch it off."""
        family, living = self._family, self._living()
        self._effort = min(1.0, max(0.0, share))
        if self._effort > 0.0:
            value = round(self._effort * family.full_effort)
            self._bus.sync_write(family.registers["effort_limit"], dict.fromkeys(living, value))
            return
        self._bus.sync_write(family.registers["torque_enable"], dict.fromkeys(living, 0))
        # A group write is not confirmed, and this one matters more than the loop's rhythm.
        self._bus.attempts = ServoBus.attempts
        for servo_id in living:
            self._setup.try_write(servo_id, "torque_enable", 0)

    def deactivate(self, now_ns: int) -> None:
        """Disarm the watchdogs, so that joints with torque go on holding, and close the line."""
        self._bus.attempts = ServoBus.attempts
        try:
            self._setup.stop_watchdogs([servo.spec for servo in self._servos if not servo.is_given_up])
        except RuntimeError as error:
            self._pending_fault = str(error)
        self._bus.close()

    def faults(self) -> tuple[str, ...]:
        """Say what is wrong now."""
        found = [warning for servo in self._servos for warning in servo.warnings()]
        found += [f"{name} is being led back to its command" for name in self._limiter.rejoining]
        counters = self._bus.counters
        asked = counters.replies + counters.missing
        if asked > 500 and counters.missing > 0.01 * asked:
            found.append(
                f"{100.0 * counters.missing / asked:.1f} % of the servos' replies do not arrive whole; "
                "check cables, ground and length of the bus"
            )
        return tuple(found)

    def values(self) -> dict[str, object]:
        """Return counters of the bus, and temperature, voltage and load by joint."""
        values: dict[str, object] = {
            f"bus_{name}": value for name, value in dataclasses.asdict(self._bus.counters).items()
        }
        values |= {"watchdog_stops": self.watchdog_stops, "servo_restarts": self.restarts}
        values["held_back"] = self._limiter.held_back
        for servo in self._servos:
            values |= servo.numbers()
        return values

    def _living(self) -> list[int]:
        return [servo.spec.servo_id for servo in self._servos if not servo.is_given_up]

    def _read_slow(self, now_ns: int) -> None:
        share, kind = divmod(self._slow_turn, len(self._slow))
        block, asked = self._slow[kind], self._living()[share % self.SLOW_SHARES :: self.SLOW_SHARES]
        left_s = now_ns * 1e-9 + self._period_s - self._bus.now_s()
        needs_s = self._bus.reply_time_s(block.size, len(asked))
        if left_s < needs_s and self._slow_skips < self.SLOW_SKIPS:
            self._slow_skips += 1
            return
        self._slow_skips = 0
        self._slow_turn += 1
        for servo_id, values in self._bus.sync_read(block, asked).items() if asked else ():
            row = self._row_by_id[servo_id]
            self._servos[row].values |= values
            if fault := self._servos[row].shutdown():
                self._give_up(row, fault)
            elif values.get("watchdog") == self._family.tripped_watchdog:
                self.watchdog_stops += 1
                self._rearm(row, now_ns)
            elif values.get("torque_enable") == 0 and self._effort > 0.0:
                self._restarted(row, now_ns)

    def _look_for_lost(self, answered: set[int], now_ns: int) -> None:
        # While the loop itself was late no servo was asked, so none counts as silent.
        asked_ns = min(now_ns - self._read_ns, _LONGEST_ASKED_NS)
        self._read_ns = now_ns
        for row, servo in enumerate(self._servos):
            if row not in answered:
                servo.silent_ns += asked_ns
            silent_ms = servo.silent_ns * 1e-6
            if not servo.is_given_up and silent_ms > self.description.timing.lost_after_ms:
                self._give_up(row, f"has been silent for {silent_ms:.0f} ms; check its cable and its power")

    def _give_up(self, row: int, why: str) -> None:
        servo = self._servos[row]
        servo.is_given_up = True
        fault = f"{servo.spec.joint} (servo {servo.spec.servo_id}) {why}"
        self._pending_fault = f"{self._pending_fault}; {fault}" if self._pending_fault else fault

    def _restarted(self, row: int, now_ns: int) -> None:
        """A servo without torque that was given some has lost its power in between."""
        self.restarts += 1
        recent = self._servos[row].count_restart(now_ns)
        if recent > self.description.timing.restarts_per_minute:
            self._give_up(row, f"has restarted {recent} times in a minute; check the power supply")
            return
        self._rearm(row, now_ns)

    def _after_a_gap(self, now_ns: int) -> None:
        """The loop was held up for so long that watchdogs may have stopped servos: look before moving on."""
        state = self._slow[0]
        for servo_id, values in self._bus.sync_read(state, self._living()).items():
            if values.get("watchdog") == self._family.tripped_watchdog:
                self.watchdog_stops += 1
                self._rearm(self._row_by_id[servo_id], now_ns)

    def _rearm(self, row: int, now_ns: int) -> None:
        spec = self._servos[row].spec
        try:
            tick = self._setup.arm(spec, self._effort)
            self._setup.start_watchdogs([spec])
        except BusError:
            # It does not answer yet; it is looked at again soon, and lost when that goes on.
            return
        self._positions[row] = (tick - self._zero[row]) / self._per_rad[row]
        self._limiter.rejoin(row, float(self._positions[row]))
