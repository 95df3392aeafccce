"""Where a head is and how it is turned, from landmarks in one picture (perspective-n-point).

The rotation that counts is the neck's, in FLAME axes (x to the subject's left, y up, z out of the face). A
head that looks along the camera's axis into it has rotation zero.
"""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from timar_perception.camera_model import CameraModel
from timar_perception.canonical_face import RIGID_LANDMARKS, RIGID_POINTS_M

Array = npt.NDArray[np.float64]

CAMERA_FROM_FACING: Array = np.diag([1.0, -1.0, -1.0])
"""Face axes of a head that looks into the camera, in the camera's axes: its left is the picture's right."""
_FACE_WIDTH_M = float(np.ptp(RIGID_POINTS_M[:, 0]))


@dataclasses.dataclass(frozen=True)
class HeadPose:
    """A head as one picture shows it."""

    neck: Array
    """(3,) rotation vector in FLAME axes, from looking into the camera [rad]."""
    place_m: Array
    """(3,) of the face's origin: right, down, away from the camera [m]."""
    misfit: float
    """Root mean square distance between landmarks and the turned canonical face, in widths of the face."""

    @property
    def camera_from_face(self) -> Array:
        """(3, 3) rotation."""
        return CAMERA_FROM_FACING @ Rotation.from_rotvec(self.neck).as_matrix()

    @property
    def distance_m(self) -> float:
        """From the camera [m], for a face of average size."""
        return float(np.linalg.norm(self.place_m))


def find_head_pose(landmarks_px: npt.ArrayLike, camera: CameraModel) -> HeadPose:
    """Fit the canonical face to landmarks.

    Args:
        landmarks_px: (478, 2) as `Face.landmarks_px`, or any that hold RIGID_LANDMARKS [px].
        camera: Of the picture.

    Raises:
        ValueError: No pose in front of the camera explains them.

    Source: SQPnP (Terzakis and Lourakis 2020) for a start, then Levenberg-Marquardt, both OpenCV's.
    """
    seen = np.ascontiguousarray(np.asarray(landmarks_px, np.float64)[list(RIGID_LANDMARKS)])
    is_found, turn, place = cv2.solvePnP(RIGID_POINTS_M, seen, camera.matrix, None, flags=cv2.SOLVEPNP_SQPNP)
    if not is_found:
        raise ValueError("no pose of a head explains these landmarks; expected a face seen from in front")
    turn, place = cv2.solvePnPRefineLM(RIGID_POINTS_M, seen, camera.matrix, None, turn, place)
    if not (np.isfinite(turn).all() and np.isfinite(place).all() and place[2, 0] > 0.0):
        raise ValueError(
            f"the landmarks put the head at {np.ravel(place)} m, expected one in front of the camera (z > 0)"
        )
    fitted, _ = cv2.projectPoints(RIGID_POINTS_M, turn, place, camera.matrix, None)
    error_px = math.sqrt(float(((fitted[:, 0] - seen) ** 2).sum(1).mean()))
    width_px = camera.focal_px * _FACE_WIDTH_M / float(place[2, 0])
    rotation = CAMERA_FROM_FACING.T @ cv2.Rodrigues(turn)[0]
    return HeadPose(
        neck=Rotation.from_matrix(rotation).as_rotvec(),
        place_m=np.ravel(place),
        misfit=error_px / width_px,
    )
