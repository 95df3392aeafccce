"""Carries out jobs on a model session, one after the other, and writes motion and turn log."""

from __future__ import annotations

import collections
import dataclasses
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from timar_common.cancellation import CURRENT
from timar_common.clock import FRAMES_PER_SECOND, SAMPLES_PER_FRAME
from timar_common.component import Publish, WorkClock
from timar_common.diagnostics import Percentiles
from timar_common.messages import Header, Message, new
from timar_common.user_motion import MOTION_CHANNELS, PARTS
from timar_model.gestures.gesture_layer import GestureLayer

from timar_inference.gesture_requests import RefusedGesture, gesture_message, refusal_message
from timar_inference.turn_jobs import (
    Decision,
    ModelIdentity,
    Rollback,
    StartConversation,
    TurnJob,
    TurnRequest,
)

Array = npt.NDArray[np.float32]
STAGES = ("queue", "speech", "backbone", "head", "publish", "compute")
RUNS_KEPT = 8
"""A preview is expected to need the share of a turn that the last one needed, of the slowest but one of so
many turns before it."""


class ModelSession(Protocol):
    """What inference asks of a model; `timar_model` has the real one. Frames count from its last reset."""

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

    def preview(self, agent_speech: Array, by: str = "auto") -> Array:
        """Predict the (frames, 56) motion of the next frames; no state changes."""

    def idle(self, budget_s: float) -> bool:
        """Do what the next turn would do first, as far as the time goes; return whether all is done."""

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
    skipped: int = 0
    """Committed to the history without sampling, for it was too late."""
    refilled: int = 0
    """Committed likewise, of the time before a restart."""
    rollbacks: int = 0
    """Times turns were withdrawn."""
    previews: int = 0
    """Predictions of the frames after a turn."""
    previews_dropped: int = 0
    """Predictions that were left out, for the next turn would have had to wait."""
    rotations_limited: int = 0
    """Jaw or neck rotations of more than half a revolution, cut to it."""
    gestures_drawn: int = 0
    gestures_requested: int = 0
    """Gestures that began, turns that were rolled back included."""


