"""What every replay does with a bag's messages: ears and body as in the graph, and a place for the mind."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from timar_audio.floor import Speaker
from timar_bag.bag import BagMessage
from timar_bag.bag_time import BagTime
from timar_bag.conversation import stamp_ns
from timar_bag.out_bag import OutBag
from timar_common.clock import NOMINAL_NS_PER_SAMPLE

from timar_replay.replay_settings import ReplaySettings
from timar_replay.rooms import BodyRoom, Ears

Samples = npt.NDArray[np.int16]


class Replayer(abc.ABC):
    """Take a bag's messages one by one and write what the graph would publish.

    Args:
        settings: Of the nodes.
        time: The bag's.
        out: Where to.
    """

    def __init__(self, settings: ReplaySettings, time: BagTime, out: OutBag) -> None:
        self._time, self._out = time, out
        self._body = BodyRoom(settings.retargeting, time, out)
        self._ears = Ears(settings.turns, time, out, self._body)
        self._handlers: dict[str, Callable[[Any, int], None]] = {
            "user/audio": self._on_user,
            "agent/audio": self._on_agent,
            "agent/audio_planned": self._on_plan,
            "user/motion": self._on_motion,
            "look_at": self._body.look_at,
            "joint_targets": self._body.aim,
        }

    @property
    def reads(self) -> frozenset[str]:
        """Topics whose messages it reads."""
        return frozenset(self._handlers)

    def take(self, entry: BagMessage, now_ns: int) -> None:
        """Take a message that comes now [monotonic ns].

        Raises:
            ValueError: It cannot be true; nothing has changed then.
        """
        handler = self._handlers.get(entry.topic)
        if handler is not None:
            handler(entry.message, now_ns)

    @abc.abstractmethod
    def finish(self) -> None:
        """Do what waits at the bag's end."""

    @abc.abstractmethod
    def losses(self) -> list[str]:
        """Say what was missing or refused, one sentence each."""

    # What a subclass makes of what is heard and seen.

    @abc.abstractmethod
    def _on_user(self, message: Any, now_ns: int) -> None: ...

    @abc.abstractmethod
    def _on_plan(self, message: Any, now_ns: int) -> None: ...

    @abc.abstractmethod
    def _on_motion(self, message: Any, now_ns: int) -> None: ...

    # What it may use.

    def _on_agent(self, message: Any, now_ns: int) -> None:
        samples, stamped_ns = self._placed("agent/audio", message)
        self._hear(Speaker.AGENT, message, samples, stamped_ns, now_ns)

    def _placed(self, topic: str, message: Any) -> tuple[Samples, int]:
        """Return a block's samples, and when the first of them was heard [monotonic ns]."""
        samples = np.asarray(message.samples, np.int16)
        length_ns = round(samples.size * NOMINAL_NS_PER_SAMPLE)
        return samples, self._time.stamped(topic, stamp_ns(message), length_ns)

    def _hear(self, speaker: Speaker, message: Any, samples: Samples, stamped_ns: int, now_ns: int) -> None:
        """Let the ears hear a block."""
        self._ears.hear(
            speaker,
            int(message.first_sample),
            samples,
            sample_rate_hz=message.sample_rate,
            filled_samples=int(message.filled_samples),
            stamp_ns=stamped_ns,
            now_ns=now_ns,
        )
