"""A head that answers: when the user has spoken, an answer is synthesised and said, and he may interrupt.

    make run ARGS="..."                                # the head, in one terminal (see docs/dialogue.md)
    python examples/02_a_head_that_talks.py            # in another: canned lines, spoken by espeak-ng
    python examples/02_a_head_that_talks.py --server http://localhost:8000/v1 --model NAME
    python examples/02_a_head_that_talks.py --piper en_US-lessac-medium.onnx

A server is any that speaks OpenAI's chat completions and takes sound: it is given what the user said as WAV.
"""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import json
import queue
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import wave
from array import array
from typing import Any, Protocol

import numpy as np
import rclpy
from rclpy.action import ActionClient
from rclpy.node import Node
from timar_common.base_node import message_type, qos_of
from timar_common.stream import SampleStream
from timar_common.topics import TOPICS
from timar_msgs.action import Speak
from timar_msgs.msg import SpeechChunk, TurnEvent

SAMPLE_RATE_HZ = 16_000
LONGEST_TURN_S = 30
CHUNK_S = 0.25
LINES = (
    "I see. Tell me more about that.",
    "That is interesting. What happened then?",
    "I would not have thought so. You may interrupt me whenever you like, even in the middle of a long "
    "sentence like this one, and I will stop at once and listen to you.",
    "Mhm. And how did that feel?",
)
INSTRUCTION = "You are a friendly robot head. Answer what you hear in one or two short spoken sentences."
OUTCOMES = {0: "said", 1: "cancelled", 2: "interrupted", 3: "failed"}


class Answers(Protocol):
    """Where answers come from."""

    def answer(self, heard: np.ndarray) -> str:
        """Return what to say after hearing (n,) int16 samples of the user at 16 kHz."""


class CannedLines:
    """Say the same few lines again and again."""

    def __init__(self) -> None:
        self._lines = itertools.cycle(LINES)

    def answer(self, heard: np.ndarray) -> str:
        """Return the next line."""
        return next(self._lines)


class ChatServer:
    """Ask a server that speaks OpenAI's chat completions, with the user's sound as input."""

    def __init__(self, url: str, model: str, key: str, timeout_s: float = 30.0) -> None:
        self._url, self._model, self._key, self._timeout_s = url.rstrip("/"), model, key, timeout_s

    def answer(self, heard: np.ndarray) -> str:
        """Return the server's answer.

        Raises:
            OSError: The server cannot be reached or refuses.
            ValueError: What it answers is not a chat completion.
        """
        sound = {"data": base64.b64encode(wav_of(heard)).decode(), "format": "wav"}
        content = [{"type": "input_audio", "input_audio": sound}]
        messages = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": content}]
        request = urllib.request.Request(
            f"{self._url}/chat/completions",
            json.dumps({"model": self._model, "messages": messages, "max_tokens": 120}).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"},
        )
        with urllib.request.urlopen(request, timeout=self._timeout_s) as response:
            answered = json.load(response)
        try:
            return str(answered["choices"][0]["message"]["content"])
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"{self._url} did not answer with a chat completion: {answered}") from error


