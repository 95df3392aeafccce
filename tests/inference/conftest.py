"""A simulated clock, small sessions (one pretended, one real), and conversations fed like the real one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from timar_common.component import Component
from timar_common.jobs import JobWorker
from timar_common.messages import Header, new
from timar_common.user_motion import PARTS
from timar_inference.alignment import Alignment
from timar_inference.config import MARGIN_DEFAULT, InferenceConfig
from timar_inference.runtime import open_runtime
from timar_inference.turn_jobs import ModelIdentity, TurnRequest
from timar_inference.turn_runner import TurnRunner
from timar_inference.turn_scheduler import TurnScheduler
from timar_model.architecture.config import ModelConfig
from timar_model.architecture.model import TimarModel
from timar_model.model_folder import save_model

NS_PER_SAMPLE = 62_500
START_NS = 5_000_000_000
BLOCK = 320


class SimulatedClock:
    """Time that moves only when told."""

    def __init__(self) -> None:
        self.now_ns = START_NS

    def __call__(self) -> int:
        return self.now_ns

    def move_to_sample(self, sample: float) -> None:
        self.now_ns = START_NS + round(sample * NS_PER_SAMPLE)


class WorkTime:
    """A simulated clock as the time of long work."""

    is_real = True

    def __init__(self, read) -> None:
        self.now_ns = read

    def call(self, function, *arguments, **options):
        return function(*arguments, **options)


@dataclasses.dataclass
class Outcome:
    """What a job brought: its log entry, its motion, and the preview after it."""

    entry: object
    motion: np.ndarray | None
    shown: object = None
    preview: object = None


def rows(message) -> np.ndarray:
    """Return a HeadMotion's (frames, 56) numbers."""
    parts = [getattr(message, part).reshape(message.frames, -1) for part in PARTS]
    return np.concatenate(parts, axis=1)


def outcome_of(outputs) -> Outcome:
    found = {"agent/motion": [], "turn_log": []}
    for topic, message in outputs:
        found[topic].append(message)
    made = [message for message in found["agent/motion"] if not message.is_preview]
    previews = [message for message in found["agent/motion"] if message.is_preview]
    (entry,) = found["turn_log"]
    shown = made[0] if made else None
    return Outcome(entry, None if shown is None else rows(shown), shown, previews[0] if previews else None)


class SimulatedRunner:
    """A runner whose time is a simulated clock's; it predicts only when asked to."""

    def __init__(self, session, identity, read) -> None:
        self.runner, self.work_time = TurnRunner(session, identity), WorkTime(read)

    def __getattr__(self, name):
        return getattr(self.runner, name)

    def run(self, job) -> Outcome:
        if isinstance(job, TurnRequest):
            job = dataclasses.replace(job, preview=None)
        return outcome_of(self.runner.run(job, self.work_time, lambda: False))

    def preview(self, request, is_busy=False):
        message = self.runner.preview(request, self.work_time, is_busy)
        if message is not None:
            message.motion = rows(message)
        return message


class WorkingComponent(Component):
    """A scheduler's jobs, carried out by a runner; hands out what `jobs` holds before."""

    NAME = "working"

    def __init__(self, runner, scheduler=None, capacity=4) -> None:
        self.runner, self.scheduler, self.queue_capacity = runner, scheduler, capacity

    def next_job(self, now_ns):
        return self.scheduler.next_job(now_ns)

    def work(self, job, clock, is_busy):
        return self.runner.run(job, clock, is_busy)


@pytest.fixture
def make_worker():
    """Start a worker of a runner; what it emits is handed on message by message."""
    workers = []

    def make(runner, capacity=4, emit=lambda _: None, scheduler=None):
        inner = getattr(runner, "runner", runner)
        work_time = getattr(runner, "work_time", None)
        worker = JobWorker(
            WorkingComponent(inner, scheduler, capacity), lambda output: emit(output.message), work_time
        )
        worker.start()
        workers.append(worker)
        return worker

    yield make
    for worker in workers:
        worker.close(30.0)


