"""Dialogue node: hears `user/audio` and `turn_events`, answers by the action `speak`."""

from __future__ import annotations

import threading
import time
from array import array
from typing import Any, ClassVar

import numpy as np
from rclpy.action import ActionClient
from timar_common.base_node import BaseNode, run
from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.diagnostics import Level, Report
from timar_common.restarts import Belongs, ConversationWatch
from timar_msgs.action import Speak
from timar_msgs.msg import (
    AgentIntent,
    Gesture,
    GestureRequest,
    RecognizedWords,
    SpeechChunk,
    TurnEvent,
    VoiceActivity,
)

from timar_dialogue.config import DialogueConfig
from timar_dialogue.conversation import AnswerOutcome, Conversation, Intention, SpokenUtterance
from timar_dialogue.dialogues import Act, DialogueError, make_dialogue
from timar_dialogue.recognisers import make_recogniser
from timar_dialogue.voices import Speech, VoiceError, make_voice

CHUNK_S = 0.2
SILENT_S = 2.0
"""Playback that says nothing about an utterance for so long is gone [s]."""
STALLED_S = 15.0
"""Playback that wants no more for so long has stopped [s]."""
_KINDS = {
    Act.NOD: Gesture.NOD,
    Act.SHAKE: Gesture.SHAKE,
    Act.TILT: Gesture.TILT,
    Act.LOOK_AWAY: Gesture.LOOK_AWAY,
    Act.LOOK_BACK: Gesture.LOOK_BACK,
}


class DialogueNode(BaseNode):
    """Runs a `Conversation`; it reaches the head by topics and the action `speak` only."""

    NAME: ClassVar[str] = "dialogue"
    Config: ClassVar[type] = DialogueConfig

    def build(self) -> None:
        """Make the plugins, topics and the action's client."""
        config = self.config
        try:
            dialogue = make_dialogue(config)
            voice = make_voice(config, self.get_logger().warning)
        except (DialogueError, VoiceError) as error:
            raise OSError(str(error)) from error
        self.conversation = Conversation(
            config, self, lambda: make_recogniser(config, self.get_logger().warning), dialogue, voice
        )
        self._watch = ConversationWatch()
        self._backchannel: int | None = None
        self._acts = 0
        self._speak = ActionClient(self, Speak, "speak")
        self._owned.append((_destroy_client, self._speak))
        self._speech = self.create_topic_publisher("agent/speech")
        self._intent = self.create_topic_publisher("agent/intent_request")
        self._gesture = self.create_topic_publisher("gesture")
        self._user_words = self.create_topic_publisher("user/words")
        self._own_words = self.create_topic_publisher("agent/words")
        self.create_topic_subscription("user/audio", self._on_audio)
        self.create_topic_subscription("voice_activity", self._on_activity)
        self.create_topic_subscription("turn_events", self._on_event)

    def start(self) -> None:
        """Listen and answer from now on."""
        self.conversation.start()

    def stop(self) -> None:
        """End the threads of the conversation."""
        self.conversation.close()

    def report(self) -> Report:
        """Return the conversation's health."""
        return self.conversation.report()

    # What comes.

    def _on_audio(self, message: Any) -> None:
        samples = np.frombuffer(message.samples, np.int16)
        belongs = self._watch.observe(message.first_sample, samples.size, self.monotonic_ns(message.header))
        if belongs is Belongs.NEW:
            self.conversation.restart()
        if belongs is not Belongs.OLD:
            self.conversation.hear(message.first_sample, samples)

    def _on_activity(self, message: Any) -> None:
        if message.speaker == VoiceActivity.USER:
            self.conversation.observe_activity(
                message.first_sample + message.samples, message.samples, is_voiced=message.probability >= 0.5
            )

    def _on_event(self, event: Any) -> None:
        if event.speaker != TurnEvent.USER:
            return
        if event.kind == TurnEvent.START:
            self.conversation.start_turn(event.speech_turn, event.first_sample)
        elif event.kind == TurnEvent.BACKCHANNEL:
            self.conversation.drop_turn(event.speech_turn)
        elif event.kind == TurnEvent.END:
            self.conversation.end_turn(event.speech_turn, event.first_sample, event.end_sample)

    # What the conversation asks of the head.

    def say(self, utterance_id: str) -> SpokenUtterance:
        """Begin an utterance."""
        return _GoalUtterance(self._speak, self._speech, utterance_id, self.ending)

    def act(self, act: Act) -> None:
        """Ask for a gesture."""
        self._acts += 1
        gesture = Gesture(gesture_id=f"dialogue-{time.monotonic_ns()}-{self._acts}", kind=_KINDS[act])
        self._gesture.publish(GestureRequest(gesture=gesture))

    def intend(self, intention: Intention, hold_s: float) -> None:
        """Set the agent's intent."""
        self._intent.publish(AgentIntent(intent=int(intention), hold_s=hold_s))

    def report_user_words(self, text: str, first_sample: int, end_sample: int, *, is_final: bool) -> None:
        """Publish what was understood."""
        self._user_words.publish(self._words("microphone", text, first_sample, end_sample, is_final))

    def report_own_words(self, text: str, samples: int) -> None:
        """Publish what was heard of an answer."""
        self._own_words.publish(self._words("loudspeaker", text, 0, samples, True))

    def _words(self, frame_id: str, text: str, first_sample: int, end_sample: int, is_final: bool) -> Any:
        return RecognizedWords(
            header=self.header(time.monotonic_ns(), frame_id),
            first_sample=first_sample,
            end_sample=end_sample,
            text=text,
            is_final=is_final,
        )

    def log(self, level: Level, text: str) -> None:
        """Write a line."""
        if level is Level.ERROR:
            self.get_logger().error(text)
        else:
            self.get_logger().warning(text)


