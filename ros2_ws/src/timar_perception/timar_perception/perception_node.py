"""The eyes: publish the user's neck, jaw and expression on user/motion. No picture leaves this process."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, ClassVar

from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from timar_common.base_node import BaseNode, run
from timar_common.clock import NS_PER_S, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME, SampleClock
from timar_common.diagnostics import Level, Percentiles, Report
from timar_common.messages import encode
from timar_common.restarts import Belongs, ConversationWatch
from timar_common.user_motion import SeenFrames, user_motion_message
from timar_msgs.msg import VoiceActivity

from timar_perception.config import PerceptionConfig
from timar_perception.expressions import read_expression_map
from timar_perception.eyes import Eyes
from timar_perception.landmarks import MediaPipeLandmarker, find_model
from timar_perception.pictures import Picture, believed_ns, rgb_of_message
from timar_perception.slot import NewestSlot
from timar_perception.sources import CameraSource, VideoFile
from timar_perception.timing import FrameMaker, Sighting


class PerceptionNode(BaseNode):
    """One thread brings pictures, one looks at them, and callbacks follow the conversation's clock.

    Between them stands a place for one picture: while the eyes are busy a newer one takes the older one's
    place, so that what is told is never old.
    """

    NAME: ClassVar[str] = "perception"
    Config: ClassVar[type] = PerceptionConfig

    def build(self) -> None:
        """Load the model, make publisher and subscriptions."""
        config = self.config
        expressions = (
            read_expression_map(Path(config.expression_map).expanduser()) if config.expression_map else None
        )
        self._video = VideoFile(Path(config.file).expanduser()) if config.source == "file" else None
        landmarker = MediaPipeLandmarker(
            find_model(config.model),
            config.max_faces,
            config.min_confidence,
            with_blendshapes=expressions is not None,
        )
        self._eyes = Eyes(config, landmarker, expressions)
        self._frames = FrameMaker(config.max_gap_ms, config.give_up_ms)
        self._conversation_clock = SampleClock()
        self._watch = ConversationWatch()
        self._lock = threading.Lock()
        """Over clock, frames and publisher: callbacks and the looking thread share them."""
        self._slot: NewestSlot[Picture] = NewestSlot()
        self._delay_ms, self._look_ms = Percentiles(), Percentiles()
        self._failure = ""
        self._newest_ns = 0
        self._disbelieved = 0
        self._publisher = self.create_topic_publisher("user/motion")
        self.create_topic_subscription("user/audio", self._on_audio)
        self.create_topic_subscription("voice_activity", self._on_voice)
        if config.source == "topic":
            self.create_external_subscription(
                Image, config.image_topic, qos_profile_sensor_data, self._on_image
            )

    def start(self) -> None:
        """Begin to look."""
        self._newest_ns = time.monotonic_ns()
        self.run_in_thread(self._look_on, "look_on")
        bring = {"camera": self._bring_camera, "file": self._bring_file}.get(self.config.source)
        if bring is not None:
            self.run_in_thread(bring, "bring")

    def stop(self) -> None:
        """Let nobody wait for a picture any more."""
        self._slot.close()

    def release(self) -> None:
        """Free model and video."""
        for owner in (getattr(self, "_eyes", None), getattr(self, "_video", None)):
            if owner is not None:
                owner.close()
        self._eyes = self._video = None

    def report(self) -> Report:
        """Say what is seen, how late, and what is wrong with the camera."""
        report = self._eyes.report()
        report.values |= {
            "source": self.config.source,
            "pictures_passed_over": self._slot.passed_over,
            "stamps_disbelieved": self._disbelieved,
            "frames_seen": self._frames.frames_seen,
            "frames_unseen": self._frames.frames_unseen,
            **{f"delay_ms_{name}": value for name, value in self._delay_ms.summary().items()},
            **{f"look_ms_{name}": value for name, value in self._look_ms.summary().items()},
        }
        if self._disbelieved:
            report.worsen(
                Level.WARN,
                f"{self._disbelieved} pictures were stamped far from now; their arrival counts instead: give "
                "camera and head the same clock",
            )
        silent_ms = (time.monotonic_ns() - self._newest_ns) / 1e6
        if self._failure:
            report.worsen(Level.ERROR, self._failure)
        elif self.config.source != "file" and silent_ms > self.config.silent_after_ms:
            what = self.config.image_topic if self.config.source == "topic" else "the camera"
            report.worsen(Level.ERROR, f"no picture from {what} for {silent_ms / 1000:.1f} s")
        return report

    # What comes in.

    def _on_audio(self, message: Any) -> None:
        first_ns = self.monotonic_ns(message.header)
        samples = len(message.samples)
        with self._lock:
            belongs = self._watch.observe(message.first_sample, samples, first_ns)
            if belongs is Belongs.OLD:
                return
            if belongs is Belongs.NEW:
                self._conversation_clock = SampleClock()
                self._frames.restart()
                if self._video is not None:
                    self._video.rewind()
            self._conversation_clock.observe(message.first_sample, first_ns)
            self._publish(self._frames.give_up(message.first_sample + samples))

    def _on_voice(self, message: Any) -> None:
        if message.speaker == VoiceActivity.USER:
            self._eyes.hear(self.monotonic_ns(message.header), float(message.probability))

    def _on_image(self, message: Any) -> None:
        pixels = rgb_of_message(message.encoding, message.width, message.height, message.step, message.data)
        self._bring(Picture(pixels, self.monotonic_ns(message.header)))

    def _bring(self, picture: Picture) -> None:
        self._newest_ns = time.monotonic_ns()
        taken_ns = believed_ns(picture.taken_ns, self._newest_ns)
        self._disbelieved += taken_ns != picture.taken_ns
        latency_ns = round(self.config.camera_latency_ms * 1e6)
        self._slot.put(Picture(picture.pixels, taken_ns - latency_ns))

    def _bring_camera(self) -> None:
        config = self.config
        camera = CameraSource(config.device, config.width, config.height, config.rate_hz)
        is_open = False
        try:
            while not self.ending.is_set():
                try:
                    if not is_open:
                        self.get_logger().info(camera.open())
                        is_open, self._failure = True, ""
                        self._eyes.restart()
                    self._bring(camera.read())
                except (OSError, ValueError) as error:
                    if str(error) != self._failure:
                        self._failure = str(error)
                        self.get_logger().error(self._failure)
                    is_open = False
                    camera.close()
                    self.ending.wait(config.reopen_every_ms / 1000)
        finally:
            camera.close()

    def _bring_file(self) -> None:
        """Give each picture when the conversation's clock has reached it."""
        while not self.ending.is_set():
            with self._lock:
                due_ns = None
                if self._conversation_clock.is_started:
                    due_ns = self._conversation_clock.monotonic_ns(self._video.next_s * SAMPLE_RATE_HZ)
            now_ns = time.monotonic_ns()
            if due_ns is None or due_ns > now_ns:
                self.ending.wait(0.005 if due_ns is None else min(0.05, (due_ns - now_ns) / NS_PER_S))
                continue
            with self._lock:
                if now_ns - due_ns > NS_PER_S:
                    pixels = None if not self._video.skip() else ()
                else:
                    pixels = self._video.read()
            if pixels is None:
                self.get_logger().info(f"{self.config.file} has ended; the user is unseen from now on")
                return
            if len(pixels):
                self._bring(Picture(pixels, due_ns))

    # What goes out.

    def _look_on(self) -> None:
        while not self.ending.is_set():
            picture = self._slot.take(timeout_s=0.1)
            if picture is None:
                continue
            began_ns = time.monotonic_ns()
            try:
                look = self._eyes.look(picture)
            except ValueError as error:
                self.get_logger().error(str(error), throttle_duration_sec=5.0)
                continue
            ended_ns = time.monotonic_ns()
            self._look_ms.add((ended_ns - began_ns) / 1e6)
            if look is not None:
                self._tell(picture.taken_ns, look.sighting)

    def _tell(self, taken_ns: int, sighting: Sighting) -> None:
        with self._lock:
            if not self._conversation_clock.is_started:
                return
            shown = self._conversation_clock.sample_at(taken_ns)
            shown += SAMPLES_PER_FRAME * self.config.shift_frames
            try:
                runs = self._frames.push(shown, sighting)
            except ValueError as error:
                self.get_logger().warning(str(error), throttle_duration_sec=5.0)
                self._frames.lose_sight()
                return
            self._publish(runs)
            if runs:
                self._delay_ms.add((time.monotonic_ns() - taken_ns) / 1e6)

    def _publish(self, runs: list[SeenFrames]) -> None:
        for frames in runs:
            first_ns = self._conversation_clock.monotonic_ns(SAMPLES_PER_FRAME * frames.first_frame)
            seen = user_motion_message(frames.first_frame, frames.motion, frames.valid, first_ns)
            self.update_anchor()
            self._publisher.publish(encode(seen, self.anchor.ros_ns))


def main() -> int:
    """Run the node until a signal."""
    return run([PerceptionNode])
