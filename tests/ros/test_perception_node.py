"""Face tracking over topics, with MediaPipe and a portrait: in the whole graph, and through every trouble."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import rclpy
import soundfile
from diagnostic_msgs.msg import DiagnosticArray
from fake_camera import FakeCapture
from motion_signals import motion_signals
from node_process import PATIENCE_S
from portrait import portrait
from projected_face import CAMERA
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from timar_bag.bag import BagReader
from timar_bringup.composer import Composer
from timar_bringup.files import with_urdf
from timar_bringup.graph import plan, read_arguments
from timar_common.base_node import qos_of
from timar_common.topics import TOPICS
from timar_msgs.msg import AudioChunk, UserMotion
from timar_perception.perception_node import PerceptionNode

pytestmark = pytest.mark.ros

BLOCK = 320
# A busy machine tracks few images a second: here that must not count as unseen.
PATIENT = {"max_gap_ms": 1000, "frame_timeout_ms": 5000, "settle_ms": 0}
NOD_HZ, NOD_RAD = 0.4, 0.3


@pytest.fixture(scope="module")
def head() -> np.ndarray:
    """A head that looks down by 0.2 rad, RGB."""
    return portrait("astronaut").draw(CAMERA, (0.2, 0.0, 0.0))


class Stage:
    """The node, a microphone that counts, and a camera driver that publishes images."""

    def __init__(self, **parameters: object) -> None:
        overrides = [Parameter(name, value=value) for name, value in {**PATIENT, **parameters}.items()]
        self.node = PerceptionNode(parameter_overrides=overrides)
        self.peer = rclpy.create_node("peer")
        self.executor = rclpy.executors.SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.executor.add_node(self.peer)
        self.sound = self._publisher_of("user/audio")
        self.images = self.peer.create_publisher(Image, "image", rclpy.qos.qos_profile_sensor_data)
        self.motion: list[UserMotion] = []
        self.messages: list[str] = []
        """Level and sentence of each diagnosis."""
        self.values: dict[str, str] = {}
        """Numbers of the newest one."""
        topic = TOPICS["user/motion"]
        self.peer.create_subscription(UserMotion, topic.name, self.motion.append, qos_of(topic))
        self.peer.create_subscription(
            DiagnosticArray, "/diagnostics", lambda array: self._note(array), qos_of(TOPICS["/diagnostics"])
        )
        self.shown: Image | None = None
        self.offset_ns = 0
        """By how much the images' stamps are wrong."""
        self._began_ns = time.monotonic_ns()
        self._blocks = 0
        self._shown_ns = 0

    def _publisher_of(self, name: str):
        return self.peer.create_publisher(AudioChunk, name, qos_of(TOPICS[name]))

    def _note(self, array: DiagnosticArray) -> None:
        for status in array.status:
            self.messages.append(f"{status.level[0]} {status.message}")
            self.values = {value.key: value.value for value in status.values}

    def until(self, condition: Callable[[], bool]) -> None:
        """Let time pass, with sound and images, until a condition holds."""
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end_s, (self.messages[-3:], self.motion[-1:])
            now_ns = time.monotonic_ns()
            while self._began_ns + (self._blocks + 1) * 20_000_000 <= now_ns:
                self.sound.publish(
                    AudioChunk(
                        header=self.node.header(self._began_ns + self._blocks * 20_000_000),
                        sample_rate=16_000,
                        first_sample=self._blocks * BLOCK,
                        samples=array("h", bytes(2 * BLOCK)),
                    )
                )
                self._blocks += 1
            if self.shown is not None and now_ns - self._shown_ns > 60_000_000:
                self._shown_ns = now_ns
                self.shown.header = self.node.header(now_ns + self.offset_ns)
                self.images.publish(self.shown)
            self.executor.spin_once(timeout_sec=0.01)

    def until_reported(self, text: str) -> None:
        self.messages.clear()
        self.until(lambda: any(text in message for message in self.messages))

    def until_seen(self) -> UserMotion:
        self.motion.clear()
        self.until(lambda: any(any(message.neck_valid) for message in self.motion))
        return next(message for message in self.motion if any(message.neck_valid))

    def until_masked(self) -> None:
        """Wait until frames come that are unseen, ten in a row."""
        self.until(
            lambda: len(self.motion) > 10 and not any(any(told.neck_valid) for told in self.motion[-10:])
        )

    def close(self) -> None:
        self.executor.shutdown()
        self.node.close()
        self.node.destroy_node()
        self.peer.destroy_node()


