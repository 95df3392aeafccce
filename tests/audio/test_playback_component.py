"""The playback component: speech and the microphone's blocks in, planned and heard audio out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_messages import BEGAN_NS, BLOCK, NS_PER_SAMPLE, audio_chunk, published
from timar_audio.playback_component import PlaybackComponent
from timar_audio.playback_config import PlaybackConfig
from timar_audio.speech import SpeechOutcome, Spoken
from timar_audio.utterance_journal import UtteranceJournal
from timar_common.component import Log, Output
from timar_common.messages import Message, constants, new

SILENCE = np.zeros(BLOCK, np.int16)
INTERRUPTED = new("TurnEvent", speaker=0, kind=3)


def speech(utterance_id: str, samples: np.ndarray, is_last: bool = True) -> Message:
    return new("SpeechChunk", utterance_id=utterance_id, sample_rate=16_000, is_last=is_last, samples=samples)


def ramp(samples: int) -> np.ndarray:
    return (np.arange(1, samples + 1) % 20_000 + 100).astype(np.int16)


class Conversation:
    """A playback component whose microphone brings a block every 20 ms."""

    def __init__(self, **config: object) -> None:
        self.component = PlaybackComponent(PlaybackConfig(**config))
        self.spoken: list[Spoken] = []
        self.component.on_spoken = self.spoken.append
        self.outputs: list[Output] = list(self.component.start(BEGAN_NS))
        self.position, self.began_ns = 0, BEGAN_NS

    @property
    def now_ns(self) -> int:
        return self.began_ns + self.position * NS_PER_SAMPLE + 1_000_000

    def run(self, samples: int) -> None:
        for _ in range(samples // BLOCK):
            message = audio_chunk(self.position, SILENCE, self.began_ns)
            self.position += BLOCK
            self.outputs += self.component.handle("user/audio_raw", message, self.now_ns)

    def say(self, *arguments: object) -> None:
        self.outputs += self.component.handle("agent/speech", speech(*arguments), self.now_ns)

    def heard(self) -> np.ndarray:
        return np.concatenate([m.samples for m in published(self.outputs, "agent/audio")])

    def logs(self) -> str:
        return "\n".join(output.text for output in self.outputs if isinstance(output, Log))


def test_an_utterance_is_planned_then_heard_whole_and_reported():
    talk = Conversation()
    talk.run(3200)
    talk.say("hello", ramp(8000))
    talk.run(32_000)
    heard = talk.heard()
    np.testing.assert_array_equal(heard[np.flatnonzero(heard)], ramp(8000))
    planned = published(talk.outputs, "agent/audio_planned")
    np.testing.assert_array_equal(np.concatenate([m.samples for m in planned]), ramp(8000))
    for message in planned:
        assert abs(message.header.stamp - BEGAN_NS - message.first_sample * NS_PER_SAMPLE) < 1000
    assert talk.spoken == [Spoken("hello", SpeechOutcome.FINISHED, 8000)]


def test_a_barge_in_ends_what_is_said_unless_it_is_not_to():
    for stops in (True, False):
        talk = Conversation(stop_on_barge_in=stops)
        talk.run(3200)
        talk.say("long", ramp(60_000))
        talk.run(16_000)
        talk.outputs += talk.component.handle("turn_events", INTERRUPTED, talk.now_ns)
        assert [spoken.outcome for spoken in talk.spoken] == [SpeechOutcome.INTERRUPTED] * stops
        assert (published(talk.outputs, "agent/audio_planned")[-1].revision == 1) == stops


def test_a_barge_in_before_the_clock_is_known_ends_what_waits():
    talk = Conversation()
    talk.say("early", ramp(8000))
    talk.outputs += talk.component.handle("turn_events", INTERRUPTED, BEGAN_NS)
    (cut,) = published(talk.outputs, "agent/audio_planned")
    assert (cut.samples.size, cut.header.stamp) == (0, BEGAN_NS)
    assert [spoken.outcome for spoken in talk.spoken] == [SpeechOutcome.INTERRUPTED]


def test_a_cancelled_utterance_leaves_the_next_one_whole():
    talk = Conversation()
    talk.run(3200)
    talk.say("first", ramp(30_000))
    talk.say("second", ramp(4000))
    talk.run(16_000)
    talk.outputs += talk.component.cancel("first", talk.now_ns)
    talk.run(40_000)
    assert [(s.utterance_id, s.outcome) for s in talk.spoken] == [
        ("first", SpeechOutcome.CANCELED), ("second", SpeechOutcome.FINISHED),
    ]  # fmt: skip


def test_a_stop_interrupts_what_is_said_and_a_start_after_it_is_as_new():
    talk = Conversation()
    talk.run(3200)
    talk.say("long", ramp(60_000))
    talk.run(16_000)
    talk.outputs += talk.component.stop(talk.now_ns)
    assert [spoken.outcome for spoken in talk.spoken] == [SpeechOutcome.INTERRUPTED]
    assert published(talk.outputs, "agent/audio_planned")[-1].revision == 1
    talk.outputs = list(talk.component.start(talk.now_ns))
    talk.began_ns, talk.position = talk.began_ns + 10_000_000_000, 0
    talk.say("long", ramp(4000))
    talk.run(16_000)
    assert np.count_nonzero(talk.heard()) == 4000


def test_a_restarted_counter_interrupts_utterances_and_plays_a_file_from_its_start(tmp_path: Path):
    path = tmp_path / "agent.wav"
    soundfile.write(path, ramp(32_000), 16_000)
    for config in ({}, {"source": "file", "file": str(path)}):
        talk = Conversation(**config)
        talk.run(8000)
        if not config:
            talk.say("long", ramp(60_000))
            talk.run(8000)
        talk.began_ns, talk.position = talk.began_ns + 5_000_000_000, 0
        before = len(talk.outputs)
        talk.run(8000)
        assert "capture was started again" in talk.logs()
        assert talk.component.report().values["clock_restarts"] == 1
        cut, *_ = published(talk.outputs[before:], "agent/audio_planned")
        assert (cut.first_sample, cut.samples.size, cut.revision) == (0, 0, 1)
        blocks = published(talk.outputs[before:], "agent/audio")
        assert blocks[0].first_sample == 0
        if config:
            np.testing.assert_array_equal(np.concatenate([b.samples for b in blocks]), ramp(8000))
        else:
            assert [spoken.outcome for spoken in talk.spoken] == [SpeechOutcome.INTERRUPTED]


def test_a_file_is_described_its_end_is_said_once_and_what_is_heard_is_written(tmp_path: Path):
    path, sink = tmp_path / "agent.wav", tmp_path / "heard.wav"
    soundfile.write(path, ramp(16_000), 16_000)
    talk = Conversation(source="file", file=str(path), sink="file", sink_file=str(sink))
    talk.run(32_000)
    list(talk.component.stop(talk.now_ns))
    assert talk.logs().count("agent.wav: 1.00 s, 16000 Hz") == 1
    assert talk.logs().count("agent.wav is planned to its end; silence follows") == 1
    np.testing.assert_array_equal(soundfile.read(sink, dtype="int16")[0], talk.heard())


def test_without_the_microphone_the_clock_continues_by_machine_time():
    talk = Conversation(free_run_after_ms=100)
    talk.run(3200)
    assert talk.component.tick_s == 0.1
    late = talk.component.tick(talk.now_ns + 1_000_000_000)
    assert sum(message.samples.size for message in published(late, "agent/audio")) >= 15_000


@pytest.mark.parametrize("first", [-BLOCK, 2**62])
def test_an_impossible_position_is_rejected_and_changes_nothing(first: int):
    talk, wanted = Conversation(), Conversation()
    talk.run(3200)
    with pytest.raises(ValueError, match=str(first)):
        talk.component.handle("user/audio_raw", audio_chunk(first, SILENCE), talk.now_ns)
    talk.run(3200)
    wanted.run(6400)
    assert str(talk.outputs) == str(wanted.outputs)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"source": "file"}, "file is empty"),
        ({"sink": "file"}, "sink_file is empty"),
        ({"source": "speach"}, "source is 'speach'.*did you mean speech"),
        ({"source": "file", "file": "/nowhere.wav"}, "no sound file /nowhere.wav"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused_with_the_remedy(config, words):
    with pytest.raises((ValueError, OSError), match=words):
        PlaybackComponent(PlaybackConfig(**config))


def turn_event(kind: str) -> Message:
    return new("TurnEvent", speaker=0, kind=constants("TurnEvent")[kind])


def tone(samples: int) -> np.ndarray:
    """Return a sound whose every sample tells where it is: it grows steadily."""
    return (1000 + np.arange(samples) // 8).astype(np.int16)


def say_into(events: dict[int, str], samples: int, words: tuple[int, ...] = (), **config: object):
    """Say a sound while the user's speech has its effects, and return the conversation."""
    talk = Conversation(**config)
    talk.run(BLOCK)
    talk.component.open_utterance("a", 16_000, tone(samples), talk.now_ns, words)
    for at, kind in sorted(events.items()):
        talk.run(at - talk.position)
        talk.outputs += talk.component.handle("turn_events", turn_event(kind), talk.now_ns)
    talk.run(3 * samples)
    return talk