class FakeSession:
    """Motion is a hash of everything the turn and its history were made from; each step takes `step_ms`."""

    def __init__(self, clock: SimulatedClock, step_ms: float = 0.0) -> None:
        self.clock = clock
        self.step_ms = step_ms
        self.calls: list[tuple] = []
        self.fail_at: dict[int, Exception] = {}
        self.timings_ms = {"speech": 1.0, "backbone": 2.0, "head": 3.0}
        self.reset()

    def reset(self, seed: int | None = None) -> None:
        self.calls.append(("reset", seed))
        self._states = [(0, None, float(seed or 0))]

    @property
    def next_frame(self) -> int:
        return self._states[-1][0]

    @property
    def cached_tokens(self) -> int:
        return len(self._states) - 1

    def user_frames(self, agent_frames: int) -> int:
        return self._states[-1][1] or agent_frames

    def step(self, user_speech, user_motion, agent_speech, noise=None, user_motion_valid=None):
        assert noise is None
        self.clock.now_ns += round(self.step_ms * 1e6)
        self._fail_if_asked()
        frames = agent_speech.size // 640
        first = self.next_frame
        value = self._add(user_speech, user_motion, agent_speech)
        self.calls.append(("step", first))
        return np.full((frames, 56), value % 1.0, np.float32)

    def idle(self, budget_s):
        return True

    def preview(self, agent_speech, by="auto"):
        self.clock.now_ns += round(self.step_ms * 1e6)
        self._fail_if_asked()
        self.calls.append(("preview", self.next_frame))
        value = 0.9 * self._states[-1][2] + 3.0 * float(np.sum(agent_speech))
        return np.full((agent_speech.size // 640, 56), value % 1.0, np.float32)

    def commit(self, user_speech, user_motion, agent_speech, user_motion_valid=None):
        self._fail_if_asked()
        self.calls.append(("commit", self.next_frame))
        self._add(user_speech, user_motion, agent_speech)

    def rollback(self, first_frame: int) -> None:
        self.calls.append(("rollback", first_frame))
        while self._states[-1][0] > first_frame:
            self._states.pop()
        assert self._states[-1][0] == first_frame

    def _fail_if_asked(self) -> None:
        error = self.fail_at.pop(self.next_frame, None)
        if error is not None:
            raise error

    def _add(self, user_speech, user_motion, agent_speech) -> float:
        frame, _, value = self._states[-1]
        frames = agent_speech.size // 640
        assert user_speech.shape == (640 * self.user_frames(frames),)
        assert user_motion is None or user_motion.shape == (self.user_frames(frames), 56)
        seen = 0.0 if user_motion is None else float(np.sum(user_motion))
        value = 0.9 * value + float(np.sum(user_speech)) + 3.0 * float(np.sum(agent_speech)) + 7.0 * seen
        self._states.append((frame + frames, frames, value))
        return value


def audio(first_sample, samples, stamp_ns, *, rate=16_000, filled=0):
    return new(
        "AudioChunk",
        header=Header(stamp_ns, "microphone", stamp_ns),
        sample_rate=rate,
        first_sample=first_sample,
        filled_samples=filled,
        samples=samples,
    )


def planned(first_sample, samples, revision, *, rate=16_000):
    return new(
        "PlannedAudio", sample_rate=rate, first_sample=first_sample, revision=revision, samples=samples
    )


def user_motion(first_frame, motion, valid, fps=25.0):
    flags = {f"{part}_valid": np.asarray(valid)[:, column] for column, part in enumerate(PARTS)}
    parts = {part: np.asarray(motion)[:, columns].ravel() for part, columns in PARTS.items()}
    return new("UserMotion", first_frame=first_frame, fps=fps, frames=len(motion), **parts, **flags)


@dataclasses.dataclass
class Stage:
    """A scheduler, its clock, and how sound is brought to it."""

    scheduler: TurnScheduler
    clock: SimulatedClock

    def hear(
        self, first_sample: int, samples, *, stamp_ns: int | None = None, rate: int = 16_000, filled: int = 0
    ):
        stamp = START_NS + first_sample * NS_PER_SAMPLE if stamp_ns is None else stamp_ns
        message = audio(first_sample, np.asarray(samples, np.int16), stamp, rate=rate, filled=filled)
        self.scheduler.push_user(message, self.clock())

    def hear_until(self, first_sample: int, end_sample: int) -> list:
        """Bring blocks in real time; sample n has value n % 1000; return the jobs that arose."""
        jobs = []
        for first in range(first_sample, end_sample, BLOCK):
            self.clock.move_to_sample(first + BLOCK)
            self.hear(first, np.arange(first, first + BLOCK) % 1000)
            jobs += self.jobs()
        return jobs

    def plan(self, first_sample: int, samples, revision: int = 0) -> None:
        self.scheduler.push_plan(planned(first_sample, np.asarray(samples, np.int16), revision), self.clock())

    def see(self, first_frame: int, motion, valid, fps: float = 25.0) -> None:
        self.scheduler.inputs.push_motion(user_motion(first_frame, motion, valid, fps))

    def jobs(self) -> list:
        found = []
        while (job := self.scheduler.next_job(self.clock())) is not None:
            found.append(job)
        return found


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture(scope="session")
def make_session():
    return FakeSession


@pytest.fixture
def make_runner(identity):
    def make(stage, **options):
        session = FakeSession(stage.clock, **options)
        return SimulatedRunner(session, identity, stage.clock), session

    return make


@pytest.fixture(scope="session")
def make_stage():
    def make(
        turn_frames: int = 5, margin_frames: int = 2, config_margin: int = MARGIN_DEFAULT, **changes
    ) -> Stage:
        alignment = Alignment(turn_frames, margin_frames)
        changes["margin_frames"] = config_margin
        return Stage(TurnScheduler(InferenceConfig(**changes), alignment, "test"), SimulatedClock())

    return make


@pytest.fixture
def stage(make_stage) -> Stage:
    return make_stage()


@pytest.fixture
def identity() -> ModelIdentity:
    return ModelIdentity("fake-float32", "0" * 64)


class Talk:
    """A conversation with a real session, in simulated time; both voices are noise."""

    def __init__(self, runtime, compute_ms=0.0, keep_requests=False, **changes) -> None:
        self.now_ns = START_NS
        config = InferenceConfig(**changes)
        self.compute_ms = compute_ms
        self.scheduler = TurnScheduler(config, runtime.alignment, "talk")
        self.runner = SimulatedRunner(runtime.session, runtime.identity, self._clock)
        self.voice = (np.random.default_rng(2).normal(0, 3000, (2, 16_000 * 8))).astype(np.int16)
        self.requests: list | None = [] if keep_requests else None
        self.previews: list = []
        self.plan(0, self.voice.shape[1], 0)

    def _clock(self):
        """Each look at it takes as long as a turn: the runner looks when it begins and when it has done."""
        now_ns = self.now_ns
        self.now_ns += round(self.compute_ms * 1e6)
        return now_ns

    def time_of(self, sample):
        return START_NS + sample * NS_PER_SAMPLE

    def plan(self, first, end, revision):
        self.scheduler.push_plan(planned(first, self.voice[1, first:end], revision), self.now_ns)

    def push(self, first, end):
        self.scheduler.push_user(audio(first, self.voice[0, first:end], self.time_of(first)), self.now_ns)

    def hear(self, first, end):
        outcomes = []
        for place in range(first, end, BLOCK):
            self.now_ns = self.time_of(place + BLOCK)
            self.push(place, place + BLOCK)
            outcomes += self.run()
        return outcomes

    def run(self):
        outcomes = []
        while (job := self.scheduler.next_job(self.now_ns)) is not None:
            if self.requests is not None:
                self.requests.append(job)
            outcomes.append(self.runner.run(job))
            preview = self.runner.preview(job) if isinstance(job, TurnRequest) else None
            self.previews += [] if preview is None else [preview]
        return outcomes


@pytest.fixture(scope="session")
def make_talk():
    return Talk


@pytest.fixture(scope="session")
def make_model_folder(tmp_path_factory):
    """Write a model small enough to test, with random weights."""

    def make(name, **changes):
        torch.manual_seed(5)
        sizes = {"width": 32, "heads": 2, "blocks": 2, "token_dim": 16, "head_width": 32, "head_blocks": 1}
        model = TimarModel(ModelConfig.of_size("tiny", **sizes, **changes))
        with torch.no_grad():
            # A fresh head is all zeros and would say nothing about what goes in.
            for weights in model.parameters():
                weights.add_(0.05 * torch.randn_like(weights))
        path = tmp_path_factory.mktemp("models") / name
        save_model(path, model, provenance={"weights": "random"})
        return path

    return make


@pytest.fixture(scope="session")
def folder(make_model_folder):
    return make_model_folder("small")


@pytest.fixture
def open_small(folder):
    def open_it(**changes):
        return open_runtime(InferenceConfig(model=str(folder), engine="torch", **changes))

    return open_it