class _GoalUtterance:
    """A goal of `speak` whose sound goes out as it is wanted; it gives up when playback is silent."""

    def __init__(self, client: ActionClient, speech: Any, utterance_id: str, ending: threading.Event) -> None:
        self._speech, self._id, self._ending = speech, utterance_id, ending
        self._changed = threading.Condition()
        self._room = 0
        self._seen_s = time.monotonic()
        self._handle: Any = None
        self._result: tuple[AnswerOutcome, int] | None = None
        self._heard = 0
        self._has_sent_last = False
        if not client.wait_for_server(timeout_sec=SILENT_S):
            self._result = (AnswerOutcome.FAILED, 0)
            return
        goal = client.send_goal_async(
            Speak.Goal(utterance_id=utterance_id), feedback_callback=self._on_feedback
        )
        goal.add_done_callback(self._on_goal)

    def send(self, speech: Speech) -> bool:
        """Send sound in chunks, no more than is wanted."""
        pieces = max(1, round(speech.samples.size / (CHUNK_S * speech.rate_hz)))
        for chunk in np.array_split(speech.samples, pieces):
            if not self._wait_for_room(chunk.size * SAMPLE_RATE_HZ // speech.rate_hz + 1):
                return False
            self._publish(speech.rate_hz, chunk)
        return True

    def finish(self) -> tuple[AnswerOutcome, int]:
        """Send the end and wait for the result."""
        if self._result is None and not self._has_sent_last:
            self._has_sent_last = True
            self._publish(SAMPLE_RATE_HZ, np.zeros(0, np.int16), is_last=True)
        return self._wait_for_result()

    def cancel(self) -> tuple[AnswerOutcome, int]:
        """Withdraw it and wait for the result."""
        if self._handle is not None and self._result is None:
            self._handle.cancel_goal_async()
        return self._wait_for_result()

    def _publish(self, rate_hz: int, samples: Any, *, is_last: bool = False) -> None:
        self._speech.publish(
            SpeechChunk(
                utterance_id=self._id,
                sample_rate=rate_hz,
                is_last=is_last,
                samples=array("h", samples.tobytes()),
            )
        )

    def _wait_for_room(self, needed: int) -> bool:
        deadline_s = time.monotonic() + STALLED_S
        with self._changed:
            while self._room < needed and not self._is_given_up():
                if time.monotonic() > deadline_s:
                    self._result = (AnswerOutcome.FAILED, self._heard)
                self._changed.wait(0.1)
            self._room -= needed
            return self._result is None

    def _wait_for_result(self) -> tuple[AnswerOutcome, int]:
        with self._changed:
            while not self._is_given_up():
                self._changed.wait(0.1)
            assert self._result is not None
            return self._result

    def _is_given_up(self) -> bool:
        """Whether it is over: by its result, or because playback or this node is gone."""
        is_gone = time.monotonic() - self._seen_s > SILENT_S or self._ending.is_set()
        if self._result is None and is_gone:
            self._result = (AnswerOutcome.FAILED, self._heard)
        return self._result is not None

    def _on_feedback(self, message: Any) -> None:
        with self._changed:
            self._seen_s = time.monotonic()
            self._room = message.feedback.samples_wanted
            self._heard = message.feedback.samples_heard
            self._changed.notify_all()

    def _on_goal(self, future: Any) -> None:
        handle = future.result()
        with self._changed:
            self._seen_s, self._handle = time.monotonic(), handle
            if not handle.accepted:
                self._result = (AnswerOutcome.FAILED, 0)
            self._changed.notify_all()
        if handle.accepted:
            handle.get_result_async().add_done_callback(self._on_result)

    def _on_result(self, future: Any) -> None:
        result = future.result().result
        with self._changed:
            if self._result is None:
                self._result = (AnswerOutcome(result.outcome), result.samples_heard)
            self._changed.notify_all()


def _destroy_client(client: ActionClient) -> bool:
    client.destroy()
    return True


def main() -> int:
    """Run the node until a signal."""
    return run([DialogueNode])
