"""Servo bus driver: commands and reads servos; recovers those that restart, reports those that fail."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from timar_driver.command_limiter import CommandLimiter
from timar_driver.driver import Array, JointDriver, Measurement
from timar_driver.hardware_file import BusDescription
from timar_driver.registers import RegisterBlock
from timar_driver.servo import Servo
from timar_driver.servo_bus import BusCounters, BusError, ServoBus
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
        self._limiter = CommandLimiter(self.joint_names, self.limits)
        self._family = family = description.family
        self._motion = family.block(family.motion)
        self._slow = tuple(family.block(names) for names in (family.state, family.health))
        self._servos = self._new_servos()
        self._effort = 0.0
        self._slow_turn = self._slow_skips = 0
        self._sent_ns = self._read_ns = 0
        self._pending_fault = ""
        self._is_armed = False
        """Whether all servos were given torque, and the line is open since."""
        self._unreached: tuple[str, ...] = ()

    def activate(self, now_ns: int) -> Measurement:
        """Find every servo, set it up, and let it hold where it stands."""
        self._bus.open()
        self._bus.attempts = ServoBus.attempts
        self._bus.settle()
        self._servos = self._new_servos()
        self._check_models()
        if unfit := [reason for servo in self._servos for reason in servo.inspect()]:
            raise BusError("; ".join(unfit))
        # All memories first: until its secondary id is gone, a servo obeys what is meant for another.
        for servo in self._servos:
            servo.write_kept()
        self._unreached = ()
        for servo in self._servos:
            servo.arm()
        # Only from here on is there something to take back: a head that was found holding must not fall.
        self._is_armed, self._effort = True, 1.0
        self._start_watchdogs(self._servos)
        positions = self._measurement().positions
        self._limiter.start(positions, now_ns)
        # A joint found outside its limits was commanded to the nearest one; it is led there, not thrown.
        for outside in np.flatnonzero(np.abs(self._limiter.command - positions) > 1e-3).tolist():
            self._limiter.rejoin(outside, float(positions[outside]))
        for servo in self._servos:
            servo.read_limits()
        self._effort, self._sent_ns, self._read_ns, self._pending_fault = 1.0, 0, now_ns, ""
        self._bus.counters = BusCounters()
        # From here on the loop runs: what fails is tried again in a later cycle.
        self._bus.attempts = 1
        return self._measurement()

    def send(self, positions: Array, now_ns: int) -> Array:
        """Command positions, as far as the limits allow."""
        command = self._limiter.step(positions, now_ns)
        watchdog_ns = self.description.watchdog_ms * 1e6
        if watchdog_ns and self._sent_ns and now_ns - self._sent_ns > 0.75 * watchdog_ns:
            # The loop was late by so much that watchdogs may have stopped servos: look before moving on.
            for servo, values in self._read_servos(self._slow[0], self._living()):
                self._recover_from_watchdog(servo, values)
            command = self._limiter.command
        self._sent_ns = now_ns
        goals = {
            servo.servo_id: servo.spec.nearest_tick(servo.spec.tick(position))
            for servo, position in zip(self._servos, command.tolist(), strict=True)
            if not servo.is_given_up
        }
        if goals and self._effort > 0.0:
            self._bus.sync_write(self._family.registers["goal_position"], goals)
        return command

    def read(self, now_ns: int) -> Measurement:
        """Read where the joints are, and of a few servos their state and health."""
        living = self._living()
        answered = [servo for servo, _ in self._read_servos(self._motion, living)]
        for servo in answered:
            servo.silent_ns = 0
        # Waiting for lost replies twice would not fit into one cycle; the slow reading comes a cycle later.
        if len(answered) == len(living):
            self._read_slow(now_ns)
        self._look_for_lost(answered, now_ns)
        if self._pending_fault:
            fault, self._pending_fault = self._pending_fault, ""
            raise RuntimeError(fault)
        return self._measurement()

    def set_effort(self, share: float, now_ns: int) -> None:
        """Limit the torque, or switch it off."""
        self._effort = min(1.0, max(0.0, share))
        if self._effort > 0.0:
            values = {servo.servo_id: round(self._effort * servo.full_effort) for servo in self._living()}
            self._bus.sync_write(self._family.registers["effort_limit"], values)
            return
        self._note_unreached(self._bus.write_all("torque_enable", self._for_all(0)))

    def deactivate(self, now_ns: int) -> None:
        """Disarm the watchdogs, so that joints with torque go on holding, and close the line.

        Whether servos hold or are without torque, as the stop wanted, is read back.
        """
        if not self._is_armed:
            self._bus.close()
            return
        self._is_armed = False
        try:
            # Also for servos that were given up: they may answer again.
            if self._effort > 0.0 and self.description.watchdog_ms:
                missed = self._bus.write_all("watchdog", self._for_all(0))
            elif self._effort > 0.0:
                missed = set(self._for_all(0)) - set(
                    self._bus.sync_read(self._slow[0], list(self._for_all(0)))
                )
            else:
                missed = self._bus.write_all("torque_enable", self._for_all(0))
        except RuntimeError as error:
            self._pending_fault = str(error)
            missed = set(self._for_all(0))
        self._note_unreached(missed)
        self._bus.close()

    def unreached(self) -> tuple[str, ...]:
        """Name every servo that the last stop did not reach, and what it does now."""
        return self._unreached

    def _for_all(self, value: int) -> dict[int, int]:
        return {servo.servo_id: value for servo in self._servos}

    def _note_unreached(self, missed: set[int]) -> None:
        watchdog_ms = self.description.watchdog_ms
        fate = (
            f"unless its power is off it holds torque, stopped by its own watchdog ({watchdog_ms:g} ms)"
            if watchdog_ms
            else "it has no watchdog: unless its power is off it goes to its last goal and holds torque there"
        )
        self._unreached = tuple(
            f"{servo.name} did not confirm the stop; {fate}"
            for servo in self._servos
            if servo.servo_id in missed
        )

    def faults(self) -> tuple[str, ...]:
        """Return what is wrong now."""
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

    def _new_servos(self) -> list[Servo]:
        return [Servo(spec, self._bus, self.description.watchdog_ms) for spec in self.description.servos]

    def _living(self) -> list[Servo]:
        return [servo for servo in self._servos if not servo.is_given_up]

    def _measurement(self) -> Measurement:
        return Measurement(
            np.array([servo.position_rad for servo in self._servos]),
            np.array([servo.velocity_rad_s for servo in self._servos]),
        )

    def _check_models(self) -> None:
        """Raise BusError when servos are missing or of another model; the message names all of them."""
        missing, wrong = [], []
        for servo in self._servos:
            number = self._bus.ping(servo.servo_id)
            if number is None:
                missing.append(servo.name)
            elif number != servo.spec.model.number:
                wrong.append(f"{servo.name} is a {self.description.protocol.model_name(number)}")
        if missing:
            raise BusError(
                f"no answer from {', '.join(missing)}; check power, cables, ids and baud "
                "(`timar bus scan` lists who answers)"
            )
        if wrong:
            raise BusError(f"{', '.join(wrong)}, not the model of the hardware file; correct one of them")

    def _start_watchdogs(self, servos: Iterable[Servo]) -> None:
        if values := {servo.servo_id: servo.watchdog for servo in servos if servo.watchdog}:
            self._bus.sync_write(self._family.registers["watchdog"], values)

    def _read_servos(
        self, block: RegisterBlock, servos: Iterable[Servo]
    ) -> list[tuple[Servo, dict[str, int]]]:
        by_id = {servo.servo_id: servo for servo in servos}
        found = self._bus.sync_read(block, list(by_id)) if by_id else {}
        for servo_id, values in found.items():
            by_id[servo_id].update(values)
        return [(by_id[servo_id], values) for servo_id, values in found.items()]

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
        for servo, values in self._read_servos(block, asked):
            if fault := servo.shutdown():
                self._give_up(servo, fault)
            elif self._recover_from_watchdog(servo, values):
                continue
            elif values.get("torque_enable") == 0 and self._effort > 0.0:
                self._recover_from_restart(servo, now_ns)

    def _look_for_lost(self, answered: list[Servo], now_ns: int) -> None:
        # While the loop itself was late no servo was asked, so none counts as silent.
        asked_ns = min(now_ns - self._read_ns, _LONGEST_ASKED_NS)
        self._read_ns = now_ns
        for servo in self._living():
            if servo not in answered:
                servo.silent_ns += asked_ns
            silent_ms = servo.silent_ns * 1e-6
            if silent_ms > self.description.timing.lost_after_ms:
                self._give_up(servo, f"has been silent for {silent_ms:.0f} ms; check its cable and its power")

    def _give_up(self, servo: Servo, why: str) -> None:
        servo.is_given_up = True
        fault = f"{servo.name} {why}"
        self._pending_fault = f"{self._pending_fault}; {fault}" if self._pending_fault else fault

    def _recover_from_watchdog(self, servo: Servo, values: Mapping[str, int]) -> bool:
        """Set a servo up again whose watchdog has stopped it; return whether that was so."""
        is_tripped = values.get("watchdog") == self._family.tripped_watchdog
        if is_tripped:
            self.watchdog_stops += 1
            self._rearm(servo)
        return is_tripped

    def _recover_from_restart(self, servo: Servo, now_ns: int) -> None:
        """A servo without torque that was given some has lost its power in between."""
        self.restarts += 1
        recent = servo.count_restart(now_ns)
        if recent > self.description.timing.restarts_per_minute:
            self._give_up(servo, f"has restarted {recent} times in a minute; check the power supply")
            return
        self._rearm(servo)

    def _rearm(self, servo: Servo) -> None:
        try:
            servo.arm(self._effort)
            self._start_watchdogs([servo])
        except BusError:
            # It does not answer yet; it is looked at again soon, and lost when that goes on.
            return
        self._limiter.rejoin(self._servos.index(servo), servo.position_rad)
