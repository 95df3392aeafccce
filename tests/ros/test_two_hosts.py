"""Every component publishes the same bytes in its ROS node and in the bag host of a replay."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import rclpy
from hosting import (
    BLOCK,
    SECONDS,
    Step,
    inputs,
    record,
    run_in_bag_host,
    run_in_ros_host,
    steps_of,
    time_of,
)
from projected_face import ScriptedLandmarker, project
from synthetic_talk import voice
from timar_audio.capture_component import CaptureComponent
from timar_audio.capture_config import CaptureConfig
from timar_audio.playback_component import PlaybackComponent
from timar_audio.playback_config import PlaybackConfig
from timar_audio.sources import Sound
from timar_audio.turns_component import TurnsComponent
from timar_audio.turns_config import TurnsConfig
from timar_bag.motion_player import MotionPlayerConfig
from timar_bag.motion_player_component import MotionPlayerComponent
from timar_common.component import Component
from timar_common.messages import new
from timar_driver.config import DriverConfig
from timar_driver.driver_component import DriverComponent
from timar_inference.config import InferenceConfig
from timar_inference.inference_component import InferenceComponent
from timar_inference.turn_jobs import Decision
from timar_perception.config import PerceptionConfig
from timar_perception.images import CameraImage
from timar_perception.landmarks import FaceLandmarks
from timar_perception.perception_component import PerceptionComponent
from timar_retargeting.config import RetargetingConfig
from timar_retargeting.retargeting_component import RetargetingComponent
from timar_view.config import ViewConfig
from timar_view.view_component import ViewComponent

pytestmark = pytest.mark.ros
ROOT = Path(__file__).resolve().parents[2]
END_NS = time_of(round(SECONDS * 16_000))
Makers = dict[str, Callable[[], Component]]


@pytest.fixture(scope="module", autouse=True)
def ros() -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


class NoddingLandmarker(ScriptedLandmarker):
    """Finds the face of a head that looks down by as much as the image is bright."""

    def find(self, pixels: np.ndarray, taken_ms: int) -> tuple[FaceLandmarks, ...]:
        super().find(pixels, taken_ms)
        return (project((0.001 * float(pixels[0, 0, 0]), 0.0, 0.0), 0.1),)


@pytest.fixture(scope="module")
def makers(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Makers:
    """Return by name what makes each component afresh; its device stands outside."""
    inference = InferenceConfig(model=str(random_model), engine="torch", warmup_turns=0, steps=2, seed=3)
    motion = tmp_path_factory.mktemp("motion") / "user.npz"
    random = np.random.default_rng(5)
    np.savez(motion, exp=random.normal(0, 0.3, (100, 50)), pose=random.normal(0, 0.1, (100, 6)))
    seen = PerceptionConfig(source="topic", settle_ms=0)
    return {
        "inference": lambda: InferenceComponent(inference, name="talk"),
        "turns": lambda: TurnsComponent(TurnsConfig()),
        "retargeting": lambda: RetargetingComponent(RetargetingConfig()),
        "driver": lambda: DriverComponent(DriverConfig()),
        "capture": lambda: CaptureComponent(CaptureConfig(echo_suppression="webrtc")),
        "playback": lambda: PlaybackComponent(PlaybackConfig(source="speech")),
        "motion_player": lambda: MotionPlayerComponent(MotionPlayerConfig(file=str(motion))),
        "perception": lambda: PerceptionComponent(seen, NoddingLandmarker()),
        "view": lambda: ViewComponent(ViewConfig()),
    }


def microphone() -> list[Step]:
    """Return what a sound device does: it captures 20 ms at a time."""

    def captured(first: int) -> Callable[[CaptureComponent, int], list]:
        end = first + BLOCK
        sound = Sound(sound_samples[first:end], float(end), time_of(end))
        return lambda capture, now_ns: [
            output for block in capture.blocks_of(sound) for output in capture.publish(block, now_ns)
        ]

    sound_samples = voice(0, SECONDS)
    firsts = range(0, len(sound_samples) - BLOCK, BLOCK)
    return [Step(time_of(first + BLOCK) + 300_000, "", captured(first)) for first in firsts]


def camera() -> list[Step]:
    """Return what a camera does: an image every 40 ms, brighter and darker."""

    def taken(number: int) -> Callable[[PerceptionComponent, int], Sequence]:
        pixels = np.full((480, 640, 3), 100 + 50 * (number % 3), np.uint8)
        image = CameraImage(pixels, time_of(640 * number))
        return lambda perception, now_ns: list(perception.add_image(image, now_ns))

    return [Step(time_of(640 * number + 400), "", taken(number)) for number in range(2, 95)]


def synthesiser() -> list[Step]:
    """Return speech faster than real time: an utterance in three chunks."""
    chunks = np.array_split(voice(1, 2.0), 3)
    return [
        Step(
            time_of(8000 + 1600 * number),
            "agent/speech",
            new("SpeechChunk", utterance_id="a", sample_rate=16_000, is_last=number == 2, samples=samples),
        )
        for number, samples in enumerate(chunks)
    ]


def sliders() -> list[Step]:
    """Return what somebody does on the page: moves the jaw."""

    def moved(number: int) -> Callable[[ViewComponent, int], list]:
        return lambda view, now_ns: list(view.set_targets({"jaw": 0.01 * number}, now_ns))

    return [Step(time_of(16_000 + 1600 * number), "", moved(number)) for number in range(8)]


DEVICES = {"capture": microphone, "perception": camera, "playback": synthesiser, "view": sliders}


@pytest.fixture(scope="module")
def recorded(makers: Makers) -> list[Step]:
    """Return a conversation of the whole graph, recorded in one fixed order."""
    components = [makers[name]() for name in ("driver", "inference", "turns", "retargeting")]
    return record(components, inputs())


def all_components() -> set[str]:
    """Return the names of the components in the workspace's packages."""
    found = set()
    for path in (ROOT / "ros2_ws/src").glob("timar_*/timar_*/*_component.py"):
        module = importlib.import_module(f"{path.parent.name}.{path.stem}")
        for item in vars(module).values():
            if inspect.isclass(item) and issubclass(item, Component) and item.__module__ == module.__name__:
                found.add(item.NAME)
    return found


