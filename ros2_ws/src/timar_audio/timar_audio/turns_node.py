"""Who speaks and who holds the floor: voice_activity, turn_events and floor from both voices."""

from __future__ import annotations

import collections
import dataclasses
import functools
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from timar_common.base_node import BaseNode, run
from timar_common.clock import NOMINAL_NS_PER_SAMPLE
from timar_common.diagnostics import Level, Percentiles, Report
from timar_common.restarts import Belongs, ConversationWatch
from timar_msgs.msg import FloorState, TurnEvent, VoiceActivity

from timar_audio import floor
from timar_audio.activity import Activity
from timar_audio.blocks import check_block
from timar_audio.end_of_turn import EndOfTurn, load_end_of_turn
from timar_audio.floor import Kind, Speaker
from timar_audio.levels import SILENCE_DBFS
from timar_audio.motion_noise import MotionGate, read_motion_noise, speeds_of
from timar_audio.turns import Decisions, Turns
from timar_audio.turns_config import TurnsConfig

_FRAME_IDS = {Speaker.USER: "microphone", Speaker.AGENT: "loudspeaker"}


@dataclasses.dataclass
class _Newest:
    """Where the newest block of a voice lies, on both clocks."""

    sample: int = 0
    monotonic_ns: int = 0


class TimedModel:
    """A model of the end of turns, and how long it thinks."""

    def __init__(self, model: EndOfTurn, took_s: Percentiles) -> None:
        self._model, self._took_s = model, took_s

    def probability(self, samples: np.ndarray) -> float:
        """Ask the model."""
        began_s = time.monotonic()
        probability = self._model.probability(samples)
        self._took_s.add(time.monotonic() - began_s)
        return probability


