"""`timar perception`: for people who set up a camera. Pictures are looked at and forgotten."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from timar_common.clock import NS_PER_S

from timar_perception.config import PerceptionConfig
from timar_perception.eyes import FEW_HZ, Eyes, Look, angles_deg
from timar_perception.landmarks import MediaPipeLandmarker, find_model
from timar_perception.pictures import Picture
from timar_perception.sources import CameraSource, VideoFile, describe_cameras

_DIM = 60.0
"""Pictures darker than this on average make tracking tremble."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a check saw."""

    pictures: int
    seen: int
    """Of them with the neck seen."""
    rate_hz: float
    brightness: float
    look_ms: float
    """Median time to look at a picture [ms]."""
    angles_deg: tuple[float, float, float] | None
    """Median yaw, pitch and roll of the head against the level room [degrees]; None: never seen."""
    jaw_rad: tuple[float, float]
    """Least and largest opening seen [rad]."""
    distance_m: float
    why_unseen: str
    """The commonest reason, empty when the user was always seen."""


def main(argv: list[str]) -> int:
    """List cameras, and check picture rate, light and pose of the user's head."""
    parser = argparse.ArgumentParser(prog="timar perception", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("cameras", help="say which cameras this machine has")
    check = commands.add_parser("check", help="look through a camera for a while and say what is seen")
    check.add_argument("--camera", default="0", help="number or path (default: 0)")
    check.add_argument("--file", default="", help="a video instead of a camera")
    check.add_argument("--seconds", type=float, default=10.0, help="how long to look [s] (default: 10)")
    check.add_argument("--width", type=int, default=640, help="asked of the camera [px] (default: 640)")
    check.add_argument("--height", type=int, default=480, help="asked of the camera [px] (default: 480)")
    check.add_argument(
        "--field-of-view", type=float, default=60.0, help="from left to right edge [degrees] (default: 60)"
    )
    check.add_argument(
        "--camera-pitch", type=float, default=0.0, help="how far it looks down [degrees] (default: 0)"
    )
    arguments = parser.parse_args(argv)
    if arguments.command == "cameras":
        sys.stdout.write(f"{describe_cameras()}\n")
        return 0
    try:
        if not 1.0 <= arguments.seconds <= 3600.0:
            raise ValueError(f"--seconds is {arguments.seconds:g}, expected 1 to 3600")
        config = PerceptionConfig(
            source="file" if arguments.file else "camera",
            device=arguments.camera,
            file=arguments.file,
            width=arguments.width,
            height=arguments.height,
            field_of_view_deg=arguments.field_of_view,
            camera_pitch_deg=arguments.camera_pitch,
            settle_ms=0,
        )
        measured = measure(config, arguments.seconds)
    except (OSError, ValueError, RuntimeError) as error:
        sys.stderr.write(f"timar perception: {error}\n")
        return 1
    sys.stdout.write(describe(measured, arguments.camera_pitch))
    return 0 if measured.seen else 1


def measure(config: PerceptionConfig, seconds: float) -> Measured:
    """Look for a while; a line on standard error follows the head when it is a terminal.

    Raises:
        OSError: The camera cannot be opened, or is gone.
        ValueError: The file is no video.
        RuntimeError: MediaPipe or its model is missing.
    """
    source = _source(config)
    try:
        landmarker = MediaPipeLandmarker(find_model(config.model), config.max_faces, config.min_confidence)
        with contextlib.closing(Eyes(config, landmarker)) as eyes:
            return _looked(eyes, _pictures(source, seconds))
    finally:
        source.close()
        if sys.stderr.isatty():
            sys.stderr.write("\n")


def _looked(eyes: Eyes, pictures: Iterator[Picture]) -> Measured:
    looks: list[Look] = []
    times_ms: list[float] = []
    for picture in pictures:
        began_s = time.perf_counter()
        look = eyes.look(picture)
        times_ms.append(1000.0 * (time.perf_counter() - began_s))
        if look is not None:
            looks.append(look)
            _follow(look, eyes.rate_hz)
    return _summary(looks, times_ms, eyes.rate_hz)


def describe(measured: Measured, camera_pitch_deg: float) -> str:
    """Return what a check saw, with what to do about it."""
    rows = [
        ("pictures", f"{measured.rate_hz:.1f} a second ({FEW_HZ:g} or more; 30 is usual)"),
        ("light", f"brightness {measured.brightness:.0f} of 255 ({_DIM:g} or more)"),
        ("time", f"{measured.look_ms:.1f} ms a picture (below 20)"),
        ("seen", f"in {measured.seen} of {measured.pictures} pictures"),
    ]
    if measured.why_unseen:
        rows.append(("", f"otherwise: {measured.why_unseen}"))
    if measured.angles_deg is not None:
        yaw, pitch, roll = measured.angles_deg
        rows += [
            ("head", f"yaw {yaw:+.1f}, pitch {pitch:+.1f}, roll {roll:+.1f} degrees"),
            ("distance", f"{measured.distance_m:.2f} m (below 1.5 is seen best)"),
            ("jaw", f"{measured.jaw_rad[0]:.3f} to {measured.jaw_rad[1]:.3f} rad (speech reaches about 0.2)"),
            (
                "camera",
                "if you looked straight ahead, at the height of your own eyes: "
                f"camera_pitch_deg:={camera_pitch_deg + pitch:.0f}",
            ),
        ]
    return "".join(f"{name:10} {text}\n" for name, text in rows)


def _source(config: PerceptionConfig) -> CameraSource | VideoFile:
    if config.file:
        return VideoFile(Path(config.file).expanduser())
    camera = CameraSource(config.device, config.width, config.height, config.rate_hz)
    sys.stderr.write(f"{camera.open()}\n")
    return camera


def _pictures(source: CameraSource | VideoFile, seconds: float) -> Iterator[Picture]:
    """Give what a camera sees from now on, or a video's beginning as fast as it is looked at."""
    if isinstance(source, CameraSource):
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            yield source.read()
        return
    while source.next_s < seconds:
        taken_ns = round(source.next_s * NS_PER_S)
        pixels = source.read()
        if pixels is None:
            return
        yield Picture(pixels, taken_ns)


def _follow(look: Look, rate_hz: float) -> None:
    if not sys.stderr.isatty():
        return
    said = look.why_unseen
    if look.sighting.neck is not None:
        yaw, pitch, roll = angles_deg(look.sighting.neck)
        jaw = "unseen" if look.sighting.jaw_rad is None else f"{look.sighting.jaw_rad:.2f} rad"
        said = f"yaw {yaw:+5.1f}  pitch {pitch:+5.1f}  roll {roll:+5.1f} degrees  jaw {jaw}"
    sys.stderr.write(f"\r{rate_hz:4.0f} Hz  light {look.brightness:3.0f}  {said:<70.70}")


def _summary(looks: list[Look], times_ms: list[float], rate_hz: float) -> Measured:
    necks = [angles_deg(look.sighting.neck) for look in looks if look.sighting.neck is not None]
    jaws = [look.sighting.jaw_rad for look in looks if look.sighting.jaw_rad is not None] or [0.0]
    reasons = [look.why_unseen for look in looks if look.why_unseen]
    distances = [look.pose.distance_m for look in looks if look.pose is not None]
    median = np.median(np.array(necks), axis=0) if necks else None
    return Measured(
        pictures=len(looks),
        seen=len(necks),
        rate_hz=rate_hz,
        brightness=float(np.mean([look.brightness for look in looks])) if looks else 0.0,
        look_ms=float(np.median(times_ms)) if times_ms else 0.0,
        angles_deg=None if median is None else (float(median[0]), float(median[1]), float(median[2])),
        jaw_rad=(float(min(jaws)), float(max(jaws))),
        distance_m=float(np.median(distances)) if distances else 0.0,
        why_unseen=max(set(reasons), key=reasons.count) if reasons else "",
    )
