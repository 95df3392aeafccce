"""The voice: plan the agent's speech on the conversation clock, let it be heard, and publish what was."""

from __future__ import annotations

import threading
import time
from array import array
from typing import Any, ClassVar

import numpy as np
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.task import Future
from timar_common.base_node import BaseNode, run
from timar_common.clock import NS_PER_S, SAMPLE_RATE_HZ
from timar_common.diagnostics import Level, Report
from timar_common.restarts import Belongs, ConversationWatch
from timar_common.wav import SoundFile, SoundWriter
from timar_msgs.action import Speak
from timar_msgs.msg import AudioChunk, PlannedAudio, TurnEvent

from timar_audio.blocks import check_block
from timar_audio.listeners import missing_listeners
from timar_audio.loudspeaker import Loudspeaker
from timar_audio.plan import PlannedChunk
from timar_audio.playback import HeardBlock, Playback, PlaybackConfig
from timar_audio.speech import FileSpeech, NoSpeech, Outcome, SpeechFeed, SpeechQueue, Spoken

_FEEDBACK_S = 0.1


class PlaybackNode(BaseNode):
    """Follow the clock of user/audio_raw; every block of it moves the agent's voice on by as much."""

    NAME: ClassVar[str] = "playback"
    Config: ClassVar[type] = PlaybackConfig

    def build(self) -> None:
        """Open the file, make the core and the topics."""
        self._file: SoundFile | None = None
        self._writer: SoundWriter | None = None
        self._queue: SpeechQueue | None = None
        self._goals: dict[str, tuple[Any, Future]] = {}
        self._has_said_end = False
        self._is_listening = False
        self._lock = threading.Lock()
        self._watch = ConversationWatch()
        self._loudspeaker: Loudspeaker | None = None
        self._failure = ""
        self._playback = Playback(self.config, self._make_feed())
        self._planned = self.create_topic_publisher("agent/audio_planned")
        self._heard = self.create_topic_publisher("agent/audio")
        if self._queue is not None:
            self._offer_speech()
        self.create_steady_timer(self.config.free_run_after_ms / 1000, self._advance)

    def start(self) -> None:
        """Open the sink and join the clock, a file as soon as it has its listeners.

        Who is not yet matched misses what is planned and heard. Capture waits for this node's subscription
        in turn, so that a conversation from files begins when everybody listens.
        """
        self._open_sink()
        self._deadline_ns = time.monotonic_ns() + round(self.config.wait_timeout_s * NS_PER_S)
        if self._file is None:
            self._join()
        else:
            self.create_steady_timer(0.02, self._join_when_heard)

    def release(self) -> None:
        """Close the files."""
        for name in ("_file", "_writer"):
            if getattr(self, name, None) is not None:
                getattr(self, name).close()
                setattr(self, name, None)

    def report(self) -> Report:
        """Say what the core and the loudspeaker say."""
        report = self._playback.report()
        if self._loudspeaker is not None:
            speaker = self._loudspeaker.report()
            report.values |= speaker.values
            report.worsen(speaker.level, speaker.message)
        if self._failure:
            report.worsen(Level.ERROR, self._failure)
        report.values["clock_restarts"] = self._watch.restarts
        return report

    # The feed.

    def _make_feed(self) -> SpeechFeed:
        config = self.config
        if config.source == "file":
            return self._open_file()
        if config.source == "none":
            return NoSpeech()
        self._queue = SpeechQueue(
            round(config.max_waiting_s * SAMPLE_RATE_HZ),
            config.prebuffer_ms * SAMPLE_RATE_HZ // 1000,
            config.speech_patience_s,
        )
        return self._queue

    def _open_file(self) -> FileSpeech:
        if not self.config.file:
            raise ValueError("source is 'file' but file is empty; give the path of a WAV file as file")
        if self._file is not None:
            self._file.close()
        self._file = SoundFile(self.config.file, self.config.channel)
        self.get_logger().info(self._file.description())
        for warning in self._file.warnings:
            self.get_logger().warning(warning)
        self._speech = FileSpeech(self._file)
        return self._speech

    def _offer_speech(self) -> None:
        self.create_topic_subscription("agent/speech", self._on_speech)
        self.create_topic_subscription("turn_events", self._on_turn_event)
        server = ActionServer(
            self,
            Speak,
            "speak",
            execute_callback=self._execute,
            goal_callback=self._on_goal,
            handle_accepted_callback=self._on_accepted,
            cancel_callback=self._on_cancel,
        )
        self._owned.append((_destroy_action_server, server))
        self.create_steady_timer(_FEEDBACK_S, self._publish_feedback)

    def _on_speech(self, message: Any) -> None:
        samples = np.frombuffer(message.samples, np.int16)
        with self._lock:
            self._queue.add(
                message.utterance_id,
                message.sample_rate,
                samples,
                is_last=message.is_last,
                now_ns=time.monotonic_ns(),
            )
        self._advance()

    def _on_turn_event(self, message: Any) -> None:
        is_barge_in = message.kind == TurnEvent.BARGE_IN and message.speaker == TurnEvent.USER
        if is_barge_in and self.config.stop_on_barge_in:
            with self._lock:
                chunks = self._playback.interrupt()
            self._announce(chunks)

    # The action `speak`.

    def _on_goal(self, goal: Any) -> GoalResponse:
        if not self.is_active:
            return GoalResponse.REJECT
        now_ns = time.monotonic_ns()
        try:
            if goal.utterance_id in self._goals:
                raise ValueError(f"utterance_id {goal.utterance_id!r} is being said already")
            with self._lock:
                if len(goal.samples):
                    samples = np.frombuffer(goal.samples, np.int16)
                    self._queue.add(goal.utterance_id, goal.sample_rate, samples, is_last=True, now_ns=now_ns)
                elif not self._queue.knows(goal.utterance_id):
                    self._queue.open(goal.utterance_id, now_ns)
        except ValueError as error:
            self.bad_messages += 1
            self.get_logger().error(f"speak: {error}", throttle_duration_sec=5.0)
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _on_accepted(self, handle: Any) -> None:
        self._goals[handle.request.utterance_id] = (handle, Future())
        handle.execute()
        self._advance()

    def _on_cancel(self, handle: Any) -> CancelResponse:
        with self._lock:
            chunks = self._playback.cancel(handle.request.utterance_id)
        self._announce(chunks)
        return CancelResponse.ACCEPT

    async def _execute(self, handle: Any) -> Any:
        spoken: Spoken = await self._goals[handle.request.utterance_id][1]
        self._goals.pop(handle.request.utterance_id, None)
        if spoken.outcome is Outcome.FINISHED:
            handle.succeed()
        elif handle.is_cancel_requested:
            handle.canceled()
        else:
            handle.abort()
        return Speak.Result(
            outcome=int(spoken.outcome), samples_heard=spoken.samples_heard, message=spoken.message
        )

    def _publish_feedback(self) -> None:
        for utterance_id, (handle, _) in self._goals.items():
            if handle.is_active:
                handle.publish_feedback(
                    Speak.Feedback(
                        samples_heard=self._queue.samples_heard(utterance_id),
                        samples_wanted=self._queue.samples_wanted,
                    )
                )

    # The sink.

    def _open_sink(self) -> None:
        config = self.config
        if config.sink == "file":
            if not config.sink_file:
                raise ValueError(
                    "sink is 'file' but sink_file is empty; give the path of a WAV file to write"
                )
            self._writer = SoundWriter(config.sink_file)
        if config.sink != "speaker":
            return
        self._loudspeaker = Loudspeaker(
            config.device, config.speaker_rate_hz, config.speaker_buffer_ms, self._playback, self._lock
        )
        self.get_logger().info(self._loudspeaker.open())
        self._playback.has_loudspeaker = True
        self.run_in_thread(self._pump, "loudspeaker")

    def _pump(self) -> None:
        speaker = self._loudspeaker
        while not self.ending.is_set():
            try:
                speaker.write()
            except OSError as error:
                self._failure = str(error)
                self.get_logger().error(self._failure)
                self._await_loudspeaker(speaker)
        speaker.close()

    def _await_loudspeaker(self, speaker: Loudspeaker) -> None:
        """Look for a loudspeaker that is gone until it is back; meanwhile nobody hears the voice."""
        speaker.close()
        while not self.ending.wait(0.5):
            try:
                said = speaker.open()
            except OSError:
                continue  # still gone: that was said when it went, and diagnostics repeat it
            self._failure = ""
            self.get_logger().info(f"{said}; it is back")
            return

    # The clock.

    def _join(self) -> None:
        if not self._is_listening:
            self._is_listening = True
            self.create_topic_subscription("user/audio_raw", self._on_user_audio)

    def _join_when_heard(self) -> None:
        if self._is_listening:
            return
        wanted = {
            "agent/audio": (self._heard, self.config.wait_for_listeners),
            "agent/audio_planned": (self._planned, self.config.wait_for_plan_listeners),
        }
        missing = missing_listeners(wanted)
        if missing and time.monotonic_ns() < self._deadline_ns:
            return
        if missing:
            self.get_logger().warning(
                f"only {missing} listeners came within {self.config.wait_timeout_s:g} s; "
                "the file starts without the others"
            )
        self._join()

    def _on_user_audio(self, message: Any) -> None:
        samples = len(message.samples)
        check_block(message.sample_rate, message.first_sample, samples, message.filled_samples)
        first_ns = self.monotonic_ns(message.header)
        belongs = self._watch.observe(message.first_sample, samples, first_ns)
        if belongs is Belongs.OLD:
            return
        if belongs is Belongs.NEW:
            self._restart()
        with self._lock:
            self._playback.observe_user(message.first_sample, samples, first_ns, time.monotonic_ns())
        self._advance()

    def _restart(self) -> None:
        self.get_logger().warning(
            "user/audio_raw began anew at sample 0: capture was started again; "
            "a new conversation begins, what was said is interrupted"
        )
        with self._lock:
            feed = self._open_file() if self._file is not None else self._queue or NoSpeech()
            chunks = self._playback.restart(feed)
        self._announce_cut_at_start(chunks)

    def _announce_cut_at_start(self, chunks: list[PlannedChunk]) -> None:
        for chunk in chunks:
            self._publish_planned(chunk, time.monotonic_ns())

    def _advance(self) -> None:
        with self._lock:
            planned, heard = self._playback.advance(time.monotonic_ns())
            spoken = self._playback.take_spoken()
        for chunk in planned:
            self._publish_planned(chunk, self._playback.clock.monotonic_ns(chunk.first_sample))
        for block in heard:
            self._publish_heard(block)
        for utterance in spoken:
            self._tell_spoken(utterance)
        if self._file is not None and self._speech.has_ended and not self._has_said_end:
            self._has_said_end = True
            self.get_logger().info(f"{self.config.file} is planned to its end; silence follows")

    def _announce(self, chunks: list[PlannedChunk]) -> None:
        for chunk in chunks:
            self._publish_planned(chunk, self._playback.clock.monotonic_ns(chunk.first_sample))
        self._advance()

    def _tell_spoken(self, spoken: Spoken) -> None:
        if spoken.outcome is Outcome.FAILED:
            self.get_logger().error(spoken.message)
        if spoken.utterance_id in self._goals:
            self._goals[spoken.utterance_id][1].set_result(spoken)

    def _publish_planned(self, chunk: PlannedChunk, first_ns: int) -> None:
        self._planned.publish(
            PlannedAudio(
                header=self.header(first_ns, "loudspeaker"),
                sample_rate=SAMPLE_RATE_HZ,
                first_sample=chunk.first_sample,
                revision=chunk.revision,
                samples=array("h", chunk.samples.tobytes()),
            )
        )

    def _publish_heard(self, block: HeardBlock) -> None:
        if self._writer is not None:
            self._writer.write(block.samples)
        self._heard.publish(
            AudioChunk(
                header=self.header(block.monotonic_ns, "loudspeaker"),
                sample_rate=SAMPLE_RATE_HZ,
                first_sample=block.first_sample,
                samples=array("h", block.samples.tobytes()),
            )
        )


def _destroy_action_server(server: ActionServer) -> bool:
    server.destroy()
    return True


def main() -> int:
    """Run the node until a signal."""
    return run([PlaybackNode])
