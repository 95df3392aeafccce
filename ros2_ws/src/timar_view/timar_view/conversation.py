"""The newest stretch of a conversation, as the panel shows it: voices, turns, floor, latency, health."""

from __future__ import annotations

import collections
import dataclasses
import enum
import math

import numpy as np
import numpy.typing as npt
from timar_common.clock import FRAMES_PER_SECOND, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from timar_common.diagnostics import Level, Percentiles

QUIET_DBFS = -80.0
"""What is drawn where nothing was heard [dB, 0 = full scale]."""


class Speaker(enum.IntEnum):
    """As in timar_msgs."""

    USER = 0
    AGENT = 1


class Floor(enum.IntEnum):
    """As in timar_msgs/FloorState."""

    IDLE = 0
    USER = 1
    AGENT = 2
    BOTH = 3


class Mark(enum.IntEnum):
    """As in timar_msgs/TurnEvent."""

    START = 0
    END = 1
    BACKCHANNEL = 2
    BARGE_IN = 3


@dataclasses.dataclass
class SpeechTurn:
    """One speech turn on the conversation clock."""

    first_sample: int
    end_sample: int | None
    """None while it is still going on."""


@dataclasses.dataclass(frozen=True)
class TurnMark:
    """One turn event."""

    speaker: Speaker
    kind: Mark
    sample: int


@dataclasses.dataclass(frozen=True)
class Traces:
    """What the panel plots, one value per frame, oldest first."""

    time_s: npt.NDArray[np.float64]
    """(n,) conversation time [s]."""
    level_dbfs: npt.NDArray[np.float64]
    """(2, n) the loudest level within the frame, by speaker."""
    is_turn: npt.NDArray[np.bool_]
    """(2, n) whether the frame lies in a speech turn, by speaker."""


