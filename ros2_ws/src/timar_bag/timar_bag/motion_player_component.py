"""Motion player component: publishes recorded motion along with its voice, as a face tracker would."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from timar_common.clock import FRAMES_PER_SECOND, NOMINAL_NS_PER_SAMPLE, SAMPLES_PER_FRAME
from timar_common.component import Component, Log, Output, Publish
from timar_common.diagnostics import Level, Report
from timar_common.messages import Message
from timar_common.restarts import Belongs, ConversationWatch
from timar_common.user_motion import user_motion_message

from timar_bag.motion_player import MotionPlayer, MotionPlayerConfig, load_motion


class MotionPlayerComponent(Component):
    """Follow the clock of user/audio; what plays there is the same recording's voice.

    Args:
        config: The file, and how a tracker would publish it.

    Raises:
        ValueError: The file cannot be played; the message names it.
    """

    NAME = "motion_player"
    Config = MotionPlayerConfig
    inputs = ("user/audio",)
    outputs = ("user/motion",)

    def __init__(self, config: MotionPlayerConfig) -> None:
        self._file = config.file
        self._track = load_motion(Path(config.file).expanduser())
        self._player = MotionPlayer(self._track, config)
        self._watch = ConversationWatch()

    def start(self, now_ns: int) -> Iterable[Output]:
        """Say what is played."""
        seconds = len(self._track.vector) / FRAMES_PER_SECOND
        return [Log(Level.OK, f"{seconds:.1f} s of the user's motion from {self._file}")]

    def handle(self, topic: str, message: Message, now_ns: int) -> Iterator[Output]:
        """Publish the frames that are known by the end of a block of the user's sound."""
        first, first_ns = int(message.first_sample), message.header.stamp
        belongs = self._watch.observe(first, len(message.samples), first_ns)
        if belongs is Belongs.OLD:
            return
        if belongs is Belongs.NEW:
            self._player.restart()
        for frames in self._player.append(first, len(message.samples)):
            distance = SAMPLES_PER_FRAME * frames.start - first
            stamp_ns = first_ns + round(distance * NOMINAL_NS_PER_SAMPLE)
            rows = slice(frames.start, frames.stop)
            motion, valid = self._track.vector[rows], self._track.valid[rows]
            yield Publish("user/motion", user_motion_message(frames.start, motion, valid, stamp_ns))

    def report(self) -> Report:
        """Return how far the motion was published."""
        return Report(
            values={
                "frames": len(self._track.vector),
                "frames_published": self._player.frames_published,
                "frames_left_out": self._player.frames_left_out,
            }
        )
