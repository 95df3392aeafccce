"""Whatever a file holds, its reader returns finite numbers or raises the error that it documents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import soundfile
from fuzzing import Arrays, Reader, try_mutated
from made_archive import write_archive
from mutations import mutate_bytes, mutate_npz, mutate_text, mutate_zip_of_text
from rewritten_bag import rewritten
from scripted_bag import BagMaker, Script, add_turns, add_voices
from servo_bench import DYNAMIXEL, FEETECH, LIMITS, NAMES
from timar_bag.bag import BagReader
from timar_common.messages import standard_types
from timar_common.motion_file import MotionTrack, read_motion, write_motion
from timar_common.parameter_file import read_parameters
from timar_common.wav import read_wav
from timar_description.urdf import read_drawable_urdf
from timar_driver.hardware_file import read_hardware
from timar_driver.packets import DynamixelFormat, FeetechFormat, Packet, PacketReader
from timar_model.architecture.config import ModelConfig
from timar_retargeting.robot import load_robot
from timar_training.corpora.ami import read_meetings
from timar_training.corpora.capture_readers import read_capture
from timar_training.corpora.motion_forms import inspect_motion

# Small, so that many of their mutations can be tried: a parser in Python takes 20 ms for the default head's.
URDF = """<robot name="two">
<material name="skin"><color rgba="0.9 0.8 0.7 1"/></material>
<link name="a"><visual><origin xyz="0 0 0.1" rpy="0 1.57 0"/><geometry><box size="1 2 3"/></geometry>
  <material name="skin"/></visual></link>
<link name="b"><visual><geometry><cylinder radius="0.1" length="0.2"/></geometry></visual></link>
<link name="c"/>
<link name="d"/>
<joint name="pan" type="revolute"><parent link="a"/><child link="b"/><axis xyz="0 0 1"/>
  <limit lower="-1" upper="1" velocity="3" effort="1"/></joint>
<joint name="tilt" type="revolute"><parent link="b"/><child link="c"/><axis xyz="0 1 0"/>
  <limit lower="-0.5" upper="0.5" velocity="3" effort="1"/></joint>
<joint name="slave" type="continuous"><parent link="c"/><child link="d"/><mimic joint="tilt"/></joint>
</robot>
"""
ROBOT = """robot: two
urdf: two.urdf
neutral: {neck_rad: [0.1, 0, 0], jaw_rad: 0.02}
eyes: {frame: a, origin_m: [0.1, 0, 0.3]}
expressions: {grin: {3: 0.5, offset: -1.0}}
screens: {smile: {signals: {grin: 1.0}, range: [0, 1]}}
joints:
  pan:
    signals: {neck_yaw: 1.0, gaze_yaw: 0.5}
    sign: -1
    position_rad: [-0.9, 0.9]
    velocity_rad_s: 2.0
    acceleration_rad_s2: 20.0
    servo_delay_s: 0.03
  tilt:
    mimic: {joint: pan, multiplier: 0.5, offset_rad: 0.1}
    coupling: {pan: 0.2}
    position_rad: [-0.4, 0.4]
    velocity_rad_s: 2.0
    acceleration_rad_s2: 20.0
"""


def sounds(folder: Path) -> list[bytes]:
    tone = 0.3 * np.sin(np.arange(1600) / 5)
    made = []
    for subtype, channels in (("PCM_16", 1), ("FLOAT", 2), ("ULAW", 1), ("PCM_24", 2)):
        path = folder / f"{subtype}.wav"
        soundfile.write(path, np.tile(tone[:, None], (1, channels)), 16_000, subtype=subtype)
        made.append(path.read_bytes())
    soundfile.write(folder / "a.flac", tone, 22_050)
    return [*made, (folder / "a.flac").read_bytes()]


def motions(folder: Path) -> list[bytes]:
    random = np.random.default_rng(0)
    track = MotionTrack(random.normal(0, 0.1, (50, 56)).astype(np.float32), np.ones((50, 3), bool))
    write_motion(folder / "a.npz", track)
    np.savez(folder / "b.npz", exp=np.zeros((60, 100)), pose=random.normal(0, 0.1, (60, 6)), fps=30.0)
    np.savez(folder / "c.npz", exp=np.zeros((50, 50)), pose=np.tile([1.0, 0, 0, 0], (50, 2)))
    return [(folder / f"{name}.npz").read_bytes() for name in "abc"]


def our_motions(folder: Path) -> list[bytes]:
    return motions(folder)[:1]


def seamless(folder: Path) -> list[bytes]:
    arrays = {"smplh:body_pose": np.zeros((40, 63), np.float32), "smplh:is_valid": np.ones(40, bool)}
    np.savez(folder / "a.npz", **arrays)
    return [(folder / "a.npz").read_bytes()]


def l2l(folder: Path) -> list[bytes]:
    np.save(folder / "a.npy", np.zeros((1, 40, 56), np.float32))
    return [(folder / "a.npy").read_bytes()]


def vico(folder: Path) -> list[bytes]:
    scipy.io.savemat(folder / "a.mat", {"coeff": np.zeros((20, 257))})
    return [(folder / "a.mat").read_bytes()]


def livelink(folder: Path) -> list[bytes]:
    rows = [f"10:00:{n // 24:02d}:{n % 24:02d}.000,61,0.1,0.2,0.1,0.0" for n in range(75)]
    text = "\n".join(["Timecode,BlendshapeCount,JawOpen,HeadYaw,HeadPitch,HeadRoll", *rows])
    return [text.encode()]


def bvh(folder: Path) -> list[bytes]:
    rotations = "CHANNELS 3 Zrotation Xrotation Yrotation"
    text = (
        f"""HIERARCHY
