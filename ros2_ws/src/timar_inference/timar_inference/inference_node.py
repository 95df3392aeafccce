"""The mind: messages in, turns on the conversation clock, head motion and the log of every decision out."""

from __future__ import annotations

import time
import uuid
from array import array
from typing import Any, ClassVar

import numpy as np
from std_srvs.srv import Trigger
from timar_common.base_node import BaseNode, run
from timar_common.clock import FRAMES_PER_SECOND
from timar_common.diagnostics import Level, Report
from timar_common.user_motion import PARTS, user_motion_from
from timar_msgs.msg import HeadMotion, TurnLog

from timar_inference.config import InferenceConfig
from timar_inference.conversation import Conversation
from timar_inference.decisions import LogEntry, MotionRun, Outcome
from timar_inference.runner import Runner
from timar_inference.runtime import open_runtime
from timar_inference.worker import Worker

FEED_PERIOD_S = 0.05
"""Turns are handed out as sound comes; this is for what waited because the queue was full."""


class InferenceNode(BaseNode):
    """Form turns, have them computed in a worker, publish what comes of it.

    The conversation belongs to the node's thread, the session to the worker's; jobs go one way, outcomes are
    published where they arise.
    """

    NAME: ClassVar[str] = "inference"
    Config: ClassVar[type] = InferenceConfig

    # Lifecycle.

    def build(self) -> None:
        """Load and warm the model, make the topics and the service."""
        self._worker: Worker | None = None
        self._last_failure = ""
        self._troubles_told = 0
        runtime = open_runtime(self.config)
        for line in runtime.notes:
            self.get_logger().info(line)
        name = f"{self.get_name()}-{uuid.uuid4().hex[:8]}"
        self._runtime = runtime
        self._conversation = Conversation(self.config, runtime.alignment, name)
        self._runner = Runner(runtime.session, runtime.identity, time.monotonic_ns)
        self._motion = self.create_topic_publisher("agent/motion")
        self._log = self.create_topic_publisher("turn_log")
        self.create_topic_subscription("user/audio", self._on_user_audio)
        self.create_topic_subscription("agent/audio_planned", self._on_planned)
        self.create_topic_subscription("user/motion", self._on_user_motion)
        self.create_named_service(Trigger, "reset_conversation", self._on_reset)
        self.create_steady_timer(FEED_PERIOD_S, self._feed)

    def start(self) -> None:
        """Start the worker; the conversation begins with the user's next sound."""
        self._worker = Worker(self._runner, self.config.queue_turns, self._publish, self._show)
        self._worker.start()

    def stop(self) -> None:
        """End the worker; a later start begins a new conversation."""
        if self._worker is not None:
            try:
                self._worker.close()
            except RuntimeError as error:
                self.get_logger().error(str(error))
        self._conversation.restart()

    def release(self) -> None:
        """Let go of the model."""
        self._worker = None
        self._runtime = self._conversation = self._runner = None

    # Messages in.

    def _on_user_audio(self, message: Any) -> None:
        self._conversation.push_user(
            message.first_sample,
            np.frombuffer(message.samples, np.int16),
            sample_rate_hz=message.sample_rate,
            stamp_ns=self.monotonic_ns(message.header),
            now_ns=time.monotonic_ns(),
            filled_samples=message.filled_samples,
        )
        self._feed()

    def _on_planned(self, message: Any) -> None:
        self._conversation.push_plan(
            message.first_sample,
            np.frombuffer(message.samples, np.int16),
            sample_rate_hz=message.sample_rate,
            revision=message.revision,
            now_ns=time.monotonic_ns(),
        )
        self._feed()

    def _on_user_motion(self, message: Any) -> None:
        motion, valid = user_motion_from(message)
        self._conversation.push_motion(message.first_frame, motion, valid)

    def _on_reset(self, _request: Any, response: Any) -> Any:
        response.success = self.is_active
        if self.is_active:
            self._conversation.restart()
            response.message = f"{self._conversation.conversation_id} starts with the user's next sound"
        else:
            response.message = "the node is not active; its next conversation is a new one anyway"
        return response

    # Work.

    def _feed(self) -> None:
        worker = self._worker
        if worker is None:
            return
        failure = worker.take_failure()
        if failure is not None:
            self._last_failure = failure.message
            self._conversation.restart()
            self.get_logger().error(
                f"the engine failed, a new conversation starts: {failure.message}\n{failure.trace}",
                throttle_duration_sec=5.0,
            )
        worker.feed(self._conversation, time.monotonic_ns())

    # Messages out, in the worker's thread.

    def _publish(self, outcome: Outcome) -> None:
        if outcome.shown is not None:
            self._show(outcome.shown)
        self._log.publish(self._log_message(outcome))

    def _show(self, run: MotionRun) -> None:
        self._motion.publish(self._motion_message(run))

    def _motion_message(self, run: MotionRun) -> HeadMotion:
        parts = {part: array("f", run.motion[:, place].tobytes()) for part, place in PARTS.items()}
        return HeadMotion(
            header=self.header(run.due_ns, "head"),
            conversation_id=run.conversation_id,
            first_frame=run.first_frame,
            fps=float(FRAMES_PER_SECOND),
            frames=len(run.motion),
            revision=run.revision,
            final_until_frame=run.final_until_frame,
            compute_ms=run.compute_ms,
            is_preview=run.is_preview,
            **parts,
        )

    def _log_message(self, outcome: Outcome) -> TurnLog:
        return turn_log_message(outcome.entry, self.header(outcome.finished_ns, "head"))

    # Health.

    def report(self) -> Report:
        """Say what was computed, how fast, and what went wrong since the last time."""
        runner, worker, inputs = self._runner, self._worker, self._conversation.counters()
        counters = runner.counters
        values: dict[str, object] = {
            "engine": self._runtime.identity.engine,
            "model": self.config.model,
            "model_sha256": self._runtime.identity.model_sha256,
            "turn_frames": self._runtime.alignment.turn_frames,
            "turn_fill_ms": self._runtime.alignment.turn_fill_ms,
            "floor_ms": self._runtime.alignment.floor_ms,
            "conversation_id": self._conversation.conversation_id,
            "conversations": counters.conversations,
            "next_frame": self._conversation.next_frame,
            "turns": counters.generated + counters.unsampled,
            "late": counters.late,
            "unsampled": counters.unsampled,
            "taken_back": counters.taken_back,
            "previews": counters.previews,
            "previews_dropped": counters.previews_dropped,
            "rotations_limited": counters.rotations_limited,
            "samples_lost": inputs.samples_lost,
            "samples_repeated": inputs.samples_repeated,
            "user_motion_unused": inputs.motion_frames_unused,
            "stale_plan_chunks": self._conversation.stale_plan_chunks,
            "plan_revision": self._conversation.plan_revision,
            "waiting": worker.waiting,
            "dropped": worker.counters.dropped,
            "withdrawn": worker.counters.withdrawn,
            "failures": worker.counters.failures,
            "clock_error_ppm": self._conversation.clock.rate_error_ppm,
            "clock_jumps": self._conversation.clock.jumps,
            **runner.measurements(),
        }
        report = Report(values=values)
        self._judge(report)
        return report

    def _judge(self, report: Report) -> None:
        if self._last_failure:
            report.worsen(Level.ERROR, f"the engine failed since the last report: {self._last_failure}")
        counters = self._runner.counters
        troubles = counters.late + counters.unsampled
        if troubles > self._troubles_told:
            report.worsen(
                Level.WARN,
                f"{troubles - self._troubles_told} turns late or unsampled since the last report; "
                "is the machine busy with other work?",
            )
        self._troubles_told, self._last_failure = troubles, ""


def turn_log_message(entry: LogEntry, header: Any) -> TurnLog:
    """Write a log entry as a message."""
    timings = entry.timings
    return TurnLog(
        header=header,
        conversation_id=entry.conversation_id,
        sequence=entry.sequence,
        decision=int(entry.decision),
        first_frame=entry.first_frame,
        frames=entry.frames,
        user_first_sample=entry.user_first_sample,
        user_end_sample=entry.user_end_sample,
        agent_first_sample=entry.agent_first_sample,
        agent_end_sample=entry.agent_end_sample,
        planned_revision=entry.planned_revision,
        user_samples_filled=entry.user_samples_filled,
        user_motion_valid=list(entry.user_motion_valid),
        seed=entry.seed,
        revision=entry.revision,
        is_late=entry.is_late,
        queue_ms=timings.queue_ms,
        speech_ms=timings.speech_ms,
        backbone_ms=timings.backbone_ms,
        head_ms=timings.head_ms,
        compute_ms=timings.compute_ms,
        engine=entry.engine,
        model_sha256=entry.model_sha256,
    )


def main() -> int:
    """Run the node."""
    return run([InferenceNode])
