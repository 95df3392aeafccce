"""The eyes: one picture after the other becomes what is known of the user's head. Time is in the pictures."""

from __future__ import annotations

import collections
import dataclasses
import math

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation
from timar_common.clock import NS_PER_S
from timar_common.diagnostics import Level, Report

from timar_perception.camera_model import CameraModel
from timar_perception.config import PerceptionConfig
from timar_perception.expressions import ExpressionMap
from timar_perception.faces import FaceChooser, SeenFace
from timar_perception.head_pose import HeadPose, find_head_pose
from timar_perception.jaw import find_jaw_opening
from timar_perception.landmarks import Face, Landmarker
from timar_perception.pictures import Picture, mean_brightness, require_size, shrink
from timar_perception.smoothing import Smoother, SmoothingConfig
from timar_perception.timing import UNSEEN, Sighting

Array = npt.NDArray[np.float64]

BACKWARDS_BELIEVED = 5
"""So many pictures in a row that are older than the newest mean that the camera's time began anew."""
FEW_HZ = 15.0
"""Fewer pictures a second show nods badly, and come late."""
_RATE_OVER = 30


@dataclasses.dataclass(frozen=True)
class Look:
    """What a picture told, for people: `Sighting` is for the model."""

    sighting: Sighting
    why_unseen: str
    """Empty when the neck was seen."""
    faces: int = 0
    brightness: float = 0.0
    pose: HeadPose | None = None
    """Of the face that is followed, against the camera, not smoothed."""


