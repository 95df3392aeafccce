"""Face tracking node: publishes user head pose, jaw and expression. No image leaves this process."""

from __future__ import annotations

import sys
from typing import Any

from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from timar_common.base_node import run
from timar_common.component_node import ComponentNode
from timar_common.diagnostics import Level

from timar_perception.image_sources import CameraSource
from timar_perception.images import CameraImage, rgb_of_message
from timar_perception.perception_component import PerceptionComponent


class PerceptionNode(ComponentNode):
    """Runs `PerceptionComponent`, and brings it images from a topic or, in a thread, from a camera."""

    component_type = PerceptionComponent

    def build(self) -> None:
        """Make the component; subscribe to images where they come on a topic."""
        super().build()
        if self.config.source == "topic":
            self.create_external_subscription(
                Image, self.config.image_topic, qos_profile_sensor_data, self._on_image
            )

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
