"""`timar perception`: helps to set up a camera; reports image rate, light and head pose, keeps no image."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from timar_common.clock import NS_PER_S
from timar_common.config import describe

from timar_perception.config import PerceptionConfig
from timar_perception.face_tracker import LOW_RATE_HZ, FaceTracker, TrackingResult
from timar_perception.head_pose import angles_deg
from timar_perception.image_sources import CameraSource, VideoFile, describe_cameras
from timar_perception.images import CameraImage

_DIM_BRIGHTNESS = 60.0
"""Images darker than this on average make tracking jitter."""
_OPTIONS = {
    "--camera": "device",
    "--file": "file",
    "--width": "width",
    "--height": "height",
    "--field-of-view": "field_of_view_deg",
    "--camera-pitch": "camera_pitch_deg",
}
"""Options of `check` that are parameters of the node."""


def main(argv: list[str]) -> int:
    """List cameras, and check image rate, light and pose of the user's head."""
    parser = argparse.ArgumentParser(prog="timar perception", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("cameras", help="list the cameras of this machine")
    check = commands.add_parser("check", help="track through a camera for a while and report what is seen")
    check.add_argument("--seconds", type=float, default=10.0, help="how long to track [s] (default: 10)")
    descriptions, defaults = describe(PerceptionConfig), PerceptionConfig()
    for flag, name in _OPTIONS.items():
        default = getattr(defaults, name)
        text = f"{descriptions[name].text()} (default: {default!r})"
        check.add_argument(flag, dest=name, type=type(default), default=default, help=text)
    arguments = parser.parse_args(argv)
    if arguments.command == "cameras":
        sys.stdout.write(f"{describe_cameras()}\n")
        return 0
    try:
        if not 1.0 <= arguments.seconds <= 3600.0:
            raise ValueError(f"--seconds is {arguments.seconds:g}, expected 1 to 3600")
        config = PerceptionConfig(
            source="file" if arguments.file else "camera",
            settle_ms=0,
            **{name: getattr(arguments, name) for name in _OPTIONS.values()},
        )
        with contextlib.ExitStack() as stack:
            images = _open_images(config, arguments.seconds, stack)
            tracker = stack.enter_context(contextlib.closing(FaceTracker(config)))
            results, times_ms = _track(tracker, images)
    except (OSError, ValueError, RuntimeError) as error:
        sys.stderr.write(f"timar perception: {error}\n")
        return 1
    sys.stdout.write(describe_check(results, times_ms, tracker.rate_hz, config.camera_pitch_deg))
    return 0 if any(result.observation.neck is not None for result in results) else 1


def describe_check(
    results: list[TrackingResult], times_ms: list[float], rate_hz: float, camera_pitch_deg: float
) -> str:
    """Return what was seen, with what to do about it.

    Args:
        results: Of every image.
        times_ms: What tracking took for each [ms].
        rate_hz: Of the images [Hz].
        camera_pitch_deg: The camera's pitch that was assumed [degrees].
    """
    observations = [result.observation for result in results]
    necks = [angles_deg(observation.neck) for observation in observations if observation.neck is not None]
    jaws = [one.jaw_rad for one in observations if one.jaw_rad is not None] or [0.0]
    reasons = [result.why_unseen for result in results if result.why_unseen]
    distances = [result.pose.distance_m for result in results if result.pose is not None]
    brightness = float(np.mean([result.brightness for result in results])) if results else 0.0
    rows = [
        ("images", f"{rate_hz:.1f} a second ({LOW_RATE_HZ:g} or more; 30 is usual)"),
        ("light", f"brightness {brightness:.0f} of 255 ({_DIM_BRIGHTNESS:g} or more)"),
        ("time", f"{np.median(times_ms or [0.0]):.1f} ms an image (below 20)"),
        ("seen", f"in {len(necks)} of {len(results)} images"),
    ]
    if reasons:
        rows.append(("", f"otherwise: {max(set(reasons), key=reasons.count)}"))
    if necks:
        yaw, pitch, roll = np.median(np.array(necks), axis=0)
        rows += [
            ("head", f"yaw {yaw:+.1f}, pitch {pitch:+.1f}, roll {roll:+.1f} degrees"),
            ("distance", f"{np.median(distances):.2f} m (below 1.5 is seen best)"),
            ("jaw", f"{min(jaws):.3f} to {max(jaws):.3f} rad (speech reaches about 0.2)"),
            (
                "camera",
                "if you looked straight ahead, at the height of your own eyes: "
                f"camera_pitch_deg:={camera_pitch_deg + pitch:.0f}",
            ),
        ]
    return "".join(f"{name:10} {text}\n" for name, text in rows)


def _track(tracker: FaceTracker, images: Iterator[CameraImage]) -> tuple[list[TrackingResult], list[float]]:
    """Track in all images; on a terminal, a line on standard error follows the head."""
    results, times_ms = [], []
    for image in images:
        began_s = time.perf_counter()
        result = tracker.track(image)
        times_ms.append(1000.0 * (time.perf_counter() - began_s))
        if result is None:
            continue
        results.append(result)
        if sys.stderr.isatty():
            text = result.why_unseen
            if result.observation.neck is not None:
                yaw, pitch, roll = angles_deg(result.observation.neck)
                text = f"yaw {yaw:+5.1f}  pitch {pitch:+5.1f}  roll {roll:+5.1f} degrees"
            sys.stderr.write(f"\r{tracker.rate_hz:4.0f} Hz  light {result.brightness:3.0f}  {text:<70.70}")
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    return results, times_ms


def _open_images(
    config: PerceptionConfig, seconds: float, stack: contextlib.ExitStack
) -> Iterator[CameraImage]:
    """Return what a camera sees from now on, or a video's beginning as fast as it is processed."""
    if config.source == "file":
        video = stack.enter_context(contextlib.closing(VideoFile(Path(config.file).expanduser())))
        return _video_images(video, seconds)
    camera = stack.enter_context(
        contextlib.closing(CameraSource(config.device, config.width, config.height, config.rate_hz))
    )
    sys.stderr.write(f"{camera.open()}\n")
    return _camera_images(camera, time.monotonic() + seconds)


def _camera_images(camera: CameraSource, end_s: float) -> Iterator[CameraImage]:
    while time.monotonic() < end_s:
        yield camera.read()


def _video_images(video: VideoFile, seconds: float) -> Iterator[CameraImage]:
    while video.next_s < seconds and (frame := video.read_newest(video.next_s)) is not None:
        taken_s, pixels = frame
        yield CameraImage(pixels, round(taken_s * NS_PER_S))
