"""Adapter node to ROS4HRI (REP-155): the user's voice under /humans/voices."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import numpy as np
from rclpy.qos import QoSProfile
from std_msgs.msg import Bool
from timar_common.base_node import BaseNode, run
from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.diagnostics import Level, Report
from timar_msgs.msg import VoiceActivity

from timar_audio.adapters import Ros4HriConfig, VoiceTracker
from timar_audio.audio_common_node import audio_common
from timar_audio.external_audio import fill_audio_data, fill_info, info_topic

_DEPTH = 50


class Ros4HriNode(BaseNode):
    """Publish which voice is tracked, whether it speaks, and its sound."""

    NAME: ClassVar[str] = "ros4hri"
    Config: ClassVar[type] = Ros4HriConfig

    def build(self) -> None:
        """Find the packages, make the list of voices."""
        try:
            from hri_msgs.msg import IdsList
        except ImportError as error:
            raise OSError(f"hri_msgs is not installed ({error}); install it, and source it") from error
        try:
            self._messages: Any = audio_common()
        except OSError as error:
            self._messages = None
            self.get_logger().warning(f"{error}; voices are published without their audio")
        self._ids_list = IdsList
        self._tracker = VoiceTracker(self.config.forget_after_s)
        self._voices = 0
        self._is_speaking: Any = None
        self._sound: Any = None
        self._info: Any = None
        self._published_ns = 0
        self._tracked = self.create_external_publisher(
            IdsList, f"{self.config.humans}/voices/tracked", QoSProfile(depth=1)
        )
        self.create_topic_subscription("voice_activity", self._on_activity)
        if self._messages is not None:
            self.create_topic_subscription("user/audio", self._on_audio)
        self.create_steady_timer(1.0, self._publish_tracked)

    def release(self) -> None:
        """Drop the voice's own topics."""
        self._drop_voice()

    def report(self) -> Report:
        """Say which voice is tracked."""
        voice = self._tracker.voice
        report = Report(values={"voice": voice.id if voice else "", "voices": self._voices})
        if self._messages is None:
            report.worsen(
                Level.WARN, "no audio_common_msgs is installed: voices are published without their audio"
            )
        return report

    def _on_activity(self, message: Any) -> None:
        if message.speaker != VoiceActivity.USER:
            return
        before = self._tracker.voice
        has_changed = self._tracker.observe(message.first_sample + message.samples, message.is_speaking)
        voice = self._tracker.voice
        if (voice and voice.id) != (before and before.id):
            self._drop_voice()
            if voice is not None:
                self._make_voice(voice.id)
            self._publish_tracked()
        now_ns = time.monotonic_ns()
        is_due = now_ns - self._published_ns >= self.config.repeat_ms * 1_000_000
        if voice is not None and (has_changed or is_due):
            self._published_ns = now_ns
            self._is_speaking.publish(Bool(data=voice.is_speaking))
            if self._info is not None:
                self._info.publish(fill_info(self._messages.AudioInfo(), SAMPLE_RATE_HZ, 0))

    def _on_audio(self, message: Any) -> None:
        if self._sound is not None:
            samples = np.frombuffer(message.samples, np.int16)
            self._sound.publish(fill_audio_data(self._messages.AudioData(), samples))

    def _make_voice(self, voice_id: str) -> None:
        self._voices += 1
        namespace = f"{self.config.humans}/voices/{voice_id}"
        qos = QoSProfile(depth=_DEPTH)
        self._is_speaking = self.create_publisher(Bool, f"{namespace}/is_speaking", qos)
        if self._messages is not None:
            self._sound = self.create_publisher(self._messages.AudioData, f"{namespace}/audio", qos)
            self._info = self.create_publisher(
                self._messages.AudioInfo, info_topic(f"{namespace}/audio"), QoSProfile(depth=1)
            )

    def _drop_voice(self) -> None:
        for name in ("_is_speaking", "_sound", "_info"):
            publisher = getattr(self, name, None)
            if publisher is not None:
                self.destroy_publisher(publisher)
                setattr(self, name, None)

    def _publish_tracked(self) -> None:
        voice = self._tracker.voice
        self._tracked.publish(
            self._ids_list(header=self.header(time.monotonic_ns()), ids=[voice.id] if voice else [])
        )


def main() -> int:
    """Run the node until a signal."""
    return run([Ros4HriNode])
