"""Carry out jobs on a model session, one after the other, and account for each."""

from __future__ import annotations

import collections
import dataclasses
import math
import threading
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt
from timar_common.clock import FRAMES_PER_SECOND, SAMPLES_PER_FRAME
from timar_common.diagnostics import Percentiles
from timar_common.user_motion import MOTION_CHANNELS, PARTS

from timar_inference.decisions import (
    Decision,
    Identity,
    Job,
    LogEntry,
    MotionRun,
    Outcome,
    StartConversation,
    TakeBack,
    Timings,
    TurnRequest,
    log_turn,
)

Array = npt.NDArray[np.float32]
STAGES = ("queue", "speech", "backbone", "head", "publish", "compute")
RUNS_REMEMBERED = 8
"""A preview is taken to need as long as the slowest but one of so many turns and previews before it."""


class Session(Protocol):
    """What this room asks of a model; `timar_model` has the real one. Frames count from its last reset."""

    @property
    def next_frame(self) -> int:
        """First frame of the next turn."""

    @property
    def timings_ms(self) -> dict[str, float]:
        """Parts of the last turn: speech, backbone, head [ms]."""

    @property
    def cached_tokens(self) -> int:
        """Length of the key/value cache."""

    def user_frames(self, agent_frames: int) -> int:
        """Return how many user frames the next turn takes."""

    def step(
        self,
        user_speech: Array,
        user_motion: Array | None,
        agent_speech: Array,
        noise: None = None,
        user_motion_valid: npt.NDArray[np.bool_] | None = None,
    ) -> Array:
        """Generate a turn, commit it, and return its (frames, 56) motion."""

    def preview(self, agent_speech: Array) -> Array:
        """Guess the (frames, 56) motion of the next frames; no state changes."""

    def commit(
        self,
        user_speech: Array,
        user_motion: Array | None,
        agent_speech: Array,
        user_motion_valid: npt.NDArray[np.bool_] | None = None,
    ) -> object:
        """Commit a turn to the history without sampling."""

    def rollback(self, first_frame: int) -> None:
        """Restore the state from before the turn that starts at `first_frame`."""

    def reset(self, seed: int | None = None) -> None:
        """Forget everything."""


@dataclasses.dataclass
class RunCounters:
    """What became of the jobs."""

    conversations: int = 0
    generated: int = 0
    late: int = 0
    """Generated, but finished after the first frame was due."""
    unsampled: int = 0
    """Committed to the history without sampling."""
    taken_back: int = 0
    """Times turns were withdrawn."""
    previews: int = 0
    """Guesses at the frames after a turn."""
    previews_dropped: int = 0
    """Guesses that were left out, for the next turn would have had to wait."""
    rotations_limited: int = 0
    """Jaw or neck rotations of more than half a turn, cut to it."""