class Eyes:
    """Find the user's face in pictures and read neck, jaw and expression from it.

    Args:
        config: Parameters.
        landmarker: Finds faces; the eyes own it from now on.
        expressions: The user's map; None: expression is unseen.
    """

    def __init__(
        self, config: PerceptionConfig, landmarker: Landmarker, expressions: ExpressionMap | None = None
    ) -> None:
        self.config = config
        self.pictures = 0
        self.pictures_backwards = 0
        """Pictures older than the one before; left out."""
        self.pictures_refused = 0
        """Pictures of a size or kind that cannot be looked at."""
        self._landmarker = landmarker
        self._expressions = expressions
        self._chooser = FaceChooser(config.follow, config.forget_ms)
        smoothing = SmoothingConfig(config.smoothing_hz, config.smoothing_per_speed)
        self._neck = Smoother(smoothing, is_rotation=True)
        self._jaw = Smoother(smoothing, is_rotation=False)
        self._room_from_camera = camera_tilt(config)
        self._newest_ns: int | None = None
        self._backwards = 0
        self._seen_from_ns = 0
        self._marker_ms = 0
        self._times: collections.deque[int] = collections.deque(maxlen=_RATE_OVER)
        self._last = Look(UNSEEN, "no picture yet")

    @property
    def switches(self) -> int:
        """How often another face was followed than before."""
        return self._chooser.switches

    @property
    def rate_hz(self) -> float:
        """Pictures a second, over the newest thirty; 0 when there are none [Hz]."""
        if len(self._times) < 2:
            return 0.0
        return (len(self._times) - 1) * NS_PER_S / max(1, self._times[-1] - self._times[0])

    def restart(self) -> None:
        """Forget faces and times: the camera is another one, or its time began anew."""
        self._chooser.restart()
        self._newest_ns = None
        self._backwards = 0
        self._times.clear()
        self._last = Look(UNSEEN, "no picture yet")

    def hear(self, heard_ns: int, voice: float) -> None:
        """Take in how sure it is that the user speaks, 0 to 1, at an instant (CLOCK_MONOTONIC) [ns]."""
        self._chooser.hear(heard_ns, voice)

    def look(self, picture: Picture) -> Look | None:
        """Look at the next picture.

        Returns:
            What it tells; None when it is left out because it is older than the one before.

        Raises:
            ValueError: Nobody can look at such a picture.
        """
        if not self._is_newer(picture.taken_ns):
            return None
        try:
            require_size(picture.pixels.shape[1], picture.pixels.shape[0])
        except ValueError:
            self.pictures_refused += 1
            raise
        self.pictures += 1
        self._times.append(picture.taken_ns)
        self._last = self._look(picture)
        return self._last

    def close(self) -> None:
        """Free the landmarker."""
        self._landmarker.close()

    def report(self) -> Report:
        """Say what is seen, and why nothing is."""
        last = self._last
        report = Report(
            values={
                "pictures": self.pictures,
                "pictures_backwards": self.pictures_backwards,
                "pictures_refused": self.pictures_refused,
                "rate_hz": self.rate_hz,
                "brightness": last.brightness,
                "faces": last.faces,
                "face_switches": self.switches,
                "is_seen": not last.why_unseen,
            }
        )
        if last.pose is not None:
            yaw, pitch, roll = angles_deg(last.pose.neck)
            report.values |= {"yaw_deg": yaw, "pitch_deg": pitch, "roll_deg": roll}
            report.values["distance_m"] = last.pose.distance_m
        if last.why_unseen:
            report.worsen(Level.OK, last.why_unseen)
            report.message = f"the user is unseen: {last.why_unseen}"
        if self._last.why_unseen.startswith("too dark"):
            report.worsen(Level.WARN, last.why_unseen)
        if 0.0 < self.rate_hz < FEW_HZ:
            report.worsen(
                Level.WARN,
                f"{self.rate_hz:.1f} pictures a second, expected {FEW_HZ:g} or more: more light, a smaller "
                "picture or another camera helps",
            )
        if self.pictures_backwards:
            report.worsen(Level.WARN, f"{self.pictures_backwards} pictures were older than the one before")
        return report

    def _is_newer(self, taken_ns: int) -> bool:
        if self._newest_ns is not None and taken_ns <= self._newest_ns:
            self.pictures_backwards += 1
            self._backwards += 1
            if self._backwards < BACKWARDS_BELIEVED:
                return False
            self.restart()
        self._backwards = 0
        self._newest_ns = taken_ns
        return True

    def _look(self, picture: Picture) -> Look:
        brightness = mean_brightness(picture.pixels)
        if brightness < self.config.min_brightness:
            return Look(UNSEEN, f"too dark: brightness {brightness:.0f} of 255", brightness=brightness)
        pixels = shrink(picture.pixels, self.config.max_side_px)
        camera = CameraModel.from_field_of_view(
            pixels.shape[1], pixels.shape[0], self.config.field_of_view_deg
        )
        # MediaPipe wants times that grow, whatever the camera's do.
        self._marker_ms += 33
        found = self._landmarker.find(pixels, self._marker_ms)
        faces = [face for face in (self._read(one, camera) for one in found) if face is not None]
        choice = self._chooser.choose(faces, picture.taken_ns)
        if choice is None:
            why = "no face in the picture" if not found else "another face, or one that cannot be one"
            return Look(UNSEEN, why, len(found), brightness)
        if choice.is_new:
            self._neck.reset()
            self._jaw.reset()
            self._seen_from_ns = picture.taken_ns + self.config.settle_ms * 1_000_000
        return self._told(choice.face, picture.taken_ns, len(found), brightness)

    def _read(self, face: Face, camera: CameraModel) -> SeenFace | None:
        """Return pose and jaw of a face; None when it cannot be one."""
        try:
            pose = find_head_pose(face.landmarks_px, camera)
        except ValueError:
            return None
        if pose.misfit > self.config.max_misfit:
            return None
        try:
            jaw_rad = find_jaw_opening(face.landmarks_px, pose, camera)
        except ValueError:
            jaw_rad = None
        return SeenFace(face, pose, jaw_rad)

    def _told(self, face: SeenFace, taken_ns: int, faces: int, brightness: float) -> Look:
        neck = self._neck.push(
            (self._room_from_camera * Rotation.from_rotvec(face.pose.neck)).as_rotvec(), taken_ns
        )
        jaw_rad = None if face.jaw_rad is None else float(self._jaw.push([face.jaw_rad], taken_ns)[0])
        yaw, pitch, _ = angles_deg(face.pose.neck)
        why = ""
        if taken_ns < self._seen_from_ns:
            why = "a face was just found"
        elif max(abs(yaw), abs(pitch)) > self.config.max_angle_deg:
            why = f"turned away: yaw {yaw:.0f}, pitch {pitch:.0f} degrees"
        if why:
            return Look(UNSEEN, why, faces, brightness, face.pose)
        expression = None
        if self._expressions is not None:
            expression = self._expressions.numbers(face.face.blendshapes)
        return Look(Sighting(neck, jaw_rad, expression), "", faces, brightness, face.pose)


def camera_tilt(config: PerceptionConfig) -> Rotation:
    """Return the rotation that takes a neck from the camera's axes to those of the level room.

    A camera that looks down by an angle sees a level head from above, nodding by that angle.
    """
    yaw, pitch, roll = (
        math.radians(angle)
        for angle in (config.camera_yaw_deg, config.camera_pitch_deg, config.camera_roll_deg)
    )
    return Rotation.from_euler("YXZ", [yaw, -pitch, -roll])


def angles_deg(neck: npt.ArrayLike) -> tuple[float, float, float]:
    """Return yaw (to its left), pitch (down) and roll (to its right) of a rotation vector (3,) [degrees]."""
    yaw, pitch, roll = Rotation.from_rotvec(np.asarray(neck, np.float64)).as_euler("YXZ", degrees=True)
    return float(yaw), float(pitch), float(roll)
