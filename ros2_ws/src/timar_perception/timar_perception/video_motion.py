"""Head motion of people in a video file, at 25 frames a second: each image counts at its own time."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from timar_common.clock import NS_PER_S, SAMPLE_RATE_HZ
from timar_common.motion_file import MotionTrack

from timar_perception.config import PerceptionConfig
from timar_perception.face_tracker import FaceTracker
from timar_perception.frame_interpolation import FrameInterpolator, FrameRun
from timar_perception.image_sources import VideoFile
from timar_perception.images import CameraImage, Pixels
from timar_perception.landmarks import Landmarker

MOST_FACES = 3
"""Faces looked for where one is expected, so that others are noticed."""
_UNEVEN = 1.5
"""Images whose longest interval is this much longer than the usual one come at a variable rate."""


@dataclasses.dataclass(frozen=True)
class PersonInVideo:
    """What one part of a video shows."""

    track: MotionTrack
    """(T, 56), from the video's start to its last image."""
    seen: float
    """Share of the frames in which the head was seen."""
    several: float
    """Share of the images that show more than one face."""
    most_faces: int
    """The largest number of faces in an image."""


@dataclasses.dataclass(frozen=True)
class VideoMotion:
    """What a video shows."""

    people: tuple[PersonInVideo, ...]
    """One for each part, from left to right."""
    seconds: float
    """From the start to the last image."""
    interval_ms: tuple[float, float]
    """Usual and longest time from image to image."""

    @property
    def has_variable_rate(self) -> bool:
        """Whether images come at uneven times."""
        usual, longest = self.interval_ms
        return longest > _UNEVEN * usual


def track_video(
    path: Path,
    parts: int = 1,
    config: PerceptionConfig | None = None,
    make_landmarker: Callable[[], Landmarker] | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> VideoMotion:
    """Track a face in each of some equal parts of a video, side by side.

    Args:
        path: The video.
        parts: 1: the whole image is one person's; 2: its left and right half, as in a recorded call.
        config: Of the tracking.
        make_landmarker: Makes what finds faces; MediaPipe unless given.
        advance: Called with (images done, all as the file states).

    Raises:
        ValueError: It is no video.
        RuntimeError: MediaPipe or its model is missing.
    """
    config = dataclasses.replace(config or PerceptionConfig(), max_faces=MOST_FACES, settle_ms=0)
    with contextlib.ExitStack() as stack:
        video = stack.enter_context(contextlib.closing(VideoFile(path)))
        people = [
            stack.enter_context(
                contextlib.closing(_Tracked(config, make_landmarker() if make_landmarker else None))
            )
            for _ in range(parts)
        ]
        times_s: list[float] = []
        while (read := video.read_stamped()) is not None:
            taken_s, pixels = read
            if times_s and taken_s <= times_s[-1]:
                continue
            times_s.append(taken_s)
            width = pixels.shape[1] // parts
            for number, person in enumerate(people):
                person.append(pixels[:, number * width : (number + 1) * width], taken_s)
            advance(len(times_s), max(video.frames, len(times_s)))
        if len(times_s) < 2:
            raise ValueError(f"{path} holds {len(times_s)} images, expected a video")
        intervals_ms = 1000.0 * np.diff(times_s)
        return VideoMotion(
            tuple(person.found() for person in people),
            times_s[-1],
            (float(np.median(intervals_ms)), float(intervals_ms.max())),
        )


class _Tracked:
    """One person's tracker, and the frames found so far."""

    def __init__(self, config: PerceptionConfig, landmarker: Landmarker | None) -> None:
        self._tracker = FaceTracker(config, landmarker)
        self._frames = FrameInterpolator(config.max_gap_ms, config.frame_timeout_ms)
        self._runs: list[FrameRun] = []
        self._faces: list[int] = []

    def append(self, pixels: Pixels, taken_s: float) -> None:
        """Track the next image."""
        result = self._tracker.track(CameraImage(np.ascontiguousarray(pixels), round(taken_s * NS_PER_S)))
        if result is not None:
            self._faces.append(result.faces)
            self._runs += self._frames.append(taken_s * SAMPLE_RATE_HZ, result.observation)

    def found(self) -> PersonInVideo:
        """Return everything."""
        end = max((run.first_frame + len(run.motion) for run in self._runs), default=0)
        track = MotionTrack.unseen(end)
        for run in self._runs:
            track.vector[run.first_frame : run.first_frame + len(run.motion)] = run.motion
            track.valid[run.first_frame : run.first_frame + len(run.motion)] = run.valid
        faces = np.array(self._faces or [0])
        seen = float(track.valid[:, 2].mean()) if end else 0.0
        return PersonInVideo(track, seen, float((faces > 1).mean()), int(faces.max()))

    def close(self) -> None:
        """Free the tracker."""
        self._tracker.close()
