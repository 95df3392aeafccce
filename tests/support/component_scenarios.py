"""What makes each component for a test, and what its device does in the recorded conversation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hosting import BLOCK, SECONDS, Step, time_of
from projected_face import ScriptedLandmarker, project
from steady_gestures import SteadyPredictor
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
from timar_inference.runtime import Runtime, open_runtime
from timar_perception.config import PerceptionConfig
from timar_perception.images import CameraImage
from timar_perception.landmarks import FaceLandmarks
from timar_perception.perception_component import PerceptionComponent
from timar_retargeting.config import RetargetingConfig
from timar_retargeting.retargeting_component import RetargetingComponent
from timar_view.config import ViewConfig
from timar_view.view_component import ViewComponent

GRAPH = ("driver", "inference", "turns", "retargeting")
"""Components that a recording is made with."""
NAMES = (*GRAPH, "capture", "playback", "motion_player", "perception", "view")


class NoddingLandmarker(ScriptedLandmarker):
    """Finds the face of a head that looks down by as much as the image is bright."""

    def find(self, pixels: np.ndarray, taken_ms: int) -> tuple[FaceLandmarks, ...]:
        super().find(pixels, taken_ms)
        return (project((0.001 * float(pixels[0, 0, 0]), 0.0, 0.0), 0.1),)


class UndecidedModel:
    """Says of every pause that it ends the turn with a probability of 0.4."""

    def probability(self, samples: np.ndarray) -> float:
        return 0.4


def configurations(model: Path, folder: Path) -> dict[str, Any]:
    """Return by name the configuration of each component; files it names are written into the folder."""
    motion = folder / "user.npz"
    random = np.random.default_rng(5)
    np.savez(motion, exp=random.normal(0, 0.3, (100, 50)), pose=random.normal(0, 0.1, (100, 6)))
    return {
        "inference": InferenceConfig(model=str(model), engine="torch", warmup_turns=0, steps=2, seed=3),
        "turns": TurnsConfig(),
        "retargeting": RetargetingConfig(),
        "driver": DriverConfig(),
        "capture": CaptureConfig(echo_suppression="filter"),
        "playback": PlaybackConfig(source="speech"),
        "motion_player": MotionPlayerConfig(file=str(motion)),
        "perception": PerceptionConfig(source="topic", settle_ms=0),
        "view": ViewConfig(),
    }


def foreseeing(config: InferenceConfig) -> Runtime:
    """Return the model that a configuration names, with a stand-in that foresees gestures."""
    return dataclasses.replace(open_runtime(config), gestures=SteadyPredictor())


def make(name: str, config: Any) -> Component:
    """Make a component; its device stands outside."""
    makers: dict[str, Callable[[], Component]] = {
        "inference": lambda: InferenceComponent(config, foreseeing(config), name="talk"),
        "turns": lambda: TurnsComponent(config),
        "retargeting": lambda: RetargetingComponent(config),
        "driver": lambda: DriverComponent(config),
        "capture": lambda: CaptureComponent(config),
        "playback": lambda: PlaybackComponent(config),
        "motion_player": lambda: MotionPlayerComponent(config),
        "perception": lambda: PerceptionComponent(config, NoddingLandmarker()),
        "view": lambda: ViewComponent(config),
    }
    return makers[name]()


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
