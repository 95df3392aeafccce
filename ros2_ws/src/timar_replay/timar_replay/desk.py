"""The inference node's worker in modelled time: one job at a time, each as long as the policy says. Pure."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from timar_inference.conversation import Conversation
from timar_inference.decisions import Job, MotionRun, Outcome, StartConversation, TakeBack, TurnRequest
from timar_inference.runner import Runner


class VirtualClock:
    """A time that stands until it is told to move on; never goes back."""

    def __init__(self, now_ns: int = 0) -> None:
        self.time_ns = now_ns

    def now_ns(self) -> int:
        """Return the time [ns]."""
        return self.time_ns

    def reach(self, time_ns: int) -> None:
        """Move on to a time, if it is not past [ns]."""
        self.time_ns = max(self.time_ns, time_ns)


@dataclasses.dataclass(frozen=True)
class Policy:
    """How long a turn takes in replay.

    ``ideal``: no time; ``fixed:MS``: always so long; ``recorded``: as long as the bag's turn log says, turn
    by turn, over and over.
    """

    kind: str = "ideal"
    compute_ms: float = 0.0

    @classmethod
    def read(cls, text: str) -> Policy:
        """Read what was typed.

        Raises:
            ValueError: It is no policy.
        """
        kind, colon, number = text.partition(":")
        if kind in ("ideal", "recorded") and not colon:
            return cls(kind)
        try:
            milliseconds = float(number) if kind == "fixed" else -1.0
        except ValueError:
            milliseconds = -1.0
        if not 0.0 <= milliseconds <= 60_000.0:
            raise ValueError(
                f"the policy is {text!r}, expected ideal, recorded, or fixed:MS with 0 to 60000 milliseconds"
            )
        return cls("fixed", milliseconds)

    def __str__(self) -> str:
        return f"fixed:{self.compute_ms:g}" if self.kind == "fixed" else self.kind

    def durations(self, recorded_ms: Sequence[float]) -> Callable[[], int]:
        """Return a function that gives each turn's duration in turn [ns].

        Args:
            recorded_ms: Compute times of the bag's generated turns [ms].

        Raises:
            ValueError: They are asked for and there are none.
        """
        if self.kind == "recorded":
            if not len(recorded_ms):
                raise ValueError(
                    "the policy is 'recorded', but the bag's turn_log holds no generated turn; "
                    "choose ideal or fixed:MS"
                )
            cycle = itertools.cycle([round(value * 1e6) for value in recorded_ms])
            return lambda: next(cycle)
        return lambda: round(self.compute_ms * 1e6)


class TimedSession:
    """A session whose turns take modelled time, and whose own measured times are not told.

    Measured times differ from run to run; what they would be written into must not.
    """

    def __init__(self, session: Any, clock: VirtualClock, duration_ns: Callable[[], int]) -> None:
        self._session = session
        self._clock = clock
        self._duration_ns = duration_ns

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    @property
    def timings_ms(self) -> dict[str, float]:
        """Nothing: see the class."""
        return {}

    def step(self, *arguments: Any, **options: Any) -> Any:
        """Generate a turn; the clock moves on."""
        motion = self._session.step(*arguments, **options)
        self._clock.time_ns += self._duration_ns()
        return motion

    def preview(self, *arguments: Any, **options: Any) -> Any:
        """Guess the frames after a turn; the clock moves on."""
        motion = self._session.preview(*arguments, **options)
        self._clock.time_ns += self._duration_ns()
        return motion

    def commit(self, *arguments: Any, **options: Any) -> Any:
        """Commit a turn unsampled; it is taken to need as long, for the backbone is most of a turn."""
        committed = self._session.commit(*arguments, **options)
        self._clock.time_ns += self._duration_ns()
        return committed


class Desk:
    """Carry out a conversation's jobs one after another, as `timar_inference.worker.Worker` does in a thread.

    Args:
        runner: Carries out the jobs, on a `TimedSession` and this clock.
        capacity: How many jobs may wait.
        clock: The runner's clock.
        deliver: Called with each outcome and the time it was finished [ns], in order.
        show: Called likewise with each preview.
    """

    def __init__(
        self,
        runner: Runner,
        capacity: int,
        clock: VirtualClock,
        deliver: Callable[[int, Outcome], None],
        show: Callable[[int, MotionRun], None],
    ) -> None:
        self.withdrawn = 0
        """Turns that waited when they were taken back or the conversation ended."""
        self._runner = runner
        self._capacity = capacity
        self._clock = clock
        self._deliver = deliver
        self._show = show
        self._jobs: collections.deque[tuple[int, Job]] = collections.deque()
        self._at_hand: tuple[int, Outcome | MotionRun] | None = None
        self._guess_on: TurnRequest | None = None

    def feed(self, conversation: Conversation, now_ns: int) -> None:
        """Take from a conversation what is to be done, as far as there is room, and do what is due."""
        while len(self._jobs) < self._capacity:
            job = conversation.next_job(now_ns)
            if job is None:
                break
            self._submit(job, now_ns)
        self.advance(now_ns)

    def advance(self, until_ns: int) -> None:
        """Let time pass: start and deliver what starts and ends until then [ns]."""
        while True:
            if self._at_hand is not None:
                finished_ns, result = self._at_hand
                if finished_ns > until_ns:
                    return
                self._at_hand = None
                self._hand_out(finished_ns, result)
            elif self._jobs and max(self._jobs[0][0], self._clock.time_ns) <= until_ns:
                submitted_ns, job = self._jobs.popleft()
                self._clock.reach(submitted_ns)
                outcome = self._runner.run(job)
                self._at_hand = (self._clock.time_ns, outcome)
                self._guess_on = job if isinstance(job, TurnRequest) else None
            else:
                return

    def _hand_out(self, finished_ns: int, result: Outcome | MotionRun) -> None:
        """Deliver what is finished; after a turn, guess on as the worker does."""
        if isinstance(result, MotionRun):
            self._show(finished_ns, result)
            return
        self._deliver(finished_ns, result)
        request, self._guess_on = self._guess_on, None
        if request is not None:
            preview = self._runner.preview(request, is_busy=bool(self._jobs))
            if preview is not None:
                self._at_hand = (self._clock.time_ns, preview)

    def finish(self) -> None:
        """Do and deliver everything that waits, however long it takes."""
        while self._jobs or self._at_hand is not None:
            self.advance(max(self._clock.time_ns, self._jobs[0][0] if self._jobs else 0))

    def _submit(self, job: Job, now_ns: int) -> None:
        if isinstance(job, StartConversation):
            self._withdraw(0)
        elif isinstance(job, TakeBack):
            self._withdraw(job.first_frame)
        self._jobs.append((now_ns, job))

    def _withdraw(self, first_frame: int) -> None:
        kept = [
            entry
            for entry in self._jobs
            if not (isinstance(entry[1], TurnRequest) and entry[1].first_frame >= first_frame)
        ]
        self.withdrawn += len(self._jobs) - len(kept)
        self._jobs = collections.deque(kept)