class Runner:
    """Run jobs on a session in the order given.

    Args:
        session: A fresh session.
        identity: Engine and weights, for the log.
        now_ns: Reads the monotonic clock [ns]; tests give their own.
    """

    def __init__(self, session: Session, identity: Identity, now_ns: Callable[[], int]) -> None:
        self.counters = RunCounters()
        self._session = session
        self._identity = identity
        self._now_ns = now_ns
        self._sequence = 0
        self._frame_offset = 0
        self._conversation_id: str | None = None
        self._measured = threading.Lock()
        self._percentiles = {stage: Percentiles() for stage in (*STAGES, "preview")}
        self._spent_ns: collections.deque[int] = collections.deque(maxlen=RUNS_REMEMBERED)
        self._cached_tokens = 0
        self._loads: collections.deque[float] = collections.deque(maxlen=256)

    def measurements(self) -> dict[str, float]:
        """Return p50, p95 and p99 of each stage [ms] over the newest turns, real-time factor, cache length.

        The factor is compute time over conversation time, 0 before the first turn; the length is in tokens,
        as of the newest turn. Any thread may ask.
        """
        with self._measured:
            named = {
                f"{stage}_{name}_ms": value
                for stage, percentiles in self._percentiles.items()
                for name, value in percentiles.summary().items()
            }
            named["real_time_factor"] = sum(self._loads) / max(1, len(self._loads))
            return named | {"cached_tokens": self._cached_tokens}

    def run(self, job: Job) -> Outcome:
        """Carry out one job.

        Returns:
            What was decided and, for a sampled turn, its motion.

        Raises:
            RuntimeError: The turn does not follow the one before, or the model made numbers that are not
                finite. Whatever the session itself raises passes through. The session's state is not known
                then; only a StartConversation makes it known again.
        """
        if isinstance(job, StartConversation):
            return self._start(job)
        if job.conversation_id != self._conversation_id:
            raise RuntimeError(
                f"a job of conversation {job.conversation_id} came while {self._conversation_id} is going on"
            )
        if isinstance(job, TakeBack):
            return self._take_back(job)
        return self._turn(job)

    def preview(self, request: TurnRequest, is_busy: bool = False) -> MotionRun | None:
        """Guess the frames after the turn just run, unless the next turn would have to wait for it.

        Args:
            request: The newest job.
            is_busy: Whether another job waits already.

        Returns:
            The guess, of the same revision; None when none was asked for, or there was no time (counted).

        Raises:
            RuntimeError: The model made numbers that are not finite.
        """
        wanted = request.preview
        if wanted is None:
            return None
        started_ns = self._now_ns()
        if is_busy or started_ns + self._expected_ns() > wanted.by_ns:
            self.counters.previews_dropped += 1
            return None
        motion = self._session.preview(wanted.agent_speech)
        motion = self._checked(motion, request.end_frame, wanted.agent_speech.size // SAMPLES_PER_FRAME)
        spent_ns = self._now_ns() - started_ns
        self._spent_ns.append(spent_ns)
        with self._measured:
            self._percentiles["preview"].add(spent_ns / 1e6)
        self.counters.previews += 1
        return MotionRun(
            request.conversation_id,
            request.end_frame,
            request.revision,
            motion,
            wanted.due_ns,
            request.final_until_frame,
            compute_ms=spent_ns / 1e6,
            is_preview=True,
        )

    def _expected_ns(self) -> int:
        """Return how long a preview may take; the slowest run is left out, lest one stall cost many."""
        slowest = sorted(self._spent_ns)[-2:]
        return slowest[0] if slowest else 0

    def _start(self, job: StartConversation) -> Outcome:
        self._conversation_id = None
        self._session.reset(job.seed)
        self._frame_offset = job.first_frame - self._session.next_frame
        self._conversation_id = job.conversation_id
        self.counters.conversations += 1
        return self._logged(Decision.RESET, job, revision=0, planned_revision=0)

    def _take_back(self, job: TakeBack) -> Outcome:
        first_frame = job.first_frame - self._frame_offset
        if first_frame < self._session.next_frame:
            self._session.rollback(first_frame)
        self.counters.taken_back += 1
        return self._logged(Decision.TAKE_BACK, job, job.revision, job.planned_revision)

    def _logged(
        self, decision: Decision, job: StartConversation | TakeBack, revision: int, planned_revision: int
    ) -> Outcome:
        entry = LogEntry(
            decision=decision,
            conversation_id=job.conversation_id,
            sequence=self._next_sequence(),
            first_frame=job.first_frame,
            frames=0,
            seed=job.seed,
            revision=revision,
            planned_revision=planned_revision,
            engine=self._identity.engine,
            model_sha256=self._identity.model_sha256,
        )
        return Outcome(entry, self._now_ns())

    def _turn(self, request: TurnRequest) -> Outcome:
        self._require_fit(request)
        started_ns = self._now_ns()
        motion = None
        if started_ns < request.useless_ns:
            motion = self._session.step(
                request.user_speech,
                request.user_motion,
                request.agent_speech,
                user_motion_valid=request.user_motion_valid,
            )
            motion = self._checked(motion, request.first_frame, request.frames)
        else:
            self._session.commit(
                request.user_speech,
                request.user_motion,
                request.agent_speech,
                user_motion_valid=request.user_motion_valid,
            )
        finished_ns = self._now_ns()
        self._spent_ns.append(finished_ns - started_ns)
        timings = self._timings(request, started_ns, finished_ns)
        is_late = motion is not None and finished_ns > request.deadline_ns
        self.counters.generated += motion is not None
        self.counters.unsampled += motion is None
        self.counters.late += is_late
        decision = Decision.COMMIT_UNSAMPLED if motion is None else Decision.GENERATE
        entry = log_turn(
            request, decision, self._next_sequence(), self._identity, is_late=is_late, timings=timings
        )
        return Outcome(entry, finished_ns, motion, request.due_ns, request.final_until_frame)

    def _require_fit(self, request: TurnRequest) -> None:
        expected_frame = self._session.next_frame + self._frame_offset
        if request.first_frame != expected_frame:
            raise RuntimeError(
                f"a turn starts at frame {request.first_frame}, but the session stands at {expected_frame}; "
                "turns must follow each other without a gap"
            )
        expected_frames = self._session.user_frames(request.frames)
        if request.user_frames != expected_frames:
            raise RuntimeError(
                f"the turn at frame {request.first_frame} brings {request.user_frames} user frames, "
                f"but the session takes {expected_frames}"
            )

    def _checked(self, motion: Array, first_frame: int, frames: int) -> Array:
        if motion.shape != (frames, MOTION_CHANNELS) or not np.isfinite(motion).all():
            raise RuntimeError(
                f"the model made motion of shape {motion.shape}"
                f"{'' if np.isfinite(motion).all() else ' with numbers that are not finite'} for the turn at "
                f"frame {first_frame}, expected ({frames}, {MOTION_CHANNELS}) finite numbers"
            )
        rotations = slice(PARTS["jaw"].start, PARTS["neck"].stop)
        limit = np.float32(np.nextafter(np.float32(math.pi), np.float32(0)))
        beyond = int((np.abs(motion[:, rotations]) > limit).sum())
        if beyond:
            self.counters.rotations_limited += beyond
            motion = motion.copy()
            motion[:, rotations] = np.clip(motion[:, rotations], -limit, limit)
        return motion

    def _timings(self, request: TurnRequest, started_ns: int, finished_ns: int) -> Timings:
        parts = self._session.timings_ms
        timings = Timings(
            queue_ms=max(0.0, (started_ns - request.ready_ns) / 1e6),
            speech_ms=parts.get("speech", 0.0),
            backbone_ms=parts.get("backbone", 0.0),
            head_ms=parts.get("head", 0.0),
            compute_ms=(finished_ns - started_ns) / 1e6,
        )
        with self._measured:
            for stage in STAGES:
                self._percentiles[stage].add(getattr(timings, f"{stage}_ms"))
            self._cached_tokens = self._session.cached_tokens
            self._loads.append(timings.compute_ms / (1e3 * request.frames / FRAMES_PER_SECOND))
        return timings

    def _next_sequence(self) -> int:
        number = self._sequence
        self._sequence += 1
        return number
