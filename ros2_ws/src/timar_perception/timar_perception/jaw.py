"""How far a jaw is open, from the lips: the rotation that carries the lower lip from the upper one."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from timar_perception.camera_model import CameraModel
from timar_perception.canonical_face import INNER_LOWER_LIP, INNER_UPPER_LIP, JAW_HINGE_M, LIPS_M
from timar_perception.head_pose import HeadPose

Array = npt.NDArray[np.float64]

WIDEST_RAD = 0.7
"""More than any mouth opens (some 40 degrees)."""
_REACH_M = float(np.linalg.norm((LIPS_M - JAW_HINGE_M)[1:]))


def find_jaw_opening(landmarks_px: npt.ArrayLike, pose: HeadPose, camera: CameraModel) -> float:
    """Return the jaw's rotation about FLAME's x axis [rad]: 0 while the lips touch, more when they are apart.

    The rays through the inner edges of both lips are cut with the circle on which the lower lip travels
    about the jaw's hinge; the angle between the two cuts is the opening. So a nod, a turn or distance of the
    head does not change it. Lips that part while the teeth stay closed count as opening.

    Args:
        landmarks_px: (478, 2) [px].
        pose: Of the head in the same picture.
        camera: Of the picture.

    Raises:
        ValueError: A ray misses the circle: the landmarks are no mouth of this head.
    """
    pixels = np.asarray(landmarks_px, np.float64)[[INNER_UPPER_LIP, INNER_LOWER_LIP]]
    face_from_camera = pose.camera_from_face.T
    eye = face_from_camera @ -pose.place_m
    upper, lower = (_angle_on_circle(eye, face_from_camera @ ray) for ray in camera.rays(pixels))
    return float(np.clip(lower - upper, 0.0, WIDEST_RAD))


def _angle_on_circle(eye: Array, ray: Array) -> float:
    """Angle about x at which a ray first meets the lips' circle about the hinge; it grows downwards [rad].

    Seen along x the circle is a cylinder; only y and z count.
    """
    start, along = (eye - JAW_HINGE_M)[1:], ray[1:]
    a = float(along @ along)
    b = float(start @ along)
    c = float(start @ start) - _REACH_M**2
    inside = b * b - a * c
    if a == 0.0 or inside < 0.0:
        raise ValueError("the lips lie beside the jaw's circle, expected the mouth of the head found")
    y, z = start + along * (-b - math.sqrt(inside)) / a
    return math.atan2(-y, z)
