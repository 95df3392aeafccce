"""Turn taking component: voice activity, speech turns and who holds the floor, from both speakers' audio."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from timar_common.clock import NS_PER_S, SAMPLE_RATE_HZ
from timar_common.component import Component, Job, Log, Output, Publish, WorkClock
from timar_common.diagnostics import Level, Percentiles, Report
from timar_common.messages import Header, Message, new
from timar_common.restarts import Belongs

from timar_audio.activity import Activity
from timar_audio.blocks import BlockFilter, check_block
from timar_audio.end_of_turn import EndOfTurn, TimedEndOfTurn, load_end_of_turn
from timar_audio.floor import FloorDecision, Kind, Speaker, TurnEvent, UserWords
from timar_audio.intent import IntentRules
from timar_audio.levels import SILENCE_DBFS
from timar_audio.motion_noise import MotionGate, read_motion_noise, speeds_of
from timar_audio.turns import Decisions, Turns
from timar_audio.turns_config import TurnsConfig

NS_PER_SAMPLE = NS_PER_S // SAMPLE_RATE_HZ
"""Exact: 62,500 ns."""
_FRAME_IDS = {Speaker.USER: "microphone", Speaker.AGENT: "loudspeaker"}
_SPEAKERS = {"user/audio": Speaker.USER, "agent/audio": Speaker.AGENT}


@dataclasses.dataclass(frozen=True)
class EndOfTurnJob(Job):
    """A question to the end-of-turn model; it is computed beside the thread that follows the sound."""

    number: int
    """Of the user's speech turn."""
    asked_at: int
    """How far the sound had come [samples]."""
    samples: npt.NDArray[np.int16]
    is_urgent = True
    is_reset = True

    def withdraws(self, waiting: Job) -> bool:
        """Tell that nobody waits for an older question's answer."""
        return True