def planned_at_the_end(talk: Conversation) -> np.ndarray:
    """Return what a reader of agent/audio_planned has in hand who heard every message."""
    plan, revision = np.zeros(talk.position, np.int16), 0
    for message in published(talk.outputs, "agent/audio_planned"):
        first, sound = message.first_sample, message.samples
        if message.revision > revision:
            plan[first:], revision = 0, message.revision
        plan[first : first + sound.size] = sound[: max(0, plan.size - first)]
    return plan


def test_speech_is_lowered_by_twelve_decibels_and_raised_again_without_a_hole():
    samples = 48_000
    talk = say_into({16_000: "LOWERED", 32_000: "RESUMED"}, samples)
    heard = talk.heard()
    first = int(np.flatnonzero(heard)[0])
    expected = tone(samples).astype(float)
    gain = heard[first : first + samples] / expected
    assert np.all(np.abs(gain[: 16_000 - first - BLOCK] - 1.0) < 1e-3)
    lowered = gain[16_000 - first + 2 * BLOCK : 32_000 - first - BLOCK]
    assert np.all(np.abs(20 * np.log10(lowered) + 12.0) < 0.05)
    assert np.all(np.abs(gain[32_000 - first + 2 * BLOCK :] - 1.0) < 1e-3)
    assert np.abs(np.diff(gain)).max() < 0.005, "a step is heard as a click"
    np.testing.assert_array_equal(planned_at_the_end(talk)[: heard.size], heard)
    assert talk.spoken == [Spoken("a", SpeechOutcome.FINISHED, samples)]


