"""Plays a bag at its own pace: which message is due when, and what /clock shows. Time is an argument."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from timar_common.clock import NS_PER_S
from timar_common.config import check, option
from timar_common.messages import converted, encode, stamp_ns

from timar_bag.bag import BagReader
from timar_bag.bag_time import TWO_CLOCKS_NS, BagTime
from timar_bag.graph_inputs import HEARD, GraphInputs
from timar_bag.ground_truth import KNOWN_TOPICS


@dataclasses.dataclass(frozen=True)
class LiveConfig:
    """What is played, how fast, and for whom it waits."""

    bag: str = option("", "The rosbag2 folder, .mcap or .db3 file to play.")
    bag_namespace: str = option(
        "", "Namespace of the robot in the bag; empty: the only one. It is played under the node's own."
    )
    user_sound: str = option("", "Topic of the user's voice, in a bag of other packages' nodes.")
    agent_sound: str = option("", "Topic of the head's own voice in such a bag.")
    sound_layout: str = option(
        "",
        "What its plain bytes mean where nothing in it says so, such as S16LE,16000,1 (format, Hz, "
        "channels).",
    )
    topics: str = option(
        "heard",
        "heard: what a graph started with replay:=true hears; all: every recorded topic, to look at.",
        choices=("heard", "all"),
    )
    rate: float = option(
        1.0, "Speed against real time; other than 1 only with topics=all.", minimum=0.05, maximum=20.0
    )
    clock_hz: float = option(
        100.0, "Messages on /clock in a second of real time.", unit="Hz", minimum=10.0, maximum=1000.0
    )
    lead_s: float = option(
        1.0, "So long /clock runs before the first message and after the last.", unit="s", minimum=0.0,
        maximum=60.0,
    )  # fmt: skip
    wait_for_nodes: int = option(
        4, "Active nodes of this robot to wait for; turns, inference, retargeting and driver are four.",
        minimum=0, maximum=100,
    )  # fmt: skip
    wait_timeout_s: float = option(
        120.0, "After this the play is given up (nobody listens) or begins with a warning.", unit="s",
        minimum=0.0, maximum=3600.0,
    )  # fmt: skip
    pauses_on_enter: bool = option(False, "Pause and go on when Enter is pressed in the terminal.")

    def __post_init__(self) -> None:
        check(self)
        if self.rate != 1.0 and self.topics == "heard":
            raise ValueError(
                f"LiveConfig.rate is {self.rate:g} with topics='heard', expected 1: the running nodes keep "
                "real time, and so must what they hear; with topics='all' a recording is played at any rate"
            )


class LiveMessage(NamedTuple):
    """A message to publish."""

    topic: str
    """Name as in the table of topics."""
    at_ns: int
    """When, on a time that never goes back [ns]."""
    clock_ns: int
    """What /clock shows then [ns]."""
    data: bytes


class LiveBag:
    """The messages of a bag as they are played; use it in a ``with`` block.

    A damaged bag is played as far as it can be read, and what it lacks is made up for as in a replay.
    """

    def __init__(self, config: LiveConfig) -> None:
        self._config = config
        self._reader = BagReader(Path(config.bag).expanduser(), config.bag_namespace or None)
        self.notes: list[str] = []
        """One sentence for each thing that was made up for."""
        self.topics: tuple[str, ...] = ()
        """What will be published, names as in the table of topics."""

    def __enter__(self) -> LiveBag:
        """Open the bag.

        Raises:
            FileNotFoundError: There is no bag.
            ValueError: It cannot be read, or holds nothing to play.
        """
        self._reader.__enter__()
        config = self._config
        self._inputs = GraphInputs(self._reader, config.user_sound, config.agent_sound, config.sound_layout)
        if self._config.topics == "heard":
            found = {name for name in HEARD if self._inputs.has(name)}
            found |= {"agent/audio_planned"} if "agent/audio" in found else set()
            self.notes = list(self._inputs.notes)
        else:
            found = {name for name in KNOWN_TOPICS if self._reader.has_messages(name)}
        if not found:
            self.close()
            raise ValueError(f"{self._reader.path} holds nothing to play; topics is {self._config.topics!r}")
        self.topics = tuple(sorted(found))
        self._stamps_ahead_ns = self._find_stamps_ahead_ns()
        return self

    def __exit__(self, *error: object) -> None:
        """Close the bag."""
        self.close()

    def close(self) -> None:
        """Close the bag; safe to call more than once."""
        self._reader.close()

    def issues(self) -> list[str]:
        """Return what could not be read; complete when all was played."""
        return self._reader.issues + self._inputs.issues()

    def messages(self) -> Iterator[LiveMessage]:
        """Yield what is published, in order."""
        time = BagTime()
        for entry, data in self._inputs.messages(self.topics):
            if entry.topic not in self.topics:
                continue
            at_ns = time.arrive(entry.receive_ns)
            if data is None:
                type_name = KNOWN_TOPICS[entry.topic].type_name
                data = encode(converted(entry.message, type_name), int)
            yield LiveMessage(entry.topic, at_ns, entry.receive_ns + self._stamps_ahead_ns, data)

    def _find_stamps_ahead_ns(self) -> int:
        """Return by how much the stamps' clock is ahead of the recorder's; 0 when it is the same one."""
        for entry, _ in self._inputs.messages({"user/audio", "user/audio_raw"}):
            samples, rate = entry.message.samples, entry.message.sample_rate
            end_ns = stamp_ns(entry.message) + round(len(samples) * NS_PER_S / max(int(rate), 1))
            ahead_ns = end_ns - entry.receive_ns
            if abs(ahead_ns) > TWO_CLOCKS_NS:
                self.notes.append(
                    f"stamps are {ahead_ns / NS_PER_S:+.3f} s from the times of arrival; /clock follows them"
                )
                return ahead_ns
            return 0
        return 0


class Pace:
    """The bag's time against the machine's: it runs, stands while paused, and runs on.

    Args:
        begin_ns: Where the bag's time begins [ns].
        rate: How fast it runs.
        now_ns: Machine time, CLOCK_MONOTONIC [ns].
    """

    def __init__(self, begin_ns: int, rate: float, now_ns: int) -> None:
        self.is_paused = False
        self._rate = rate
        self._bag_ns, self._since_ns = begin_ns, now_ns

    def at_ns(self, now_ns: int) -> int:
        """Return the bag's time now [ns]."""
        passed_ns = 0 if self.is_paused else round((now_ns - self._since_ns) * self._rate)
        return self._bag_ns + passed_ns

    def until_ns(self, at_ns: int, now_ns: int) -> int | None:
        """Return how long it takes until the bag's time is there [ns]; None while paused."""
        return None if self.is_paused else max(0, round((at_ns - self.at_ns(now_ns)) / self._rate))

    def pause(self, is_paused: bool, now_ns: int) -> None:
        """Stand still, or run on."""
        self._bag_ns, self._since_ns = self.at_ns(now_ns), now_ns
        self.is_paused = is_paused


