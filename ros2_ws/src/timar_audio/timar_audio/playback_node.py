"""Playback node: the playback component with a loudspeaker and the action `speak`."""

from __future__ import annotations

import functools
import time
from typing import Any

import numpy as np
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from timar_common.base_node import run
from timar_common.component_node import ComponentNode
from timar_common.diagnostics import Level, Report
from timar_msgs.action import Speak

from timar_audio.loudspeaker import Loudspeaker
from timar_audio.page_sound import PageLoudspeaker
from timar_audio.page_topic_node import read_page_sound, voice_message
from timar_audio.playback_component import PlaybackComponent
from timar_audio.speech import SpeechOutcome, Spoken
from timar_audio.subscribers import StartCondition
from timar_audio.utterance_journal import UtteranceJournal, journal_path

_FEEDBACK_S = 0.1
_REOPEN_S = 0.5
_PAGE_WATCH_S = 0.2
_CLOCK_TOPIC = "user/audio_raw"


class PlaybackNode(ComponentNode):
    """Runs `PlaybackComponent` on ROS 2; the loudspeaker has a thread of its own."""

    component_type = PlaybackComponent
    component: PlaybackComponent

    def build(self) -> None:
        """Make the component and offer the action, if utterances are what is said."""
        self._goals: dict[str, Any] = {}
        self._loudspeaker: Loudspeaker | None = None
        self._page: PageLoudspeaker | None = None
        self._failure = ""
        self._has_joined = False
        super().build()
        self.component.on_spoken = self._finish_goal
        if self.component.queue is not None:
            self._remember_utterances()
            self._offer_speech()
        if self.config.sink == "browser":
            self._voice_publisher = self.create_topic_publisher("station/voice")
            self.create_topic_subscription("station/sound", self._play_on_page)
            self.create_steady_timer(_PAGE_WATCH_S, self._watch_page)

    def subscribe_input(self, topic_name: str) -> None:
        """Leave out the clock's topic, which `start` joins."""
        if topic_name != _CLOCK_TOPIC:
            super().subscribe_input(topic_name)

    def start(self) -> None:
        """Open the sink and join the clock, a file as soon as it has its subscribers.

        Who has not matched yet misses what is planned and heard. Capture waits for this node's subscription,
        so that a conversation from files begins when everybody receives it.
        """
        super().start()
        if self.config.sink == "speaker":
            self._open_loudspeaker()
        if self.config.sink == "browser":
            self._page = PageLoudspeaker(self.component.playback, self.config.page_buffer_ms)
        if self.config.source != "file":
            self._join()
            return
        wanted = {
            "agent/audio": (self.publishers_by_topic["agent/audio"], self.config.wait_for_subscribers),
            "agent/audio_planned": (
                self.publishers_by_topic["agent/audio_planned"], self.config.wait_for_plan_subscribers,
            ),
        }  # fmt: skip
        if self._page is not None and self.config.wait_for_page:
            wanted["station/voice"] = (self, 1)
        self._condition = StartCondition(wanted, self.config.wait_timeout_s, time.monotonic_ns())
        self.create_steady_timer(0.02, self._join_when_received)

    def report(self) -> Report:
        """Add what the loudspeaker reports."""
        report = super().report()
        if self._loudspeaker is not None or self._page is not None:
            speaker = self._loudspeaker.report() if self._loudspeaker else self._page.report(self.now_ns())
            report.values |= speaker.values
            report.worsen(speaker.level, speaker.message)
        if self._failure:
            report.worsen(Level.ERROR, self._failure)
        return report

    def _join(self) -> None:
        if not self._has_joined:
            self._has_joined = True
            super().subscribe_input(_CLOCK_TOPIC)

    def _join_when_received(self) -> None:
        if not self._has_joined and self._condition.is_met(time.monotonic_ns()):
            if self._condition.warning:
                self.get_logger().warning(self._condition.warning)
            self._join()

    # The loudspeaker.

    def _open_loudspeaker(self) -> None:
        self._loudspeaker = Loudspeaker(self.config, self.component.playback, self.host.lock)
        self.get_logger().info(self._loudspeaker.open())
        self.component.playback.has_loudspeaker = True
        self.run_in_thread(self._write_to_loudspeaker, "loudspeaker")

    def _write_to_loudspeaker(self) -> None:
        speaker = self._loudspeaker
        while not self.ending.is_set():
            try:
                speaker.write()
            except OSError as error:
                self._failure = str(error)
                self.get_logger().error(self._failure)
                self._reopen(speaker)
        speaker.close()

    def _reopen(self, speaker: Loudspeaker) -> None:
        """Look for a loudspeaker that is gone until it is back; meanwhile nobody hears the agent."""
        speaker.close()
        while not self.ending.wait(_REOPEN_S):
            try:
                said = speaker.open()
            except OSError:
                continue  # still gone: that was logged when it went, and diagnostics repeat it
            self._failure = ""
            self.get_logger().info(f"{said}; it is back")
            return

    # The browser's page.

    def _play_on_page(self, message: Any) -> None:
        sound = read_page_sound(self, message)
        with self.host.lock:
            self.component.playback.has_loudspeaker = True
            first_frame, samples = self._page.follow(sound, self.now_ns())
        if samples.size:
            self._voice_publisher.publish(voice_message(self, sound, first_frame, samples))

    def get_subscription_count(self) -> int:
        """Return how many pages play the voice, as a publisher does for `StartCondition`."""
        return int(self._page.is_playing(self.now_ns()))

    def _watch_page(self) -> None:
        """While no page plays, nobody hears an utterance; a recording goes on as with sink null."""
        with self.host.lock:
            is_heard = self._page.is_playing(self.now_ns()) or self.component.queue is not None
            self.component.playback.has_loudspeaker = is_heard

    # The action `speak`.

    def _remember_utterances(self) -> None:
        try:
            journal = UtteranceJournal(journal_path(self.get_namespace()))
        except OSError as error:
            self.get_logger().warning(f"utterances are not remembered across a crash: {error}")
            return
        self.component.journal = journal
        self._owned.append((_close_journal, journal))

    def _offer_speech(self) -> None:
        server = ActionServer(
            self,
            Speak,
            "speak",
            execute_callback=_end_goal,  # Never called as it stands: `_finish_goal` gives each its own.
            goal_callback=self._on_goal,
            handle_accepted_callback=self._on_accepted,
            cancel_callback=self._on_cancel,
        )
        self._owned.append((_destroy_action_server, server))
        self.create_steady_timer(_FEEDBACK_S, self._publish_feedback)

    def _on_goal(self, goal: Any) -> GoalResponse:
        if not self.is_active:
            return GoalResponse.REJECT
        try:
            if goal.utterance_id in self._goals:
                raise ValueError(f"utterance_id {goal.utterance_id!r} is being said already")
            samples = np.frombuffer(goal.samples, np.int16)
            with self.host.lock:
                self.component.open_utterance(
                    goal.utterance_id, goal.sample_rate, samples, time.monotonic_ns(), list(goal.word_starts)
                )
        except ValueError as error:
            self.host.bad_messages += 1
            self.get_logger().error(f"speak: {error}", throttle_duration_sec=5.0)
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _on_accepted(self, handle: Any) -> None:
        # It is executed when it is over and has a result at once. A callback that awaits the end would make
        # rclpy's EventsExecutor spin: with 9.1 it resumes a pending coroutine over and over, a whole core.
        self._goals[handle.request.utterance_id] = handle
        self.host.tick()

    def _on_cancel(self, handle: Any) -> CancelResponse:
        self.host.call(self.component.cancel, handle.request.utterance_id)
        return CancelResponse.ACCEPT

    def _finish_goal(self, spoken: Spoken) -> None:
        if (handle := self._goals.pop(spoken.utterance_id, None)) is not None:
            handle.execute(functools.partial(_end_goal, spoken))

    def _publish_feedback(self) -> None:
        queue = self.component.queue
        for utterance_id, handle in self._goals.items():
            if handle.is_active:
                handle.publish_feedback(
                    Speak.Feedback(
                        samples_heard=queue.samples_heard(utterance_id), samples_wanted=queue.samples_wanted
                    )
                )


def _end_goal(spoken: Spoken, handle: Any) -> Any:
    """Tell a goal's client how its utterance ended."""
    if spoken.outcome is SpeechOutcome.FINISHED:
        handle.succeed()
    elif handle.is_cancel_requested:
        handle.canceled()
    else:
        handle.abort()
    return Speak.Result(
        outcome=int(spoken.outcome), samples_heard=spoken.samples_heard, message=spoken.message
    )


def _close_journal(journal: UtteranceJournal) -> bool:
    journal.close()
    return True


def _destroy_action_server(server: ActionServer) -> bool:
    server.destroy()
    return True


def main() -> int:
    """Run the node until a signal."""
    return run([PlaybackNode])