def test_a_pause_skips_nothing_and_repeats_only_the_fade():
    samples = 48_000
    talk = say_into({16_000: "PAUSED", 24_000: "RESUMED"}, samples)
    heard = talk.heard()
    silence = heard[16_000 + 2 * BLOCK : 24_000]
    assert not silence.any()
    again = 24_000 + int(np.flatnonzero(heard[24_000:])[0])
    assert again <= 24_000 + 320 * 16 + 2 * BLOCK
    first = int(np.flatnonzero(heard)[0])
    cut = 16_000 - first
    np.testing.assert_array_equal(heard[first:16_000], tone(samples)[:cut])
    np.testing.assert_array_equal(heard[again + 80 : again + samples - cut], tone(samples)[cut + 80 :])
    assert not heard[again + samples - cut :].any()
    np.testing.assert_array_equal(planned_at_the_end(talk)[: heard.size], heard)
    assert talk.spoken == [Spoken("a", SpeechOutcome.FINISHED, samples)]


def test_after_a_pause_the_word_that_was_cut_begins_again_and_counts_once():
    samples, words = 48_000, (0, 4_000, 8_000, 12_000, 20_000)
    talk = say_into({16_000: "PAUSED", 24_000: "RESUMED"}, samples, words)
    heard = talk.heard()
    again = 24_000 + int(np.flatnonzero(heard[24_000:])[0])
    cut = 16_000 - int(np.flatnonzero(heard)[0])
    word = max(start for start in words if start <= cut)
    np.testing.assert_array_equal(heard[again + 80 : again + 8_000], tone(samples)[word + 80 : word + 8_000])
    assert talk.spoken == [Spoken("a", SpeechOutcome.FINISHED, samples)]