@pytest.fixture
def open_stage() -> Iterator[Callable[..., Stage]]:
    rclpy.init()
    stages: list[Stage] = []

    def make(**parameters: object) -> Stage:
        stage = Stage(**parameters)
        stages.append(stage)
        stage.node.trigger_configure()
        stage.node.trigger_activate()
        assert stage.node.is_active
        return stage

    yield make
    for stage in stages:
        stage.close()
    rclpy.try_shutdown()


def image_of(pixels: np.ndarray, encoding: str = "rgb8") -> Image:
    height, width, channels = pixels.shape
    image = Image(encoding=encoding, height=height, width=width, step=width * channels)
    image.data = array("B", pixels.tobytes())
    return image


def pitch_of(message: UserMotion) -> float:
    motion = np.zeros((message.frames, 56))
    motion[:, 53:56] = np.array(message.neck).reshape(-1, 3)
    seen = np.array(message.neck_valid)
    return float(motion_signals(motion)["neck_pitch"][seen].mean())


def test_images_on_a_topic_are_tracked_and_every_trouble_is_named_masked_and_over_when_it_is_over(
    open_stage: Callable[..., Stage], head: np.ndarray
):
    stage = open_stage(source="topic", image_timeout_ms=500)
    stage.until_reported("2 no image from image for")
    stage.until_masked()

    stage.shown = image_of(head)
    seen = stage.until_seen()
    assert pitch_of(seen) == pytest.approx(0.2, abs=0.1)
    assert any(seen.jaw_valid)
    assert not any(seen.expression_valid)

    stage.shown = image_of(np.zeros_like(head))
    stage.until_reported("1 too dark: brightness 0 of 255")
    stage.until_masked()
    stage.shown = image_of(head)
    stage.until_seen()

    stage.offset_ns = -30_000_000_000
    stage.until(lambda: int(stage.values.get("implausible_stamps", "0")) > 0)
    stage.until_seen()
    stage.offset_ns = 0

    def bad_messages() -> int:
        return int(stage.values.get("bad_messages", "0"))

    before = bad_messages()
    stage.shown = image_of(head, encoding="32FC1")
    stage.until(lambda: bad_messages() > before)
    stage.shown = Image(encoding="rgb8", height=2**31, width=2**31, step=3)
    stage.until(lambda: bad_messages() > before + 2)
    stage.until_reported("2 no image from image for")
    stage.shown = image_of(head)
    stage.until_seen()


@pytest.mark.parametrize("kind", [".jpg", ".png"])
def test_coded_images_are_tracked_and_their_lens_is_read_from_camera_info_beside_them(
    open_stage: Callable[..., Stage], head: np.ndarray, kind: str
):
    stage = open_stage(source="topic", image_topic="camera/image/compressed", field_of_view_deg=120.0)
    stage.images = stage.peer.create_publisher(
        CompressedImage, "camera/image/compressed", rclpy.qos.qos_profile_sensor_data
    )
    info = stage.peer.create_publisher(CameraInfo, "camera/camera_info", rclpy.qos.qos_profile_sensor_data)
    lens = CameraInfo(width=640, height=480)
    lens.k[0] = CAMERA.focal_px
    stage.shown = CompressedImage(format="whatever", data=cv2.imencode(kind, head[:, :, ::-1])[1].tobytes())
    stage.until_seen()

    def distance_m() -> float:
        return float(stage.values.get("distance_m", "0"))

    stage.until(lambda: distance_m() > 0.0)
    wrong_m = distance_m()
    stage.until(lambda: info.publish(lens) or distance_m() > 2.0 * wrong_m)
    assert pitch_of(stage.until_seen()) == pytest.approx(0.2, abs=0.1)


