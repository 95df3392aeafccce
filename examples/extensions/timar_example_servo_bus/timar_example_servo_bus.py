"""Example servo bus: packets and registers of an invented servo, found as `protocol: example`.

A hardware file names it like any other protocol; `timar bus simulate` then serves such servos as well:

    bus: {protocol: example, port: /dev/ttyUSB0, baud: 115200}
    servos:
      pan: {id: 1, model: EX-1}
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

from timar_driver.packets import Packet, PacketFormat
from timar_driver.registers import Register
from timar_driver.servo_models import ServoFamily, ServoModel, register_table
from timar_driver.servo_protocols import ServoProtocol


class ExampleFormat(PacketFormat):
    """AA 55, id, number of parameters, instruction or error, parameters, exclusive or from the id on."""

    header, head_bytes, address_bytes = b"\xaa\x55", 4, 1
    reply_bytes, ping_bytes, marks_replies, confirms_reboot = 6, 0, False, True

    def encode(self, packet: Packet) -> bytes:
        """Return what goes over the line."""
        body = bytes([packet.servo_id, len(packet.parameters), packet.code]) + packet.parameters
        return self.header + body + bytes([functools.reduce(operator.xor, body)])

    def frame_size(self, head: Sequence[int]) -> int:
        """Return the length that the head states."""
        return head[3] + self.reply_bytes

    def decode(self, frame: bytes) -> Packet | None:
        """Check the sum: a whole frame gives 0 from the id on."""
        return None if functools.reduce(operator.xor, frame[2:]) else Packet(frame[2], frame[4], frame[5:-1])


FAMILY = ServoFamily(
    name="example",
    packets=ExampleFormat(),
    bauds=(115_200, 1_000_000),
    registers=register_table(
        Register("model_number", 0, 2, is_kept=True, is_read_only=True),
        Register("return_delay", 2, 1, is_kept=True),
        Register("operating_mode", 3, 1, is_kept=True),
        Register("min_position", 4, 2, is_kept=True),
        Register("max_position", 6, 2, is_kept=True),
        Register("temperature_limit", 8, 1, is_kept=True),
        Register("min_voltage", 9, 1, is_kept=True),
        Register("max_voltage", 10, 1, is_kept=True),
        Register("torque_enable", 16, 1),
        Register("effort_limit", 17, 1),
        Register("profile_acceleration", 18, 1),
        Register("profile_velocity", 19, 2),
        Register("goal_position", 21, 2),
        Register("position", 23, 2, is_read_only=True),
        Register("velocity", 25, 2, is_signed=True, is_read_only=True),
        Register("load", 27, 1, is_signed=True, is_read_only=True),
        Register("voltage", 28, 1, is_read_only=True),
        Register("temperature", 29, 1, is_read_only=True),
        Register("error", 30, 1, is_read_only=True),
    ),
    motion=("position", "velocity", "load"),
    state=("torque_enable", "error"),
    health=("voltage", "temperature"),
    ticks_per_turn=16384,
    rad_s_per_unit=0.01,
    position_mode=0,
    full_effort=100,
    fault_bits={0: "overheated", 1: "overload"},
    shutdown_bits=0b11,
    factory_values={"temperature_limit": 80, "max_position": 16383},
)

PROTOCOL = ServoProtocol(FAMILY, (ServoModel("EX-1", 1, FAMILY, 7.4, "%", 1.0),))
