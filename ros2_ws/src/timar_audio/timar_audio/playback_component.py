"""Playback component: plans the agent's speech on the conversation clock and reports what was heard of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.component import Component, Log, Output, Publish
from timar_common.diagnostics import Level, Report
from timar_common.messages import Header, Message, constants, new
from timar_common.restarts import Belongs
from timar_common.wav import SoundWriter

from timar_audio.blocks import BlockFilter
from timar_audio.plan import PlannedChunk
from timar_audio.playback import Playback
from timar_audio.playback_config import PlaybackConfig
from timar_audio.speech import SpeechOutcome, SpeechQueue, Spoken, make_speech_source
from timar_audio.utterance_journal import UtteranceJournal


class PlaybackComponent(Component):
    """Move the agent's speech on with every block of user/audio_raw, whose samples are the clock.

    A loudspeaker calls `playback.give` from its thread, under the host's lock; without one, speech is heard
    when it is due.

    Raises:
        ValueError: The speech source that the configuration names cannot be used.
        OSError: Its file cannot be read.
    """

    NAME = "playback"
    Config = PlaybackConfig
    outputs = ("agent/audio_planned", "agent/audio", "agent/utterance_ends")

    def __init__(self, config: PlaybackConfig) -> None:
        self.config = config
        self.tick_s = config.free_run_after_ms / 1000
        self.on_spoken: Callable[[Spoken], None] = lambda spoken: None
        """Called with every utterance that is over; the action `speak` answers then."""
        self.journal: UtteranceJournal | None = None
        """Where a host remembers across a crash what is being said; None: nowhere."""
        self._writer: SoundWriter | None = None
        self._reset()
        self.inputs = ("user/audio_raw", "agent/speech", "turn_events")[: None if self.queue else 1]

    def _reset(self) -> None:
        """Begin a plan on a clock that is not known yet, from the start of the speech source."""
        self._filter = BlockFilter()
        self._source = make_speech_source(self.config)
        self.queue = self._source if isinstance(self._source, SpeechQueue) else None
        """The utterances of a synthesiser; None with another speech source."""
        self.playback = Playback(self.config, self._source)
        self._has_reported_end = self._is_used = False

    def start(self, now_ns: int) -> Iterable[Output]:
        """Open the sink's file.

        Raises:
            OSError: It cannot be written.
        """
        if self._is_used:
            self._reset()
        self._is_used = True
        if self.config.sink == "file":
            self._writer = SoundWriter(self.config.sink_file)
        return [*self._source.notes, *self._report_lost(now_ns)]

    def stop(self, now_ns: int) -> Iterable[Output]:
        """Interrupt what is said and waits, and close the files."""
        outputs = self._planned_messages(self.playback.interrupt(), now_ns) + self._report_spoken(now_ns)
        if self.journal is not None:
            self.journal.write([])
        self._source.close()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        return outputs

    def handle(self, topic: str, message: Message, now_ns: int) -> Iterable[Output]:
        """Take a block of user/audio_raw, a chunk of agent/speech or an event of speech turns.

        Raises:
            ValueError: The block or the chunk cannot be true.
        """
        if topic == "turn_events":
            return self._on_turn_event(message, now_ns)
        if topic == "agent/speech":
            return self._on_speech(message, now_ns)
        belongs = self._filter.accept(topic, message)
        if belongs is Belongs.OLD:
            return ()
        outputs = self._restart(now_ns) if belongs is Belongs.NEW else []
        self.playback.observe_user(message.first_sample, message.samples.size, message.header.stamp, now_ns)
        return outputs + self.tick(now_ns)

    def tick(self, now_ns: int) -> list[Output]:
        """Plan ahead and report what was heard by now."""
        planned, heard = self.playback.advance(now_ns)
        outputs = self._planned_messages(planned, now_ns)
        frame_id = "loudspeaker" if self.playback.has_loudspeaker else ""
        for block in heard:
            if self._writer is not None:
                self._writer.write(block.samples)
            outputs.append(Publish("agent/audio", block.message(frame_id)))
        outputs += self._report_spoken(now_ns)
        if self.journal is not None and self.queue is not None:
            self.journal.write(self.queue.unfinished)
        if self._source.has_ended and not self._has_reported_end:
            self._has_reported_end = True
            name = self.config.file or self.config.source
            outputs.append(Log(Level.OK, f"{name} is planned to its end; silence follows"))
        return outputs

    def report(self) -> Report:
        """Say how far ahead speech is planned, and what was skipped."""
        report = self.playback.report()
        report.values["clock_restarts"] = self._filter.restarts
        return report

    # Utterances, with `source: speech`.

    def open_utterance(
        self,
        utterance_id: str,
        rate_hz: int,
        samples: npt.NDArray[np.int16],
        now_ns: int,
        word_starts: Sequence[int] = (),
    ) -> None:
        """Take a whole utterance; without samples, wait for its chunks on agent/speech.

        Raises:
            ValueError: See `SpeechQueue.add` and `SpeechQueue.open`.
        """
        assert self.queue is not None
        if samples.size:
            self.queue.require_new(utterance_id)
            self.queue.add(utterance_id, rate_hz, samples, word_starts, is_last=True, now_ns=now_ns)
        elif not self.queue.knows(utterance_id):
            self.queue.open(utterance_id, now_ns)

    def cancel(self, utterance_id: str, now_ns: int) -> list[Output]:
        """End one utterance; those that wait are said after it."""
        return self._planned_messages(self.playback.cancel(utterance_id), now_ns) + self.tick(now_ns)

    def _on_speech(self, message: Message, now_ns: int) -> list[Output]:
        assert self.queue is not None
        self.queue.add(
            message.utterance_id,
            message.sample_rate,
            message.samples,
            [int(start) for start in message.word_starts],
            is_last=message.is_last,
            now_ns=now_ns,
        )
        return self.tick(now_ns)

    def _on_turn_event(self, message: Message, now_ns: int) -> list[Output]:
        if message.speaker != _EVENT["USER"] or not self.config.stop_on_barge_in:
            return []
        if message.kind == _EVENT["INTERRUPTED"]:
            chunks = self.playback.interrupt()
        elif message.kind == _EVENT["LOWERED"]:
            chunks = self.playback.lower()
        elif message.kind == _EVENT["PAUSED"]:
            chunks = self.playback.pause(now_ns)
        elif message.kind in (_EVENT["RESUMED"], _EVENT["END"]):
            chunks = self.playback.resume()
        else:
            return []
        return self._planned_messages(chunks, now_ns) + self.tick(now_ns)

    def _report_lost(self, now_ns: int) -> list[Output]:
        """Report what was being said when the process before this one ended without a word."""
        lost = [] if self.journal is None else self.journal.read()
        if self.queue is not None:
            self.queue.forget(name for name, _ in lost)
        message = "the sound process ended while utterance {!r} was said or waited"
        return self._end_messages(
            [Spoken(name, SpeechOutcome.FAILED, heard, message.format(name)) for name, heard in lost], now_ns
        )

    def _report_spoken(self, now_ns: int) -> list[Output]:
        ended = self.playback.take_spoken()
        for spoken in ended:
            self.on_spoken(spoken)
        return self._end_messages(ended, now_ns)

    def _end_messages(self, ended: Iterable[Spoken], now_ns: int) -> list[Output]:
        outputs: list[Output] = []
        for spoken in ended:
            end = new(
                "UtteranceEnd",
                header=Header(now_ns, "loudspeaker"),
                utterance_id=spoken.utterance_id,
                outcome=int(spoken.outcome),
                samples_heard=spoken.samples_heard,
                message=spoken.message,
            )
            outputs.append(Publish("agent/utterance_ends", end))
            if spoken.outcome is SpeechOutcome.FAILED:
                outputs.append(Log(Level.ERROR, spoken.message))
        return outputs

    # The conversation.

    def _restart(self, now_ns: int) -> list[Output]:
        """Begin a new conversation with the next block, for the counter restarted at 0."""
        text = "capture was started again: its sample counter restarted, what was said is interrupted"
        outputs: list[Output] = [Log(Level.WARN, text)]
        if self.queue is None:
            self._source.close()
            self._source = make_speech_source(self.config)
            self._has_reported_end = False
            outputs += self._source.notes
        return outputs + self._planned_messages(self.playback.restart(self._source), now_ns)

    def _planned_messages(self, chunks: list[PlannedChunk], now_ns: int) -> list[Output]:
        """Return the messages of planned speech, stamped with when it will be heard, if that is known yet."""
        clock = self.playback.clock
        return [
            Publish(
                "agent/audio_planned",
                new(
                    "PlannedAudio",
                    header=Header(
                        clock.monotonic_ns(chunk.first_sample) if clock.is_started else now_ns, "loudspeaker"
                    ),
                    sample_rate=SAMPLE_RATE_HZ,
                    first_sample=chunk.first_sample,
                    revision=chunk.revision,
                    samples=chunk.samples,
                ),
            )
            for chunk in chunks
        ]


_EVENT = constants("TurnEvent")
