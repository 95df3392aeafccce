"""One thread that computes, behind a bounded queue, so that no callback ever waits for the model."""

from __future__ import annotations

import collections
import dataclasses
import threading
import traceback
from collections.abc import Callable

from timar_inference.conversation import Conversation
from timar_inference.decisions import Job, MotionRun, Outcome, StartConversation, TakeBack, TurnRequest
from timar_inference.runner import Runner


@dataclasses.dataclass
class WorkerCounters:
    """What the queue did."""

    dropped: int = 0
    """Jobs refused because the queue was full, or left out because the engine had failed."""
    withdrawn: int = 0
    """Turns that waited when they were taken back or the conversation ended."""
    failures: int = 0
    """Jobs that ended in an error."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """An error in the worker: its sentence and where it came from."""

    message: str
    trace: str


class Worker:
    """Run jobs in a thread of its own.

    After a failure the session's state is not known: jobs are left out and counted until a new conversation
    starts; `take_failure` tells, so that its owner starts one.

    Args:
        runner: Carries out the jobs; used by the thread only, once started.
        capacity: How many jobs may wait.
        on_outcome: Called in the worker's thread after each job, in order.
        on_preview: Called there with the guess at the frames after a turn, once the turn's own outcome was
            taken and while no job waits; None: nothing is guessed.
    """

    def __init__(
        self,
        runner: Runner,
        capacity: int,
        on_outcome: Callable[[Outcome], None],
        on_preview: Callable[[MotionRun], None] | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"a queue of {capacity} jobs cannot work, expected 1 or more")
        self.counters = WorkerCounters()
        self._runner = runner
        self._capacity = capacity
        self._on_outcome = on_outcome
        self._on_preview = on_preview
        self._jobs: collections.deque[Job] = collections.deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self._is_broken = False
        self._failure: Failure | None = None
        self._thread = threading.Thread(target=self._loop, name="inference", daemon=True)

    def start(self) -> None:
        """Start the thread; a worker runs once."""
        self._thread.start()

    def close(self, timeout_s: float = 10.0) -> None:
        """Finish the job at hand, leave out the rest, end the thread; safe more than once.

        Raises:
            RuntimeError: The job at hand did not end in time; the thread is left behind.
        """
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if not self._thread.is_alive():
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise RuntimeError(
                f"the engine did not finish its turn within {timeout_s:g} s; it is left behind"
            )

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._jobs)

    def has_room(self) -> bool:
        """Whether another job would be taken."""
        return len(self._jobs) < self._capacity

    def feed(self, conversation: Conversation, now_ns: int) -> None:
        """Take from a conversation what is to be done, as far as there is room; the rest waits in it."""
        while self.has_room():
            job = conversation.next_job(now_ns)
            if job is None:
                return
            self.submit(job)

    def submit(self, job: Job) -> bool:
        """Put a job into the queue without waiting.

        A new conversation withdraws every job that still waits, a take-back the turns it speaks of; these two
        always find room.

        Returns:
            False when the queue was full: the job is not done, and counted as dropped.
        """
        with self._changed:
            if isinstance(job, StartConversation):
                self._withdraw(0)
            elif isinstance(job, TakeBack):
                self._withdraw(job.first_frame)
            elif len(self._jobs) >= self._capacity:
                self.counters.dropped += 1
                return False
            self._jobs.append(job)
            self._changed.notify_all()
        return True

    def take_failure(self) -> Failure | None:
        """Return the newest failure once, None when there is none that was not told."""
        with self._changed:
            failure, self._failure = self._failure, None
        return failure

    def _withdraw(self, first_frame: int) -> None:
        kept = [
            job for job in self._jobs if not (isinstance(job, TurnRequest) and job.first_frame >= first_frame)
        ]
        self.counters.withdrawn += len(self._jobs) - len(kept)
        self._jobs = collections.deque(kept)

    def _loop(self) -> None:
        while (job := self._next()) is not None:
            if self._is_broken and not isinstance(job, StartConversation):
                self.counters.dropped += 1
                continue
            self._is_broken = False
            try:
                self._on_outcome(self._runner.run(job))
                self._guess_on(job)
            except Exception as error:  # The thread's edge: whatever an engine raises is told, not lost.
                self._fail(error)

    def _guess_on(self, job: Job) -> None:
        if self._on_preview is None or not isinstance(job, TurnRequest):
            return
        preview = self._runner.preview(job, is_busy=bool(self._jobs) or self._is_closing)
        if preview is not None:
            self._on_preview(preview)

    def _next(self) -> Job | None:
        with self._changed:
            while not self._jobs and not self._is_closing:
                self._changed.wait()
            return None if self._is_closing else self._jobs.popleft()

    def _fail(self, error: Exception) -> None:
        self._is_broken = True
        with self._changed:
            self.counters.failures += 1
            self._failure = Failure(f"{type(error).__name__}: {error}", traceback.format_exc())
