"""Long work of a component: the bounded queue of its jobs, and the thread that carries them out."""

from __future__ import annotations

import collections
import dataclasses
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from timar_common.cancellation import Cancellation, WorkCancelledError
from timar_common.clock import NS_PER_S
from timar_common.component import Component, Job, Output
from timar_common.heartbeat import UNMEASURED_ALLOWED_S, AllowedTime


@dataclasses.dataclass
class JobCounters:
    """What became of jobs that were not carried out."""

    dropped: int = 0
    """Refused because the queue was full, or left out because an earlier one had failed."""
    withdrawn: int = 0
    """Withdrawn by a later job while they waited, or cancelled while they were carried out."""
    failures: int = 0
    """Ended in an error."""


class JobQueue:
    """Jobs that wait, first in first out, at most `capacity` of them beside urgent ones."""

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a queue of {capacity} jobs cannot work, expected 1 or more")
        self.counters = JobCounters()
        self._capacity = capacity
        self._jobs: collections.deque[tuple[int, Job]] = collections.deque()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def has_room(self) -> bool:
        """Whether a job that is not urgent would be taken."""
        return len(self._jobs) < self._capacity

    @property
    def first_submitted_ns(self) -> int:
        """When the next job was submitted [ns]."""
        return self._jobs[0][0]

    def submit(self, job: Job, now_ns: int) -> bool:
        """Put a job in without waiting, after withdrawing those it makes needless.

        Returns:
            False when there was no room: it is not done, and counted as dropped.
        """
        kept = [entry for entry in self._jobs if not job.withdraws(entry[1])]
        self.counters.withdrawn += len(self._jobs) - len(kept)
        self._jobs = collections.deque(kept)
        if not (job.is_urgent or self.has_room):
            self.counters.dropped += 1
            return False
        self._jobs.append((now_ns, job))
        return True

    def pop(self) -> Job:
        """Return the job that waited longest, and remove it."""
        return self._jobs.popleft()[1]


class RealTime:
    """The machine's time for long work (a `WorkClock`)."""

    is_real = True

    def now_ns(self) -> int:
        """Return CLOCK_MONOTONIC [ns]."""
        return time.monotonic_ns()

    def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call a computation and return its result."""
        return function(*arguments, **options)


class JobFailure(NamedTuple):
    """An error in a job: its sentence, and where it came from."""

    message: str
    trace: str


class JobWorker:
    """Carry out a component's jobs in a thread of its own, so that no callback waits for them.

    A job at hand that a later one withdraws is cancelled (`timar_common.cancellation`), as any is by `close`;
    once its result is out, it gives way to every urgent job. After a failure jobs are left out and counted
    until one that resets the state; `take_failure` gives the failure, so that the component can hand such a
    job out.

    Args:
        component: Its `work` is called by the thread only, once started.
        emit: Called in the thread with each output, in order.
        clock: Time of the work.
    """

    def __init__(
        self, component: Component, emit: Callable[[Output], None], clock: RealTime | None = None
    ) -> None:
        self._component = component
        self._emit = emit
        self._clock = clock or RealTime()
        self._queue = JobQueue(component.queue_capacity)
        self._changed = threading.Condition()
        self._is_closing = self._is_broken = False
        self._is_idle = True
        self._failure: JobFailure | None = None
        self._at_hand: tuple[Job, Cancellation] | None = None
        self._began_ns = 0
        self._allowed = AllowedTime(UNMEASURED_ALLOWED_S)
        self._thread = threading.Thread(target=self._loop, name=f"{component.NAME} worker", daemon=True)

    @property
    def counters(self) -> JobCounters:
        """What became of jobs that were not carried out."""
        return self._queue.counters

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._queue)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def hung(self, now_ns: int) -> str:
        """Say what the thread hangs in; empty while the job at hand takes no longer than others did.

        Args:
            now_ns: CLOCK_MONOTONIC [ns].
        """
        with self._changed:
            if self._at_hand is None:
                return ""
            job, took_s, allowed_s = (
                self._at_hand[0],
                (now_ns - self._began_ns) / NS_PER_S,
                self._allowed.allowed_s(),
            )
        if took_s <= allowed_s:
            return ""
        return f"{self._thread.name}: {type(job).__name__} takes {took_s:.0f} s, allowed {allowed_s:.0f} s"

    def wait_until_idle(self, timeout_s: float = 10.0) -> bool:
        """Wait until no job waits or is carried out; return False when the time was not enough."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_idle and not self._queue, timeout_s)

    def close(self, timeout_s: float = 10.0) -> None:
        """Cancel the job at hand, leave out the rest, end the thread; safe more than once.

        Raises:
            RuntimeError: The job at hand did not end in time; the thread is left behind.
        """
        with self._changed:
            self._is_closing = True
            if self._at_hand is not None:
                self._at_hand[1].cancel()
            self._changed.notify_all()
        if not self._thread.is_alive():
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise RuntimeError(f"a job did not end within {timeout_s:g} s; its thread is left behind")

    def feed(self, now_ns: int) -> None:
        """Take from the component what is to be done, as far as there is room; the rest waits there."""
        while self._queue.has_room:
            job = self._component.next_job(now_ns)
            if job is None:
                return
            self.submit(job, now_ns)

    def submit(self, job: Job, now_ns: int) -> bool:
        """Put a job into the queue, and cancel the one at hand if that is of no use any more."""
        with self._changed:
            if self._at_hand is not None:
                running, cancellation = self._at_hand
                if job.withdraws(running) or (job.is_urgent and cancellation.gives_way):
                    cancellation.cancel()
            is_taken = self._queue.submit(job, now_ns)
            self._changed.notify_all()
        return is_taken

    def take_failure(self) -> JobFailure | None:
        """Return the newest failure once; None when there is none."""
        with self._changed:
            failure, self._failure = self._failure, None
        return failure

    def _is_busy(self) -> bool:
        return bool(self._queue) or self._is_closing

    def _loop(self) -> None:
        while (job := self._next()) is not None:
            if self._is_broken and not job.is_reset:
                self.counters.dropped += 1
                continue
            self._is_broken = False
            assert self._at_hand is not None
            cancellation = self._at_hand[1]
            try:
                with cancellation.scope():
                    for output in self._component.work(job, self._clock, self._is_busy):
                        self._emit(output)
                self._allowed.add((time.monotonic_ns() - self._began_ns) / NS_PER_S)
            except WorkCancelledError:
                self.counters.withdrawn += not cancellation.gives_way
            except Exception as error:  # The thread's edge: whatever an engine raises is reported, not lost.
                self._fail(error)

    def _next(self) -> Job | None:
        with self._changed:
            self._is_idle, self._at_hand = True, None
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._queue or self._is_closing)
            self._is_idle = False
            if self._is_closing:
                return None
            job = self._queue.pop()
            self._at_hand, self._began_ns = (job, Cancellation()), time.monotonic_ns()
            return job

    def _fail(self, error: Exception) -> None:
        self._is_broken = True
        with self._changed:
            self.counters.failures += 1
            self._failure = JobFailure(f"{type(error).__name__}: {error}", traceback.format_exc())