def test_an_interruption_in_a_pause_tells_what_was_heard():
    talk = say_into({16_000: "PAUSED", 24_000: "INTERRUPTED"}, 48_000)
    (spoken,) = talk.spoken
    assert spoken.outcome is SpeechOutcome.INTERRUPTED
    assert spoken.samples_heard == pytest.approx(np.count_nonzero(talk.heard()), abs=20 * 16)
    (end,) = published(talk.outputs, "agent/utterance_ends")
    assert (end.utterance_id, end.outcome, end.samples_heard) == ("a", 2, spoken.samples_heard)


def test_a_pause_that_nobody_ends_is_over_after_its_longest_time():
    talk = say_into({16_000: "PAUSED"}, 48_000, longest_pause_ms=1000)
    assert talk.spoken == [Spoken("a", SpeechOutcome.FINISHED, 48_000)]
    assert talk.component.report().values["pauses_expired"] == 1
    np.testing.assert_array_equal(planned_at_the_end(talk)[: talk.heard().size], talk.heard())


def test_what_was_wanted_may_still_be_sent_during_a_pause():
    talk = Conversation(max_waiting_s=3.0)
    talk.run(BLOCK)
    talk.say("a", tone(48_000), False)
    talk.run(16_000)
    wanted = talk.component.queue.samples_wanted
    talk.outputs += talk.component.handle("turn_events", turn_event("PAUSED"), talk.now_ns)
    talk.say("a", tone(wanted), True)
    talk.outputs += talk.component.handle("turn_events", turn_event("RESUMED"), talk.now_ns)
    talk.run(160_000)
    assert talk.spoken == [Spoken("a", SpeechOutcome.FINISHED, 48_000 + wanted)]


def test_words_that_begin_nowhere_are_refused():
    talk = Conversation()
    talk.run(BLOCK)
    for words in ((5, 3), (0, 100)):
        with pytest.raises(ValueError, match="word_starts"):
            talk.component.open_utterance("a", 16_000, tone(100), talk.now_ns, words)


def test_a_restarted_component_reports_what_was_being_said_as_failed(tmp_path: Path):
    talk = Conversation()
    talk.component.journal = UtteranceJournal(tmp_path / "journal")
    talk.run(320)
    talk.say("a", tone(48_000), True)
    talk.say("b", tone(16_000), True)
    talk.run(20_000)
    heard = int(np.count_nonzero(talk.heard()))
    talk.component.journal.close()  # as the kernel does for a process that was killed
    after = PlaybackComponent(PlaybackConfig())
    after.journal = UtteranceJournal(tmp_path / "journal")
    ends = published(after.start(0), "agent/utterance_ends")
    assert [(end.utterance_id, end.outcome, end.samples_heard) for end in ends] == [
        ("a", 3, heard), ("b", 3, 0),
    ]  # fmt: skip
    assert "ended while utterance 'a'" in ends[0].message
    with pytest.raises(ValueError, match="used before"):
        after.open_utterance("a", 16_000, tone(100), 0)
    after.stop(0)
    assert after.journal.read() == []
