"""Face tracking: image after image to the user's head pose, jaw opening and expression.

Time is in the images; the same images give the same observations.
"""

from __future__ import annotations

import collections
import dataclasses
from pathlib import Path

from scipy.spatial.transform import Rotation
from timar_common.clock import NS_PER_S
from timar_common.diagnostics import Level, Report

from timar_perception.config import PerceptionConfig
from timar_perception.expressions import ExpressionMap, read_expression_map
from timar_perception.face_selection import FaceSelector, MeasuredFace
from timar_perception.frame_interpolation import UNSEEN, HeadObservation
from timar_perception.head_pose import (
    CameraModel,
    HeadPose,
    angles_deg,
    camera_mounting,
    find_head_pose,
    find_jaw_opening,
)
from timar_perception.images import CameraImage, downscale, mean_brightness, upright
from timar_perception.landmarks import FaceLandmarks, Landmarker, MediaPipeLandmarker, find_model
from timar_perception.one_euro_filter import OneEuroFilter

BACKWARD_CONFIRMATIONS = 5
"""So many images in a row that are older than the newest mean that the camera's clock has restarted."""
LOW_RATE_HZ = 15.0
"""Fewer images a second show nods badly, and come late."""
_RATE_WINDOW = 30


@dataclasses.dataclass(frozen=True)
class TrackingResult:
    """What tracking found in an image: the observation for the model, the rest for people."""

    observation: HeadObservation
    why_unseen: str
    """Empty when the neck was seen."""
    faces: int = 0
    brightness: float = 0.0
    pose: HeadPose | None = None
    """Of the face that is tracked, against the camera, not smoothed."""


NO_IMAGE = TrackingResult(UNSEEN, "no image yet")