class TurnsComponent(Component):
    """Detect voice activity and speech turns in both audio streams and publish what was decided.

    With `motion_noise_file` the user's blocks wait for the joint speeds of their time, at most
    `motion_wait_ms`, so that the noise of the servos is not taken for speech.

    Raises:
        ValueError: The calibration or the end-of-turn model that the configuration names cannot be used.
        OSError: A file cannot be read, or a detector is not installed.
    """

    NAME = "turns"
    Config = TurnsConfig
    inputs: tuple[str, ...] = (*_SPEAKERS, "user/words", "agent/audio_planned", "agent/intent_request")
    outputs = ("voice_activity", "turn_events", "floor", "agent/intent")

    def __init__(self, config: TurnsConfig) -> None:
        self.config = config
        self._model_s = Percentiles()
        self._gate: MotionGate | None = None
        if config.motion_noise_file:
            self._gate = MotionGate(read_motion_noise(Path(config.motion_noise_file)))
            self.inputs = (*self.inputs, "joint_states")
        self._model = self._make_model()
        self.queue_capacity = 0 if self._model is None else 1
        self._question: EndOfTurnJob | None = None
        self._answers: collections.deque[tuple[EndOfTurnJob, float]] = collections.deque(maxlen=8)
        self._intent = IntentRules(config)
        self._turns = Turns(
            config,
            ask=None if self._model is None else self._ask_model,
            is_planned=lambda sample: self._intent.plan.next_speech(sample) is not None,
        )
        self._backchannel: int | None = None
        """The user's newest speech turn that was a mere back-channel."""
        self._filter = BlockFilter()
        self._user_end = 0
        """One past the user's last sample that came [samples]."""
        self._origin_ns = {speaker: 0 for speaker in Speaker}
        """When sample 0 was heard, from the newest block of each speaker [ns]."""
        self._waiting: collections.deque[tuple[Message, int]] = collections.deque()
        """The user's blocks that wait for joint speeds, and since when [ns]."""
        self._gated_blocks = 0
        self._counts = {kind: 0 for kind in Kind}
        self._delays_s = {kind: Percentiles() for kind in Kind}

    def _make_model(self) -> EndOfTurn | None:
        name = self.config.end_of_turn
        if not name:
            return None
        return TimedEndOfTurn(load_end_of_turn(name, self.config.end_of_turn_file), self._model_s)

    def _ask_model(self, number: int, asked_at: int, samples: npt.NDArray[np.int16]) -> None:
        self._question = EndOfTurnJob(number, asked_at, samples)

    def next_job(self, now_ns: int) -> Job | None:
        """Return the newest question to the end-of-turn model."""
        question, self._question = self._question, None
        return question

    def work(self, job: Job, clock: WorkClock, is_busy: Callable[[], bool]) -> Iterator[Output]:
        """Ask the end-of-turn model; its answer is taken with the next block of sound."""
        assert isinstance(job, EndOfTurnJob)
        assert self._model is not None
        self._answers.append((job, clock.call(self._model.probability, job.samples)))
        return iter(())

    def stop(self, now_ns: int) -> Iterable[Output]:
        """End every speech turn that is still going on, so that each START has its END."""
        while self._waiting:
            message, _ = self._waiting.popleft()
            yield from self._on_audio(Speaker.USER, message)
        yield from self._end_conversation()
        self._filter = BlockFilter()

    def handle(self, topic: str, message: Message, now_ns: int) -> Iterable[Output]:
        """Take a block of audio, or the joints' speeds.

        Raises:
            ValueError: The block cannot be audio of the conversation, or a joint has no speed.
        """
        if topic == "joint_states":
            assert self._gate is not None
            self._gate.observe(speeds_of(message.name, message.velocity), message.header.stamp)
            return self._process_waiting(now_ns)
        if topic == "agent/audio_planned":
            self._intent.plan.add(int(message.first_sample), message.samples, int(message.revision))
            return ()
        if topic == "user/words":
            first, end = int(message.first_sample), int(message.end_sample)
            if not 0 <= first <= end:
                raise ValueError(f"words are of samples [{first}, {end}), expected 0 <= first <= end")
            self._turns.rules.add_words(UserWords(first, end, str(message.text), bool(message.is_final)))
            return ()
        if topic == "agent/intent_request":
            self._intent.request(int(message.intent), float(message.hold_s), self._user_end)
            return self._intent_messages()
        check_block(message.sample_rate, message.first_sample, message.samples.size, message.filled_samples)
        speaker = _SPEAKERS[topic]
        if self._gate is None or speaker is Speaker.AGENT:
            return self._on_audio(speaker, message)
        self._waiting.append((message, now_ns))
        return self._process_waiting(now_ns)

    def report(self) -> Report:
        """Count events and lost audio, and say how long decisions took."""
        report = Report(values={"floor": self._turns.rules.floor.state.name})
        report.values["clock_restarts"] = self._filter.restarts
        if self._gate is not None:
            report.values["motion_gated_blocks"] = self._gated_blocks
        for kind, count in self._counts.items():
            report.values[f"{kind.name.lower()}s"] = count
            for name, delay_s in self._delays_s[kind].summary().items():
                report.values[f"{kind.name.lower()}_decision_delay_{name}_ms"] = 1000 * delay_s
        for name, took_s in self._model_s.summary().items():
            report.values[f"end_of_turn_{name}_ms"] = 1000 * took_s
        for speaker, voice in self._turns.voices.items():
            name, stream = speaker.name.lower(), voice.stream
            report.values[f"{name}_samples"] = stream.counters.received
            report.values[f"{name}_lost_samples"] = stream.counters.lost
            report.values[f"{name}_repeated_samples"] = stream.counters.repeated
            if not stream.is_started:
                report.worsen(Level.WARN, f"no audio of the {name} has come yet")
        return report

    def _process_waiting(self, now_ns: int) -> Iterable[Output]:
        """Take the user's blocks whose joint speeds are known by now, and those that waited long enough."""
        assert self._gate is not None
        wait_ns = self.config.motion_wait_ms * 1_000_000
        while self._waiting:
            message, since_ns = self._waiting[0]
            if not self._gate.is_known(message.header.stamp) and now_ns - since_ns < wait_ns:
                return
            self._waiting.popleft()
            yield from self._on_audio(Speaker.USER, message)

    def _on_audio(self, speaker: Speaker, message: Message) -> list[Output]:
        heard_ns = message.header.stamp
        belongs = self._filter.accept(speaker.name, message)
        if belongs is Belongs.OLD:
            return []
        outputs: list[Output] = []
        if belongs is Belongs.NEW:
            lost_s = self._filter.outage_ns / NS_PER_S
            text = f"capture was started again, {lost_s:.2f} s of sound are lost: every speech turn ends"
            outputs += [Log(Level.WARN, text), *self._end_conversation()]
        while self._answers:
            job, probability = self._answers.popleft()
            self._turns.rules.answer(job.number, job.asked_at, probability, self._user_end)
        decisions = self._turns.push(
            speaker,
            message.first_sample,
            message.samples,
            message.filled_samples,
            self._motion_noise_dbfs(speaker, heard_ns),
        )
        self._origin_ns[speaker] = heard_ns - message.first_sample * NS_PER_SAMPLE
        outputs += self._messages(speaker, decisions)
        if speaker is Speaker.USER:
            self._user_end = max(self._user_end, message.first_sample + message.samples.size)
            outputs += self._intent_messages()
        return outputs

    def _motion_noise_dbfs(self, speaker: Speaker, heard_ns: int) -> float:
        """Return how loud a block must be to be more than the noise of the head's own motion."""
        if self._gate is None or speaker is Speaker.AGENT:
            return SILENCE_DBFS
        noise_dbfs = self._gate.noise_floor_dbfs(heard_ns)
        self._gated_blocks += noise_dbfs > self.config.min_level_dbfs
        return noise_dbfs

    def _end_conversation(self) -> list[Output]:
        """End every turn and be ready for a counter that begins at 0; the numbers of turns go on."""
        outputs = self._messages(Speaker.USER, self._turns.finish())
        self._turns = self._turns.restarted()
        self._intent, self._user_end = IntentRules(self.config), 0
        self._origin_ns = {speaker: 0 for speaker in Speaker}
        return outputs

    def _messages(self, speaker: Speaker, decisions: Decisions) -> list[Output]:
        """Return the messages of what a speaker's block brought: activity, events, floor."""
        outputs: list[Output] = [
            Publish("voice_activity", self._activity_message(who, frame)) for who, frame in decisions.activity
        ]
        for event in decisions.events:
            self._counts[event.kind] += 1
            self._delays_s[event.kind].add(event.decision_delay_s)
            outputs.append(Publish("turn_events", self._event_message(event)))
            if event.speaker is Speaker.USER:
                self._follow(event)
        outputs += [Publish("floor", self._floor_message(speaker, change)) for change in decisions.floor]
        return outputs

    def _follow(self, event: TurnEvent) -> None:
        """Let the user's speech turn count for the agent's intent."""
        if event.kind is Kind.START:
            self._intent.user_started()
        elif event.kind is Kind.BACKCHANNEL:
            self._backchannel = event.speech_turn
        elif event.kind is Kind.END:
            is_backchannel = event.speech_turn == self._backchannel
            self._intent.user_ended(event.end_sample, is_backchannel=is_backchannel)

    def _intent_messages(self) -> list[Output]:
        """Return what is news of the agent's intent."""
        decision = self._intent.step(self._user_end)
        if decision is None:
            return []
        message = new(
            "AgentIntent",
            header=Header(self._stamp_ns(Speaker.USER, decision.since_sample)),
            **{name: int(value) for name, value in dataclasses.asdict(decision).items()},
        )
        return [Publish("agent/intent", message)]

    def _stamp_ns(self, speaker: Speaker, sample: int) -> int:
        """Return when a sample was heard [ns]."""
        return self._origin_ns[speaker] + sample * NS_PER_SAMPLE

    def _activity_message(self, speaker: Speaker, frame: Activity) -> Message:
        return new(
            "VoiceActivity",
            header=Header(self._stamp_ns(speaker, frame.first_sample), _FRAME_IDS[speaker]),
            speaker=int(speaker),
            first_sample=frame.first_sample,
            samples=frame.end_sample - frame.first_sample,
            probability=frame.probability,
            is_speaking=frame.is_speaking,
            level_dbfs=frame.level_dbfs,
        )

    def _event_message(self, event: TurnEvent) -> Message:
        return new(
            "TurnEvent",
            header=Header(self._stamp_ns(event.speaker, event.event_sample), _FRAME_IDS[event.speaker]),
            speaker=int(event.speaker),
            kind=int(event.kind),
            speech_turn=event.speech_turn,
            first_sample=event.first_sample,
            end_sample=event.end_sample,
            decision_delay_s=event.decision_delay_s,
            probability=event.probability,
        )

    def _floor_message(self, speaker: Speaker, change: FloorDecision) -> Message:
        return new(
            "FloorState",
            header=Header(self._stamp_ns(speaker, change.since_sample)),
            state=int(change.state),
            since_sample=change.since_sample,
        )
