"""WebSocket node: lets voice bots without ROS speak and listen through the head, by topics and `speak`."""

from __future__ import annotations

import queue
import time
from array import array
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from rclpy.action import ActionClient
from timar_common.base_node import BaseNode, run
from timar_common.diagnostics import Report
from timar_common.messages import constants
from timar_msgs.action import Speak
from timar_msgs.msg import AgentIntent, SpeechChunk, TurnEvent

from timar_websocket.address import leave_address, remove_address
from timar_websocket.config import WebsocketConfig
from timar_websocket.protocol import FLOORS, INTENTS, FloorMessage, HeadIntentMessage, TurnMessage
from timar_websocket.relay import HandOn
from timar_websocket.server import BotServer

SPEAKERS = {TurnEvent.USER: "user", TurnEvent.AGENT: "agent"}
KINDS = {
    value: name.lower()
    for name, value in reversed(constants("TurnEvent").items())
    if name not in ("USER", "AGENT")
}
"""The first name of a value counts: later ones are deprecated."""


class WebsocketNode(BaseNode):
    """Carries between `BotServer`, which has a thread of its own, and the head."""

    NAME: ClassVar[str] = "websocket"
    Config: ClassVar[type] = WebsocketConfig
    _server: BotServer | None = None

    def build(self) -> None:
        """Reach the head's topics and its action."""
        self._goals: dict[str, Any] = {}
        self._asked: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        """What the server's thread asks of the head, bounded by what its bots may have with playback."""
        self._speak = ActionClient(self, Speak, "speak")
        self._owned.append((_destroy_action_client, self._speak))
        self._speech = self.create_topic_publisher("agent/speech")
        self._intents = self.create_topic_publisher("agent/intent_request")
        self.create_topic_subscription("user/audio", self._on_user_audio)
        self.create_topic_subscription("turn_events", self._on_turn_event)
        self.create_topic_subscription("floor", self._on_floor)
        self.create_topic_subscription("agent/intent", self._on_intent)

    def start(self) -> None:
        """Open the WebSocket."""
        self._server = BotServer(self.config, self, lambda line: self.get_logger().info(line))
        self._address = self._server.open()
        path = leave_address(self._address, self.get_namespace())
        self.get_logger().info(f"voice bots reach the head at {self._address} (also in {path})")

    def stop(self) -> None:
        """Let bots go."""
        if self._server is not None:
            remove_address(self._address, self.get_namespace())
            self._server.close()
            self._server = None

    def report(self) -> Report:
        """Count bots."""
        return self._server.report() if self._server is not None else Report()

    # What the server asks, in its thread; done in the node's.

    def open_utterance(self, utterance_id: str, rate_hz: int) -> None:
        """Send a goal."""
        self._ask(lambda: self._send_goal(utterance_id, rate_hz))

    def hand_on(self, piece: HandOn) -> None:
        """Publish a piece of speech."""
        self._ask(lambda: self._publish_speech(piece))

    def cancel(self, utterance_id: str) -> None:
        """Cancel a goal."""
        self._ask(lambda: self._cancel_goal(utterance_id))

    def request_intent(self, intent: int, hold_s: float) -> None:
        """Publish a request for an intent."""
        self._ask(lambda: self._intents.publish(AgentIntent(intent=intent, hold_s=hold_s)))

    def _ask(self, work: Callable[[], None]) -> None:
        self._asked.put(work)
        # EventsExecutor of rclpy 9.1 has no guard conditions; both executors take a task from any thread.
        if (executor := self.executor) is not None:
            executor.create_task(self._do_asked)

    def _do_asked(self) -> None:
        while not self._asked.empty():
            self._asked.get()()

    def _send_goal(self, utterance_id: str, rate_hz: int) -> None:
        # A chunk that is sent before its subscription is known is lost.
        if not (self._speak.server_is_ready() and self._speech.get_subscription_count()):
            self._told(lambda server: server.on_refused(utterance_id, "the head's playback does not run"))
            return

        def on_feedback(message: Any) -> None:
            heard, wanted = message.feedback.samples_heard, message.feedback.samples_wanted
            self._told(lambda server: server.on_feedback(utterance_id, heard, wanted))

        goal = Speak.Goal(utterance_id=utterance_id, sample_rate=rate_hz)
        sent = self._speak.send_goal_async(goal, feedback_callback=on_feedback)
        sent.add_done_callback(lambda future: self._on_goal(utterance_id, future.result()))

    def _on_goal(self, utterance_id: str, handle: Any) -> None:
        if not handle.accepted:
            reason = "playback refused the utterance; its log says why"
            self._told(lambda server: server.on_refused(utterance_id, reason))
            return
        self._goals[utterance_id] = handle
        handle.get_result_async().add_done_callback(
            lambda future: self._on_result(utterance_id, future.result().result)
        )
        self._told(lambda server: server.on_accepted(utterance_id))

    def _on_result(self, utterance_id: str, result: Any) -> None:
        self._goals.pop(utterance_id, None)
        outcome, heard, message = result.outcome, result.samples_heard, result.message
        self._told(lambda server: server.on_result(utterance_id, outcome, heard, message))

    def _publish_speech(self, piece: HandOn) -> None:
        self._speech.publish(
            SpeechChunk(
                header=self.header(time.monotonic_ns(), "loudspeaker"),
                utterance_id=piece.utterance_id,
                sample_rate=piece.rate_hz,
                is_last=piece.is_last,
                samples=array("h", piece.samples.tobytes()),
            )
        )

    def _cancel_goal(self, utterance_id: str) -> None:
        # Whether it could be cancelled shows in its result.
        if (handle := self._goals.get(utterance_id)) is not None:
            handle.cancel_goal_async()

    # What the head tells.

    def _on_user_audio(self, message: Any) -> None:
        samples = np.frombuffer(message.samples, np.int16)
        self._told(lambda server: server.send_user_audio(message.first_sample, samples))

    def _on_turn_event(self, message: Any) -> None:
        told = TurnMessage(
            SPEAKERS.get(message.speaker, "agent"),
            KINDS.get(message.kind, str(message.kind)),
            message.speech_turn,
            message.first_sample,
            message.end_sample,
            message.decision_delay_s,
            message.probability,
        )
        self._told(lambda server: server.tell_all(told))

    def _on_floor(self, message: Any) -> None:
        self._told(lambda server: server.tell_all(FloorMessage(FLOORS[message.state], message.since_sample)))

    def _on_intent(self, message: Any) -> None:
        self._told(lambda server: server.tell_all(HeadIntentMessage(INTENTS[message.intent])))

    def _told(self, call: Callable[[BotServer], None]) -> None:
        if self._server is not None:
            call(self._server)


def _destroy_action_client(client: ActionClient) -> bool:
    client.destroy()
    return True


def main() -> int:
    """Run the node until a signal."""
    return run([WebsocketNode])
