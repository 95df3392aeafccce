"""A portrait as a head that turns: scikit-image's photograph laid over a relief and drawn by projection.

The relief is MediaPipe's canonical face, fitted to the photograph, and a rounded fall-off around it. What is
drawn has known angles, so it shows how well landmarks and pose find them again in real skin and hair. The
depths are the canonical face's own: it does not show how far a person of other proportions is off.
"""

from __future__ import annotations

import dataclasses
import functools
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import skimage.data
from matplotlib import cbook
from PIL import Image
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from timar_perception.head_pose import CAMERA_FROM_FACING, CameraModel
from timar_perception.landmarks import MediaPipeLandmarker, find_model

Array = npt.NDArray[np.float64]

JAW_HINGE_M = np.array([0.0, -0.002, -0.012])
"""Between the joints of the jaw, in the canonical face's axes [m]."""
NECK_PIVOT_M = np.array([0.0, -0.06, -0.06])
UPPER_LIP, LOWER_LIP = 13, 14
POINTS_OVER_FACE = 250
"""So many points over the height of a face leave few holes in the drawing."""


def read_canonical_mesh(bundle: Path) -> Array:
    """Return the (468, 3) vertices of the canonical face [m]: x to its left, y up, z out of the face."""
    with zipfile.ZipFile(bundle) as files:
        data = files.read("geometry_pipeline_metadata_landmarks.binarypb")
    mesh = next(value for field, value in _fields(data) if field == 1 and isinstance(value, bytes))
    numbers = [struct.unpack("<f", value)[0] for field, value in _fields(mesh) if field == 3]
    return np.array(numbers).reshape(-1, 5)[:, :3] / 100.0


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Read protobuf's wire format: field number and value, length-delimited and fixed ones as bytes."""
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 2: None, 5: 4}[key & 7]
        size = varint() if size is None else size
        yield key >> 3, data[place : place + size]
        place += size