class TurnsNode(BaseNode):
    """Feed both voices to the rules, publish what they decide."""

    NAME: ClassVar[str] = "turns"
    Config: ClassVar[type] = TurnsConfig

    def build(self) -> None:
        """Make the core and the topics."""
        self._model_s = Percentiles()
        self._turns = Turns(self.config, self._make_model())
        self._gate: MotionGate | None = None
        if self.config.motion_noise_file:
            self._gate = MotionGate(read_motion_noise(Path(self.config.motion_noise_file)))
            self.create_topic_subscription("joint_states", self._on_joint_states)
        self._gated = 0
        self._waiting: collections.deque[tuple[Any, int]] = collections.deque()
        self._watch = ConversationWatch()
        self._newest = {speaker: _Newest() for speaker in Speaker}
        self._delays_s = {kind: Percentiles() for kind in Kind}
        self._counts = {kind: 0 for kind in Kind}
        self._activity = self.create_topic_publisher("voice_activity")
        self._events = self.create_topic_publisher("turn_events")
        self._floor = self.create_topic_publisher("floor")
        self.create_topic_subscription("user/audio", self._on_user_audio)
        self.create_topic_subscription("agent/audio", functools.partial(self._on_audio, Speaker.AGENT))

    def _make_model(self) -> EndOfTurn | None:
        if not self.config.end_of_turn:
            return None
        return TimedModel(load_end_of_turn(self.config.end_of_turn), self._model_s)

    def report(self) -> Report:
        """Count events and losses, and say how long decisions took."""
        report = Report(values={"floor": self._turns.rules.floor.state.name})
        report.values["clock_restarts"] = self._watch.restarts
        if self._gate is not None:
            report.values["motion_gated_blocks"] = self._gated
        for kind, count in self._counts.items():
            report.values[f"{kind.name.lower()}s"] = count
            for name, delay_s in self._delays_s[kind].summary().items():
                report.values[f"{kind.name.lower()}_decision_delay_{name}_ms"] = 1000 * delay_s
        for name, took_s in self._model_s.summary().items():
            report.values[f"end_of_turn_{name}_ms"] = 1000 * took_s
        for speaker, voice in self._turns.voices.items():
            name = speaker.name.lower()
            report.values[f"{name}_samples"] = voice.counters.received
            report.values[f"{name}_lost_samples"] = voice.counters.lost
            report.values[f"{name}_repeated_samples"] = voice.counters.repeated
            if not voice.is_started:
                report.worsen(Level.WARN, f"no sound of the {name} has come yet")
        return report

    def _on_joint_states(self, message: Any) -> None:
        self._gate.observe(speeds_of(message.name, message.velocity), self.monotonic_ns(message.header))
        self._hear_waiting()

    def _on_user_audio(self, message: Any) -> None:
        if self._gate is None:
            self._on_audio(Speaker.USER, message)
            return
        self._waiting.append((message, time.monotonic_ns()))
        self._hear_waiting()

    def _hear_waiting(self) -> None:
        """Take the user's blocks whose joint speeds are known by now, and those that waited long enough."""
        wait_ns = self.config.motion_wait_ms * 1_000_000
        while self._waiting:
            message, since_ns = self._waiting[0]
            is_known = self._gate.is_known(self.monotonic_ns(message.header))
            if not is_known and time.monotonic_ns() - since_ns < wait_ns:
                return
            self._waiting.popleft()
            self._on_audio(Speaker.USER, message)

    def _motion_floor_dbfs(self, speaker: Speaker, heard_ns: int) -> float:
        """Return how loud a block must be to be more than the head's own motion."""
        if self._gate is None or speaker is Speaker.AGENT:
            return SILENCE_DBFS
        floor_dbfs = self._gate.floor_dbfs(heard_ns)
        self._gated += floor_dbfs > self.config.min_level_dbfs
        return floor_dbfs

    def _on_audio(self, speaker: Speaker, message: Any) -> None:
        check_block(message.sample_rate, message.first_sample, len(message.samples), message.filled_samples)
        heard_ns = self.monotonic_ns(message.header)
        samples = np.frombuffer(message.samples, np.int16)
        belongs = self._watch.observe(message.first_sample, samples.size, heard_ns)
        if belongs is Belongs.OLD:
            return
        if belongs is Belongs.NEW:
            self._restart()
        floor_dbfs = self._motion_floor_dbfs(speaker, heard_ns)
        decisions = self._turns.push(
            speaker, message.first_sample, samples, message.filled_samples, floor_dbfs
        )
        self._newest[speaker] = _Newest(message.first_sample, heard_ns)
        self._publish(speaker, decisions)

    def _restart(self) -> None:
        """End every turn and begin anew with the counter; turns are counted on."""
        self.get_logger().warning(
            "the sample counter began anew: capture was started again; every turn ends, "
            "a new conversation begins"
        )
        self._publish(Speaker.USER, self._turns.finish())
        self._turns = self._turns.anew()
        self._newest = {speaker: _Newest() for speaker in Speaker}

    def _publish(self, speaker: Speaker, decisions: Decisions) -> None:
        for who, frame in decisions.activity:
            self._publish_activity(who, frame)
        for event in decisions.events:
            self._publish_event(event)
        for change in decisions.floor:
            self._floor.publish(
                FloorState(
                    header=self.header(self._time_of(speaker, change.since_sample)),
                    state=int(change.state),
                    since_sample=change.since_sample,
                )
            )

    def _time_of(self, speaker: Speaker, sample: int) -> int:
        """Return when a sample was heard, from the newest block of this voice [ns]."""
        newest = self._newest[speaker]
        return newest.monotonic_ns + round((sample - newest.sample) * NOMINAL_NS_PER_SAMPLE)

    def _publish_activity(self, speaker: Speaker, frame: Activity) -> None:
        self._activity.publish(
            VoiceActivity(
                header=self.header(self._time_of(speaker, frame.first_sample), _FRAME_IDS[speaker]),
                speaker=int(speaker),
                first_sample=frame.first_sample,
                samples=frame.end_sample - frame.first_sample,
                probability=frame.probability,
                is_speaking=frame.is_speaking,
                level_dbfs=frame.level_dbfs,
            )
        )

    def _publish_event(self, event: floor.TurnEvent) -> None:
        self._counts[event.kind] += 1
        self._delays_s[event.kind].add(event.decision_delay_s)
        self._events.publish(
            TurnEvent(
                header=self.header(
                    self._time_of(event.speaker, event.event_sample), _FRAME_IDS[event.speaker]
                ),
                speaker=int(event.speaker),
                kind=int(event.kind),
                speech_turn=event.speech_turn,
                first_sample=event.first_sample,
                end_sample=event.end_sample,
                decision_delay_s=event.decision_delay_s,
            )
        )


def main() -> int:
    """Run the node until a signal."""
    return run([TurnsNode])
