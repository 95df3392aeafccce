"""Images and the conversation's clock in, user/motion out: the same in every host and at every speed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from projected_face import MS, ScriptedLandmarker, project
from timar_common.component import Log, Publish
from timar_common.config import describe
from timar_common.diagnostics import Level
from timar_common.jobs import JobQueue, RealTime
from timar_common.messages import Header, new
from timar_common.user_motion import PARTS, user_motion_from
from timar_perception.config import PerceptionConfig
from timar_perception.images import CameraImage
from timar_perception.landmarks import FaceLandmarks
from timar_perception.perception_component import PerceptionComponent

LIT = np.full((480, 640, 3), 100, np.uint8)
BLOCK = 320
BLOCK_NS = 20 * MS
START_NS = 5_000 * MS
"""Machine time of the conversation's first sample."""


class TrackingLandmarker(ScriptedLandmarker):
    """Finds the face of a head that looks down by as much as the image is bright."""

    def find(self, pixels: np.ndarray, taken_ms: int) -> tuple[FaceLandmarks, ...]:
        super().find(pixels, taken_ms)
        return (project((0.001 * float(pixels[0, 0, 0]), 0.0, 0.0), 0.1),)


class ModelledTime(RealTime):
    """A worker's time in which tracking takes as long as the test says."""

    def __init__(self, track_ns: int) -> None:
        self.time_ns, self.track_ns = 0, track_ns

    def now_ns(self) -> int:
        return self.time_ns

    def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        self.time_ns += self.track_ns
        return function(*arguments, **options)