class Conversation:
    """Keep what the panel needs, bounded in memory, addressed by the conversation clock.

    Args:
        history_s: How much is kept [s].
    """

    def __init__(self, history_s: float) -> None:
        self._frames = math.ceil(history_s * FRAMES_PER_SECOND)
        self.compute_ms = Percentiles(256)
        self.lead_ms = Percentiles(256)
        self.motion_messages = 0
        self.late_motions = 0
        self.health: dict[str, tuple[Level, str]] = {}
        self._clear()

    def hear(
        self, speaker: int, first_sample: int, samples: int, level_dbfs: float, is_speaking: bool
    ) -> None:
        """Take in what voice activity detection says about one run of sound.

        Raises:
            ValueError: The speaker is unknown, the run is empty or before the conversation, or the level is
                not finite.
        """
        who = _speaker(speaker)
        if first_sample < 0 or samples <= 0 or not math.isfinite(level_dbfs):
            raise ValueError(
                f"voice activity of {samples} samples at {first_sample} with level {level_dbfs} dB; expected "
                "at least one sample, a place of 0 or later, and a finite level"
            )
        if first_sample + SAMPLE_RATE_HZ < self.end_sample[who]:
            self._clear()  # The conversation was reset: its clock starts anew.
        frame = first_sample // SAMPLES_PER_FRAME
        previous = (self.end_sample[who] - 1) // SAMPLES_PER_FRAME
        stale = range(max(previous + 1, frame - self._frames + 1), frame + 1)
        self._level[who, np.array(stale, int) % self._frames] = QUIET_DBFS
        place = frame % self._frames
        self._level[who, place] = max(self._level[who, place], min(max(level_dbfs, QUIET_DBFS), 0.0))
        self.end_sample[who] = max(self.end_sample[who], first_sample + samples)
        self.level_dbfs[who] = level_dbfs
        self.is_speaking[who] = is_speaking

    def take_floor(self, state: int, since_sample: int) -> None:
        """Take in who holds the floor.

        Raises:
            ValueError: The state is unknown.
        """
        if state not in Floor.__members__.values():
            raise ValueError(f"floor state {state}; expected {_names(Floor)}")
        self.floor = Floor(state)
        self.floor_since_sample = since_sample

    def mark(self, speaker: int, kind: int, first_sample: int, end_sample: int) -> None:
        """Take in a turn event.

        Raises:
            ValueError: Speaker or kind is unknown, or the speech turn is reversed or before the conversation.
        """
        who = _speaker(speaker)
        if kind not in Mark.__members__.values():
            raise ValueError(f"turn event {kind}; expected {_names(Mark)}")
        if not 0 <= first_sample <= end_sample:
            raise ValueError(
                f"a speech turn over samples [{first_sample}, {end_sample}); expected 0 <= first <= end"
            )
        is_over = kind in (Mark.END, Mark.BACKCHANNEL)
        turns = self.turns[who]
        if turns and turns[-1].first_sample == first_sample:
            turns[-1].end_sample = end_sample if is_over else None
        elif kind != Mark.BARGE_IN or not turns or turns[-1].end_sample is not None:
            if turns and turns[-1].end_sample is None:
                turns[-1].end_sample = first_sample  # Its own end was lost on the way.
            turns.append(SpeechTurn(first_sample, end_sample if is_over else None))
        self.marks.append(TurnMark(who, Mark(kind), end_sample if is_over else first_sample))

    def take_motion(self, compute_ms: float, lead_ms: float) -> None:
        """Take in that a run of motion came.

        Args:
            compute_ms: What its generation took [ms].
            lead_ms: How long before its first frame is due it came; negative when late [ms].

        Raises:
            ValueError: A number is not finite.
        """
        if not (math.isfinite(compute_ms) and math.isfinite(lead_ms)):
            raise ValueError(
                f"motion that took {compute_ms} ms and came {lead_ms} ms early; expected finite numbers"
            )
        self.compute_ms.add(compute_ms)
        self.lead_ms.add(lead_ms)
        self.motion_messages += 1
        self.late_motions += lead_ms < 0

    def take_health(self, name: str, level: int, message: str, capacity: int = 32) -> None:
        """Take in one component's diagnostics; beyond the capacity the one longest silent is forgotten."""
        self.health.pop(name, None)
        self.health[name] = (Level(min(max(level, Level.OK), Level.ERROR)), message)
        while len(self.health) > capacity:
            self.health.pop(next(iter(self.health)))

    def traces(self) -> Traces:
        """Return the newest stretch up to the newest sound heard from either side."""
        end_frame = max(max(self.end_sample) // SAMPLES_PER_FRAME, self._frames)
        frames = np.arange(end_frame - self._frames, end_frame)
        level = self._level[:, frames % self._frames].copy()
        for who in Speaker:
            level[who, frames * SAMPLES_PER_FRAME >= self.end_sample[who]] = QUIET_DBFS
        is_turn = np.zeros((2, self._frames), np.bool_)
        for who in Speaker:
            for turn in self.turns[who]:
                end = max(self.end_sample) if turn.end_sample is None else turn.end_sample
                first_frame = turn.first_sample // SAMPLES_PER_FRAME
                is_turn[who] |= (frames >= first_frame) & (frames * SAMPLES_PER_FRAME < end)
        return Traces(frames / FRAMES_PER_SECOND, level, is_turn)

    def _clear(self) -> None:
        self._level = np.full((2, self._frames), QUIET_DBFS)
        self.end_sample = [0, 0]
        self.level_dbfs = [QUIET_DBFS, QUIET_DBFS]
        self.is_speaking = [False, False]
        self.turns = {who: collections.deque[SpeechTurn](maxlen=64) for who in Speaker}
        self.marks: collections.deque[TurnMark] = collections.deque(maxlen=6)
        self.floor = Floor.IDLE
        self.floor_since_sample = 0


def _speaker(value: int) -> Speaker:
    if value not in Speaker.__members__.values():
        raise ValueError(f"speaker {value}; expected {_names(Speaker)}")
    return Speaker(value)


def _names(kind: type[enum.IntEnum]) -> str:
    return ", ".join(f"{item.value} ({item.name})" for item in kind)
