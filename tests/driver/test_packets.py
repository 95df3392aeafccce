"""Packets: examples of the manuals, ours against ROBOTIS' SDK, and streams full of noise."""

import itertools

import numpy as np
import pytest
from dynamixel_sdk import PacketHandler
from timar_driver import dynamixel_packets as dynamixel
from timar_driver import feetech_packets as feetech
from timar_driver.registers import Register, Sign
from timar_driver.servo_models import MODELS, PROTOCOLS


def test_a_ping_is_the_manuals_ping():
    # e-Manual, Protocol 2.0, "Ping": id 1.
    assert dynamixel.Packet(1, dynamixel.PING).to_bytes().hex(" ") == "ff ff fd 00 01 03 00 01 19 4e"


def test_a_write_is_the_manuals_write():
    # e-Manual, "Write": 512 to Goal Position (116) of id 1.
    packet = dynamixel.Packet(1, dynamixel.WRITE, bytes([116, 0, 0, 2, 0, 0]))
    assert packet.to_bytes().hex(" ") == "ff ff fd 00 01 09 00 03 74 00 00 02 00 00 ca 89"


def test_crc_agrees_with_the_sdk():
    rng, sdk = np.random.default_rng(0), PacketHandler(2.0)
    for size in range(1, 60):
        data = rng.bytes(size)
        assert dynamixel.crc16(data) == sdk.updateCRC(0, data, size)


def test_a_feetech_ping_has_the_inverted_sum():
    assert feetech.Packet(1, feetech.PING).to_bytes().hex(" ") == "ff ff 01 02 01 fb"


@pytest.mark.parametrize("module", [dynamixel, feetech])
def test_every_packet_comes_back_however_the_stream_is_cut(module):
    rng = np.random.default_rng(1)
    sent = [module.Packet(int(rng.integers(253)), 2, rng.bytes(int(rng.integers(40)))) for _ in range(80)]
    stream = b"".join(packet.to_bytes() for packet in sent)
    for size in (1, 3, 7, 64, len(stream)):
        reader = module.PacketReader()
        got = [packet for k in range(0, len(stream), size) for packet in reader.feed(stream[k : k + size])]
        assert got == sent
        assert reader.broken == 0


def test_bytes_that_look_like_a_header_are_stuffed_and_taken_out_again():
    packet = dynamixel.Packet(5, dynamixel.WRITE, b"\xff\xff\xfd\xff\xff\xfd\xfd\xff\xff\xff\xfd")
    raw = packet.to_bytes()
    assert raw[7:].count(b"\xff\xff\xfd\xfd") == 3
    assert dynamixel.PacketReader().feed(raw) == [packet]


@pytest.mark.parametrize("module", [dynamixel, feetech])
def test_a_packet_after_noise_and_a_broken_one_is_still_found(module):
    rng = np.random.default_rng(2)
    good = module.Packet(7, 2, b"abcdef")
    for _ in range(300):
        broken = bytearray(module.Packet(3, 2, rng.bytes(8)).to_bytes())
        broken[int(rng.integers(2, len(broken)))] ^= 1 << int(rng.integers(8))
        reader = module.PacketReader()
        got = reader.feed(rng.bytes(int(rng.integers(20))) + bytes(broken))
        # A broken length may make the reader wait for what follows; more packets bring it back.
        got += [packet for _ in range(120) for packet in reader.feed(good.to_bytes())]
        assert got.count(good) >= 1
        assert reader.feed(good.to_bytes()) == [good]


@pytest.mark.parametrize("sign", list(Sign))
def test_a_register_reads_what_it_wrote_and_refuses_what_does_not_fit(sign):
    register = Register("x", 0, 2, sign)
    low, high = register.range()
    for value in {low, -1 if low < 0 else 0, 0, 1, 513, high}:
        assert register.from_bytes(register.to_bytes(value)) == value
    with pytest.raises(ValueError, match=f"register x cannot hold {high + 1}"):
        register.to_bytes(high + 1)


def test_signs_are_written_as_the_makers_do():
    assert Register("x", 0, 4, Sign.TWOS_COMPLEMENT).to_bytes(-2).hex() == "feffffff"
    assert Register("x", 0, 2, Sign.TOP_BIT).to_bytes(-2).hex() == "0280"
    assert Register("x", 0, 2, Sign.BIT_10).to_bytes(-2).hex() == "0204"


@pytest.mark.parametrize("family", PROTOCOLS.values(), ids=lambda family: family.protocol)
def test_a_familys_table_is_whole(family):
    registers = sorted(family.registers.values(), key=lambda register: register.address)
    for lower, upper in itertools.pairwise(registers):
        assert lower.end <= upper.address, f"{lower.name} and {upper.name} overlap"
    for names in (family.motion, family.state, family.health):
        assert set(names) <= set(family.registers)
    assert len({model.number for model in MODELS.values()}) == len(MODELS)