def synthesise(text: str, voice: str, piper: str) -> tuple[int, np.ndarray]:
    """Return rate [Hz] and int16 samples of a spoken text.

    Raises:
        OSError: The synthesiser is not installed or fails.
    """
    command = (
        ["piper", "--model", piper, "--output_file", "-"] if piper else ["espeak-ng", "--stdout", "-v", voice]
    )
    if shutil.which(command[0]) is None:
        raise OSError(
            f"there is no {command[0]} here; install it (apt install espeak-ng, or pip install piper-tts)"
        )
    done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=60)
    if done.returncode or not done.stdout:
        raise OSError(f"{command[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    with wave.open(io.BytesIO(done.stdout)) as file:
        # espeak-ng writes its header before it knows the length, so the rest is taken as it is.
        return file.getframerate(), np.frombuffer(file.readframes(len(done.stdout)), np.int16)


def wav_of(samples: np.ndarray) -> bytes:
    """Return samples at 16 kHz as a WAV file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(samples.tobytes())
    return out.getvalue()


class TalkingHead(Node):
    """Answer each speech turn of the user that took the floor; a new turn of his makes an answer stale."""

    def __init__(self, answers: Answers, voice: str, piper: str) -> None:
        super().__init__("talking_head")
        self._answers, self._voice, self._piper = answers, voice, piper
        self._heard = SampleStream(capacity=(LONGEST_TURN_S + 10) * SAMPLE_RATE_HZ)
        self._user_turn = -1
        self._was_backchannel = False
        self._said = 0
        self._wanted = threading.Condition()
        self._room = 0
        self._work: queue.Queue[tuple[int, np.ndarray]] = queue.Queue(maxsize=1)
        self._speak = ActionClient(self, Speak, "speak")
        self._speech = self.create_publisher(SpeechChunk, "agent/speech", qos_of(TOPICS["agent/speech"]))
        for name, callback in (("user/audio", self._on_audio), ("turn_events", self._on_event)):
            topic = TOPICS[name]
            self.create_subscription(message_type(topic.type_name), name, callback, qos_of(topic))
        threading.Thread(target=self._answer_all, daemon=True).start()

    def _on_audio(self, message: Any) -> None:
        try:
            self._heard.push(message.first_sample, np.frombuffer(message.samples, np.int16))
        except ValueError as error:
            self.get_logger().error(f"user/audio: {error}", throttle_duration_sec=5.0)

    def _on_event(self, event: Any) -> None:
        if event.speaker != TurnEvent.USER:
            return
        if event.kind == TurnEvent.START:
            self._user_turn, self._was_backchannel = event.speech_turn, False
        elif event.kind == TurnEvent.BACKCHANNEL:
            self._was_backchannel = True
        elif event.kind == TurnEvent.END and not self._was_backchannel:
            first = max(event.first_sample, event.end_sample - LONGEST_TURN_S * SAMPLE_RATE_HZ)
            self._ask(event.speech_turn, self._heard.read(first, event.end_sample))

    def _ask(self, turn: int, heard: np.ndarray) -> None:
        """Hand a turn to the worker; an older one that still waits is forgotten."""
        try:
            self._work.get_nowait()
        except queue.Empty:
            self.get_logger().debug("no older turn waits")
        self._work.put((turn, heard))

    def _answer_all(self) -> None:
        while True:
            turn, heard = self._work.get()
            try:
                text = self._answers.answer(heard)
                rate_hz, samples = synthesise(text, self._voice, self._piper)
            except (OSError, ValueError, subprocess.TimeoutExpired) as error:
                self.get_logger().error(f"no answer: {error}")
                continue
            if turn != self._user_turn:
                self.get_logger().info("the user speaks again; the answer is dropped")
                continue
            self.get_logger().info(f"> {text}")
            self._say(rate_hz, samples)

    def _say(self, rate_hz: int, samples: np.ndarray) -> None:
        """Send an utterance in chunks, no faster than it is wanted."""
        self._said += 1
        name = f"answer-{self._said}"
        over = threading.Event()
        self._room = 0
        goal = Speak.Goal(utterance_id=name, sample_rate=rate_hz)
        sent = self._speak.send_goal_async(goal, feedback_callback=self._on_feedback)
        sent.add_done_callback(lambda future: self._on_goal(future.result(), over))
        chunks = np.array_split(samples, max(1, round(samples.size / (CHUNK_S * rate_hz))))
        for number, chunk in enumerate(chunks, start=1):
            needed = chunk.size * SAMPLE_RATE_HZ // rate_hz + 1
            with self._wanted:
                if not self._wanted.wait_for(lambda n=needed: over.is_set() or self._room >= n, timeout=30.0):
                    self.get_logger().error("playback wants no more speech; is it running?")
                    return
                self._room -= needed
            if over.is_set():
                return
            self._speech.publish(
                SpeechChunk(
                    utterance_id=name,
                    sample_rate=rate_hz,
                    is_last=number == len(chunks),
                    samples=array("h", chunk.tobytes()),
                )
            )

    def _on_feedback(self, message: Any) -> None:
        with self._wanted:
            self._room = message.feedback.samples_wanted
            self._wanted.notify_all()

    def _on_goal(self, handle: Any, over: threading.Event) -> None:
        if handle.accepted:
            handle.get_result_async().add_done_callback(
                lambda future: self._on_result(future.result().result, over)
            )
        else:
            self.get_logger().error("playback refused the answer; its log says why")
            self._end(over)

    def _on_result(self, result: Any, over: threading.Event) -> None:
        heard_s = result.samples_heard / SAMPLE_RATE_HZ
        self.get_logger().info(f"{OUTCOMES[result.outcome]} after {heard_s:.2f} s {result.message}")
        self._end(over)

    def _end(self, over: threading.Event) -> None:
        with self._wanted:
            over.set()
            self._wanted.notify_all()


def main() -> int:
    """Answer until Ctrl-C."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--server", default="", help="base URL of a server, for example http://localhost:8000/v1"
    )
    parser.add_argument("--model", default="", help="the server's model")
    parser.add_argument("--key", default="none", help="the server's API key")
    parser.add_argument("--voice", default="en", help="espeak-ng's voice (default: en)")
    parser.add_argument("--piper", default="", help="a voice file of Piper; then Piper speaks")
    arguments = parser.parse_args(rclpy.utilities.remove_ros_args(sys.argv)[1:])
    answers: Answers = CannedLines()
    if arguments.server:
        answers = ChatServer(arguments.server, arguments.model, arguments.key)
    rclpy.init()
    node = TalkingHead(answers, arguments.voice, arguments.piper)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
