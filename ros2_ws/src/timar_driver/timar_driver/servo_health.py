"""Servo health: temperature, voltage, load and hardware errors, as warnings and as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from timar_driver.hardware_file import ServoSpec
from timar_driver.servo_bus import ServoBus

_WARM_BELOW_LIMIT_C = 10


class ServoHealth:
    """The newest health of every servo.

    Args:
        specs: The servos, in the order of their rows.
    """

    def __init__(self, specs: Sequence[ServoSpec]) -> None:
        self._specs = tuple(specs)
        self._seen: list[dict[str, int]] = [{} for _ in self._specs]
        self._limits: list[dict[str, int]] = [{} for _ in self._specs]

    def learn_limits(self, bus: ServoBus) -> None:
        """Read the alarm limits of every servo."""
        for row, spec in enumerate(self._specs):
            for name in ("temperature_limit", "min_voltage", "max_voltage"):
                self._limits[row][name] = bus.read(spec.servo_id, name)

    def take(self, row: int, values: Mapping[str, int]) -> None:
        """Take a reading in."""
        self._seen[row] |= values

    def shutdown(self, row: int) -> str:
        """Say why a servo has shut itself down; nothing when it has not."""
        family = self._specs[row].model.family
        bits = self._seen[row].get("error", 0) & family.shutdown_bits
        if not bits:
            return ""
        return (
            f"has shut down: {family.named_faults(bits)}; let it cool, look for what blocks it, then resume"
        )

    def warnings(self) -> list[str]:
        """Say what is near an alarm, a sentence each."""
        found = []
        for spec, seen, limits in zip(self._specs, self._seen, self._limits, strict=True):
            if not seen or not limits:
                continue
            temperature, limit = seen.get("temperature"), limits["temperature_limit"]
            if temperature is not None and temperature > limit - _WARM_BELOW_LIMIT_C:
                found.append(f"{spec.joint} is {temperature} C warm, its limit is {limit} C; let it rest")
            voltage = seen.get("voltage")
            if voltage is not None and not limits["min_voltage"] <= voltage <= limits["max_voltage"]:
                found.append(
                    f"{spec.joint} has {0.1 * voltage:.1f} V, expected {0.1 * limits['min_voltage']:.1f} to "
                    f"{0.1 * limits['max_voltage']:.1f} V; check the power supply"
                )
            if named := spec.model.family.named_faults(seen.get("error", 0)):
                found.append(f"{spec.joint} reports: {named}")
        return found

    def values(self) -> dict[str, object]:
        """Return the numbers by joint, in physical units."""
        values: dict[str, object] = {}
        for spec, seen in zip(self._specs, self._seen, strict=True):
            if "temperature" in seen:
                values[f"{spec.joint}.temperature_c"] = seen["temperature"]
            if "voltage" in seen:
                values[f"{spec.joint}.voltage_v"] = round(0.1 * seen["voltage"], 1)
            if "load" in seen:
                unit = "load_ma" if spec.model.load_unit == "mA" else "load_percent"
                values[f"{spec.joint}.{unit}"] = round(spec.model.load_scale * seen["load"], 1)
        return values
