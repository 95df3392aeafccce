"""A conversation whose every number is known by hand, written as a bag by the project's own writer."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.typesys.store import Typestore
from timar_bag.bag_writer import BagWriter
from timar_common.messages import standard_types
from timar_common.topics import TOPICS

BEGIN_NS = 1_700_000_000_123_456_789
"""ROS time of sample 0."""
NS_PER_SAMPLE = 62_500
BLOCK = 320
TURN_FRAMES = 5
MARGIN_FRAMES = 2
MS = 1_000_000
GENERATE, COMMIT_UNSAMPLED = 0, 1


@dataclasses.dataclass(frozen=True)
class Script:
    """What happens in the conversation."""

    seconds: float = 6.0
    lost_blocks: tuple[int, ...] = ()
    """Blocks of the user's sound that never came."""
    filled_blocks: tuple[int, ...] = ()
    """Blocks the sender filled with silence."""
    repeated_blocks: tuple[int, ...] = ()
    late_turns: tuple[int, ...] = ()
    """Turns (counted from 0) that take 150 ms instead of 30."""
    unsampled_turns: tuple[int, ...] = ()
    has_previews: bool = False
    """Whether each turn is followed by a guess, a wrong one, at the frames after it."""
    jaw_delay_ms: float = 0.0
    jaw_sign: float = 1.0
    omit: tuple[str, ...] = ()
    """Topics without a message."""
    namespace: str = ""
    seed: int = 0


def sample_ns(sample: float) -> int:
    return BEGIN_NS + round(sample * NS_PER_SAMPLE)


def level_dbfs(seconds: np.ndarray) -> np.ndarray:
    """The agent's level: a slow sine in decibels."""
    return -30.0 + 15.0 * np.sin(2 * math.pi * 1.5 * seconds)


def jaw_rad(seconds: np.ndarray, script: Script) -> np.ndarray:
    """The jaw follows the level in decibels, `jaw_delay_ms` later."""
    return 0.2 + script.jaw_sign * 0.01 * (level_dbfs(seconds - script.jaw_delay_ms / 1e3) + 30.0)


def neck_yaw_rad(seconds: np.ndarray) -> np.ndarray:
    return 0.25 * np.sin(2 * math.pi * 0.5 * seconds)


class BagMaker:
    """Collect messages in any order; write them in order of arrival."""

    def __init__(self, script: Script, types: Typestore) -> None:
        self.script = script
        self._types = types
        self._entries: list[tuple[int, int, str, bytes]] = []

    def add(self, topic: str, receive_ns: int, message: Any) -> None:
        data = bytes(self._types.serialize_cdr(message, TOPICS[topic].type_name))
        self._entries.append((receive_ns, len(self._entries), topic, data))

    def make(self, type_name: str, **fields: Any) -> Any:
        """Make a message; what is not named is zero or empty."""
        fields = {name: self._default(kind) for name, kind in self._fields(type_name)} | fields
        return self._types.types[type_name](**fields)

    def drop(self, topic: str, places: slice = slice(None)) -> None:
        """Forget some messages of a topic, counted in the order they were added."""
        gone = [entry for entry in self._entries if entry[2] == topic][places]
        self._entries = [entry for entry in self._entries if entry not in gone]

    def samples(self, count: int) -> np.ndarray:
        return np.zeros(count, np.int16)

    def header(self, stamp_ns: int, frame_id: str = "") -> Any:
        stamp = self.make("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
        return self.make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)

    def write(self, path: Path) -> Path:
        prefix = self.script.namespace
        names = {n: n if n.startswith("/") else f"{prefix}/{n}" for n in TOPICS if n not in self.script.omit}
        writer = BagWriter(path)
        writer.open((full, TOPICS[name]) for name, full in names.items())
        for receive_ns, _, topic, data in sorted(self._entries):
            if topic in names:
                writer.write(names[topic], receive_ns, data)
        writer.close()
        return path

    def _fields(self, type_name: str) -> list[tuple[str, Any]]:
        return self._types.fielddefs[type_name][1]

    def _default(self, kind: Any) -> Any:
        node, detail = int(kind[0]), kind[1]
        if node == 1:
            return "" if detail[0] == "string" else False if detail[0] == "bool" else 0
        if node == 2:
            return self.make(detail)
        inner = detail[0]
        if int(inner[0]) == 1 and inner[1][0] != "string":
            return np.zeros(0, np.dtype(inner[1][0].replace("bool", "bool_")))
        return []


