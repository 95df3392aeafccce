"""Parameters of face tracking."""

from __future__ import annotations

import dataclasses

from timar_common.config import check, number, option


@dataclasses.dataclass(frozen=True)
class PerceptionConfig:
    """Camera, face tracking and timing of user/motion."""

    source: str = option(
        "camera",
        "Where images come from: a camera of this machine, a topic, or a video file.",
        choices=("camera", "topic", "file"),
    )
    device: str = option("0", "Camera by number or path (/dev/video0), when source is camera.")
    file: str = option("", "Video of the user that goes with the sound, when source is file.")
    image_topic: str = option(
        "image", "Topic of sensor_msgs/Image or CompressedImage when source is topic; camera_info beside it."
    )
    image_rotation_deg: int = number(
        0, "Turn images clockwise by 0, 90, 180 or 270 degrees, until faces are upright.", 0, 270, "deg"
    )
    image_mirrored: bool = option(False, "The camera shows a mirror image: left is right.")
    width: int = number(640, "Width asked of the camera.", 64, 4096, "px")
    height: int = number(480, "Height asked of the camera.", 64, 4096, "px")
    rate_hz: float = number(30.0, "Images a second asked of the camera.", 1.0, 240.0, "Hz")
    field_of_view_deg: float = number(
        60.0,
        "Across an image as the camera gives it, where no camera_info says so; a wrong one spoils distances.",
        10.0,
        150.0,
        "deg",
    )
    camera_latency_ms: float = number(
        0.0, "From exposure to the camera's stamp, subtracted from every stamp.", 0.0, 500.0, "ms"
    )
    camera_yaw_deg: float = number(
        0.0, "How far the camera is turned to its left, away from the user.", -90.0, 90.0, "deg"
    )
    camera_pitch_deg: float = number(
        0.0, "How far the camera looks down; `timar perception check` proposes it.", -90.0, 90.0, "deg"
    )
    camera_roll_deg: float = number(0.0, "How far the camera leans to its right.", -180.0, 180.0, "deg")
    model: str = option("", "MediaPipe's face_landmarker.task; empty: the one that came with the set-up.")
    expression_map: str = option(
        "",
        "Your matrix between ARKit's blendshapes and FLAME (.npy, or a YAML that names one), or a YAML of "
        "channels as `timar robot fit-expressions` writes it; empty: expression counts as unseen.",
    )
    follow: str = option(
        "nearest",
        "Of several faces the nearest, or whose lips move with the user's voice.",
        choices=("nearest", "talking"),
    )
    max_faces: int = number(2, "Faces looked for in an image; each costs time.", 1, 8, "faces")
    min_confidence: float = number(0.5, "Of MediaPipe, that there is a face.", 0.05, 0.99)
    min_brightness: float = number(
        16.0, "Mean of an image below which nobody is seen; white is 255.", 0.0, 255.0
    )
    max_reprojection_error: float = number(
        0.1,
        "Landmarks further off the canonical face are no face.",
        0.01,
        1.0,
        "face widths",
        formerly=("max_misfit",),
    )
    max_angle_deg: float = number(
        60.0, "Beyond this yaw or pitch against the camera the head is unseen.", 10.0, 90.0, "deg"
    )
    smoothing_hz: float = number(
        6.0, "Cutoff for a resting head; delays by 1 / (2 pi f), 27 ms at 6 Hz.", 0.5, 100.0, "Hz"
    )
    smoothing_per_speed: float = number(
        6.0, "Rise of the cutoff with speed, so that quick motion is hardly late.", 0.0, 1000.0, "Hz s/rad"
    )
    shift_frames: int = number(
        0, "Publish frames as of so many later: in time, but behind the voice.", 0, 10, "frames"
    )
    max_gap_ms: int = number(
        110, "Frames between images further apart are unseen: 9 Hz is too slow.", 20, 1000, "ms"
    )
    frame_timeout_ms: int = number(
        300, "A frame that no image shows by then is unseen.", 40, 5000, "ms", formerly=("give_up_ms",)
    )
    settle_ms: int = number(
        200, "A face that was just found or selected is unseen for so long.", 0, 5000, "ms"
    )
    face_timeout_ms: int = number(
        1000, "A face that was away for longer is another one.", 50, 60_000, "ms", formerly=("forget_ms",)
    )
    max_side_px: int = number(640, "Larger images are scaled down to this side.", 128, 4096, "px")
    reopen_every_ms: int = number(1000, "A camera that is gone is looked for so often.", 100, 60_000, "ms")
    image_timeout_ms: int = number(
        1000,
        "Without an image for so long the source is gone.",
        100,
        60_000,
        "ms",
        formerly=("silent_after_ms",),
    )

    def __post_init__(self) -> None:
        check(self)
        if self.image_rotation_deg % 90:
            raise ValueError(
                f"PerceptionConfig.image_rotation_deg is {self.image_rotation_deg}, expected 0, 90, "
                "180 or 270; a camera that leans by less is told by camera_roll_deg"
            )
        needed = {"camera": "device", "topic": "image_topic", "file": "file"}[self.source]
        if not getattr(self, needed):
            raise ValueError(
                f"PerceptionConfig.{needed} is empty, expected where images come from: source is "
                f"{self.source}"
            )
