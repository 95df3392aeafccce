"""Inference component: sound and user motion in, generated head motion and the turn log out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import ClassVar

from timar_common.clock import NS_PER_S
from timar_common.component import Component, Job, Log, Output, ServiceReply, WorkClock
from timar_common.diagnostics import Level, Report
from timar_common.messages import Message, new, wire_time
from timar_common.restarts import Belongs
from timar_model.gestures.gesture_layer import GestureLayer

from timar_inference.config import InferenceConfig
from timar_inference.history_filling import HistoryFilling
from timar_inference.runtime import Runtime, open_runtime
from timar_inference.turn_jobs import TurnJob, TurnRequest
from timar_inference.turn_runner import TurnRunner
from timar_inference.turn_scheduler import TurnScheduler

INPUTS = ("user/audio", "agent/audio_planned", "user/motion")
"""Inputs that the log's cursor counts."""
GIVE_UP_S = 5.0
"""Turns that lie so far back are not made up for: the machine is too slow to catch up [s]."""
WORDS = ("agent/intent", "gesture")
"""Inputs of which the log says itself what they brought."""


class InferenceComponent(Component):
    """Schedule turns, generate them as jobs, publish what comes of it.

    The scheduler belongs to the host's thread, the session to the worker's; jobs go one way, and their
    outputs are published where they arise.

    Args:
        config: Model, engine, sampling, and what is done about time.
        runtime: An opened model to use; `config.model` is opened unless given.
        name: Prefix of the conversation ids.
        is_restarted: Whether it goes on after a crash: its history is filled again from what both voices'
            publishers hold.
    """

    NAME: ClassVar[str] = "inference"
    Config: ClassVar[type] = InferenceConfig
    inputs = (*INPUTS, *WORDS)
    outputs = ("agent/motion", "turn_log")
    tick_s = 0.05
    """Turns are handed out as sound comes; ticks are for what waited because the queue was full."""

    def __init__(
        self,
        config: InferenceConfig,
        runtime: Runtime | None = None,
        name: str = "conversation",
        is_restarted: bool = False,
    ) -> None:
        self.config = config
        self.runtime = runtime or open_runtime(config)
        self.queue_capacity = config.queue_turns
        self.scheduler = TurnScheduler(config, self.runtime.alignment, name)
        layer = GestureLayer(self.runtime.gestures)
        self.runner = TurnRunner(self.runtime.session, self.runtime.identity, config.preview_by, layer)
        self._seen = {topic: InputCount() for topic in INPUTS}
        window_frames = int(self.runtime.settings.get("window_frames", 0))
        self._filling = HistoryFilling(window_frames) if is_restarted and window_frames else None
        self._notes: list[Output] = []
        self._last_failure = ""
        self._troubles_reported = 0

    @property
    def hears_past(self) -> bool:
        """Tell whether it was started again, and hears what it missed."""
        return self._filling is not None

    def start(self, now_ns: int) -> Iterable[Output]:
        """Say which model runs; the conversation begins with the user's next sound."""
        notes = [Log(Level.OK, note) for note in self.runtime.notes]
        return [*notes, *(Log(Level.WARN, warning) for warning in self.runtime.warnings)]

    def stop(self, now_ns: int) -> Iterable[Output]:
        """End the conversation; a later start begins a new one."""
        self.scheduler.restart()
        return ()

    def handle(self, topic: str, message: Message, now_ns: int) -> Iterable[Output]:
        """Take what the user does, what the agent is going to, or a request for a gesture."""
        if topic == "gesture":
            refusal = self.scheduler.push_gesture(message)
            name = f"gesture {message.gesture.gesture_id}".rstrip()
            return [Log(Level.WARN, f"{name} is refused: {refusal}")] if refusal else ()
        if topic == "agent/intent":
            self.scheduler.inputs.intent = int(message.intent)
            return ()
        if topic == "user/audio" and self._filling is not None and self._filling.is_collecting:
            self.scheduler.inputs.check_user(message, now_ns)
            blocks = self._filling.collect(message, now_ns)
            return [output for block in blocks for output in self._take_input(topic, block, now_ns)]
        return self._take_input(topic, message, now_ns)

    def _take_input(self, topic: str, message: Message, now_ns: int) -> list[Output]:
        outputs: list[Output] = []
        if topic == "user/audio":
            belongs = self.scheduler.push_user(message, now_ns)
            if belongs is Belongs.OLD:
                return outputs
            if belongs is Belongs.LATER:
                text = "no sound came for longer than max_gap_s: a new conversation begins"
                outputs.append(Log(Level.WARN, text))
            if belongs is Belongs.NEW:
                lost_s = self.scheduler.outage_ns / NS_PER_S
                text = f"capture was started again, {lost_s:.2f} s of sound are lost: new conversation"
                outputs.append(Log(Level.WARN, text))
        elif topic == "agent/audio_planned":
            self.scheduler.push_plan(message, now_ns)
        else:
            self.scheduler.inputs.push_motion(message)
        self._seen[topic].add(message)
        return outputs

    def reconfigure(self, config: InferenceConfig, now_ns: int) -> Iterable[Output]:
        """Turn the dials, from the next turn on."""
        self.config = self.scheduler.config = config
        return ()

    def allow_for_way(self, way_ms: float, now_ns: int) -> Iterable[Output]:
        """Leave time for the way to another machine and back, from the next conversation on [ms]."""
        self.scheduler.way_ms = way_ms
        return ()

    def next_job(self, now_ns: int) -> Job | None:
        """Return the next decision with its input cursor: the messages it was made from."""
        job = self.scheduler.next_job(now_ns)
        if job is None:
            return None
        if isinstance(job, TurnRequest):
            job = (
                self._refill(job, now_ns) if self._filling is not None else self._unless_hopeless(job, now_ns)
            )
            if job is None:
                return None
        first_sample = self.scheduler.inputs.user.first_sample
        return dataclasses.replace(job, inputs=self._cursor(), conversation_first_sample=first_sample)

    def tick(self, now_ns: int) -> Iterable[Output]:
        """Say how the history was filled again, or that it could not be kept."""
        notes, self._notes = self._notes, []
        return notes

    def _unless_hopeless(self, job: TurnRequest, now_ns: int) -> TurnRequest | None:
        behind_s = (now_ns - job.useless_ns) / NS_PER_S
        if behind_s <= GIVE_UP_S:
            return job
        text = f"turns lie {behind_s:.0f} s back, this machine does not catch up: new conversation"
        self._notes.append(Log(Level.WARN, text))
        self.scheduler.restart()
        return None

    def _refill(self, job: TurnRequest, now_ns: int) -> TurnRequest | None:
        filling = self._filling
        assert filling is not None
        is_refill = filling.follow(job, now_ns)
        if filling.is_over:
            self._filling = None
            if filling.trouble:
                text = f"started again, the history is not filled: {filling.trouble}; it begins fresh"
                self._notes.append(Log(Level.WARN, text))
                self.scheduler.restart()
                return None
            text = f"started again, {filling.seconds:.1f} s of history were filled in {filling.took_s:.2f} s"
            self._notes.append(Log(Level.OK, text))
        return dataclasses.replace(job, is_refill=is_refill)

    def work(self, job: Job, clock: WorkClock, is_busy: Callable[[], bool]) -> Iterator[Output]:
        """Carry out a decision."""
        assert isinstance(job, TurnJob)
        return self.runner.run(job, clock, is_busy)

    def on_failure(self, reason: str, now_ns: int) -> Iterable[Output]:
        """Begin a new conversation: the session's state is not known any more."""
        self._last_failure = reason
        self.scheduler.restart()
        return ()

    @property
    def services(self) -> Mapping[str, Callable[[int], ServiceReply]]:
        """`reset_conversation`."""
        return {"reset_conversation": self._reset}

    def _reset(self, now_ns: int) -> ServiceReply:
        self.scheduler.restart()
        return ServiceReply(True, f"{self.scheduler.conversation_id} starts with the user's next sound")

    def _cursor(self) -> tuple[Message, ...]:
        return tuple(
            new(
                "InputCursor",
                topic=topic,
                messages=count.messages,
                newest_stamp=wire_time(count.newest_wire_ns),
            )
            for topic, count in self._seen.items()
        )

    # Health.

    def report(self) -> Report:
        """Report what was computed, how fast, and what went wrong since the last time."""
        scheduler, counters = self.scheduler, self.runner.counters
        inputs, alignment = scheduler.inputs.counters(), scheduler.alignment
        report = Report(
            values={
                "engine": self.runtime.identity.engine,
                "model": self.config.model,
                "settings": " ".join(f"{name}:={value}" for name, value in self.runtime.settings.items()),
                "model_sha256": self.runtime.identity.model_sha256,
                "turn_frames": alignment.turn_frames,
                "margin_frames": alignment.margin_frames,
                "turn_fill_ms": alignment.turn_fill_ms,
                "reaction_floor_ms": alignment.reaction_floor_ms,
                "conversation_id": scheduler.conversation_id,
                "next_frame": scheduler.next_frame,
                "turns": counters.generated + counters.skipped,
                **dataclasses.asdict(counters),
                "samples_lost": inputs.samples_lost,
                "samples_repeated": inputs.samples_repeated,
                "lost_in_restarts_ms": scheduler.lost_in_restarts_ns / 1e6,
                "user_motion_unused": inputs.motion_frames_unused,
                "stale_plan_chunks": scheduler.inputs.plan.stale_chunks,
                "plan_revision": scheduler.inputs.plan.revision,
                "clock_error_ppm": scheduler.clock.rate_error_ppm,
                "clock_jumps": scheduler.clock.jumps,
                **self.runner.measurements(),
            }
        )
        if self._last_failure:
            report.worsen(Level.ERROR, f"the engine failed since the last report: {self._last_failure}")
        troubles = counters.late + counters.skipped
        if troubles > self._troubles_reported:
            report.worsen(
                Level.WARN,
                f"{troubles - self._troubles_reported} turns late or skipped since the last report; "
                "is the machine busy with other work?",
            )
        self._troubles_reported, self._last_failure = troubles, ""
        return report


@dataclasses.dataclass
class InputCount:
    """How far an input was read."""

    messages: int = 0
    newest_wire_ns: int = 0
    """ROS time in the header of the newest message [ns]; it identifies the message."""

    def add(self, message: Message) -> None:
        """Count a message that was handled."""
        self.messages += 1
        self.newest_wire_ns = message.header.wire_ns