def add_voices(bag: BagMaker) -> None:
    script = bag.script
    blocks = round(script.seconds * 16_000) // BLOCK
    rng = np.random.default_rng(script.seed)
    seconds = np.arange(blocks * BLOCK) / 16_000
    carrier = np.sqrt(2.0) * np.sin(2 * math.pi * 400.0 * seconds)
    agent = np.rint(32767 * 10 ** (level_dbfs(seconds) / 20) * carrier).astype(np.int16)
    user = rng.integers(-3000, 3000, blocks * BLOCK).astype(np.int16)
    for block in range(blocks):
        first = block * BLOCK
        part = slice(first, first + BLOCK)
        receive_ns = sample_ns(first + BLOCK) + MS
        heard = bag.make(
            "timar_msgs/msg/AudioChunk", header=bag.header(sample_ns(first), "loudspeaker"),
            sample_rate=16_000, first_sample=first, samples=agent[part],
        )  # fmt: skip
        bag.add("agent/audio", receive_ns, heard)
        if block in script.lost_blocks:
            continue
        is_filled = block in script.filled_blocks
        said = bag.make(
            "timar_msgs/msg/AudioChunk", header=bag.header(sample_ns(first), "microphone"),
            sample_rate=16_000, first_sample=first, filled_samples=BLOCK * is_filled, samples=user[part] *
            (not is_filled),
        )  # fmt: skip
        for again in range(1 + (block in script.repeated_blocks)):
            bag.add("user/audio_raw", receive_ns + again, said)
            bag.add("user/audio", receive_ns + again, said)