ROOT Neck
{{
 OFFSET 0 10 0
 {rotations}
 JOINT Head
 {{
  OFFSET 0 10 0
  {rotations}
  End Site
  {{
   OFFSET 0 5 0
  }}
 }}
}}
MOTION
Frames: 20
Frame Time: 0.0333
"""
        + "1 2 3 4 5 6\n" * 20
    )
    return [text.encode()]


def archives(folder: Path) -> list[bytes]:
    return [write_archive(folder / "a.zip", meetings=1, seconds=30.0).read_bytes()]


def bags(folder: Path) -> list[bytes]:
    bag = BagMaker(Script(seconds=1.0), standard_types())
    add_voices(bag)
    add_turns(bag)
    # Written again with the topics alone that have messages: the others' qualities of service take 0.3 s.
    return [rewritten(bag.write(folder / "bag"), folder / "a.mcap").read_bytes()]


def texts(*contents: str) -> Callable[[Path], list[bytes]]:
    return lambda folder: [content.encode() for content in contents]


def packets(folder: Path) -> list[bytes]:
    found = []
    for packet_format in (DynamixelFormat(), FeetechFormat()):
        replies = [Packet(number, 0, b"\x84\3\0\0", is_reply=True) for number in range(1, 6)]
        found.append(b"".join(map(packet_format.encode, replies)))
    return found


def read_packets(path: Path) -> Arrays:
    data = path.read_bytes()
    for packet_format in (DynamixelFormat(), FeetechFormat()):
        reader, fed = PacketReader(packet_format), 0
        for at in range(0, len(data), 7):
            for packet in reader.feed(data[at : at + 7]):
                fed += len(packet.parameters)
        assert fed <= len(data)
    return ()


def read_bag(path: Path) -> Arrays:
    with BagReader(path) as bag:
        for _ in bag.messages():
            pass
    return ()


def read_robot(path: Path) -> Arrays:
    robot = load_robot(path)
    return [vars(robot.limits)[name] for name in ("lower", "upper", "velocity", "acceleration")]


def read_urdf(path: Path) -> Arrays:
    model = read_drawable_urdf(path)
    return [
        np.array([joint.lower, joint.upper]) for joint in model.joints.values() if joint.lower is not None
    ]


def read_hardware_of_head(path: Path) -> Arrays:
    return [read_hardware(path, NAMES, LIMITS).park_rad]


def read_any_motion(path: Path) -> Arrays:
    track = inspect_motion(path, 2.0)[0].at_frame_rate()
    assert np.abs(track.vector[:, 50:]).max(initial=0.0) <= 3.2
    return [track.vector]


READERS = [
    Reader("WAV", sounds, mutate_bytes, lambda path: [read_wav(path).astype(float)], ".wav"),
    Reader("motion", our_motions, mutate_npz, lambda path: [read_motion(path).vector], ".npz"),
    Reader("motion of any form", motions, mutate_npz, read_any_motion, ".npz"),
    Reader("Seamless", seamless, mutate_npz, lambda path: [read_capture(path).vector], ".npz"),
    Reader("L2L", l2l, mutate_bytes, lambda path: [read_capture(path).vector], ".npy"),
    Reader("ViCo", vico, mutate_bytes, lambda path: [read_capture(path).vector], ".mat", share=0.02),
    Reader("Live Link", livelink, mutate_text, lambda path: [read_capture(path).vector], ".csv"),
    Reader("BVH", bvh, mutate_text, lambda path: [read_capture(path).vector], ".bvh"),
    Reader("AMI", archives, mutate_zip_of_text, lambda path: read_meetings(path) and (), ".zip"),
    Reader("bag", bags, mutate_bytes, read_bag, ".mcap"),
    Reader("robot", texts(ROBOT), mutate_text, read_robot, ".yaml"),
    Reader("hardware", texts(DYNAMIXEL, FEETECH), mutate_text, read_hardware_of_head, ".yaml"),
    Reader("URDF", texts(URDF), mutate_text, read_urdf, ".urdf"),
    Reader(
        "parameters",
        lambda folder: [
            b"/**:\n  ros__parameters: {a: 1.5, b: [1, 2]}\n/x/turns:\n  ros__parameters:\n    c: yes\n"
        ],
        mutate_text,
        lambda path: read_parameters(path) and (),
        ".yaml",
    ),
    Reader(
        "model configuration",
        lambda folder: [ModelConfig.of_size("tiny").to_json().encode()],
        mutate_text,
        lambda path: ModelConfig.from_json(path.read_text(encoding="utf-8")) and (),
        ".json",
    ),
    Reader("servo packets", packets, mutate_bytes, read_packets, ".bin", ()),
]


@pytest.mark.parametrize("reader", READERS, ids=[reader.name for reader in READERS])
def test_a_mutated_file_is_read_right_or_refused_by_the_documented_error(reader, tmp_path):
    (tmp_path / "two.urdf").write_text(URDF)
    try_mutated(reader, tmp_path)