class LivePlayer:
    """Tell what is due of a bag: its messages, and what /clock shows.

    Args:
        messages: As `LiveBag.messages` yields them.
        config: Rate and lead.
        now_ns: Machine time, CLOCK_MONOTONIC [ns].

    Raises:
        ValueError: There is no message.
    """

    def __init__(self, messages: Iterator[LiveMessage], config: LiveConfig, now_ns: int) -> None:
        self.played = 0
        self.latest_ns = 0
        """By how much the latest message missed its time, in real time [ns]."""
        self._messages = messages
        self._config = config
        first = next(messages, None)
        if first is None:
            raise ValueError("no message of the bag can be read; there is nothing to play")
        self._next: LiveMessage | None = first
        self._newest = first
        self._begin_ns = first.at_ns
        self.pace = Pace(first.at_ns - self._lead_ns, config.rate, now_ns)

    @property
    def _lead_ns(self) -> int:
        return round(self._config.lead_s * self._config.rate * NS_PER_S)

    @property
    def played_s(self) -> float:
        """How much of the bag was played [s]."""
        return (self._newest.at_ns - self._begin_ns) / NS_PER_S

    def is_over(self, now_ns: int) -> bool:
        """Tell whether everything was played and /clock has run on for the lead."""
        return self._next is None and self.pace.at_ns(now_ns) >= self._newest.at_ns + self._lead_ns

    def clock_ns(self, now_ns: int) -> int:
        """Return what /clock shows now [ns]: the bag's own ROS time."""
        return self._newest.clock_ns + self.pace.at_ns(now_ns) - self._newest.at_ns

    def due(self, now_ns: int) -> LiveMessage | None:
        """Return the next message that is due, or None when none is; call it until then."""
        message = self._next
        if message is None or message.at_ns > self.pace.at_ns(now_ns):
            return None
        self.latest_ns = max(
            self.latest_ns, round((self.pace.at_ns(now_ns) - message.at_ns) / self._config.rate)
        )
        self._newest, self._next = message, next(self._messages, None)
        self.played += 1
        return message

    def sleep_ns(self, now_ns: int) -> int:
        """Return how long nothing is to be done but for /clock [ns]."""
        period_ns = round(NS_PER_S / self._config.clock_hz)
        wait_ns = None if self._next is None else self.pace.until_ns(self._next.at_ns, now_ns)
        return period_ns if wait_ns is None else min(period_ns, wait_ns)
