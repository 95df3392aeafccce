"""Head pose and jaw opening from face landmarks in one image (perspective-n-point).

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

from timar_perception.canonical_face import (
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    JAW_HINGE_M,
    LIPS_M,
    RIGID_LANDMARKS,
    RIGID_POINTS_M,
)

Array = npt.NDArray[np.float64]

CAMERA_FROM_FACING: Array = np.diag([1.0, -1.0, -1.0])
"""Face axes of a head that looks into the camera, in the camera's axes: its left is the image's right."""
MAX_JAW_RAD = 0.7
"""More than any mouth opens (some 40 degrees)."""
_FACE_WIDTH_M = float(np.ptp(RIGID_POINTS_M[:, 0]))
_LIP_RADIUS_M = float(np.linalg.norm((LIPS_M - JAW_HINGE_M)[1:]))
"""Of the circle on which the lower lip moves about the jaw's hinge."""


@dataclasses.dataclass(frozen=True)
class CameraModel:
    """A pinhole camera without distortion; axes x right, y down, z away from it.

    Raises:
        ValueError: A size or the focal length is not positive.
    """

    width: int
    """Of an image [px]."""
    height: int
    focal_px: float

    def __post_init__(self) -> None:
        if not (self.width > 0 and self.height > 0 and 0 < self.focal_px < math.inf):
            raise ValueError(
                f"a camera of {self.width} x {self.height} px with a focal length of {self.focal_px} px, "
                "expected positive numbers: the field of view lies between 0 and 180 degrees"
            )

    @classmethod
    def from_field_of_view(cls, width: int, height: int, horizontal_deg: float) -> CameraModel:
        """Make the model of a camera that sees an angle from its left to its right edge [degrees]."""
        return cls(width, height, 0.5 * width / math.tan(math.radians(0.5 * horizontal_deg)))

    @property
    def center_px(self) -> Array:
        """Where the optical axis meets the image: its middle [px]."""
        return np.array([0.5 * (self.width - 1), 0.5 * (self.height - 1)])

    @property
    def matrix(self) -> Array:
        """(3, 3) intrinsic matrix, as OpenCV takes it."""
        x, y = self.center_px
        return np.array([[self.focal_px, 0.0, x], [0.0, self.focal_px, y], [0.0, 0.0, 1.0]])

    def rays(self, pixels: npt.ArrayLike) -> Array:
        """Return the (n, 3) directions in which (n, 2) pixels look, each one metre deep."""
        flat = (np.atleast_2d(np.asarray(pixels, np.float64)) - self.center_px) / self.focal_px
        return np.concatenate([flat, np.ones((len(flat), 1))], axis=1)


@dataclasses.dataclass(frozen=True)
class HeadPose:
    """Rotation and position of a head, as one image shows it."""

    neck: Array
    """(3,) rotation vector in FLAME axes, from looking into the camera [rad]."""
    position_m: Array
    """(3,) of the face's origin: right, down, away from the camera [m]."""
    reprojection_error: float
    """Root mean square distance between landmarks and the rotated canonical face, in widths of the face."""

    @property
    def camera_from_face(self) -> Array:
        """(3, 3) rotation."""
        return CAMERA_FROM_FACING @ Rotation.from_rotvec(self.neck).as_matrix()

    @property
    def distance_m(self) -> float:
        """From the camera [m], for a face of average size."""
        return float(np.linalg.norm(self.position_m))


