"""Face tracking node: publishes user head pose, jaw and expression. No image leaves this process."""

from __future__ import annotations

import sys
from typing import Any

from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from timar_common.base_node import run
from timar_common.component_node import ComponentNode
from timar_common.diagnostics import Level

from timar_perception.image_sources import CameraSource
from timar_perception.images import CameraImage, rgb_of_compressed, rgb_of_message
from timar_perception.perception_component import PerceptionComponent

_LOOK_EVERY_S = 0.2


class PerceptionNode(ComponentNode):
    """Runs `PerceptionComponent`, and brings it images from a topic or, in a thread, from a camera."""

    component_type = PerceptionComponent

    def build(self) -> None:
        """Make the component; subscribe to images where they come on a topic."""
        super().build()
        self._has_images, self._complaint = False, ""
        if self.config.source == "topic":
            self.create_steady_timer(_LOOK_EVERY_S, self._look_for_images)

    def start(self) -> None:
        """Begin to track."""
        super().start()
        if self.config.source == "camera":
            self.run_in_thread(self._read_camera, "camera")

    def release(self) -> None:
        """Free model and video."""
        if getattr(self, "component", None) is not None:
            self.component.close()
        super().release()

    def _look_for_images(self) -> None:
        """Subscribe as soon as somebody publishes images, plain or coded as they are."""
        topic = self.config.image_topic
        callbacks = {
            "sensor_msgs/msg/Image": (Image, self._on_image),
            "sensor_msgs/msg/CompressedImage": (CompressedImage, self._on_compressed),
        }
        for publisher in () if self._has_images else self.get_publishers_info_by_topic(topic):
            if publisher.topic_type in callbacks:
                self._has_images = True
                message_class, callback = callbacks[publisher.topic_type]
                self.create_external_subscription(message_class, topic, qos_profile_sensor_data, callback)
                folder = topic.removesuffix("/compressed").rpartition("/")[0]
                info = f"{folder}/camera_info" if folder else "camera_info"
                self.create_external_subscription(
                    CameraInfo, info, qos_profile_sensor_data, self._on_camera_info
                )
                return
            complaint = (
                f"topic {topic!r} is of type {publisher.topic_type}, expected sensor_msgs/msg/Image or "
                "CompressedImage"
            )
            if complaint != self._complaint:
                self._complaint = complaint
                self.get_logger().error(complaint)

    def _on_camera_info(self, message: Any) -> None:
        said = int(message.width), int(message.height), float(message.k[0])
        self.host.call(self.component.add_camera_info, *said)
        self.host.feed()

    def _on_compressed(self, message: Any) -> None:
        self._add_image(CameraImage(rgb_of_compressed(message.data), self.monotonic_ns(message.header)))

    def _on_image(self, message: Any) -> None:
        pixels = rgb_of_message(message.encoding, message.width, message.height, message.step, message.data)
        self._add_image(CameraImage(pixels, self.monotonic_ns(message.header)))

    def _read_camera(self) -> None:
        config = self.config
        camera = CameraSource(config.device, config.width, config.height, config.rate_hz)
        for image in camera.read_until(self.ending, config.reopen_every_ms / 1000, self._on_camera_change):
            self._add_image(image)

    def _add_image(self, image: CameraImage) -> None:
        self.host.call(self.component.add_image, image)
        self.host.feed()

    def _on_camera_change(self, text: str, has_failed: bool) -> None:
        self.component.source_failure = text if has_failed else ""
        self._log(Level.ERROR if has_failed else Level.OK, text)


def main() -> int:
    """Run the node until a signal."""
    return run([PerceptionNode])


if __name__ == "__main__":
    sys.exit(main())