class FaceTracker:
    """Find the user's face in images and measure neck, jaw and expression.

    Args:
        config: Parameters.
        landmarker: Finds faces, and is closed with the tracker; MediaPipe unless given.

    Raises:
        ValueError: The expression map or the model cannot be used.
        OSError: The expression map cannot be read.
        RuntimeError: MediaPipe or its model is missing.
    """

    def __init__(self, config: PerceptionConfig, landmarker: Landmarker | None = None) -> None:
        self.config = config
        self._expressions: ExpressionMap | None = None
        if config.expression_map:
            self._expressions = read_expression_map(Path(config.expression_map).expanduser())
        self._landmarker = landmarker or MediaPipeLandmarker(
            find_model(config.model),
            config.max_faces,
            config.min_confidence,
            with_blendshapes=self._expressions is not None,
        )
        self.images = 0
        self.images_backwards = 0
        """Images older than the one before; left out."""
        self._selector = FaceSelector(config.follow, config.face_timeout_ms)
        smoothing = (config.smoothing_hz, config.smoothing_per_speed)
        self._neck_filter = OneEuroFilter(*smoothing, is_rotation=True)
        self._jaw_filter = OneEuroFilter(*smoothing, is_rotation=False)
        self._world_from_camera = camera_mounting(
            config.camera_yaw_deg, config.camera_pitch_deg, config.camera_roll_deg
        )
        self._camera_info: CameraModel | None = None
        self._camera_info_issue = ""
        self._stream = 0
        self._seen_from_ns = 0
        self._landmarker_ms = 0
        self._times: collections.deque[int] = collections.deque(maxlen=_RATE_WINDOW)
        self.reset()

    @property
    def switches(self) -> int:
        """How often another face was tracked than before."""
        return self._selector.switches

    @property
    def rate_hz(self) -> float:
        """Images a second, over the newest thirty; 0 when there are none [Hz]."""
        if len(self._times) < 2:
            return 0.0
        return (len(self._times) - 1) * NS_PER_S / max(1, self._times[-1] - self._times[0])

    def reset(self) -> None:
        """Forget faces and times: the camera is another one, or its clock has restarted."""
        self._selector.reset()
        self._newest_ns: int | None = None
        self._backwards = 0
        self._times.clear()
        self._last = NO_IMAGE

    def set_camera_info(self, camera: CameraModel | None) -> None:
        """Take what a camera says of its lens, for images of any size; None: it says nothing."""
        self._camera_info, self._camera_info_issue = camera, ""

    def add_voice_activity(self, heard_ns: int, probability: float) -> None:
        """Take the probability that the user speaks at an instant, CLOCK_MONOTONIC [ns]."""
        self._selector.add_voice_activity(heard_ns, probability)

    def track(self, image: CameraImage) -> TrackingResult | None:
        """Process the next image.

        Returns:
            What it shows; None when it is left out because it is older than the one before.
        """
        if image.stream != self._stream:
            self._stream = image.stream
            self.reset()
        if not self._is_newer(image.taken_ns):
            return None
        self.images += 1
        self._times.append(image.taken_ns)
        self._last = self._track(image)
        return self._last

    def close(self) -> None:
        """Free the landmarker."""
        self._landmarker.close()

    def report(self) -> Report:
        """Report what is seen, and why nothing is."""
        last = self._last
        report = Report(
            values={
                "images": self.images,
                "images_backwards": self.images_backwards,
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
            report.message = f"the user is unseen: {last.why_unseen}"
        if last.why_unseen.startswith("too dark"):
            report.worsen(Level.WARN, last.why_unseen)
        if 0.0 < self.rate_hz < LOW_RATE_HZ:
            report.worsen(
                Level.WARN,
                f"{self.rate_hz:.1f} images a second, expected {LOW_RATE_HZ:g} or more: more light, a "
                "smaller image or another camera helps",
            )
        if self._camera_info_issue:
            report.worsen(Level.WARN, self._camera_info_issue)
        if self.images_backwards:
            report.worsen(Level.WARN, f"{self.images_backwards} images were older than the one before")
        return report

    def _is_newer(self, taken_ns: int) -> bool:
        if self._newest_ns is not None and taken_ns <= self._newest_ns:
            self.images_backwards += 1
            self._backwards += 1
            if self._backwards < BACKWARD_CONFIRMATIONS:
                return False
            self.reset()
        self._backwards = 0
        self._newest_ns = taken_ns
        return True

    def _track(self, image: CameraImage) -> TrackingResult:
        brightness = mean_brightness(image.pixels)
        if brightness < self.config.min_brightness:
            why = f"too dark: brightness {brightness:.0f} of 255"
            return TrackingResult(UNSEEN, why, brightness=brightness)
        config = self.config
        pixels = downscale(image.pixels, config.max_side_px)
        camera = self._camera_of(pixels.shape[1], pixels.shape[0])
        pixels = upright(pixels, config.image_rotation_deg, is_mirrored=config.image_mirrored)
        if config.image_rotation_deg % 180:
            camera = CameraModel(camera.height, camera.width, camera.focal_px)
        # MediaPipe wants times that grow, whatever the camera's do.
        self._landmarker_ms += 33
        found = self._landmarker.find(pixels, self._landmarker_ms)
        faces = [face for face in (self._measure(one, camera) for one in found) if face is not None]
        selected = self._selector.select(faces, image.taken_ns)
        if selected is None:
            why = "no face in the image" if not found else "another face, or one that cannot be one"
            return TrackingResult(UNSEEN, why, len(found), brightness)
        face, is_new = selected
        if is_new:
            self._neck_filter.reset()
            self._jaw_filter.reset()
            self._seen_from_ns = image.taken_ns + self.config.settle_ms * 1_000_000
        observation, why = self._observe(face, image.taken_ns)
        return TrackingResult(observation, why, len(found), brightness, face.pose)

    def _camera_of(self, width: int, height: int) -> CameraModel:
        """Return the camera of images of this size: by its camera_info where that can be its, else as set."""
        info = self._camera_info
        if info is not None and abs(info.width * height - info.height * width) <= info.width + info.height:
            return CameraModel(width, height, info.focal_px * width / info.width)
        if info is not None:
            self._camera_info_issue = (
                f"camera_info is of {info.width} x {info.height} and the images are of {width} x {height}: "
                "field_of_view_deg counts instead"
            )
        return CameraModel.from_field_of_view(width, height, self.config.field_of_view_deg)

    def _measure(self, face: FaceLandmarks, camera: CameraModel) -> MeasuredFace | None:
        """Return pose and jaw of a face; None when it cannot be one."""
        try:
            pose = find_head_pose(face.landmarks_px, camera)
        except ValueError:
            return None
        if pose.reprojection_error > self.config.max_reprojection_error:
            return None
        try:
            jaw_rad = find_jaw_opening(face.landmarks_px, pose, camera)
        except ValueError:
            jaw_rad = None
        return MeasuredFace(face, pose, jaw_rad)

    def _observe(self, face: MeasuredFace, taken_ns: int) -> tuple[HeadObservation, str]:
        """Return the smoothed observation of a face, or UNSEEN and why."""
        world_neck = (self._world_from_camera * Rotation.from_rotvec(face.pose.neck)).as_rotvec()
        neck = self._neck_filter.filter(world_neck, taken_ns)
        jaw_rad = None
        if face.jaw_rad is not None:
            jaw_rad = float(self._jaw_filter.filter([face.jaw_rad], taken_ns)[0])
        yaw, pitch, _ = angles_deg(face.pose.neck)
        if taken_ns < self._seen_from_ns:
            return UNSEEN, "a face was just found"
        if max(abs(yaw), abs(pitch)) > self.config.max_angle_deg:
            return UNSEEN, f"turned away: yaw {yaw:.0f}, pitch {pitch:.0f} degrees"
        expression = None
        if self._expressions is not None:
            expression = self._expressions.coefficients(face.face.blendshapes)
        return HeadObservation(neck, jaw_rad, expression), ""