class Stage:
    """A component, its queue of jobs, and a worker in modelled time."""

    def __init__(
        self, landmarker: ScriptedLandmarker | None = None, track_ns: int = 0, **config: object
    ) -> None:
        settings = PerceptionConfig(**{"source": "topic", "settle_ms": 0, **config})
        self.component = PerceptionComponent(settings, landmarker or TrackingLandmarker())
        self.queue = JobQueue(self.component.queue_capacity)
        self.clock = ModelledTime(track_ns)
        self.motion: list[Any] = []
        self.logs: list[Log] = []
        self.now_ns = START_NS
        self.component.start(self.now_ns)

    def hear(self, block: int) -> None:
        first_ns = START_NS + block * BLOCK_NS
        self.advance(first_ns + BLOCK_NS)
        message = new(
            "AudioChunk",
            header=Header(first_ns, "microphone"),
            sample_rate=16_000,
            first_sample=block * BLOCK,
            samples=np.zeros(BLOCK, np.int16),
        )
        self.component.handle("user/audio", message, self.now_ns)
        self.run()

    def see(self, taken_ns: int, brightness: int = 100) -> None:
        image = CameraImage(np.full((480, 640, 3), brightness, np.uint8), taken_ns)
        self.component.add_image(image, self.now_ns)
        self.run()

    def advance(self, now_ns: int) -> None:
        self.now_ns = now_ns
        self.component.tick(now_ns)
        self.run()

    def run(self) -> None:
        """Queue what the component wants done; the worker does what it can until now."""
        while (job := self.component.next_job(self.now_ns)) is not None:
            self.queue.submit(job, self.now_ns)
        while self.queue and self.clock.time_ns <= self.now_ns:
            self.clock.time_ns = max(self.clock.time_ns, self.queue.first_submitted_ns)
            for output in self.component.work(self.queue.pop(), self.clock, lambda: bool(self.queue)):
                if isinstance(output, Publish):
                    assert output.topic == "user/motion"
                    self.motion.append(output.message)
                else:
                    self.logs.append(output)

    def frames(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return frame numbers, motion and validity of all that was published."""
        numbers, motion, valid = [], [], []
        for message in self.motion:
            rows, flags = user_motion_from(message)
            numbers.append(message.first_frame + np.arange(len(rows)))
            motion.append(rows)
            valid.append(flags)
        return np.concatenate(numbers), np.concatenate(motion), np.concatenate(valid)


def converse(stage: Stage, seconds: float, images_hz: float = 30.0) -> None:
    """Send blocks of sound and images in the order of their times."""
    seen = 0
    for block in range(round(seconds * 50)):
        end_ns = START_NS + (block + 1) * BLOCK_NS
        while (taken_ns := START_NS + round(seen * 1e9 / images_hz)) < end_ns:
            stage.advance(taken_ns)
            stage.see(taken_ns, 20 + seen)
            seen += 1
        stage.hear(block)


def test_images_become_frames_on_the_conversation_clock_each_once_and_stamped_at_its_instant():
    stage = Stage(smoothing_per_speed=1000.0)
    converse(stage, 2.0)
    numbers, motion, valid = stage.frames()
    assert (np.diff(numbers) == 1).all()
    assert len(numbers) > 45
    assert valid[1:, 1:].all()
    assert not valid[:, 0].any(), "expression needs a map of the user's"
    wanted = 0.001 * (20 + 30 * numbers / 25)
    np.testing.assert_allclose(motion[5:, PARTS["neck"]][:, 0], wanted[5:], atol=2e-3)
    for message in stage.motion:
        instant_ns = START_NS + message.first_frame * 40 * MS
        assert message.header.stamp == pytest.approx(instant_ns, abs=MS)


def test_the_same_images_and_messages_give_the_same_bytes():
    def motion() -> list[bytes]:
        stage = Stage(track_ns=20 * MS)
        converse(stage, 2.0)
        return [
            message.neck.tobytes() + message.jaw.tobytes() + bytes(str(message.header.stamp), "ascii")
            for message in stage.motion
        ]

    assert motion() == motion()


def test_a_slow_machine_tracks_the_newest_image_and_leaves_older_ones_out():
    stage = Stage(track_ns=90 * MS, max_gap_ms=1000)
    converse(stage, 3.0)
    assert stage.queue.counters.withdrawn > 30
    assert stage.queue.counters.dropped == 0
    assert stage.component.report().values["images"] < 40
    _, _, valid = stage.frames()
    assert valid[5:, 2].mean() > 0.9


def test_frames_that_no_image_shows_are_published_as_unseen_and_the_silence_is_an_error():
    stage = Stage()
    for block in range(100):
        stage.hear(block)
    numbers, _, valid = stage.frames()
    assert numbers.tolist() == list(range(len(numbers)))
    assert len(numbers) >= 40
    assert not valid.any()
    report = stage.component.report()
    assert (report.level, report.message) == (Level.ERROR, "no image from image for 2.0 s")


def test_what_keeps_the_camera_from_giving_images_is_reported_until_it_is_over():
    stage = Stage()
    stage.component.source_failure = "the camera 7 cannot be opened"
    assert stage.component.report().message == "the camera 7 cannot be opened"
    stage.component.source_failure = ""
    assert stage.component.report().level is Level.OK


def test_a_stamp_far_from_now_counts_as_its_arrival_with_a_warning():
    stage = Stage()
    stage.hear(0)
    stage.hear(1)
    for number in range(4):
        stage.advance(START_NS + (60 + 33 * number) * MS)
        stage.see(stage.now_ns - 30_000 * MS)
    assert stage.frames()[2][-3:, 2].all()
    assert "4 images were stamped far from now" in stage.component.report().message


@pytest.mark.parametrize("stamp", ["still", "zero", "ahead"])
def test_stamps_that_stand_still_are_zero_or_lie_ahead_do_not_stop_the_tracking(stamp: str):
    stage = Stage()
    for number in range(150):
        stage.hear(number)
        if number % 2:
            taken_ns = {"still": START_NS, "zero": 0, "ahead": stage.now_ns + 10_000 * MS}[stamp]
            stage.see(taken_ns, 100)
    _, _, valid = stage.frames()
    assert valid[-25:, 2].all(), "seen by arrival, from the second after which the stamp cannot be true"
    assert stage.component.report().level is Level.WARN
    assert stage.component.report().values["implausible_stamps"] > 0


def test_a_rate_that_changes_from_5_to_60_hz_and_back_is_followed():
    stage = Stage()
    seen_ns, block, rates_hz = START_NS, 0, (60.0, 5.0, 30.0, 5.0, 60.0)
    for rate_hz in rates_hz:
        end_ns = seen_ns + 2_000 * MS
        while seen_ns < end_ns:
            seen_ns += round(1e9 / rate_hz)
            while START_NS + (block + 1) * BLOCK_NS <= seen_ns:
                stage.hear(block)
                block += 1
            stage.advance(seen_ns)
            stage.see(seen_ns, 100)
    numbers, _, valid = stage.frames()
    assert (np.diff(numbers) == 1).all(), "each frame once, whatever the rate"
    for number, rate_hz in enumerate(rates_hz):
        is_inside = (numbers > 50 * number + 10) & (numbers < 50 * number + 40)
        share = valid[is_inside, 2].mean()
        # 200 ms between two images is more than max_gap_ms: only a frame at an image's own instant is seen.
        assert share < 0.25 if rate_hz == 5.0 else share > 0.9, (rate_hz, share)


def test_the_delay_counts_from_capture_and_not_from_arrival():
    stage = Stage()
    for number in range(60):
        stage.hear(number)
        stage.see(stage.now_ns - 150 * MS, 100)
    assert float(stage.component.report().values["delay_ms_p50"]) >= 150.0
    numbers, _, valid = stage.frames()
    newest_ns = START_NS + 40 * MS * int(numbers[valid[:, 2].astype(bool)][-1])
    assert newest_ns <= stage.now_ns - 150 * MS, "no frame is shown that the camera had not seen yet"


class PassingLandmarker(ScriptedLandmarker):
    """Whoever the test says stands before the camera."""

    def find(self, pixels: np.ndarray, taken_ms: int) -> tuple[FaceLandmarks, ...]:
        super().find(pixels, taken_ms)
        return self.faces


def test_who_leaves_and_returns_as_another_is_masked_meanwhile_and_never_mixed_with_the_first():
    landmarker = PassingLandmarker()
    stage = Stage(landmarker, settle_ms=200, smoothing_hz=1.0, smoothing_per_speed=0.0)
    one, other = (
        project((0.3, 0.0, 0.0), place_m=(-0.1, 0.0, 0.6)),
        project((-0.3, 0.0, 0.0), place_m=(0.2, 0.0, 0.9)),
    )
    for number in range(400):
        stage.hear(number)
        landmarker.faces = (
            (one,) if number < 100 else () if number < 200 else (other,) if number < 300 else (one, other)
        )
        stage.see(stage.now_ns, 100)
    numbers, motion, valid = stage.frames()
    is_seen, pitch = valid[:, 2].astype(bool), motion[:, PARTS["neck"]][:, 0]
    assert not is_seen[(numbers > 52) & (numbers < 100)].any(), "nobody is there"
    first, second = is_seen & (numbers < 50), is_seen & (numbers > 100) & (numbers < 150)
    np.testing.assert_allclose(pitch[first], 0.3, atol=0.02)
    np.testing.assert_allclose(pitch[second], -0.3, atol=0.02)
    assert second.any()
    assert first.any()


def test_a_conversation_that_starts_again_counts_from_zero_again():
    stage = Stage()
    converse(stage, 1.0)
    before = stage.motion[-1].first_frame
    later_ns = 60_000 * MS
    for block in range(60):
        now_ns = later_ns + block * BLOCK_NS
        message = new(
            "AudioChunk",
            header=Header(now_ns, "microphone"),
            first_sample=block * BLOCK,
            samples=np.zeros(BLOCK, np.int16),
        )
        stage.advance(now_ns + BLOCK_NS)
        stage.component.handle("user/audio", message, stage.now_ns)
        stage.see(now_ns + BLOCK_NS - MS, 50)
    last = stage.motion[-1]
    assert before > 20
    assert last.first_frame > 20
    assert last.header.stamp == pytest.approx(later_ns + last.first_frame * 40 * MS, abs=2 * MS)
    assert min(message.first_frame for message in stage.motion[-20:]) < 15


def test_a_block_of_sound_that_cannot_be_is_rejected():
    stage = Stage()
    with pytest.raises(ValueError, match="starts at sample -320, expected one or more samples at 0 or later"):
        stage.hear(-1)


def test_voice_activity_is_read_only_to_follow_who_talks():
    assert Stage().component.inputs == ("user/audio",)
    stage = Stage(follow="talking")
    assert stage.component.inputs == ("user/audio", "voice_activity")
    for speaker in (0, 1):
        activity = new("VoiceActivity", header=Header(START_NS), speaker=speaker, probability=0.9)
        stage.component.handle("voice_activity", activity, START_NS)
    assert stage.component.next_job(START_NS) is not None
    assert stage.component.next_job(START_NS) is None, "the agent's voice is not the user's"


def test_after_an_error_tracking_starts_again_and_no_frame_is_published_twice():
    stage = Stage()
    converse(stage, 1.0)
    stage.component.on_failure("RuntimeError: landmarks", stage.now_ns)
    job = stage.component.next_job(stage.now_ns)
    assert job.is_reset
    assert list(stage.component.work(job, stage.clock, lambda: False)) == []
    for block in range(50, 75):
        stage.hear(block)
        stage.see(START_NS + block * BLOCK_NS + 10 * MS, 80)
    numbers, _, valid = stage.frames()
    assert (np.diff(numbers) == 1).all()
    assert valid[-5:, 2].all()


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "user.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 20.0, (640, 480))
    for number in range(40):
        writer.write(np.full((480, 640, 3), 40 + 4 * number, np.uint8))
    writer.release()
    return path


def test_a_videos_frames_are_tracked_when_the_conversation_has_reached_them(video: Path):
    stage = Stage(source="file", file=str(video), smoothing_per_speed=1000.0)
    for block in range(200):
        stage.hear(block)
    numbers, motion, valid = stage.frames()
    assert (np.diff(numbers) == 1).all()
    seen = valid[:, 2]
    assert 45 <= seen.sum() <= 50, "two seconds of video"
    assert not seen[-30:].any()
    wanted = 0.001 * (40 + 4 * 20 * numbers[seen] / 25)
    np.testing.assert_allclose(motion[seen][3:, 53], wanted[3:], atol=4e-3)
    assert [log.text for log in stage.logs] == [f"{video} has ended; the user is unseen from now on"]


def test_a_component_that_stands_on_files_that_are_not_there_is_not_made(tmp_path: Path):
    for settings in ({"source": "file", "file": "no.mp4"}, {"model": str(tmp_path / "no.task")}):
        with pytest.raises((ValueError, RuntimeError), match=r"there is no (video|model)"):
            PerceptionComponent(PerceptionConfig(**settings))


class NoisyLandmarker(TrackingLandmarker):
    """Finds landmarks that tremble by a pixel, and blendshapes that grow."""

    def find(self, pixels: np.ndarray, taken_ms: int) -> tuple[FaceLandmarks, ...]:
        (face,) = super().find(pixels, taken_ms)
        noise = np.random.default_rng(taken_ms).normal(0.0, 1.0, face.landmarks_px.shape)
        return (FaceLandmarks(face.landmarks_px + noise, {"smile": 0.01 * (taken_ms % 50)}),)


def published(**config: object) -> list[tuple]:
    """Return what is published and reported of a second of images with a pause, and a second without."""
    stage = Stage(NoisyLandmarker(), **config)
    seen = 0
    for block in range(100):
        end_ns = START_NS + (block + 1) * BLOCK_NS
        while seen < 30 and (taken_ns := START_NS + round(seen * 1e9 / 30)) < end_ns:
            stage.advance(taken_ns)
            stage.see(taken_ns, 0 if 12 <= seen < 18 else 170 + 2 * seen)
            seen += 1
        stage.hear(block)
    report = stage.component.report()
    frames = [
        (
            message.first_frame,
            message.header.stamp,
            message.neck.tobytes(),
            bytes(message.neck_valid),
            message.expression.tobytes(),
        )
        for message in stage.motion
    ]
    return [*frames, (report.level, report.message)]


OTHER_VALUES = {
    "field_of_view_deg": 90.0,
    "image_rotation_deg": 90,
    "camera_latency_ms": 40.0,
    "camera_yaw_deg": 10.0,
    "camera_pitch_deg": 10.0,
    "camera_roll_deg": 10.0,
    "expression_map": "{map}",
    "min_brightness": 190.0,
    "max_reprojection_error": 0.01,
    "max_angle_deg": 10.0,
    "smoothing_hz": 1.0,
    "smoothing_per_speed": 0.0,
    "shift_frames": 2,
    "max_gap_ms": 20,
    "frame_timeout_ms": 1000,
    "settle_ms": 300,
    "face_timeout_ms": 100,
    "max_side_px": 320,
    "image_timeout_ms": 5000,
}
ELSEWHERE = {
    "source": "where images come from: the tests of videos above, of topic and camera in tests/ros",
    "file": "the tests of videos above",
    "device": "device: the camera (test_image_sources.py)",
    "image_mirrored": "pixels, which are all alike here (test_images.py, test_portrait.py)",
    "width": "device: asked of the camera",
    "height": "device: asked of the camera",
    "rate_hz": "device: asked of the camera",
    "reopen_every_ms": "device: the camera (test_image_sources.py)",
    "image_topic": "the node's subscription (tests/ros/test_perception_node.py)",
    "model": "MediaPipe's, which is replaced here (test_landmarks.py)",
    "max_faces": "MediaPipe's, which is replaced here",
    "min_confidence": "MediaPipe's, which is replaced here",
    "follow": "several faces (test_face_selection.py)",
}


@pytest.fixture(scope="module")
def usual() -> list[tuple]:
    return published()


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_every_parameter_counts(name: str, usual: list[tuple], tmp_path: Path):
    value = OTHER_VALUES[name]
    if value == "{map}":
        value = str(tmp_path / "map.yaml")
        Path(value).write_text("expressions:\n  smile: {0: 1.0}\n")
    assert published(**{name: value}) != usual


def test_a_parameter_that_does_not_count_here_is_listed_with_the_reason():
    assert OTHER_VALUES.keys() | ELSEWHERE.keys() == describe(PerceptionConfig).keys()
    assert not OTHER_VALUES.keys() & ELSEWHERE.keys()
