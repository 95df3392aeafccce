"""A node of another project, for tests: it says a ramp, or prints what it hears, in messages that look alike.

    python foreign_peer.py say TOPIC
    python foreign_peer.py hear TOPIC=PACKAGE/msg/TYPE ...

Which audio_common_msgs it speaks is a matter of what is sourced.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import rclpy
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from timar_audio.external_audio import fill_audio_data, fill_info, read_sound
from timar_common.base_node import message_type

RATE_HZ = 16_000
CHUNK = 512
RAMP = (np.arange(1, RATE_HZ + 1) % 20_000 + 100).astype(np.int16)


def say(topic: str) -> None:
    """Say a second of silence, the ramp, then silence, as the package's own capture node would."""
    from audio_common_msgs import msg

    node = rclpy.create_node("foreign_microphone")
    is_typed = hasattr(msg, "AudioStamped")
    if is_typed:
        publishers = [node.create_publisher(msg.AudioStamped, topic, qos_profile_sensor_data)]
    else:
        publishers = [
            node.create_publisher(msg.AudioData, topic, QoSProfile(depth=10)),
            node.create_publisher(msg.AudioDataStamped, f"{topic}_stamped", QoSProfile(depth=10)),
        ]
        info = node.create_publisher(msg.AudioInfo, "audio_info", QoSProfile(depth=1))
    while not any(publisher.get_subscription_count() for publisher in publishers):
        rclpy.spin_once(node, timeout_sec=0.05)
    while not is_typed and not info.get_subscription_count():
        rclpy.spin_once(node, timeout_sec=0.05)
    whole = np.concatenate([np.zeros(RATE_HZ, np.int16), RAMP, np.zeros(120 * RATE_HZ, np.int16)])
    began_s = time.time()
    for place in range(0, whole.size, CHUNK):
        # A chunk can be sent when its last sample was heard.
        time.sleep(max(0.0, began_s + (place + CHUNK) / RATE_HZ - time.time()))
        if not is_typed and place // CHUNK % 10 == 0:
            info.publish(fill_info(msg.AudioInfo(), RATE_HZ, CHUNK))
        stamped = msg.AudioStamped() if is_typed else msg.AudioDataStamped()
        first_s = began_s + place / RATE_HZ
        stamped.header.stamp.sec, stamped.header.stamp.nanosec = int(first_s), int(first_s % 1 * 1e9)
        data = fill_audio_data(msg.AudioData(), whole[place : place + CHUNK])
        if is_typed:
            stamped.audio.audio_data = data
            fill_info(stamped.audio.info, RATE_HZ, CHUNK)
        else:
            stamped.audio = data
            publishers[0].publish(data)
        publishers[-1].publish(stamped)


def hear(*topics: str) -> None:
    """Print a line of JSON for each message."""
    node = rclpy.create_node("foreign_listener")

    def print_of(topic: str, message: object) -> None:
        line = {"topic": topic}
        if hasattr(message, "ids"):
            line["ids"] = list(message.ids)
        elif isinstance(getattr(message, "data", None), bool):
            line["data"] = message.data
        elif hasattr(message, "coding_format"):
            line["info"] = [
                message.channels,
                message.sample_rate,
                message.sample_format,
                message.coding_format,
            ]
        else:
            found = read_sound(message, f"S16LE,{RATE_HZ},1")
            line["rate_hz"] = found.rate_hz
            line["samples"] = np.rint(found.samples[:, 0] * 32_768).astype(int).tolist()
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    def follow(name: str, type_name: str) -> None:
        node.create_subscription(
            message_type(type_name), name, lambda message: print_of(name, message), QoSProfile(depth=50)
        )

    for topic in topics:
        follow(*topic.split("="))
    sys.stdout.write("{}\n")
    sys.stdout.flush()
    followed: set[str] = set()
    while rclpy.ok():
        rclpy.spin_once(node, timeout_sec=0.05)
        for name, types in node.get_topic_names_and_types():  # ROS4HRI makes topics for each voice
            if name.startswith("/humans/voices/v") and name not in followed:
                followed.add(name)
                follow(name, types[0])


if __name__ == "__main__":
    rclpy.init()
    {"say": say, "hear": hear}[sys.argv[1]](*sys.argv[2:])