def test_a_camera_that_is_missing_or_unplugged_is_named_and_seen_again_when_it_is_back(
    open_stage: Callable[..., Stage], head: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    camera = FakeCapture(is_there=False, frame=head[:, :, ::-1].copy())
    monkeypatch.setattr("timar_perception.image_sources.cv2.VideoCapture", lambda device: camera)
    stage = open_stage(source="camera", device="7", reopen_every_ms=100)
    stage.until_reported("2 the camera 7 cannot be opened")
    stage.until_masked()
    for _ in range(2):
        camera.is_there = True
        assert pitch_of(stage.until_seen()) == pytest.approx(0.2, abs=0.1)
        camera.is_there = False
        stage.until_reported("2 the camera 7 cannot be opened")
        stage.until_masked()


def test_the_node_does_not_start_without_its_model_or_video(tmp_path: Path):
    rclpy.init()
    try:
        for parameters in ({"model": str(tmp_path / "no.task")}, {"source": "file", "file": "no.mp4"}):
            node = PerceptionNode(
                parameter_overrides=[Parameter(name, value=value) for name, value in parameters.items()]
            )
            assert node.trigger_configure() != rclpy.lifecycle.TransitionCallbackReturn.SUCCESS
            node.destroy_node()
    finally:
        rclpy.try_shutdown()


@pytest.fixture(scope="module")
def nodding(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A video of somebody nodding for half a minute, and as long a silence."""
    folder = tmp_path_factory.mktemp("user")
    levels = np.linspace(-NOD_RAD, NOD_RAD, 9)
    drawn = [portrait("astronaut").draw(CAMERA, (level, 0.0, 0.0))[:, :, ::-1] for level in levels]
    writer = cv2.VideoWriter(str(folder / "user.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 15.0, (640, 480))
    for number in range(30 * 15):
        writer.write(drawn[int(np.abs(levels - nod(number / 15)).argmin())])
    writer.release()
    soundfile.write(folder / "user.wav", np.zeros(30 * 16_000, np.int16), 16_000)
    return folder / "user.mp4", folder / "user.wav"


def nod(seconds: float | np.ndarray) -> np.ndarray:
    """Pitch of the head in the video, positive down [rad]."""
    return NOD_RAD * np.sin(2 * np.pi * NOD_HZ * np.asarray(seconds))


@pytest.mark.slow
def test_in_the_whole_graph_a_nod_in_a_video_reaches_the_model_and_no_image_the_bag(
    random_model: Path, nodding: tuple[Path, Path], tmp_path: Path
):
    video, sound = nodding
    parameters = "".join(f"    {name}: {value}\n" for name, value in PATIENT.items())
    (tmp_path / "patient.yaml").write_text(f"/**/perception:\n  ros__parameters:\n{parameters}")
    arguments = [
        "source:=file", f"user_file:={sound}", "perception:=true", f"user_video:={video}",
        f"model:={random_model}", "record:=true", f"out:={tmp_path / 'bag'}", "namespace:=perception1",
        f"params:={tmp_path / 'patient.yaml'}",
    ]  # fmt: skip
    rclpy.init()
    told: list[UserMotion] = []
    lines: list[tuple[str, str]] = []
    try:
        peer = rclpy.create_node("peer", namespace="perception1")
        peer.create_subscription(UserMotion, "user/motion", told.append, qos_of(TOPICS["user/motion"]))
        with Composer(
            plan(with_urdf(read_arguments(arguments))), lambda *line: lines.append(line)
        ) as composer:
            end_s = time.monotonic() + 2 * PATIENCE_S
            while sum(sum(message.neck_valid) for message in told) < 60:
                assert composer.poll() is None, lines
                assert time.monotonic() < end_s, lines
                rclpy.spin_once(peer, timeout_sec=0.1)
            statuses = composer.stop()
        peer.destroy_node()
    finally:
        rclpy.try_shutdown()
    assert statuses["perception"] == 0, lines
    frames = np.concatenate([message.first_frame + np.arange(message.frames) for message in told])
    assert (np.diff(frames) > 0).all(), "each frame is told once"
    seen = np.concatenate([message.neck_valid for message in told]).astype(bool)
    neck = np.concatenate([np.array(message.neck).reshape(-1, 3) for message in told])[seen]
    motion = np.zeros((len(neck), 56))
    motion[:, 53:56] = neck
    pitch = motion_signals(motion)["neck_pitch"]
    truth = nod(frames[seen] / 25)
    assert np.corrcoef(pitch, truth)[0, 1] > 0.8, "the user's nod has the sign of an agent's nod"
    with BagReader(tmp_path / "bag") as bag:
        topics = {message.topic for message in bag.messages()}
    assert "user/motion" in topics
    assert topics <= set(TOPICS), "what is recorded is in the table, which holds no images"