def add_turns(bag: BagMaker) -> None:
    script = bag.script
    for turn in range(round(script.seconds * 25) // TURN_FRAMES):
        first_frame = turn * TURN_FRAMES
        user_end = 640 * (first_frame - MARGIN_FRAMES)
        is_late, is_unsampled = turn in script.late_turns, turn in script.unsampled_turns
        compute_ms = 150.0 if is_late else 30.0 + turn % 3
        begin_ns = sample_ns(max(user_end, 0)) + MS
        done_ns = begin_ns + round(compute_ms * MS)
        log = bag.make(
            "timar_msgs/msg/TurnLog", header=bag.header(done_ns, "head"), conversation_id="a", sequence=turn,
            decision=COMMIT_UNSAMPLED if is_unsampled else GENERATE, first_frame=first_frame,
            frames=TURN_FRAMES, user_first_sample=user_end - 640 * TURN_FRAMES, user_end_sample=user_end,
            agent_first_sample=640 * first_frame, agent_end_sample=640 * (first_frame + TURN_FRAMES),
            is_late=is_late, queue_ms=1.0, speech_ms=2.0, backbone_ms=3.0, head_ms=4.0, compute_ms=compute_ms,
            engine="torch-float32", model_sha256="ab" * 32,
        )  # fmt: skip
        bag.add("turn_log", done_ns, log)
        if not is_unsampled:
            add_motion(bag, first_frame, done_ns, compute_ms)
        if script.has_previews:
            add_preview(bag, first_frame + TURN_FRAMES, done_ns + 10 * MS)


def add_preview(bag: BagMaker, first_frame: int, done_ns: int) -> None:
    header = bag.header(sample_ns(640 * first_frame), "head")
    wrong = np.full(3 * TURN_FRAMES, 0.3, np.float32)
    guess = bag.make(
        "timar_msgs/msg/HeadMotion", header=header, conversation_id="a", first_frame=first_frame, fps=25.0,
        frames=TURN_FRAMES, expression=np.zeros(50 * TURN_FRAMES, np.float32), jaw=wrong, neck=wrong,
        compute_ms=900.0, is_preview=True,
    )  # fmt: skip
    bag.add("agent/motion", done_ns, guess)


def add_motion(bag: BagMaker, first_frame: int, done_ns: int, compute_ms: float) -> None:
    shown_ns = sample_ns(640 * first_frame)
    seconds = (first_frame + np.arange(TURN_FRAMES)) / 25
    jaw, neck = np.zeros((TURN_FRAMES, 3), np.float32), np.zeros((TURN_FRAMES, 3), np.float32)
    jaw[:, 0] = jaw_rad(seconds, bag.script)
    neck[:, 1] = neck_yaw_rad(seconds)
    motion = bag.make(
        "timar_msgs/msg/HeadMotion", header=bag.header(shown_ns, "head"), conversation_id="a",
        first_frame=first_frame, fps=25.0, frames=TURN_FRAMES, final_until_frame=first_frame,
        expression=np.zeros(50 * TURN_FRAMES, np.float32), jaw=jaw.ravel(), neck=neck.ravel(),
        compute_ms=compute_ms,
    )  # fmt: skip
    bag.add("agent/motion", done_ns, motion)
    add_command(bag, done_ns + 2 * MS, shown_ns + 400 * MS)


def add_command(bag: BagMaker, begin_ns: int, end_ns: int) -> None:
    points = []
    for offset_ns in range(0, max(end_ns - begin_ns, 0) + 1, 20 * MS):
        seconds = np.array((begin_ns + offset_ns - BEGIN_NS) / 1e9)
        after = bag.make("builtin_interfaces/msg/Duration", sec=offset_ns // 10**9, nanosec=offset_ns % 10**9)
        positions = np.array([jaw_rad(seconds, bag.script), neck_yaw_rad(seconds)])
        fields = {"positions": positions, "velocities": np.zeros(2), "time_from_start": after}
        points.append(bag.make("trajectory_msgs/msg/JointTrajectoryPoint", **fields))
    message = bag.make(
        "trajectory_msgs/msg/JointTrajectory", header=bag.header(begin_ns), joint_names=["jaw", "neck_yaw"],
        points=points,
    )  # fmt: skip
    bag.add("joint_trajectory", begin_ns, message)


def add_states(bag: BagMaker) -> None:
    for tick in range(round(bag.script.seconds * 50)):
        stamp_ns = BEGIN_NS + tick * 20 * MS
        seconds = np.array(tick / 50)
        message = bag.make(
            "sensor_msgs/msg/JointState", header=bag.header(stamp_ns), name=["jaw", "neck_yaw"],
            position=np.array([jaw_rad(seconds, bag.script), neck_yaw_rad(seconds)]),
        )  # fmt: skip
        bag.add("joint_states", stamp_ns + MS // 2, message)


def add_floor(bag: BagMaker) -> None:
    """Idle for a second, the user for two, both for half a second, the agent to the end."""
    for since, state in ((0, 0), (16_000, 1), (48_000, 3), (56_000, 2)):
        message = bag.make(
            "timar_msgs/msg/FloorState", header=bag.header(sample_ns(since)), state=state, since_sample=since
        )
        bag.add("floor", sample_ns(since) + 50 * MS, message)
    for speaker, kind, first, end in ((0, 0, 16_000, 16_000), (1, 0, 48_000, 48_000), (0, 1, 16_000, 56_000)):
        message = bag.make(
            "timar_msgs/msg/TurnEvent", header=bag.header(sample_ns(end)), speaker=speaker, kind=kind,
            first_sample=first, end_sample=end,
        )  # fmt: skip
        bag.add("turn_events", sample_ns(end) + 60 * MS, message)


@pytest.fixture(scope="session")
def types() -> Typestore:
    return standard_types()


@pytest.fixture(scope="session")
def make_bag(types: Typestore, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that writes the conversation of a script, once, and returns its bag (read only)."""

    made: dict[tuple, Path] = {}

    def make(change: Callable[[BagMaker], None] | None = None, **script: Any) -> Path:
        key = (change, *sorted(script.items()))
        if key not in made:
            bag = BagMaker(Script(**script), types)
            for part in (add_voices, add_turns, add_states, add_floor):
                part(bag)
            if change is not None:
                change(bag)
            made[key] = bag.write(tmp_path_factory.mktemp("bag") / "conversation")
        return made[key]

    return make
