"""Heads that are drawn without a picture: the canonical face, projected."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation
from timar_perception.canonical_face import (
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    JAW_HINGE_M,
    LANDMARKS,
    LIPS_M,
    RIGID_LANDMARKS,
    RIGID_POINTS_M,
)
from timar_perception.head_pose import CAMERA_FROM_FACING, CameraModel
from timar_perception.landmarks import FaceLandmarks

CAMERA = CameraModel.from_field_of_view(640, 480, 60.0)
MS = 1_000_000


def project(
    neck: npt.ArrayLike = (0.0, 0.0, 0.0),
    jaw_rad: float = 0.0,
    place_m: npt.ArrayLike = (0.0, 0.0, 0.6),
    camera: CameraModel = CAMERA,
    blendshapes: dict[str, float] | None = None,
) -> FaceLandmarks:
    """Return the landmarks of the canonical face, turned, with its jaw open."""
    points = np.tile(RIGID_POINTS_M.mean(0), (LANDMARKS, 1))
    points[list(RIGID_LANDMARKS)] = RIGID_POINTS_M
    points[INNER_UPPER_LIP] = LIPS_M
    points[INNER_LOWER_LIP] = (
        Rotation.from_rotvec([jaw_rad, 0.0, 0.0]).apply(LIPS_M - JAW_HINGE_M) + JAW_HINGE_M
    )
    turned = Rotation.from_rotvec(np.asarray(neck, np.float64)).apply(points)
    seen = turned @ CAMERA_FROM_FACING.T + np.asarray(place_m, np.float64)
    return FaceLandmarks(seen[:, :2] / seen[:, 2:] * camera.focal_px + camera.center_px, blendshapes or {})


@dataclasses.dataclass
class ScriptedLandmarker:
    """Finds in each image the faces that the test has set."""

    faces: tuple[FaceLandmarks, ...] = ()
    times_ms: list[int] = dataclasses.field(default_factory=list)

    def find(self, pixels: npt.NDArray[np.uint8], taken_ms: int) -> tuple[FaceLandmarks, ...]:
        assert not self.times_ms or taken_ms > self.times_ms[-1], "MediaPipe refuses times that do not grow"
        self.times_ms.append(taken_ms)
        return self.faces

    def close(self) -> None:
        self.faces = ()
