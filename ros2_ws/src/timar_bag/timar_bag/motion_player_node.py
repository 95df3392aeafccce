"""The user's face from a file: publish recorded motion on user/motion, along with the recorded voice."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from timar_common.base_node import BaseNode, run
from timar_common.clock import FRAMES_PER_SECOND, NOMINAL_NS_PER_SAMPLE, SAMPLES_PER_FRAME
from timar_common.diagnostics import Report
from timar_common.messages import encode
from timar_common.restarts import Belongs, ConversationWatch
from timar_common.user_motion import user_motion_message

from timar_bag.motion_player import MotionPlayer, MotionPlayerConfig, load_motion


class MotionPlayerNode(BaseNode):
    """Follow the clock of user/audio; what plays there is the same recording's voice."""

    NAME: ClassVar[str] = "motion_player"
    Config: ClassVar[type] = MotionPlayerConfig

    def build(self) -> None:
        """Read the file."""
        track = load_motion(Path(self.config.file).expanduser())
        self._player = MotionPlayer(track, self.config)
        self._watch = ConversationWatch()
        self._publisher = self.create_topic_publisher("user/motion")
        self.create_topic_subscription("user/audio", self._on_audio)
        seconds = len(track.motion) / FRAMES_PER_SECOND
        self.get_logger().info(f"{seconds:.1f} s of the user's motion from {self.config.file}")

    def report(self) -> Report:
        """Say how far the motion was told."""
        return self._player.report()

    def _on_audio(self, message: Any) -> None:
        first_ns = self.monotonic_ns(message.header)
        belongs = self._watch.observe(message.first_sample, len(message.samples), first_ns)
        if belongs is Belongs.OLD:
            return
        if belongs is Belongs.NEW:
            self._player.restart()
        for frames in self._player.hear(message.first_sample, len(message.samples)):
            distance = SAMPLES_PER_FRAME * frames.first_frame - message.first_sample
            frames_ns = first_ns + round(distance * NOMINAL_NS_PER_SAMPLE)
            told = user_motion_message(frames.first_frame, frames.motion, frames.valid, frames_ns)
            self._publisher.publish(encode(told, self.anchor.ros_ns))


def main() -> int:
    """Run the node until a signal."""
    return run([MotionPlayerNode])
