"""The head as the WebSocket server sees it, without ROS: real playback, a user who does what he is told."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

import numpy as np
from timar_audio.playback_component import PlaybackComponent
from timar_audio.playback_config import PlaybackConfig
from timar_audio.speech import Spoken
from timar_common.component import Publish
from timar_common.messages import Header, constants, new
from timar_websocket.config import WebsocketConfig
from timar_websocket.protocol import TurnMessage
from timar_websocket.relay import HandOn
from timar_websocket.server import BotServer

BLOCK = 320
NS_PER_BLOCK = 20_000_000
EVENT = constants("TurnEvent")


class PlaybackHead:
    """Serves bots with a playback component of its own; use it as a context."""

    def __init__(self, **parameters: object) -> None:
        self.log: list[str] = []
        self.server = BotServer(WebsocketConfig(port=18_765, **parameters), self, self.log.append)
        self.sound: list[np.ndarray] = []
        """What was heard, block by block."""
        self.intents: list[tuple[int, float]] = []
        self.user_sound = np.zeros(BLOCK, np.int16)
        """What the user says, over and over."""
        self._component = PlaybackComponent(PlaybackConfig())
        self._component.on_spoken = self._on_spoken
        self._asked: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._goals: set[str] = set()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> PlaybackHead:
        self.address = self.server.open()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        self.server.close()

    # What the server asks.

    def open_utterance(self, utterance_id: str, rate_hz: int) -> None:
        def open_it() -> None:
            self._component.open_utterance(utterance_id, rate_hz, np.zeros(0, np.int16), time.monotonic_ns())
            self._goals.add(utterance_id)
            self.server.on_accepted(utterance_id)

        self._asked.put(open_it)

    def hand_on(self, piece: HandOn) -> None:
        message = new(
            "SpeechChunk",
            header=Header(0, "loudspeaker"),
            utterance_id=piece.utterance_id,
            sample_rate=piece.rate_hz,
            is_last=piece.is_last,
            samples=piece.samples,
            word_starts=np.zeros(0, np.uint32),
        )
        self._asked.put(
            lambda: self._take(self._component.handle("agent/speech", message, time.monotonic_ns()))
        )

    def cancel(self, utterance_id: str) -> None:
        self._asked.put(lambda: self._take(self._component.cancel(utterance_id, time.monotonic_ns())))

    def request_intent(self, intent: int, hold_s: float) -> None:
        self.intents.append((intent, hold_s))

    # What a test asks.

    def barge_in(self, turn: int = 0) -> None:
        """The user starts to speak, and takes the floor."""

        def do() -> None:
            message = new(
                "TurnEvent",
                header=Header(0, "microphone"),
                speaker=EVENT["USER"],
                kind=EVENT["INTERRUPTED"],
                speech_turn=turn,
                first_sample=0,
                end_sample=0,
                decision_delay_s=0.0,
                probability=-1.0,
            )
            self._take(self._component.handle("turn_events", message, time.monotonic_ns()))

        self.tell_turn("user", "start", turn)
        self.tell_turn("user", "interrupted", turn)
        self._asked.put(do)

    def tell_turn(self, speaker: str, kind: str, turn: int = 0) -> None:
        self.server.tell_all(TurnMessage(speaker, kind, turn, 0, 0, 0.0))

    def loud(self) -> int:
        """Return how many samples of a voice were heard."""
        return sum(int(np.count_nonzero(block)) for block in self.sound)

    def _on_spoken(self, spoken: Spoken) -> None:
        if spoken.utterance_id in self._goals:
            self._goals.remove(spoken.utterance_id)
            self.server.on_result(
                spoken.utterance_id, int(spoken.outcome), spoken.samples_heard, spoken.message
            )

    def _take(self, outputs: object) -> None:
        for output in outputs:
            if isinstance(output, Publish) and output.topic == "agent/audio":
                self.sound.append(output.message.samples)

    def _run(self) -> None:
        start_ns, blocks = time.monotonic_ns(), 0
        while not self._ending.is_set():
            while not self._asked.empty():
                self._asked.get()()
            while time.monotonic_ns() - start_ns >= (blocks + 1) * NS_PER_BLOCK:
                self._hear(blocks * BLOCK, start_ns + blocks * NS_PER_BLOCK)
                blocks += 1
            time.sleep(0.003)

    def _hear(self, first_sample: int, first_ns: int) -> None:
        place = first_sample % max(1, self.user_sound.size - BLOCK + 1)
        block = self.user_sound[place : place + BLOCK]
        message = new(
            "AudioChunk",
            header=Header(first_ns, "microphone"),
            sample_rate=16_000,
            first_sample=first_sample,
            filled_samples=0,
            samples=block,
        )
        self._take(self._component.handle("user/audio_raw", message, time.monotonic_ns()))
        self.server.send_user_audio(first_sample, block)
        if first_sample % (5 * BLOCK) == 0:
            for utterance_id in list(self._goals):
                queue_ = self._component.queue
                self.server.on_feedback(
                    utterance_id, queue_.samples_heard(utterance_id), queue_.samples_wanted
                )
