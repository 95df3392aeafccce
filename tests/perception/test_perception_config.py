"""Settings of face tracking that cannot be are rejected where they are given, by name and value."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from timar_perception.config import PerceptionConfig
from timar_perception.face_selection import FaceSelector
from timar_perception.frame_interpolation import FrameInterpolator
from timar_perception.head_pose import CameraModel
from timar_perception.one_euro_filter import OneEuroFilter


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"min_confidence": 7.0}, r"min_confidence is 7.0, expected a number from 0.05 to 0.99"),
        ({"min_brightness": -1.0}, "min_brightness is -1.0"),
        ({"max_faces": 0}, "max_faces is 0"),
        ({"max_faces": 1.5}, "max_faces is 1.5, expected int"),
        ({"smoothing_hz": float("nan")}, "smoothing_hz is nan"),
        ({"frame_timeout_ms": 0}, "frame_timeout_ms is 0"),
        ({"source": "radio"}, "source is 'radio', expected one of camera, topic, file"),
        ({"source": "file"}, "file is empty, expected where images come from: source is file"),
        ({"source": "topic", "image_topic": ""}, "image_topic is empty"),
        ({"device": ""}, "device is empty"),
    ],
)
def test_a_parameter_that_cannot_be_is_rejected(setting: dict[str, object], text: str):
    with pytest.raises(ValueError, match=text):
        PerceptionConfig(**setting)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CameraModel.from_field_of_view(640, 480, 190.0),
        lambda: CameraModel(640, 0, 500.0),
        lambda: FaceSelector("loudest", 1000),
        lambda: FaceSelector("nearest", 0),
        lambda: FrameInterpolator(0, 300),
        lambda: FrameInterpolator(110, -1),
        lambda: OneEuroFilter(0.0, 1.0, is_rotation=False),
        lambda: OneEuroFilter(6.0, float("inf"), is_rotation=False),
    ],
)
def test_a_part_that_cannot_work_is_not_made(make: Callable[[], object]):
    with pytest.raises(ValueError, match="expected"):
        make()
