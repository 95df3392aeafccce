"""Servo protocols by name: the built-in ones, and those of other packages through entry points."""

from __future__ import annotations

import dataclasses

from timar_common.extensions import load_extension

from timar_driver.servo_models import DYNAMIXEL_X, FEETECH_STS, MODELS, ServoFamily, ServoModel

GROUP = "timar.servo_buses"


@dataclasses.dataclass(frozen=True)
class ServoProtocol:
    """What `bus.protocol` of a hardware file names: an entry point of the group timar.servo_buses."""

    family: ServoFamily
    models: tuple[ServoModel, ...]

    def __post_init__(self) -> None:
        needed = {*_NEEDED, *self.family.motion, *self.family.state, *self.family.health}
        if missing := sorted(needed - set(self.family.registers)):
            raise ValueError(f"the servo family {self.family.name} lacks registers: {', '.join(missing)}")

    def model(self, name: str) -> ServoModel:
        """Return a model by name.

        Raises:
            KeyError: There is none.
        """
        return {model.name: model for model in self.models}[name]

    def model_name(self, number: int) -> str:
        """Return the name of the model with this number."""
        return next((model.name for model in self.models if model.number == number), f"model {number}")


_NEEDED = (
    "model_number", "return_delay", "operating_mode", "min_position", "max_position", "torque_enable",
    "effort_limit", "profile_acceleration", "profile_velocity", "goal_position", "position", "velocity",
    "error", "temperature_limit", "min_voltage", "max_voltage",
)  # fmt: skip
"""Registers that set-up and health checks use."""

BUILT_IN = {
    family.name: ServoProtocol(family, tuple(model for model in MODELS if model.family is family))
    for family in (DYNAMIXEL_X, FEETECH_STS)
}
DYNAMIXEL, FEETECH = BUILT_IN["dynamixel"], BUILT_IN["feetech"]


def find_protocol(name: str) -> ServoProtocol:
    """Return a protocol by name.

    Raises:
        ValueError: There is none; the message names those there are.
    """
    found = load_extension(GROUP, name, BUILT_IN, "protocol")
    if not isinstance(found, ServoProtocol):
        raise ValueError(f"protocol is {name!r}, whose entry point is no ServoProtocol: {found!r}")
    return found