NAMES = (
    "inference", "turns", "retargeting", "driver", "capture", "playback", "motion_player", "perception",
    "view",
)  # fmt: skip


def test_no_component_is_left_out(makers: Makers) -> None:
    assert set(makers) == set(NAMES) == all_components()


@pytest.mark.parametrize("name", NAMES)
def test_both_hosts_publish_the_same_bytes(name: str, makers: Makers, recorded: Sequence[Step]) -> None:
    first, second = makers[name](), makers[name]()
    steps = steps_of(first, recorded, DEVICES.get(name, list)())
    live = run_in_ros_host(first, steps, END_NS)
    replayed = run_in_bag_host(second, steps, END_NS)
    assert len(live) > 5
    assert {topic for topic, _ in live} <= set(first.outputs)
    assert [topic for topic, _ in live] == [topic for topic, _ in replayed]
    assert live == replayed


def test_the_recording_is_no_easy_one(recorded: Sequence[Step]) -> None:
    """It has lost sound, turns with and without a seen user, and a turn that was rolled back."""
    log = [step.what for step in recorded if step.topic == "turn_log"]
    assert {entry.decision for entry in log} == {Decision.GENERATE, Decision.ROLLBACK, Decision.RESET}
    assert any(entry.user_samples_filled for entry in log)
    assert {any(entry.user_motion_valid) for entry in log} == {True, False}
    assert any(step.what.is_preview for step in recorded if step.topic == "agent/motion")
    assert {step.topic for step in recorded} > {"floor", "turn_events", "joint_trajectory", "joint_states"}
