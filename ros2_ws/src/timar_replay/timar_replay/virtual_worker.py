"""Long work in modelled time: one job after another, each as long as the compute-time policy says."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from timar_common.component import Component, Output
from timar_common.jobs import JobQueue


@dataclasses.dataclass(frozen=True)
class ComputeTimePolicy:
    """How long a computation takes in replay.

    ``ideal``: no time; ``fixed:MS``: always so long; ``recorded``: as long as the bag's turn log says, turn
    by turn, over and over; ``measured``: as long as it takes on this machine, which differs from run to run.
    """

    kind: str = "ideal"
    compute_ms: float = 0.0

    @classmethod
    def read(cls, text: str) -> ComputeTimePolicy:
        """Read what was typed.

        Raises:
            ValueError: It is no policy.
        """
        kind, colon, number = text.partition(":")
        if kind in ("ideal", "recorded", "measured") and not colon:
            return cls(kind)
        try:
            milliseconds = float(number) if kind == "fixed" else -1.0
        except ValueError:
            milliseconds = -1.0
        if not 0.0 <= milliseconds <= 60_000.0:
            raise ValueError(
                f"the policy is {text!r}, expected ideal, recorded, measured, or fixed:MS with 0 to 60000 "
                "milliseconds"
            )
        return cls("fixed", milliseconds)

    def __str__(self) -> str:
        return f"fixed:{self.compute_ms:g}" if self.kind == "fixed" else self.kind

    def durations_ns(self, recorded_ms: Sequence[float]) -> Iterator[int] | None:
        """Return each computation's duration in turn [ns]; None where it is to be measured.

        Args:
            recorded_ms: Compute times of the bag's generated turns [ms].

        Raises:
            ValueError: They are asked for and there are none.
        """
        if self.kind == "measured":
            return None
        if self.kind == "recorded":
            if not len(recorded_ms):
                raise ValueError(
                    "the policy is 'recorded', but the bag's turn_log holds no generated turn; "
                    "choose ideal or fixed:MS"
                )
            return itertools.cycle([round(value * 1e6) for value in recorded_ms])
        return itertools.repeat(round(self.compute_ms * 1e6))


class VirtualTime:
    """Time that stands until it is moved on, and never goes back (a `WorkClock`).

    Args:
        durations_ns: How long each computation takes; measured when None.
    """

    is_real = False

    def __init__(self, durations_ns: Iterator[int] | None) -> None:
        self.time_ns = 0
        self._durations_ns = durations_ns

    def now_ns(self) -> int:
        """Return the time [ns]."""
        return self.time_ns

    def reach(self, time_ns: int) -> None:
        """Move on to a time, if it is not past [ns]."""
        self.time_ns = max(self.time_ns, time_ns)

    def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call a computation, move on by its duration, and return its result."""
        started_ns = time.perf_counter_ns()
        result = function(*arguments, **options)
        spent_ns = time.perf_counter_ns() - started_ns
        self.time_ns += spent_ns if self._durations_ns is None else next(self._durations_ns)
        return result


class VirtualWorker:
    """Carry out a component's jobs one after another, as `timar_common.jobs.JobWorker` does in a thread.

    A job's outputs are held back until the host's time has reached the instant at which they were finished;
    an error in a job ends the replay.

    Args:
        component: Whose jobs.
        clock: Their time.
    """

    def __init__(self, component: Component, clock: VirtualTime) -> None:
        self.component = component
        self.queue = JobQueue(component.queue_capacity)
        self._clock = clock
        self._running: Iterator[Output] | None = None
        self._held: tuple[int, Output] | None = None

    def feed(self, now_ns: int) -> None:
        """Take from the component what is to be done, as far as there is room."""
        while self.queue.has_room:
            job = self.component.next_job(now_ns)
            if job is None:
                return
            self.queue.submit(job, now_ns)

    def next_event_ns(self) -> int | None:
        """Return when something starts or is finished; None while there is nothing to do [ns]."""
        if self._held is not None:
            return self._held[0]
        if self._running is not None:
            return self._clock.time_ns
        if self.queue:
            return max(self.queue.first_submitted_ns, self._clock.time_ns)
        return None

    def take_step(self) -> tuple[int, Output] | None:
        """Do the next event; return an output that is finished, with its time [ns], if that is the event."""
        if self._held is not None:
            held, self._held = self._held, None
            return held
        if self._running is None:
            self._clock.reach(self.queue.first_submitted_ns)
            self._running = iter(self.component.work(self.queue.pop(), self._clock, lambda: bool(self.queue)))
        output = next(self._running, None)
        if output is None:
            self._running = None
        else:
            self._held = (self._clock.time_ns, output)
        return None