@dataclasses.dataclass(frozen=True)
class Portrait:
    """A head to be drawn at any angle."""

    points_m: Array
    """(n, 3) in face axes [m]."""
    colours: npt.NDArray[np.uint8]
    """(n, 3) RGB."""
    jaw_share: Array
    """(n,) by how much a point goes with the jaw, 0 to 1."""

    def draw(
        self,
        camera: CameraModel,
        neck: npt.ArrayLike = (0.0, 0.0, 0.0),
        jaw_rad: float = 0.0,
        place_m: npt.ArrayLike = (0.0, 0.0, 0.6),
        background: npt.NDArray[np.uint8] | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Draw the head as a camera sees it.

        Args:
            camera: Size and field of view.
            neck: Rotation vector in FLAME axes [rad]; zero looks along the camera's axis into it.
            jaw_rad: Opening of the jaw [rad].
            place_m: Of the face's origin at rest: right, down, away from the camera [m].
            background: (height, width, 3) RGB; None: grey.
        """
        points = _open_jaw(self.points_m, self.jaw_share, jaw_rad)
        turn = Rotation.from_rotvec(np.asarray(neck, np.float64))
        points = turn.apply(points - NECK_PIVOT_M) + NECK_PIVOT_M
        points = points @ CAMERA_FROM_FACING.T + np.asarray(place_m, np.float64)
        if background is None:
            background = np.full((camera.height, camera.width, 3), 120, np.uint8)
        return _splat(points, self.colours, camera, background)


def _open_jaw(points: Array, share: Array, jaw_rad: float) -> Array:
    angle = jaw_rad * share
    y, z = (points - JAW_HINGE_M)[:, 1], (points - JAW_HINGE_M)[:, 2]
    opened = points.copy()
    opened[:, 1] = JAW_HINGE_M[1] + y * np.cos(angle) - z * np.sin(angle)
    opened[:, 2] = JAW_HINGE_M[2] + y * np.sin(angle) + z * np.cos(angle)
    return opened


def _splat(
    points: Array, colours: npt.NDArray[np.uint8], camera: CameraModel, picture: npt.NDArray[np.uint8]
):
    pixels = np.rint(points[:, :2] / points[:, 2:] * camera.focal_px + camera.center_px).astype(int)
    inside = (pixels >= 0).all(1) & (pixels[:, 0] < camera.width) & (pixels[:, 1] < camera.height)
    places, depth, colours = pixels[inside], points[inside, 2], colours[inside]
    order = np.argsort(-depth, kind="stable")
    drawn = picture.copy()
    covered = np.zeros(picture.shape[:2], np.uint8)
    places = places[order]
    drawn[places[:, 1], places[:, 0]] = colours[order]
    covered[places[:, 1], places[:, 0]] = 255
    # Single pixels that no point hit, between others that were, take their neighbours' colour.
    holes = (cv2.morphologyEx(covered, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) > 0) & (covered == 0)
    drawn[holes] = cv2.medianBlur(drawn, 5)[holes]
    return cv2.GaussianBlur(drawn, (3, 3), 0.6)


@functools.cache
def portrait(name: str) -> Portrait:
    """Return a photograph on the canonical face: "astronaut" or "admiral".

    Eileen Collins (NASA) ships in scikit-image, Grace Hopper (US Navy) in Matplotlib; both are in the public
    domain.
    """
    read = {"astronaut": skimage.data.astronaut, "admiral": _read_admiral}
    photograph = read[name]()
    bundle = find_model("")
    landmarker = MediaPipeLandmarker(bundle, max_faces=1)
    try:
        (face,) = landmarker.find(photograph, 0)
    finally:
        landmarker.close()
    canonical_m = read_canonical_mesh(bundle)
    return _relief(photograph, face.landmarks_px[: len(canonical_m)], canonical_m)


def _read_admiral() -> npt.NDArray[np.uint8]:
    with cbook.get_sample_data("grace_hopper.jpg") as file, Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def _relief(photograph: npt.NDArray[np.uint8], landmarks_px: Array, canonical_m: Array) -> Portrait:
    """Put every pixel of the photograph where it lies on the canonical face, or on the head around it."""
    face_px = np.ptp(landmarks_px, axis=0).max()
    margin_px, step_px = 0.45 * face_px, face_px / POINTS_OVER_FACE
    low = np.maximum(np.floor(landmarks_px.min(0) - margin_px), 0)
    high = np.minimum(np.ceil(landmarks_px.max(0) + margin_px), np.array(photograph.shape[1::-1]) - 1)
    grid = np.meshgrid(*(np.arange(start, end, step_px) for start, end in zip(low, high, strict=True)))
    places = np.stack(grid, -1).reshape(-1, 2)
    colours = cv2.remap(photograph, *(part.astype(np.float32) for part in grid), cv2.INTER_LINEAR)
    inside_m = LinearNDInterpolator(landmarks_px, canonical_m)(places)
    # Around the face the picture goes on in its plane, and the head falls back like a ball.
    away_px, nearest = cKDTree(landmarks_px).query(places)
    with_one = np.concatenate([landmarks_px, np.ones((len(landmarks_px), 1))], axis=1)
    flat_from_px = np.linalg.lstsq(with_one, canonical_m[:, :2], rcond=None)[0][:2]
    outside_m = canonical_m[nearest]
    outside_m[:, :2] += (places - landmarks_px[nearest]) @ flat_from_px
    outside_m[:, 2] -= 1.2 * away_px * np.abs(np.linalg.det(flat_from_px)) ** 0.5
    points_m = np.where(np.isnan(inside_m), outside_m, inside_m)
    return _with_mouth(points_m, colours.reshape(-1, 3), landmarks_px, places)


def _with_mouth(points, colours, landmarks_px, places) -> Portrait:
    # The line between the lips: mean of the inner contours from corner to corner.
    upper = landmarks_px[[78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308]]
    lower = landmarks_px[[78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308]]
    line = np.interp(places[:, 0], upper[:, 0], 0.5 * (upper[:, 1] + lower[:, 1]))
    corner = landmarks_px[[78, 308]]
    middle, half = corner[:, 0].mean(), 0.5 * np.ptp(corner[:, 0])
    sideways = np.abs(places[:, 0] - middle) / half
    below = places[:, 1] - line
    reach = np.linalg.norm(landmarks_px[152] - landmarks_px[14])
    share = np.where(below > 0, np.clip(1.6 - 0.6 * sideways, 0, 1), 0.0)
    share *= np.where(below > 1.3 * reach, np.clip(1 - (below - 1.3 * reach) / reach, 0, 1), 1.0)
    # Beside the mouth skin stretches instead of tearing.
    share *= np.where(sideways > 1, np.clip(below / (0.5 * reach), 0, 1), 1.0)
    cavity = (sideways < 1) & (np.abs(below) < 0.4 * reach)
    behind = points[cavity] - np.array([0.0, 0.0, 0.02])
    dark = np.full((len(behind), 3), (45, 20, 20), np.uint8)
    return Portrait(
        np.concatenate([points, behind]),
        np.concatenate([colours, dark]),
        np.concatenate([share, np.zeros(len(behind))]),
    )
