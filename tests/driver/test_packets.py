"""Packets: examples of the manuals, ours against ROBOTIS' SDK from both ends, and streams full of noise."""

import itertools

import numpy as np
import pytest
from dynamixel_sdk import COMM_SUCCESS, PacketHandler, PortHandler
from servo_bench import SimulatedTransport
from timar_driver.packets import (
    PING,
    READ,
    WRITE,
    DynamixelFormat,
    FeetechFormat,
    Packet,
    PacketReader,
    crc16,
)
from timar_driver.registers import Register
from timar_driver.servo_bus import BusError, ServoBus
from timar_driver.servo_models import MODELS
from timar_driver.servo_protocols import BUILT_IN, DYNAMIXEL
from timar_driver.simulated_bus import SimulatedBus
from timar_driver.simulated_servo import SimulatedServo

FORMATS = [DynamixelFormat(), FeetechFormat()]


class SdkPort(PortHandler):
    """The SDK's port on a transport of ours."""

    def __init__(self, transport):
        super().__init__("transport")
        self.baudrate, self.is_open, self.tx_time_per_byte = 1_000_000, True, 0.01
        self.transport, self.sent = transport, []

    def closePort(self):  # noqa: N802 - the SDK's names
        self.is_open = False

    def clearPort(self):  # noqa: N802
        self.transport.discard()

    def readPort(self, length):  # noqa: N802
        return self.transport.read(length, 0.001)

    def writePort(self, packet):  # noqa: N802
        self.sent.append(bytes(packet))
        self.transport.write(bytes(packet))
        return len(packet)

    def getCurrentTime(self):  # noqa: N802
        return self.transport.now_s() * 1e3


class Recorder:
    """A transport that keeps what is sent, in front of another one."""

    def __init__(self, inner):
        self.inner, self.sent = inner, []

    def write(self, data):
        self.sent.append(data)
        self.inner.write(data)

    def __getattr__(self, name):
        return getattr(self.inner, name)


def servos():
    model = DYNAMIXEL.model("XL330-M288")
    return SimulatedTransport(SimulatedBus([SimulatedServo(key, model, 1000 + key) for key in (1, 2, 7)]))


def test_a_ping_is_the_manuals_ping():
    # e-Manual, Protocol 2.0, "Ping": id 1.
    assert DynamixelFormat().encode(Packet(1, PING)).hex(" ") == "ff ff fd 00 01 03 00 01 19 4e"


def test_a_write_is_the_manuals_write():
    # e-Manual, "Write": 512 to Goal Position (116) of id 1.
    packet = Packet(1, WRITE, bytes([116, 0, 0, 2, 0, 0]))
    assert DynamixelFormat().encode(packet).hex(" ") == "ff ff fd 00 01 09 00 03 74 00 00 02 00 00 ca 89"


def test_crc_agrees_with_the_sdk():
    rng, sdk = np.random.default_rng(0), PacketHandler(2.0)
    for size in range(1, 60):
        data = rng.bytes(size)
        assert crc16(data) == sdk.updateCRC(0, data, size)


def test_the_makers_sdk_understands_the_simulated_servos():
    sdk, port = PacketHandler(2.0), SdkPort(servos())
    assert sdk.ping(port, 2) == (1200, COMM_SUCCESS, 0)
    assert sdk.ping(port, 3)[1] != COMM_SUCCESS
    assert sdk.write1ByteTxRx(port, 2, 64, 1) == (COMM_SUCCESS, 0)
    assert sdk.write4ByteTxRx(port, 2, 116, 1234) == (COMM_SUCCESS, 0)
    assert sdk.read4ByteTxRx(port, 2, 116) == (1234, COMM_SUCCESS, 0)
    assert sdk.write4ByteTxRx(port, 2, 116, 99999) == (COMM_SUCCESS, 4), "out of range"
    assert sdk.write1ByteTxRx(port, 2, 11, 3) == (COMM_SUCCESS, 7), "kept registers are closed under torque"
    assert sdk.reboot(port, 2) == (COMM_SUCCESS, 0)
    sdk.syncReadTx(port, 132, 4, [1, 7], 2, False)
    assert [sdk.readRx(port, key, 4)[0] for key in (1, 7)] == [
        list((1000 + key).to_bytes(4, "little")) for key in (1, 7)
    ]


def test_requests_are_those_of_the_makers_sdk():
    sdk, port, ours = PacketHandler(2.0), SdkPort(servos()), Recorder(servos())
    bus = ServoBus(DYNAMIXEL.family, lambda: ours, 1_000_000)
    bus.open()
    bus.attempts = 1
    goal = DYNAMIXEL.family.registers["goal_position"]
    bus.ping(1)
    sdk.ping(port, 1)
    bus.read(1, "goal_position")
    sdk.readTxRx(port, 1, goal.address, goal.size)
    bus.write(1, "goal_position", 2100)
    sdk.writeTxRx(port, 1, goal.address, goal.size, list(goal.to_bytes(2100)))
    with pytest.raises(BusError, match="refuses the value as out of range"):
        bus.write(1, "goal_position", 99999)
    sdk.writeTxRx(port, 1, goal.address, goal.size, list(goal.to_bytes(99999)))
    bus.sync_write(goal, {1: 2000, 2: 2100, 7: -5})
    rows = b"".join(bytes([key]) + goal.to_bytes(value) for key, value in ((1, 2000), (2, 2100), (7, -5)))
    sdk.syncWriteTxOnly(port, goal.address, goal.size, list(rows), len(rows))
    block = DYNAMIXEL.family.block(DYNAMIXEL.family.motion)
    assert set(bus.sync_read(block, [1, 2, 7])) == {1, 2, 7}
    sdk.syncReadTx(port, block.address, block.size, [1, 2, 7], 3, False)
    # The SDK leaves its port marked as busy until the replies are fetched.
    port.is_using = False
    bus.reboot(7)
    sdk.reboot(port, 7)
    assert [packet.hex(" ") for packet in ours.sent] == [packet.hex(" ") for packet in port.sent]