def find_head_pose(landmarks_px: npt.ArrayLike, camera: CameraModel) -> HeadPose:
    """Fit the canonical face to landmarks.

    Args:
        landmarks_px: (478, 2) as `FaceLandmarks.landmarks_px`, or any that hold RIGID_LANDMARKS [px].
        camera: Of the image.

    Raises:
        ValueError: No pose in front of the camera explains them.

    Source: SQPnP (Terzakis and Lourakis 2020) for a start, then Levenberg-Marquardt, both OpenCV's.
    """
    seen = np.ascontiguousarray(np.asarray(landmarks_px, np.float64)[list(RIGID_LANDMARKS)])  # (n, 2)
    is_found, rotvec, position = cv2.solvePnP(
        RIGID_POINTS_M, seen, camera.matrix, None, flags=cv2.SOLVEPNP_SQPNP
    )
    if not is_found:
        raise ValueError("no pose of a head explains these landmarks; expected a face seen from in front")
    rotvec, position = cv2.solvePnPRefineLM(RIGID_POINTS_M, seen, camera.matrix, None, rotvec, position)
    if not (np.isfinite(rotvec).all() and np.isfinite(position).all() and position[2, 0] > 0.0):
        raise ValueError(
            f"the landmarks put the head at {np.ravel(position)} m, expected one in front of the camera "
            "(z > 0)"
        )
    fitted, _ = cv2.projectPoints(RIGID_POINTS_M, rotvec, position, camera.matrix, None)  # (n, 1, 2)
    error_px = math.sqrt(float(((fitted[:, 0] - seen) ** 2).sum(1).mean()))
    width_px = camera.focal_px * _FACE_WIDTH_M / float(position[2, 0])
    facing_from_face = CAMERA_FROM_FACING.T @ cv2.Rodrigues(rotvec)[0]  # (3, 3)
    return HeadPose(
        neck=Rotation.from_matrix(facing_from_face).as_rotvec(),
        position_m=np.ravel(position),
        reprojection_error=error_px / width_px,
    )


def find_jaw_opening(landmarks_px: npt.ArrayLike, pose: HeadPose, camera: CameraModel) -> float:
    """Return the jaw's rotation about FLAME's x axis [rad]: 0 while the lips touch, more when they are apart.

    The rays through the inner edges of both lips are intersected with the circle on which the lower lip moves
    about the jaw's hinge; the angle between the two points is the opening. So a nod, a turn or distance of
    the head does not change it. Lips that part while the teeth stay closed count as opening.

    Args:
        landmarks_px: (478, 2) [px].
        pose: Of the head in the same image.
        camera: Of the image.

    Raises:
        ValueError: A ray misses the circle: the landmarks are no mouth of this head.
    """
    pixels = np.asarray(landmarks_px, np.float64)[[INNER_UPPER_LIP, INNER_LOWER_LIP]]
    face_from_camera = pose.camera_from_face.T
    camera_m = face_from_camera @ -pose.position_m  # The camera's position in the face's axes.
    upper, lower = (_angle_on_lip_circle(camera_m, face_from_camera @ ray) for ray in camera.rays(pixels))
    return float(np.clip(lower - upper, 0.0, MAX_JAW_RAD))


def _angle_on_lip_circle(camera_m: Array, ray: Array) -> float:
    """Angle about x at which a ray first meets the lips' circle about the hinge; it grows downwards [rad].

    Seen along x the circle is a cylinder; only y and z count. The ray's parameter solves a quadratic.
    """
    start, direction = (camera_m - JAW_HINGE_M)[1:], ray[1:]
    a = float(direction @ direction)
    b = float(start @ direction)
    c = float(start @ start) - _LIP_RADIUS_M**2
    discriminant = b * b - a * c
    if a == 0.0 or discriminant < 0.0:
        raise ValueError("the lips lie beside the jaw's circle, expected the mouth of the head found")
    y, z = start + direction * (-b - math.sqrt(discriminant)) / a
    return math.atan2(-y, z)


def camera_mounting(yaw_deg: float, pitch_deg: float, roll_deg: float) -> Rotation:
    """Return the rotation that takes a neck from the camera's axes to those of a level world.

    A camera that looks down by an angle sees a level head from above, nodding by that angle.
    """
    return Rotation.from_euler("YXZ", [yaw_deg, -pitch_deg, -roll_deg], degrees=True)


def angles_deg(neck: npt.ArrayLike) -> tuple[float, float, float]:
    """Return yaw (to its left), pitch (down) and roll (to its right) of a rotation vector (3,) [degrees]."""
    yaw, pitch, roll = Rotation.from_rotvec(np.asarray(neck, np.float64)).as_euler("YXZ", degrees=True)
    return float(yaw), float(pitch), float(roll)
