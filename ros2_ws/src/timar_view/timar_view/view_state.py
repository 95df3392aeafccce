"""State of the view: joint positions and the newest stretch of the conversation, as the page shows it."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from timar_common.clock import FRAMES_PER_SECOND, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from timar_common.diagnostics import Level, Percentiles
from timar_common.messages import Message, constants

SILENCE_DBFS = -80.0
"""What is drawn where nothing was heard [dB, 0 = full scale]."""
SPEAKERS = ("user", "agent")
"""By their number in messages."""
FLOOR_STATES = {value: name for name, value in constants("FloorState").items()}
EVENTS = {
    constants("TurnEvent")[name]: name.lower()
    for name in ("START", "END", "BACKCHANNEL", "INTERRUPTED", "LOWERED", "PAUSED", "RESUMED", "JUDGED")
}
_START, _END, _BACKCHANNEL = (constants("TurnEvent")[name] for name in ("START", "END", "BACKCHANNEL"))
HOLDERS = {
    "conversation": "the conversation",
    "trajectory": "a trajectory from outside",
    "by_hand": "joint targets, by hand",
    "idle": "idle behavior",
    "stopped": "nobody: the head is stopped",
    "nobody": "nobody",
}
"""Who moves the joints, by the words of joints_held_by."""
MAX_UNKNOWN_JOINTS = 64
MAX_NODES = 32
"""Nodes whose health is kept; beyond it the one longest silent is dropped."""


@dataclasses.dataclass
class ShownSpeechTurn:
    """One speech turn on the conversation clock."""

    first_sample: int
    end_sample: int | None
    """None while it is still going on."""


class ShownEvent(NamedTuple):
    """One turn event: speaker and kind by their numbers in messages, and its sample."""

    speaker: int
    kind: int
    sample: int


class VoiceTraces(NamedTuple):
    """What the panel plots, one value per frame, oldest first."""

    time_s: npt.NDArray[np.float64]
    """(n,) conversation time [s]."""
    level_dbfs: npt.NDArray[np.float64]
    """(2, n) the loudest level within the frame, by speaker."""
    is_turn: npt.NDArray[np.bool_]
    """(2, n) whether the frame lies in a speech turn, by speaker."""


class ViewState:
    """What the page shows, bounded in memory, addressed by the conversation clock.

    A message that cannot be true raises ValueError and changes nothing.

    Args:
        joint_names: The robot's joints.
        history_s: How much of the conversation is kept [s].

    Raises:
        ValueError: The history is not positive.
    """

    def __init__(self, joint_names: Iterable[str], history_s: float) -> None:
        if not 0 < history_s < math.inf:
            raise ValueError(f"a history of {history_s} s, expected a positive number")
        self.positions: dict[str, float] = {}
        """By joint [rad or m]."""
        self.unknown_joints: set[str] = set()
        """Joints in joint_states that the robot does not have."""
        self.face: dict[str, float] = {}
        """What a screen shows now, by ARKit's names; empty: nobody says."""
        self.holder = ""
        """Who moves the joints, a key of HOLDERS; empty: nobody says."""
        self.compute_ms = Percentiles(256)
        self.lead_ms = Percentiles(256)
        """How long before its first frame is due motion comes; negative when late."""
        self.motion_messages = 0
        self.late_motions = 0
        self.health: dict[str, tuple[Level, str]] = {}
        """Level and sentence by node."""
        self._joint_names = frozenset(joint_names)
        self._frames = math.ceil(history_s * FRAMES_PER_SECOND)
        self._clear_conversation()

    def _clear_conversation(self) -> None:
        self._level = np.full((2, self._frames), SILENCE_DBFS)  # (speaker, frame mod capacity)
        self.end_sample = [0, 0]
        self.level_dbfs = [SILENCE_DBFS, SILENCE_DBFS]
        self.is_speaking = [False, False]
        self.turns = [collections.deque[ShownSpeechTurn](maxlen=64) for _ in SPEAKERS]
        self.events: collections.deque[ShownEvent] = collections.deque(maxlen=6)
        self.floor = "IDLE"
        self.floor_since_sample = 0

    def add_joint_states(self, message: Message) -> None:
        """Take a sensor_msgs/JointState."""
        joints = _finite_by_name("joint", message)
        self.positions |= {name: joints[name] for name in joints.keys() & self._joint_names}
        unknown = sorted(joints.keys() - self._joint_names - self.unknown_joints)
        self.unknown_joints.update(unknown[: MAX_UNKNOWN_JOINTS - len(self.unknown_joints)])

    def set_face(self, message: Message) -> None:
        """Take a sensor_msgs/JointState of a face's blendshapes."""
        self.face = _finite_by_name("blendshape", message)

    def set_holder(self, message: Message) -> None:
        """Take a std_msgs/String of joints_held_by."""
        if message.data not in HOLDERS:
            raise ValueError(f"the joints are held by {message.data[:40]!r}; expected {', '.join(HOLDERS)}")
        self.holder = message.data

    def add_voice_activity(self, message: Message) -> None:
        """Take a timar_msgs/VoiceActivity: level and speech of one run of sound."""
        who, first_sample, level_dbfs = (
            _speaker(message),
            int(message.first_sample),
            float(message.level_dbfs),
        )
        if first_sample < 0 or message.samples <= 0 or not math.isfinite(level_dbfs):
            raise ValueError(
                f"voice activity of {message.samples} samples at {first_sample} with level {level_dbfs} dB; "
                "expected at least one sample, a sample index of 0 or later, and a finite level"
            )
        if first_sample + SAMPLE_RATE_HZ < self.end_sample[who]:
            self._clear_conversation()  # It was reset: its clock starts from 0 again.
        frame = first_sample // SAMPLES_PER_FRAME
        previous = (self.end_sample[who] - 1) // SAMPLES_PER_FRAME
        # Frames between the last run and this one were lost, or hold what was there one round before.
        stale = range(max(previous + 1, frame - self._frames + 1), frame + 1)
        self._level[who, np.array(stale, int) % self._frames] = SILENCE_DBFS
        slot = frame % self._frames
        self._level[who, slot] = max(self._level[who, slot], min(max(level_dbfs, SILENCE_DBFS), 0.0))
        self.end_sample[who] = max(self.end_sample[who], first_sample + int(message.samples))
        self.level_dbfs[who] = level_dbfs
        self.is_speaking[who] = bool(message.is_speaking)

    def set_floor(self, message: Message) -> None:
        """Take a timar_msgs/FloorState."""
        if message.state not in FLOOR_STATES:
            raise ValueError(f"floor state {message.state}; expected {_choices(FLOOR_STATES)}")
        self.floor = FLOOR_STATES[message.state]
        self.floor_since_sample = int(message.since_sample)

    def add_turn_event(self, message: Message) -> None:
        """Take a timar_msgs/TurnEvent."""
        who, kind = _speaker(message), int(message.kind)
        first_sample, end_sample = int(message.first_sample), int(message.end_sample)
        if kind not in EVENTS:
            raise ValueError(f"turn event {kind}; expected {_choices(EVENTS)}")
        if not 0 <= first_sample <= end_sample:
            raise ValueError(
                f"a speech turn over samples [{first_sample}, {end_sample}); expected 0 <= first <= end"
            )
        is_over = kind in (_END, _BACKCHANNEL)
        if is_over or kind == _START:
            self._follow_speech_turn(who, first_sample, end_sample if is_over else None)
        self.events.append(ShownEvent(who, kind, end_sample if is_over else first_sample))

    def _follow_speech_turn(self, who: int, first_sample: int, end_sample: int | None) -> None:
        turns = self.turns[who]
        if turns and turns[-1].first_sample == first_sample:
            turns[-1].end_sample = end_sample
            return
        if turns and turns[-1].end_sample is None:
            turns[-1].end_sample = first_sample  # Its own end was lost on the way.
        turns.append(ShownSpeechTurn(first_sample, end_sample))

    def add_motion(self, message: Message, now_ns: int) -> None:
        """Take a timar_msgs/HeadMotion: what it took to compute, and how early it came."""
        if message.is_preview:
            return
        compute_ms, lead_ms = float(message.compute_ms), (message.header.stamp - now_ns) / 1e6
        if not math.isfinite(compute_ms):
            raise ValueError(f"motion that took {compute_ms} ms to compute; expected a finite number")
        self.compute_ms.add(compute_ms)
        self.lead_ms.add(lead_ms)
        self.motion_messages += 1
        self.late_motions += lead_ms < 0

    def set_health(self, message: Message) -> None:
        """Take a diagnostic_msgs/DiagnosticArray."""
        for status in message.status:
            self.health.pop(status.name, None)
            self.health[status.name] = (Level(min(status.level, Level.ERROR)), status.message)
        while len(self.health) > MAX_NODES:
            self.health.pop(next(iter(self.health)))

    def traces(self) -> VoiceTraces:
        """Return the newest stretch up to the newest sound heard from either side."""
        end_frame = max(max(self.end_sample) // SAMPLES_PER_FRAME, self._frames)
        frames = np.arange(end_frame - self._frames, end_frame)  # (n,)
        level = self._level[:, frames % self._frames].copy()  # (2, n)
        is_turn = np.zeros((2, self._frames), np.bool_)
        for who in range(len(SPEAKERS)):
            level[who, frames * SAMPLES_PER_FRAME >= self.end_sample[who]] = SILENCE_DBFS
            for turn in self.turns[who]:
                end = max(self.end_sample) if turn.end_sample is None else turn.end_sample
                first_frame = turn.first_sample // SAMPLES_PER_FRAME
                is_turn[who] |= (frames >= first_frame) & (frames * SAMPLES_PER_FRAME < end)
        return VoiceTraces(frames / FRAMES_PER_SECOND, level, is_turn)


def _finite_by_name(what: str, message: Message) -> dict[str, float]:
    if len(message.name) != len(message.position):
        raise ValueError(
            f"{len(message.name)} {what} names came with {len(message.position)} positions; expected as many"
        )
    values = dict(zip(message.name, map(float, message.position), strict=True))
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"{what} {name} stands at {value}; expected a finite number")
    return values


def _speaker(message: Message) -> int:
    if message.speaker not in range(len(SPEAKERS)):
        raise ValueError(f"speaker {message.speaker}; expected {_choices(dict(enumerate(SPEAKERS)))}")
    return int(message.speaker)


def _choices(names: dict[int, str]) -> str:
    return ", ".join(f"{value} ({name})" for value, name in names.items())