def test_a_feetech_ping_has_the_inverted_sum():
    assert FeetechFormat().encode(Packet(1, PING)).hex(" ") == "ff ff 01 02 01 fb"


@pytest.mark.parametrize("packets", FORMATS)
def test_every_packet_comes_back_however_the_stream_is_cut(packets):
    rng = np.random.default_rng(1)
    sent = [Packet(int(rng.integers(253)), 2, rng.bytes(int(rng.integers(40)))) for _ in range(80)]
    stream = b"".join(map(packets.encode, sent))
    for size in (1, 3, 7, 64, len(stream)):
        reader = PacketReader(packets)
        got = [packet for k in range(0, len(stream), size) for packet in reader.feed(stream[k : k + size])]
        assert got == sent
        assert reader.broken == 0


def test_bytes_that_look_like_a_header_are_stuffed_and_taken_out_again():
    packet = Packet(5, WRITE, b"\xff\xff\xfd\xff\xff\xfd\xfd\xff\xff\xff\xfd")
    raw = DynamixelFormat().encode(packet)
    assert raw[7:].count(b"\xff\xff\xfd\xfd") == 3
    assert PacketReader(DynamixelFormat()).feed(raw) == [packet]


@pytest.mark.parametrize("packets", FORMATS)
def test_a_packet_after_noise_and_a_broken_one_is_still_found(packets):
    rng = np.random.default_rng(2)
    good = Packet(7, 2, b"abcdef")
    raw = packets.encode(good)
    for _ in range(300):
        broken = bytearray(packets.encode(Packet(3, 2, rng.bytes(8))))
        broken[int(rng.integers(2, len(broken)))] ^= 1 << int(rng.integers(8))
        reader = PacketReader(packets)
        got = reader.feed(rng.bytes(int(rng.integers(20))) + bytes(broken))
        # A broken length may make the reader wait for what follows; more packets bring it back.
        got += [packet for _ in range(120) for packet in reader.feed(raw)]
        assert got.count(good) >= 1
        assert reader.feed(raw) == [good]


@pytest.mark.parametrize("protocol", BUILT_IN.values(), ids=BUILT_IN)
def test_a_bus_takes_no_request_for_a_reply_and_no_reply_of_another_size(protocol):
    family = protocol.family
    model = protocol.models[0]
    transport = SimulatedTransport(SimulatedBus([SimulatedServo(1, model)]))
    bus = ServoBus(family, lambda: transport, 1_000_000)
    bus.open()
    bus.attempts = 1
    transport.bus.silent.add(1)
    with pytest.raises(BusError, match="servo 1 did not read register position: no whole answer came"):
        bus.read(1, "position")
    echo = family.packets.encode(Packet(1, READ, b"\x00" * (1 + family.registers["position"].size)))
    transport.bus.receive = lambda data, now_ns: echo
    with pytest.raises(BusError, match="no whole answer came"):
        bus.read(1, "position")


@pytest.mark.parametrize("sign", [{}, {"is_signed": True}, {"minus_bit": 15}, {"minus_bit": 10}])
def test_a_register_reads_what_it_wrote_and_refuses_what_does_not_fit(sign):
    register = Register("x", 0, 2, **sign)
    low, high = register.range()
    for value in {low, -1 if low < 0 else 0, 0, 1, 513, high}:
        assert register.from_bytes(register.to_bytes(value)) == value
    with pytest.raises(ValueError, match=f"register x cannot hold {high + 1}"):
        register.to_bytes(high + 1)


def test_signs_are_written_as_the_makers_do():
    assert Register("x", 0, 4, is_signed=True).to_bytes(-2).hex() == "feffffff"
    assert Register("x", 0, 2, minus_bit=15).to_bytes(-2).hex() == "0280"
    assert Register("x", 0, 2, minus_bit=10).to_bytes(-2).hex() == "0204"


@pytest.mark.parametrize("protocol", BUILT_IN.values(), ids=BUILT_IN)
def test_a_familys_table_is_whole(protocol):
    registers = sorted(protocol.family.registers.values(), key=lambda register: register.address)
    for lower, upper in itertools.pairwise(registers):
        assert lower.end <= upper.address, f"{lower.name} and {upper.name} overlap"
    assert len({model.number for model in MODELS}) == len(MODELS)
    assert set(protocol.family.factory_values) | set(protocol.family.power_on_values) <= set(
        protocol.family.registers
    )
