"""Adapter node to audio_common_msgs, of ros-drivers or mgonzs13, whichever is installed."""

from __future__ import annotations

import importlib
import time
from array import array
from typing import Any, ClassVar

import numpy as np
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Header
from timar_common.base_node import BaseNode, run
from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.diagnostics import Report
from timar_msgs.msg import SpeechChunk

from timar_audio.adapters import AudioCommonConfig, SpeechPart, UtteranceSplitter
from timar_audio.external_audio import (
    ExternalStream,
    fill_audio_data,
    fill_info,
    info_topic,
    to_int16_mono,
)

_DEPTH = 50
_INFO_EVERY_S = 5.0


def audio_common() -> Any:
    """Import the messages of the package that is there.

    Raises:
        OSError: None is.
    """
    try:
        return importlib.import_module("audio_common_msgs.msg")
    except ImportError as error:
        raise OSError(
            f"no audio_common_msgs is installed ({error}); install ros-drivers' or mgonzs13's, and source it"
        ) from error


class SoundPublisher:
    """Publish mono sound as the package that is there writes it.

    mgonzs13's: `AudioStamped` on the topic. ros-drivers': `AudioData` on the topic, `AudioDataStamped` (where
    it exists) on `<topic>_stamped` and `AudioInfo` on `audio_info` beside it, as its audio_capture does.
    """

    def __init__(self, node: BaseNode, messages: Any, topic: str) -> None:
        self.sent = 0
        self._messages = messages
        qos = QoSProfile(depth=_DEPTH)
        self._is_typed = hasattr(messages, "AudioStamped")
        if self._is_typed:
            self._sound = node.create_external_publisher(messages.AudioStamped, topic, qos)
            return
        self._sound = node.create_external_publisher(messages.AudioData, topic, qos)
        self._stamped: Any = None
        if hasattr(messages, "AudioDataStamped"):
            self._stamped = node.create_external_publisher(messages.AudioDataStamped, f"{topic}_stamped", qos)
        self._info = node.create_external_publisher(
            messages.AudioInfo, info_topic(topic), QoSProfile(depth=1)
        )
        node.create_steady_timer(_INFO_EVERY_S, self._publish_info)

    def publish(self, header: Header, samples: np.ndarray) -> None:
        """Publish (n,) int16 samples at 16 kHz."""
        if not self.sent and not self._is_typed:
            self._publish_info()
        self.sent += 1
        data = fill_audio_data(self._messages.AudioData(), samples)
        if self._is_typed:
            audio = self._messages.Audio(audio_data=data)
            fill_info(audio.info, SAMPLE_RATE_HZ, samples.size)
            self._sound.publish(self._messages.AudioStamped(header=header, audio=audio))
            return
        self._sound.publish(data)
        if self._stamped is not None:
            self._stamped.publish(self._messages.AudioDataStamped(header=header, audio=data))

    def _publish_info(self) -> None:
        self._info.publish(fill_info(self._messages.AudioInfo(), SAMPLE_RATE_HZ, 0))


class AudioCommonNode(BaseNode):
    """Publishes the user's and the agent's audio for others, and plays what their synthesiser sends."""

    NAME: ClassVar[str] = "audio_common"
    Config: ClassVar[type] = AudioCommonConfig

    def build(self) -> None:
        """Find the package and make what is asked for."""
        config = self.config
        if not config.has_work:
            raise ValueError("the adapter has nothing to do; name a user_topic, agent_topic or speech_topic")
        messages = audio_common()
        self._sounds: dict[str, SoundPublisher] = {}
        if config.user_topic:
            self._sounds["user"] = SoundPublisher(self, messages, config.user_topic)
            self.create_topic_subscription("user/audio", lambda message: self._forward("user", message))
        if config.agent_topic:
            self._sounds["agent"] = SoundPublisher(self, messages, config.agent_topic)
            self.create_topic_subscription("agent/audio", lambda message: self._forward("agent", message))
        prefix = f"{self.get_name()}-{time.monotonic_ns()}"  # so that no id is used again after a restart
        self._splitter = UtteranceSplitter(prefix, config.utterance_gap_ms)
        self._stream = ExternalStream(f"topic {config.speech_topic!r}", config.speech_layout, "speech_layout")
        if config.speech_topic:
            self._speech = self.create_topic_publisher("agent/speech")
            self._subscribe_to_speech(messages)
        dialect = "mgonzs13" if hasattr(messages, "AudioStamped") else "ros-drivers"
        self.get_logger().info(f"speaks audio_common_msgs of {dialect}")

    def report(self) -> Report:
        """Count what passed."""
        values: dict[str, object] = {f"{name}_messages": p.sent for name, p in self._sounds.items()}
        return Report(values=values | {"utterances": self._splitter.utterances})

    def _forward(self, name: str, message: Any) -> None:
        self._sounds[name].publish(message.header, np.frombuffer(message.samples, np.int16))

    # What their synthesiser sends.

    def _subscribe_to_speech(self, messages: Any) -> None:
        topic = self.config.speech_topic
        qos = QoSProfile(depth=_DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)
        if hasattr(messages, "AudioStamped"):
            self.create_external_subscription(messages.AudioStamped, topic, qos, self._on_speech)
        else:
            self.create_external_subscription(messages.AudioData, topic, qos, self._on_speech)
            self.create_external_subscription(
                messages.AudioInfo, info_topic(topic), QoSProfile(depth=1), self._on_info
            )
        self.create_steady_timer(0.05, self._end_when_silent)

    def _on_info(self, info: Any) -> None:
        self._stream.describe(info)

    def _on_speech(self, message: Any) -> None:
        sound = self._stream.read(message)
        if sound.samples.size:
            parts = self._splitter.push(to_int16_mono(sound), sound.rate_hz, time.monotonic_ns())
            self._publish_speech(parts)

    def _end_when_silent(self) -> None:
        self._publish_speech(self._splitter.tick(time.monotonic_ns()))

    def _publish_speech(self, parts: list[SpeechPart]) -> None:
        for part in parts:
            self._speech.publish(
                SpeechChunk(
                    header=self.header(time.monotonic_ns(), "loudspeaker"),
                    utterance_id=part.utterance_id,
                    sample_rate=part.rate_hz,
                    is_last=part.is_last,
                    samples=array("h", part.samples.tobytes()),
                )
            )


def main() -> int:
    """Run the node until a signal."""
    return run([AudioCommonNode])
