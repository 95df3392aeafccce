"""State of one servo since activation: silence, restarts, temperature, voltage, load, hardware errors."""

from __future__ import annotations

import collections

from timar_driver.hardware_file import ServoSpec
from timar_driver.servo_bus import ServoBus

_WARM_BELOW_LIMIT_C = 10
_MINUTE_NS = 60_000_000_000


class ServoState:
    """What is known of a servo."""

    def __init__(self, spec: ServoSpec) -> None:
        self.spec = spec
        self.is_given_up = False
        self.silent_ns = 0
        """For how long it has left requests unanswered."""
        self.values: dict[str, int] = {}
        """The newest value of every register that was read."""
        self._limits: dict[str, int] = {}
        self._restarts_ns: collections.deque[int] = collections.deque(maxlen=64)

    def read_limits(self, bus: ServoBus) -> None:
        """Read the servo's own alarm limits."""
        for name in ("temperature_limit", "min_voltage", "max_voltage"):
            self._limits[name] = bus.read(self.spec.servo_id, name)

    def count_restart(self, now_ns: int) -> int:
        """Count a restart; return how many there were within a minute."""
        self._restarts_ns.append(now_ns)
        return sum(now_ns - then_ns < _MINUTE_NS for then_ns in self._restarts_ns)

    def shutdown(self) -> str:
        """Say why the servo has shut itself down; nothing when it has not."""
        family = self.spec.model.family
        bits = self.values.get("error", 0) & family.shutdown_bits
        if not bits:
            return ""
        return (
            f"has shut down: {family.named_faults(bits)}; let it cool, look for what blocks it, then resume"
        )

    def warnings(self) -> list[str]:
        """Say what is wrong or near an alarm, a sentence each."""
        joint, values, limits = self.spec.joint, self.values, self._limits
        found = [f"{joint} is given up"] if self.is_given_up else []
        temperature, voltage = values.get("temperature"), values.get("voltage")
        if temperature is not None and temperature > limits["temperature_limit"] - _WARM_BELOW_LIMIT_C:
            limit = limits["temperature_limit"]
            found.append(f"{joint} is {temperature} C warm, its limit is {limit} C; let it rest")
        if voltage is not None and not limits["min_voltage"] <= voltage <= limits["max_voltage"]:
            found.append(
                f"{joint} has {0.1 * voltage:.1f} V, expected {0.1 * limits['min_voltage']:.1f} to "
                f"{0.1 * limits['max_voltage']:.1f} V; check the power supply"
            )
        if named := self.spec.model.family.named_faults(values.get("error", 0)):
            found.append(f"{joint} reports: {named}")
        return found

    def numbers(self) -> dict[str, object]:
        """Return temperature, voltage and load by name, in their units."""
        load_name = "load_ma" if self.spec.model.load_unit == "mA" else "load_percent"
        units = (
            ("temperature", "temperature_c", 1.0),
            ("voltage", "voltage_v", 0.1),
            ("load", load_name, self.spec.model.load_scale),
        )
        return {
            f"{self.spec.joint}.{name}": round(scale * self.values[register], 1)
            for register, name, scale in units
            if register in self.values
        }
