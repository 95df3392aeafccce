"""Subscription of the capture node to another node's microphone, of whichever message type."""

from __future__ import annotations

import time
from typing import Any

from rclpy.qos import QoSProfile
from timar_common.base_node import BaseNode, message_type

from timar_audio.capture_config import CaptureConfig
from timar_audio.external_audio import ExternalAudio, ExternalStream, info_topic
from timar_audio.topic_source import TopicSource

_LOOK_EVERY_S = 0.2
_DEPTH = 50
_PACKAGE = "audio_common_msgs"


class ExternalTopic:
    """Subscribe as soon as somebody publishes there, with their type and their reliability.

    Which of the two packages called audio_common_msgs is meant shows only then: by the type's fields.
    """

    def __init__(self, node: BaseNode, config: CaptureConfig) -> None:
        self.source = TopicSource(
            config.topic, config.channel, config.vanished_after_ms, config.first_sound_within_ms
        )
        self._node = node
        self._topic = config.topic
        self._stream = ExternalStream(f"topic {config.topic!r}", config.topic_layout)
        self._is_subscribed = False
        self._complaint = ""
        node.create_steady_timer(_LOOK_EVERY_S, self._look)

    def _look(self) -> None:
        if self._is_subscribed:
            return
        for publisher in self._node.get_publishers_info_by_topic(self._topic):
            try:
                message_class = message_type(publisher.topic_type)
            except (ImportError, AttributeError, ValueError) as error:
                self._log_once(
                    f"topic {self._topic!r} is of type {publisher.topic_type} and cannot be read: {error}; "
                    f"source the workspace that has this {_PACKAGE}"
                )
                continue
            self._is_subscribed = True
            qos = QoSProfile(depth=_DEPTH, reliability=publisher.qos_profile.reliability)
            self._node.create_external_subscription(message_class, self._topic, qos, self._on_sound)
            if publisher.topic_type.startswith(f"{_PACKAGE}/"):
                self._subscribe_to_info()
            self._node.get_logger().info(f"reads topic {self._topic!r} of type {publisher.topic_type}")
            return

    def _subscribe_to_info(self) -> None:
        """ros-drivers' node publishes every five seconds, beside its sound, what the bytes mean."""
        info_class = message_type(f"{_PACKAGE}/msg/AudioInfo")
        if hasattr(info_class(), "coding_format"):
            name = info_topic(self._topic)
            self._node.create_external_subscription(info_class, name, QoSProfile(depth=1), self._on_info)

    def _on_info(self, info: Any) -> None:
        self._stream.describe(info)

    def _on_sound(self, message: Any) -> None:
        sound = self._stream.read(message)
        if sound.samples.size:
            self.source.push(sound, self._first_ns(sound), time.monotonic_ns())

    def _first_ns(self, sound: ExternalAudio) -> int | None:
        if sound.first_ros_ns is None:
            return None
        self._node.update_anchor()
        return self._node.anchor.monotonic_ns(sound.first_ros_ns)

    def _log_once(self, sentence: str) -> None:
        if sentence != self._complaint:
            self._complaint = sentence
            self._node.get_logger().error(sentence)
