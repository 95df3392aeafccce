"""The contract of a component: a node's logic without ROS, without threads and without a clock of its own.

Two hosts run the same objects: `timar_common.component_node.ComponentNode` on ROS 2, and the bag host of
`timar_replay` on a recording, in the recording's time. So a replay equals the live run by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

from timar_common.diagnostics import Level, Report
from timar_common.messages import Message


class Publish(NamedTuple):
    """A message to publish."""

    topic: str
    """Name in `timar_common.topics.TOPICS`."""
    message: Message
    """Its header's stamp is CLOCK_MONOTONIC [ns]; not changed after it was handed out."""


class Log(NamedTuple):
    """A line for the log."""

    level: Level
    text: str


Output = Publish | Log


class ServiceReply(NamedTuple):
    """The answer of a std_srvs/Trigger service."""

    success: bool
    message: str
    outputs: tuple[Output, ...] = ()


class WorkClock(Protocol):
    """The time of long work: real time in a worker thread, modelled time in a replay."""

    is_real: bool
    """Whether measured durations mean something; a replay must not write what differs from run to run."""

    def now_ns(self) -> int:
        """Return CLOCK_MONOTONIC or what stands for it [ns]."""

    def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call a long computation and return its result; modelled time moves on by its modelled duration."""


class Job:
    """Long work that a component hands out, carried out one job after another."""

    is_urgent = False
    """Whether it is taken also when the queue is full."""
    is_reset = False
    """Whether it makes the state known again after a job has failed; until then others are left out."""

    def withdraws(self, waiting: Job) -> bool:
        """Tell whether a job that still waits need not be done once this one is submitted."""
        return False


class Component:
    """Base of the components, with defaults for what one does not need.

    A message that cannot be true makes `handle` raise ValueError and changes nothing; hosts count and log it.
    Times are arguments: CLOCK_MONOTONIC [ns]. Hosts never call two of these methods at once, but for `work`,
    which a host may run in a thread of its own while the others go on.
    """

    NAME: ClassVar[str]
    """The node's name."""
    Config: ClassVar[type]
    """A frozen dataclass of `timar_common.config.option` fields: the node's parameters."""
    inputs: tuple[str, ...] = ()
    """Topics it reads; may depend on the configuration."""
    outputs: tuple[str, ...] = ()
    """Topics it publishes."""
    config: Any
    """Of its `Config`."""
    tick_s: float | None = None
    """How often `tick` is called [s]; None: never."""
    queue_capacity = 0
    """How many jobs may wait; 0: it has no long work."""

    def start(self, now_ns: int) -> Iterable[Output]:
        """Begin to act; also after a `stop`, then as new."""
        return ()

    def stop(self, now_ns: int) -> Iterable[Output]:
        """End acting."""
        return ()

    @property
    def hears_past(self) -> bool:
        """Tell whether its inputs shall begin with what their publishers still hold (`Topic.held`)."""
        return False

    def handle(self, topic: str, message: Message, now_ns: int) -> Iterable[Output]:
        """Take a message of one of the inputs.

        Raises:
            ValueError: It cannot be true; nothing has changed then.
        """
        raise NotImplementedError(f"{type(self).__name__} reads no topic, but {topic} came")

    def tick(self, now_ns: int) -> Iterable[Output]:
        """Let time pass."""
        return ()

    def reconfigure(self, config: Any, now_ns: int) -> Iterable[Output]:
        """Take a configuration that differs from the one before in live parameters only."""
        self.config = config
        return ()

    def report(self) -> Report:
        """Return its health, for diagnostics; called once a second."""
        return Report()

    @property
    def services(self) -> Mapping[str, Callable[[int], ServiceReply]]:
        """Trigger services by relative name; each takes the time."""
        return {}

    # Long work.

    def next_job(self, now_ns: int) -> Job | None:
        """Return what is to be computed next; None while nothing is."""
        return None

    def work(self, job: Job, clock: WorkClock, is_busy: Callable[[], bool]) -> Iterator[Output]:
        """Carry out a job and yield what it brings as soon as it is known.

        Args:
            job: The next one; jobs come in order.
            clock: Its time; long computations go through `clock.call`.
            is_busy: Tells whether another job waits already.
        """
        return iter(())

    def on_failure(self, reason: str, now_ns: int) -> Iterable[Output]:
        """Take notice that a job has failed; what its state was is not known any more."""
        return ()
