"""The eyes' parameters."""

from __future__ import annotations

import dataclasses

from timar_common.config import check, option


@dataclasses.dataclass(frozen=True)
class PerceptionConfig:
    """The perception node."""

    source: str = option(
        "camera",
        "Where pictures come from: a camera of this machine, a topic, or a video file.",
        choices=("camera", "topic", "file"),
    )
    device: str = option("0", "Camera by number or path (/dev/video0), when source is camera.")
    file: str = option("", "Video of the user that goes with the sound, when source is file.")
    image_topic: str = option(
        "image", "Topic of sensor_msgs/Image when source is topic, in the robot's namespace."
    )
    width: int = option(640, "Width asked of the camera.", unit="px", minimum=64, maximum=4096)
    height: int = option(480, "Height asked of the camera.", unit="px", minimum=64, maximum=4096)
    rate_hz: float = option(
        30.0, "Pictures a second asked of the camera.", unit="Hz", minimum=1.0, maximum=240.0
    )
    field_of_view_deg: float = option(
        60.0,
        "Angle from a picture's left to its right edge. A wrong one spoils distances and large angles.",
        unit="deg",
        minimum=10.0,
        maximum=150.0,
    )
    camera_latency_ms: float = option(
        0.0,
        "From exposure to the camera's stamp, subtracted from every stamp.",
        unit="ms",
        minimum=0.0,
        maximum=500.0,
    )
    camera_yaw_deg: float = option(
        0.0,
        "How far the camera is turned to its left, from looking straight at the user.",
        unit="deg",
        minimum=-90.0,
        maximum=90.0,
    )
    camera_pitch_deg: float = option(
        0.0,
        "How far the camera looks down (positive, mounted high) or up; `timar perception check` proposes it.",
        unit="deg",
        minimum=-90.0,
        maximum=90.0,
    )
    camera_roll_deg: float = option(
        0.0,
        "How far the camera leans to its right.",
        unit="deg",
        minimum=-180.0,
        maximum=180.0,
    )
    model: str = option("", "MediaPipe's face_landmarker.task; empty: the one that came with the set-up.")
    expression_map: str = option(
        "",
        "YAML of channels as `timar robot fit-expressions` writes it, named as MediaPipe's blendshapes; "
        "empty: expression counts as unseen.",
    )
    follow: str = option(
        "nearest",
        "Of several faces: the nearest, or the one whose lips move with the user's voice.",
        choices=("nearest", "talking"),
    )
    max_faces: int = option(
        2, "Faces looked for in a picture; each costs time.", unit="faces", minimum=1, maximum=8
    )
    min_confidence: float = option(0.5, "Of MediaPipe, that there is a face.", minimum=0.05, maximum=0.99)
    min_brightness: float = option(
        16.0, "Mean of a picture below which nobody is seen; white is 255.", minimum=0.0, maximum=255.0
    )
    max_misfit: float = option(
        0.1,
        "Landmarks that lie further from the turned canonical face than this are no face.",
        unit="face widths",
        minimum=0.01,
        maximum=1.0,
    )
    max_angle_deg: float = option(
        60.0,
        "Beyond this yaw or pitch against the camera the head counts as unseen.",
        unit="deg",
        minimum=10.0,
        maximum=90.0,
    )
    smoothing_hz: float = option(
        6.0,
        "Trembling of a resting head above this is smoothed away, with a delay of 1 / (2 pi f): 27 ms at 6.",
        unit="Hz",
        minimum=0.5,
        maximum=100.0,
    )
    smoothing_per_speed: float = option(
        6.0,
        "By how much the limit rises for each rad/s, so that quick motion is hardly delayed.",
        unit="Hz s/rad",
        minimum=0.0,
        maximum=1000.0,
    )
    shift_frames: int = option(
        0,
        "Tell what is seen as of so many frames later: in time for its turn, but that much behind the voice.",
        unit="frames",
        minimum=0,
        maximum=10,
    )
    max_gap_ms: int = option(
        110,
        "Frames between pictures further apart than this count as unseen: 9 pictures a second are too few.",
        unit="ms",
        minimum=20,
        maximum=1000,
    )
    give_up_ms: int = option(
        300,
        "A frame that no picture has told of for so long is told as unseen.",
        unit="ms",
        minimum=40,
        maximum=5000,
    )
    settle_ms: int = option(
        200,
        "After a face was found, or another one took its place, it counts as unseen for so long.",
        unit="ms",
        minimum=0,
        maximum=5000,
    )
    forget_ms: int = option(
        1000,
        "A face that was away for longer counts as another one.",
        unit="ms",
        minimum=50,
        maximum=60_000,
    )
    max_side_px: int = option(
        640,
        "Larger pictures are shrunk to this before they are looked at.",
        unit="px",
        minimum=128,
        maximum=4096,
    )
    reopen_every_ms: int = option(
        1000, "A camera that is gone is looked for so often.", unit="ms", minimum=100, maximum=60_000
    )
    silent_after_ms: int = option(
        1000,
        "A camera or topic that brings no picture for so long is gone.",
        unit="ms",
        minimum=100,
        maximum=60_000,
    )

    def __post_init__(self) -> None:
        check(self)
