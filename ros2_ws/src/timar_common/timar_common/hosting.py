"""Runs one component on serialized messages: decode, call, encode. Where bytes come from and go is given."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from timar_common.component import Component, Log, Output, Publish, ServiceReply
from timar_common.diagnostics import Level, Percentiles, Report
from timar_common.jobs import JobWorker, RealTime
from timar_common.messages import decode, encode
from timar_common.topics import TOPICS


class HostClock(Protocol):
    """Machine time and its place in ROS time."""

    def now_ns(self) -> int:
        """Return CLOCK_MONOTONIC [ns]."""

    def ros_ns(self, monotonic_ns: int) -> int:
        """Return the ROS time of a monotonic instant [ns]."""

    def monotonic_ns(self, ros_ns: int) -> int:
        """Return the monotonic instant of a ROS time [ns]."""


class LogLine(Protocol):
    """Writes a line to the log."""

    def __call__(self, level: Level, text: str, is_repeated: bool = False) -> None:
        """Write a line; a repeated one comes with many messages and may be left out for some seconds."""


class ComponentHost:
    """One component, its worker if it has long work, and its messages as bytes.

    Args:
        component: What runs.
        clock: Time.
        publish: Takes a topic and the bytes of a message; may be called in the worker's thread.
        log: Takes a line.
        work_clock: Time of long work; the machine's unless given.
    """

    def __init__(
        self,
        component: Component,
        clock: HostClock,
        publish: Callable[[str, bytes], None],
        log: LogLine,
        work_clock: RealTime | None = None,
    ) -> None:
        self.component = component
        self.bad_messages = 0
        """Messages that could not be true."""
        self.lock = threading.RLock()
        """Held while the component acts and what it brings goes out, but not during its long work; a device's
        thread that touches the component holds it as well."""
        self._clock, self._publish, self._log = clock, publish, log
        self._work_clock = work_clock
        self._worker: JobWorker | None = None
        self._handle_ms: dict[str, Percentiles] = {}

    @property
    def worker(self) -> JobWorker | None:
        """What carries out the component's long work, while it acts."""
        return self._worker

    def start(self) -> None:
        """Activate the component."""
        if self.component.queue_capacity:
            self._worker = JobWorker(self.component, self.emit, self._work_clock)
            self._worker.start()
        self.call(self.component.start)

    def stop(self) -> None:
        """Deactivate the component, after the job at hand."""
        worker, self._worker = self._worker, None
        if worker is not None:
            try:
                worker.close()
            except RuntimeError as error:
                self._log(Level.ERROR, str(error))
        self.call(self.component.stop)

    def call(self, method: Callable[..., Iterable[Output]], *arguments: Any) -> None:
        """Call a method of the component, time last, and send what it brings; from any thread."""
        with self.lock:
            self._emit_all(method(*arguments, self._clock.now_ns()))

    def receive(self, topic: str, data: bytes) -> None:
        """Take the bytes of a message; one that cannot be true is counted and logged."""
        try:
            message = decode(data, TOPICS[topic].type_name, self._clock.monotonic_ns)
            now_ns = self._clock.now_ns()
            self.call(self.component.handle, topic, message)
            self._handle_ms.setdefault(topic, Percentiles(256)).add((self._clock.now_ns() - now_ns) * 1e-6)
        except ValueError as error:
            self.bad_messages += 1
            self._log(Level.ERROR, f"{topic}: {error}", is_repeated=True)
            return
        self.feed()

    def tick(self) -> None:
        """Let time pass."""
        self.call(self.component.tick)
        self.feed()

    def serve(self, service: str) -> ServiceReply:
        """Answer one of the component's services."""
        with self.lock:
            reply = self.component.services[service](self._clock.now_ns())
            self._emit_all(reply.outputs)
        self.feed()
        return reply

    def hung(self, now_ns: int) -> str:
        """Say what the component's long work hangs in; empty while it does not."""
        worker = self._worker
        return worker.hung(now_ns) if worker is not None else ""

    def report(self) -> Report:
        """Return the component's health and what the host itself counts."""
        with self.lock:
            report = self.component.report()
        for topic, durations in self._handle_ms.items():
            report.values |= {f"handle_ms_{key}.{topic}": v for key, v in durations.summary().items()}
        if self._worker is not None:
            counters = self._worker.counters
            report.values |= {
                "waiting": self._worker.waiting,
                "dropped": counters.dropped,
                "withdrawn": counters.withdrawn,
                "failures": counters.failures,
            }
        report.values.setdefault("bad_messages", self.bad_messages)
        if self.bad_messages:
            report.worsen(Level.WARN, f"{self.bad_messages} messages rejected; the log says why")
        return report

    def emit(self, output: Output) -> None:
        """Publish or log one output."""
        if isinstance(output, Publish):
            self._publish(output.topic, encode(output.message, self._clock.ros_ns))
        elif isinstance(output, Log):
            self._log(output.level, output.text)

    def _emit_all(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            self.emit(output)

    def feed(self) -> None:
        """Let the worker take what the component wants done; a device's thread calls it after `call`."""
        worker = self._worker
        if worker is None:
            return
        with self.lock:
            failure = worker.take_failure()
            if failure is not None:
                self._log(
                    Level.ERROR, f"long work failed: {failure.message}\n{failure.trace}", is_repeated=True
                )
                self._emit_all(self.component.on_failure(failure.message, self._clock.now_ns()))
            worker.feed(self._clock.now_ns())
