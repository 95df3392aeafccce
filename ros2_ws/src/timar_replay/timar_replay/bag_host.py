"""The bag host: runs components on recorded messages, in the recording's time instead of the machine's."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from timar_common.component import Component, Log, Output, Publish
from timar_common.diagnostics import Level
from timar_common.messages import Message

from timar_replay.virtual_worker import VirtualTime, VirtualWorker


class Sink(Protocol):
    """Takes what components publish."""

    def __call__(self, topic: str, at_ns: int, message: Message) -> object:
        """Take a message that was published at a monotonic time [ns]."""


@dataclasses.dataclass
class _Timer:
    """A component whose ticks are due one after the other."""

    component: Component
    next_ns: int
    period_ns: int


class BagHost:
    """Run components, wired to each other by their topics, in virtual time.

    What one publishes reaches the others at the same instant. Between two messages of the recording, ticks
    fall due and long work ends; both happen in the order of their times.

    Args:
        components: In the order in which they get a message.
        publish: Takes what they publish.
        durations_ns: How long each computation of long work takes; measured when None.
    """

    def __init__(
        self, components: Sequence[Component], publish: Sink, durations_ns: Iterator[int] | None = None
    ) -> None:
        self.components = components
        self.rejections: Counter[str] = Counter()
        """Messages that could not be true, by topic."""
        self.first_rejection: dict[str, str] = {}
        """Why the first of them could not."""
        self.warnings: Counter[str] = Counter()
        """Lines that components logged as warnings or errors."""
        self._publish = publish
        self._readers: dict[str, list[Component]] = {}
        for component in components:
            for topic in component.inputs:
                self._readers.setdefault(topic, []).append(component)
        self._workers = {
            id(component): VirtualWorker(component, VirtualTime(durations_ns))
            for component in components
            if component.queue_capacity
        }
        self._timers: list[_Timer] = []

    @property
    def reads(self) -> frozenset[str]:
        """Topics that some component reads."""
        return frozenset(self._readers)

    def start(self, now_ns: int) -> None:
        """Activate every component."""
        for component in self.components:
            if component.tick_s is not None:
                period_ns = round(component.tick_s * 1e9)
                self._timers.append(_Timer(component, now_ns + period_ns, period_ns))
            self.take(component, component.start(now_ns), now_ns)

    def deliver(self, topic: str, message: Message, now_ns: int) -> None:
        """Let time pass to now, and give a message to the components that read its topic."""
        self.advance(now_ns)
        self._deliver(topic, message, now_ns)

    def advance(self, until_ns: int) -> None:
        """Let time pass: ticks that are due and work that is finished by then [ns]."""
        while (event := self._next_event(until_ns)) is not None:
            if isinstance(event, VirtualWorker):
                self._step(event)
            else:
                at_ns = event.next_ns
                event.next_ns += event.period_ns
                self.take(event.component, event.component.tick(at_ns), at_ns)

    def _next_event(self, until_ns: int) -> VirtualWorker | _Timer | None:
        """Return what happens first, if it is due; work that ends at the instant of a tick comes first."""
        first_ns = until_ns + 1
        first: VirtualWorker | _Timer | None = None
        for worker in self._workers.values():
            event_ns = worker.next_event_ns()
            if event_ns is not None and event_ns < first_ns:
                first_ns, first = event_ns, worker
        for timer in self._timers:
            if timer.next_ns < first_ns:
                first_ns, first = timer.next_ns, timer
        return first

    def finish(self, now_ns: int) -> None:
        """Finish all work that waits, however long it takes, and deactivate every component."""
        self.advance(now_ns)
        for worker in self._workers.values():
            while (event_ns := worker.next_event_ns()) is not None:
                now_ns = max(now_ns, event_ns)
                self._step(worker)
        for component in self.components:
            self.take(component, component.stop(now_ns), now_ns)

    def issues(self) -> list[str]:
        """Return one sentence for each kind of message that was rejected and each warning."""
        found = [
            f"{count} messages of {topic} were rejected, the first because {self.first_rejection[topic]}"
            for topic, count in self.rejections.items()
        ]
        return found + [f"{text}{f' ({n} times)' if n > 1 else ''}" for text, n in self.warnings.items()]

    def _step(self, worker: VirtualWorker) -> None:
        finished = worker.take_step()
        if finished is not None:
            at_ns, output = finished
            self._emit(output, at_ns)

    def _deliver(self, topic: str, message: Message, now_ns: int) -> None:
        for component in self._readers.get(topic, ()):
            try:
                outputs = list(component.handle(topic, message, now_ns))
            except ValueError as error:
                self.rejections[topic] += 1
                self.first_rejection.setdefault(topic, " ".join(str(error).split()))
                continue
            self.take(component, outputs, now_ns)

    def take(self, component: Component, outputs: Iterable[Output], now_ns: int) -> None:
        """Take what a component brought, also of what its device did, and hand out its work."""
        for output in outputs:
            self._emit(output, now_ns)
        worker = self._workers.get(id(component))
        if worker is not None:
            worker.feed(now_ns)

    def _emit(self, output: Output, now_ns: int) -> None:
        if isinstance(output, Publish):
            self._publish(output.topic, now_ns, output.message)
            self._deliver(output.topic, output.message, now_ns)
        elif isinstance(output, Log) and output.level is not Level.OK:
            self.warnings[output.text] += 1