class TurnRunner:
    """Run jobs on a session in the order given; used by one thread.

    Args:
        session: A fresh session.
        identity: Engine and weights, for the log.
        preview_by: How previews are made; see `Session.preview`.
        layer: Gestures over its motion; one that foresees none unless given.
    """

    def __init__(
        self,
        session: ModelSession,
        identity: ModelIdentity,
        preview_by: str = "auto",
        layer: GestureLayer | None = None,
    ) -> None:
        self.counters = RunCounters()
        self._layer = layer or GestureLayer()
        self._refused: list[RefusedGesture] = []
        self._session = session
        self._identity = identity
        self._preview_by = preview_by
        self._sequence = 0
        self._frame_offset = 0
        self._conversation_id: str | None = None
        self._measured = threading.Lock()
        self._percentiles = {stage: Percentiles() for stage in (*STAGES, "preview", "window")}
        self._spent_ns: collections.deque[int] = collections.deque(maxlen=RUNS_KEPT)
        self._preview_share = 1.0
        self._cached_tokens = 0
        self._busy_s = 0.0
        self._loads: collections.deque[float] = collections.deque(maxlen=256)

    def measurements(self) -> dict[str, float]:
        """Return p50, p95 and p99 of each stage [ms] over the newest turns, load of the engine, cache length.

        The factor is the engine's busy time (turns, previews, moves of the window) over conversation time, 0
        before the first turn, `engine_busy_s` that time since the start; the length is in tokens, as of the
        newest turn. Any thread may ask.
        """
        with self._measured:
            named = {
                f"{stage}_{name}_ms": value
                for stage, percentiles in self._percentiles.items()
                for name, value in percentiles.summary().items()
            }
            named["real_time_factor"] = sum(self._loads) / max(1, len(self._loads))
            return named | {"cached_tokens": self._cached_tokens, "engine_busy_s": self._busy_s}

    def run(self, job: TurnJob, clock: WorkClock, is_busy: Callable[[], bool]) -> Iterator[Publish]:
        """Carry out one job and yield its motion, its log entry, and a preview where there is time for one.

        Args:
            job: The next one.
            clock: Time of the work.
            is_busy: Tells whether another job waits.

        Raises:
            RuntimeError: The turn does not follow the one before, or the model made numbers that are not
                finite. Whatever the session itself raises passes through. The session's state is not known
                then; only a StartConversation makes it known again.
        """
        if isinstance(job, StartConversation):
            self._start(job)
            yield self._log(Decision.RESET, job, clock.now_ns(), revision=0)
            return
        if job.conversation_id != self._conversation_id:
            raise RuntimeError(
                f"a job of conversation {job.conversation_id} came while {self._conversation_id} is going on"
            )
        if isinstance(job, Rollback):
            self._roll_back(job)
            fields = {"revision": job.revision, "planned_revision": job.planned_revision}
            yield self._log(Decision.ROLLBACK, job, clock.now_ns(), **fields)
        elif isinstance(job, TurnRequest):
            yield from self._turn(job, clock)
            cancellation = CURRENT.get()
            if cancellation is not None:
                cancellation.gives_way = True
            preview = self.preview(job, clock, is_busy())
            if preview is not None:
                yield Publish("agent/motion", preview)
            # It changes no number, only when the work is done; modelled time knows of none.
            if clock.is_real and not is_busy():
                self._idle(job, clock)

    def preview(self, request: TurnRequest, clock: WorkClock, is_busy: bool = False) -> Message | None:
        """Predict the frames after the turn just run, unless the next turn would have to wait for it.

        Returns:
            A timar_msgs/HeadMotion of the same revision; None when none was asked for, or there was no time
            (counted).

        Raises:
            RuntimeError: The model made numbers that are not finite.
        """
        wanted = request.preview
        if wanted is None:
            return None
        started_ns = clock.now_ns()
        if is_busy or started_ns + self._expected_ns() > wanted.by_ns:
            self.counters.previews_dropped += 1
            return None
        motion = clock.call(self._session.preview, wanted.agent_speech, by=self._preview_by)
        motion = self._checked(motion, request.end_frame, wanted.agent_speech.size // SAMPLES_PER_FRAME)
        if request.layer is not None:
            motion = self._layer.preview(request.layer, motion)
        spent_ns = clock.now_ns() - started_ns
        self._preview_share = min(1.0, spent_ns / max(1, self._spent_ns[-1]))
        self._add_work("preview", request, spent_ns)
        self.counters.previews += 1
        return head_motion(
            request, motion, request.end_frame, wanted.due_ns, compute_ms=spent_ns / 1e6, is_preview=True
        )

    def _idle(self, request: TurnRequest, clock: WorkClock) -> None:
        """Let the session use the time until the next turn's sound is complete."""
        started_ns = clock.now_ns()
        self._session.idle((request.next_ready_ns - started_ns) * 1e-9)
        self._add_work("window", request, clock.now_ns() - started_ns)

    def _add_work(self, stage: str, request: TurnRequest, spent_ns: int) -> None:
        """Count work after a turn to that turn's load."""
        with self._measured:
            self._percentiles[stage].add(spent_ns * 1e-6)
            self._busy_s += spent_ns * 1e-9
            if self._loads:
                self._loads[-1] += spent_ns * 1e-9 * FRAMES_PER_SECOND / request.frames

    def _expected_ns(self) -> int:
        """Return how long a preview may take; the slowest run is left out, lest one stall cost many."""
        slowest = sorted(self._spent_ns)[-2:]
        return round(self._preview_share * slowest[0]) if slowest else 0

    def _start(self, job: StartConversation) -> None:
        self._conversation_id = None
        self._session.reset(job.seed)
        self._layer.reset(job.seed)
        self._frame_offset = job.first_frame - self._session.next_frame
        self._conversation_id = job.conversation_id
        self.counters.conversations += 1

    def _roll_back(self, job: Rollback) -> None:
        first_frame = job.first_frame - self._frame_offset
        if first_frame < self._session.next_frame:
            self._session.rollback(first_frame)
        self._layer.rollback(job.first_frame)
        self.counters.rollbacks += 1

    def _turn(self, request: TurnRequest, clock: WorkClock) -> Iterator[Publish]:
        self._require_fit(request)
        started_ns = clock.now_ns()
        is_generated = not request.is_refill and started_ns < request.useless_ns
        motion = clock.call(
            self._session.step if is_generated else self._session.commit,
            request.user_speech,
            request.user_motion,
            request.agent_speech,
            user_motion_valid=request.user_motion_valid,
        )
        if is_generated:
            motion = self._checked(motion, request.first_frame, request.frames)
        self._refused += request.refused
        layered = (
            self._layer.apply(request.layer, motion if is_generated else None) if request.layer else None
        )
        finished_ns = clock.now_ns()
        self._spent_ns.append(finished_ns - started_ns)
        timings = self._timings(request, started_ns, finished_ns, clock.is_real)
        is_late = is_generated and finished_ns > request.deadline_ns
        self.counters.generated += is_generated
        self.counters.refilled += request.is_refill
        self.counters.skipped += not (is_generated or request.is_refill)
        self.counters.late += is_late
        if is_generated:
            shown = head_motion(
                request, motion, request.first_frame, request.due_ns, compute_ms=timings["compute"]
            )
            if layered is not None:
                begun = [gesture_message(entry.gesture, entry.gesture_id) for entry in layered.begun]
                self._add_gestures(shown, layered.motion, begun, layered.probability)
            yield Publish("agent/motion", shown)
        decision = Decision.GENERATE if is_generated else Decision.COMMIT_SKIPPED
        yield self._log(decision, request, finished_ns, is_late=is_late, **turn_fields(request, timings))

    def _add_gestures(
        self, shown: Message, motion: Array, begun: Sequence[Message], probability: Array
    ) -> None:
        """Put a turn's gestures into its message: motion, events, and how likely they were."""
        for part, columns in PARTS.items():
            setattr(shown, part, motion[:, columns].ravel())
        drawn = sum(not gesture.gesture_id for gesture in begun)
        self.counters.gestures_drawn += drawn
        self.counters.gestures_requested += len(begun) - drawn
        shown.gestures = [*begun, *map(refusal_message, self._refused)]
        self._refused.clear()
        shown.gesture_kinds = np.array([int(kind) for kind in self._layer.kinds], np.uint8)
        shown.gesture_probability = probability.ravel()

    def _log(self, decision: Decision, job: TurnJob, now_ns: int, **fields: Any) -> Publish:
        """Return the log entry of a job that was carried out; enough to repeat it."""
        entry = new(
            "TurnLog",
            header=Header(now_ns, "head"),
            conversation_id=job.conversation_id,
            sequence=self._sequence,
            decision=int(decision),
            first_frame=job.first_frame,
            seed=job.seed,
            engine=self._identity.engine,
            model_sha256=self._identity.model_sha256,
            conversation_first_sample=job.conversation_first_sample,
            inputs=job.inputs,
            **fields,
        )
        self._sequence += 1
        return Publish("turn_log", entry)

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

    def _timings(
        self, request: TurnRequest, started_ns: int, finished_ns: int, is_real: bool
    ) -> dict[str, float]:
        """Return where a turn's time went [ms]; parts that were measured only where time is real."""
        parts = self._session.timings_ms if is_real else {}
        timings = {stage: parts.get(stage, 0.0) for stage in ("speech", "backbone", "head")}
        timings["backbone"] += parts.get("history", 0.0)
        compute_ms = (finished_ns - started_ns) / 1e6
        publish_ms = max(0.0, compute_ms - sum(timings.values()))
        timings |= {"queue": max(0.0, (started_ns - request.ready_ns) / 1e6)}
        timings |= {"publish": publish_ms, "compute": compute_ms}
        with self._measured:
            for stage in STAGES:
                self._percentiles[stage].add(timings[stage])
            self._cached_tokens = self._session.cached_tokens
            self._busy_s += compute_ms * 1e-3
            self._loads.append(compute_ms / (1e3 * request.frames / FRAMES_PER_SECOND))
        return timings


def head_motion(
    request: TurnRequest,
    motion: Array,
    first_frame: int,
    due_ns: int,
    *,
    compute_ms: float,
    is_preview: bool = False,
) -> Message:
    """Return a timar_msgs/HeadMotion of generated or predicted frames.

    Args:
        request: What they were made from.
        motion: (frames, 56).
        first_frame: Of motion[0].
        due_ns: When it is seen, monotonic [ns].
        compute_ms: How long it took.
        is_preview: Whether it will be replaced by the turn of the same frames.
    """
    return new(
        "HeadMotion",
        header=Header(due_ns, "head"),
        conversation_id=request.conversation_id,
        first_frame=first_frame,
        fps=float(FRAMES_PER_SECOND),
        frames=len(motion),
        revision=request.revision,
        final_until_frame=request.final_until_frame,
        compute_ms=compute_ms,
        is_preview=is_preview,
        **{part: motion[:, columns].ravel() for part, columns in PARTS.items()},
    )


def turn_fields(request: TurnRequest, timings: dict[str, float]) -> dict[str, Any]:
    """Return the fields of a timar_msgs/TurnLog that a turn adds."""
    valid = request.user_motion_valid
    return {
        "frames": request.frames,
        "user_first_sample": SAMPLES_PER_FRAME * request.user_first_frame,
        "user_end_sample": SAMPLES_PER_FRAME * request.user_end_frame,
        "agent_first_sample": SAMPLES_PER_FRAME * request.first_frame,
        "agent_end_sample": SAMPLES_PER_FRAME * request.end_frame,
        "planned_revision": request.planned_revision,
        "user_samples_filled": request.user_samples_filled,
        "user_motion_valid": () if valid is None else valid.any(axis=1),
        "revision": request.revision,
        **_layer_fields(request),
        **{f"{stage}_ms": timings[stage] for stage in STAGES if stage != "publish"},
    }


def _layer_fields(request: TurnRequest) -> dict[str, Any]:
    """Return the log's fields of what was laid over the motion."""
    refused, layer = [refusal_message(entry) for entry in request.refused], request.layer
    if layer is None:
        return {"gestures": refused}
    requested = [gesture_message(entry.gesture, entry.gesture_id) for entry in layer.requested]
    dials = new("Dials", **dataclasses.asdict(layer.dials))
    return {"intent": layer.intent, "gestures": requested + refused, "dials": dials}
