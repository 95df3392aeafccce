"""Face tracking component: camera images in, the user's motion out on the conversation clock."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from timar_common.clock import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME, SampleClock
from timar_common.component import Component, Job, Log, Output, Publish, WorkClock
from timar_common.diagnostics import Level, Percentiles, Report
from timar_common.messages import Message, constants
from timar_common.restarts import Belongs, ConversationWatch
from timar_common.user_motion import user_motion_message

from timar_perception.config import PerceptionConfig
from timar_perception.face_tracker import FaceTracker
from timar_perception.frame_interpolation import FrameInterpolator, FrameRun
from timar_perception.head_pose import CameraModel
from timar_perception.image_sources import VideoFile
from timar_perception.images import CameraImage, plausible_stamp_ns
from timar_perception.landmarks import Landmarker

VIDEO_TICK_S, TICK_S = 0.01, 0.1


@dataclasses.dataclass(frozen=True)
class PerceptionJob(Job):
    """One step of tracking: an image, what a message says, or a restart."""

    run: Callable[[WorkClock], Iterator[Output]]
    is_image: bool = False
    is_reset: bool = False

    def withdraws(self, waiting: Job) -> bool:
        """An image takes the place of one that still waits: what is published is never old."""
        return self.is_image and isinstance(waiting, PerceptionJob) and waiting.is_image


class PerceptionComponent(Component):
    """Track the user's face and publish neck, jaw and expression, 25 frames a second.

    Everything that decides about user/motion changes in `work` alone: messages wait in one queue with the
    images. So a given order of images and messages gives the same motion, in whatever thread or time.

    Args:
        config: Parameters; with source "file" the component reads the video itself, else `add_image` brings
            images.
        landmarker: Finds faces; MediaPipe unless given.

    Raises:
        ValueError: A file that the configuration names cannot be used.
        RuntimeError: MediaPipe or its model is missing.
    """

    NAME = "perception"
    Config = PerceptionConfig
    outputs = ("user/motion",)
    queue_capacity = 64

    def __init__(self, config: PerceptionConfig, landmarker: Landmarker | None = None) -> None:
        self.config = config
        self.inputs = ("user/audio", "voice_activity") if config.follow == "talking" else ("user/audio",)
        self.source_failure = ""
        """Why the device brings no images; set by whoever drives it, empty when it does."""
        self._video = VideoFile(Path(config.file).expanduser()) if config.source == "file" else None
        self.tick_s = VIDEO_TICK_S if self._video is not None else TICK_S
        self._tracker = FaceTracker(config, landmarker)
        self._frames = FrameInterpolator(config.max_gap_ms, config.frame_timeout_ms)
        self._user = constants("VoiceActivity")["USER"]
        self._implausible_stamps = 0
        self._camera_info = (0, 0, 0.0)
        self._delay_ms, self._track_ms = Percentiles(), Percentiles()
        self._begin(0)

    def _begin(self, now_ns: int) -> None:
        self._pending: collections.deque[PerceptionJob] = collections.deque(maxlen=self.queue_capacity)
        self._now_ns = self._newest_image_ns = now_ns
        self._clock = SampleClock()
        self._watch = ConversationWatch()
        self._restart_conversation()
        self._tracker.reset()

    def _restart_conversation(self) -> None:
        self._clock = SampleClock()
        self._frames.reset()
        if self._video is not None:
            self._video.rewind()

    def start(self, now_ns: int) -> Iterable[Output]:
        """Wait for the conversation's clock and images."""
        self._begin(now_ns)
        return ()

    def close(self) -> None:
        """Free model and video; the component is of no use afterwards."""
        self._tracker.close()
        if self._video is not None:
            self._video.close()

    def handle(self, topic: str, message: Message, now_ns: int) -> Iterable[Output]:
        """Queue what a message says for the tracker."""
        self._now_ns = now_ns
        if topic == "user/audio":
            if message.first_sample < 0 or not len(message.samples):
                raise ValueError(
                    f"a block of {len(message.samples)} samples starts at sample {message.first_sample}, "
                    "expected one or more samples at 0 or later"
                )
            block = (int(message.first_sample), len(message.samples), message.header.stamp)
            self._queue(functools.partial(self._follow_clock, *block))
        elif message.speaker == self._user:
            activity = (message.header.stamp, float(message.probability))
            self._queue(functools.partial(self._add_voice_activity, *activity))
        return ()

    def add_image(self, image: CameraImage, now_ns: int) -> Iterable[Output]:
        """Queue an image that a camera or topic has brought now."""
        taken_ns = plausible_stamp_ns(image.taken_ns, now_ns)
        self._implausible_stamps += taken_ns != image.taken_ns
        self._now_ns = self._newest_image_ns = now_ns
        image = dataclasses.replace(image, taken_ns=taken_ns)
        self._queue(functools.partial(self._track, image), is_image=True)
        return ()

    def add_camera_info(self, width: int, height: int, focal_px: float, now_ns: int) -> Iterable[Output]:
        """Queue a camera's own size [px] and focal length [px]; one that was never calibrated says 0."""
        if self._camera_info != (width, height, focal_px):
            self._camera_info = width, height, focal_px
            is_said = width > 0 and height > 0 and 0.0 < focal_px < float("inf")
            camera = CameraModel(width, height, focal_px) if is_said else None
            self._queue(functools.partial(self._set_camera_info, camera))
        return ()

    def tick(self, now_ns: int) -> Iterable[Output]:
        """Let the video's frames become due."""
        self._now_ns = now_ns
        if self._video is not None:
            self._queue(functools.partial(self._read_video, now_ns), is_image=True)
        return ()

    def next_job(self, now_ns: int) -> Job | None:
        """Return what waits longest."""
        return self._pending.popleft() if self._pending else None

    def work(self, job: Job, clock: WorkClock, is_busy: Callable[[], bool]) -> Iterator[Output]:
        """Carry out a job; tracking a face in an image is the long one."""
        return job.run(clock) if isinstance(job, PerceptionJob) else iter(())

    def on_failure(self, reason: str, now_ns: int) -> Iterable[Output]:
        """Start tracking from nothing after an error."""
        self._pending.appendleft(PerceptionJob(self._restart_tracking, is_reset=True))
        return ()

    def report(self) -> Report:
        """Report what is seen, how late, and what is wrong with the camera."""
        report = self._tracker.report()
        report.values |= {
            "source": self.config.source,
            "implausible_stamps": self._implausible_stamps,
            "frames_seen": self._frames.frames_seen,
            "frames_unseen": self._frames.frames_unseen,
            **{f"delay_ms_{name}": value for name, value in self._delay_ms.summary().items()},
            **{f"track_ms_{name}": value for name, value in self._track_ms.summary().items()},
        }
        if self._implausible_stamps:
            report.worsen(
                Level.WARN,
                f"{self._implausible_stamps} images were stamped far from now; their arrival counts instead: "
                "give camera and head the same clock",
            )
        silent_ms = (self._now_ns - self._newest_image_ns) / 1e6
        if self.source_failure:
            report.worsen(Level.ERROR, self.source_failure)
        elif self._video is None and silent_ms > self.config.image_timeout_ms:
            source = self.config.image_topic if self.config.source == "topic" else "the camera"
            report.worsen(Level.ERROR, f"no image from {source} for {silent_ms / 1000:.1f} s")
        return report

    def _queue(self, run: Callable[[WorkClock], Iterator[Output]], *, is_image: bool = False) -> None:
        self._pending.append(PerceptionJob(run, is_image))

    # The jobs: called one after the other.

    def _restart_tracking(self, clock: WorkClock) -> Iterator[Output]:
        self._tracker.reset()
        self._frames.interrupt()
        return iter(())

    def _follow_clock(
        self, first_sample: int, samples: int, first_ns: int, clock: WorkClock
    ) -> Iterator[Output]:
        belongs = self._watch.observe(first_sample, samples, first_ns)
        if belongs is Belongs.OLD:
            return
        if belongs is Belongs.NEW:
            self._restart_conversation()
        self._clock.observe(first_sample, first_ns)
        yield from self._publish(self._frames.expire(first_sample + samples))

    def _set_camera_info(self, camera: CameraModel | None, clock: WorkClock) -> Iterator[Output]:
        self._tracker.set_camera_info(camera)
        return iter(())

    def _add_voice_activity(self, heard_ns: int, probability: float, clock: WorkClock) -> Iterator[Output]:
        self._tracker.add_voice_activity(heard_ns, probability)
        return iter(())

    def _read_video(self, now_ns: int, clock: WorkClock) -> Iterator[Output]:
        """Track the newest video frame that is due; frame k is taken k / rate seconds after sample 0."""
        if self._video is None or self._video.has_ended or not self._clock.is_started:
            return
        frame = self._video.read_newest(self._clock.sample_at(now_ns) / SAMPLE_RATE_HZ)
        if self._video.has_ended:
            yield Log(Level.OK, f"{self.config.file} has ended; the user is unseen from now on")
        if frame is not None:
            taken_s, pixels = frame
            image = CameraImage(pixels, self._clock.monotonic_ns(taken_s * SAMPLE_RATE_HZ))
            yield from self._track(image, clock)

    def _track(self, image: CameraImage, clock: WorkClock) -> Iterator[Output]:
        latency_ns = round(self.config.camera_latency_ms * 1e6)
        image = dataclasses.replace(image, taken_ns=image.taken_ns - latency_ns)
        began_ns = clock.now_ns()
        result = clock.call(self._tracker.track, image)
        self._track_ms.add((clock.now_ns() - began_ns) / 1e6)
        if result is None or not self._clock.is_started:
            return
        sample = self._clock.sample_at(image.taken_ns) + SAMPLES_PER_FRAME * self.config.shift_frames
        try:
            runs = self._frames.append(sample, result.observation)
        except ValueError as error:  # The conversation's clock was corrected by more than an image interval.
            self._frames.interrupt()
            yield Log(Level.WARN, str(error))
            return
        yield from self._publish(runs)
        if runs:
            self._delay_ms.add((clock.now_ns() - image.taken_ns) / 1e6)

    def _publish(self, runs: list[FrameRun]) -> Iterator[Output]:
        for run in runs:
            first_ns = self._clock.monotonic_ns(SAMPLES_PER_FRAME * run.first_frame)
            yield Publish(
                "user/motion", user_motion_message(run.first_frame, run.motion, run.valid, first_ns)
            )
