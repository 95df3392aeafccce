"""A synthesiser's utterances on the conversation's clock: order, back-pressure, cuts, what was heard."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timar_audio.playback import Playback
from timar_audio.playback_config import PlaybackConfig
from timar_audio.speech import SpeechOutcome, SpeechQueue, Spoken

START_NS = 7_000_000_000
SAMPLE_NS = 62_500
BLOCK = 320
LEAD = 5120
FADE = 320


class Talk:
    """Playback of a queue, with a user's stream that never fails."""

    def __init__(self, capacity: int = 160_000, prebuffer: int = 1920, **options: object) -> None:
        self.queue = SpeechQueue(capacity, prebuffer)
        self.playback = Playback(PlaybackConfig(**options), self.queue)
        self.planned, self.heard, self.spoken = [], [], []
        self.place = 0

    @property
    def now_ns(self) -> int:
        return START_NS + self.place * SAMPLE_NS

    def say(self, name: str, samples: np.ndarray, *, is_last: bool = True, rate_hz: int = 16_000) -> None:
        self.queue.add(name, rate_hz, samples, is_last=is_last, now_ns=self.now_ns)

    def run(self, samples: int) -> None:
        for _ in range(samples // BLOCK):
            self.playback.observe_user(self.place, BLOCK, self.now_ns, self.now_ns)
            self.place += BLOCK
            planned, heard = self.playback.advance(self.now_ns)
            self.planned += planned
            self.heard += heard
            self.spoken += self.playback.take_spoken()

    def sound(self) -> np.ndarray:
        return np.concatenate([block.samples for block in self.heard])

    def followed_plan(self) -> np.ndarray:
        """What a listener who only follows agent/audio_planned believes was heard."""
        out = np.zeros(self.place + 64_000, np.int16)
        revision = 0
        for chunk in self.planned:
            if chunk.revision > revision:
                out[chunk.first_sample :] = 0
                revision = chunk.revision
            out[chunk.first_sample : chunk.first_sample + chunk.samples.size] = chunk.samples
        return out[: self.place]


def ramp(samples: int, start: int = 1) -> np.ndarray:
    return (np.arange(start, start + samples) % 20_000 + 1000).astype(np.int16)


def test_an_utterance_begins_its_lead_after_it_came_and_is_heard_whole():
    talk = Talk()
    talk.run(16_000)
    talk.say("a", ramp(24_000))
    talk.run(48_000)
    sound = talk.sound()
    first = int(np.flatnonzero(sound)[0])
    assert LEAD <= first - 16_000 <= LEAD + BLOCK
    np.testing.assert_array_equal(sound[first : first + 24_000], ramp(24_000))
    assert not sound[first + 24_000 :].any()
    assert talk.spoken == [Spoken("a", SpeechOutcome.FINISHED, 24_000)]
    assert talk.planned[0].first_sample == first


def test_utterances_follow_each_other_without_a_gap():
    talk = Talk()
    talk.run(3200)
    talk.say("a", ramp(8000))
    talk.say("b", ramp(8000, 8001))
    talk.run(48_000)
    heard = talk.sound()
    np.testing.assert_array_equal(heard[np.flatnonzero(heard)], ramp(16_000))
    assert [spoken.utterance_id for spoken in talk.spoken] == ["a", "b"]


def test_speech_at_22050_hz_is_heard_at_the_right_pitch_and_length():
    talk = Talk()
    talk.run(3200)
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(44_100) / 22_050)).astype(np.int16)
    for part in np.array_split(tone, 23):
        talk.say("a", part, is_last=False, rate_hz=22_050)
    talk.say("a", np.zeros(0, np.int16), rate_hz=22_050)
    talk.run(64_000)
    assert talk.spoken == [Spoken("a", SpeechOutcome.FINISHED, 32_000)]
    heard = talk.sound().astype(float)
    spectrum = np.abs(np.fft.rfft(heard[: talk.place]))
    assert np.argmax(spectrum) * 16_000 / heard.size == pytest.approx(440, abs=0.5)


def test_no_more_is_taken_than_is_wanted():
    talk = Talk(capacity=16_000)
    talk.run(320)
    assert talk.queue.samples_wanted == 16_000
    talk.say("a", ramp(12_000), is_last=False)
    assert talk.queue.samples_wanted == 4000
    with pytest.raises(ValueError, match=r"brings 5000 samples .*4000 at 16000 Hz are wanted; send no more"):
        talk.say("a", ramp(5000), is_last=False)
    talk.run(3200)
    assert [spoken.outcome for spoken in talk.spoken] == [SpeechOutcome.FAILED]
    assert talk.queue.samples_wanted == 16_000


def test_room_comes_back_as_speech_is_planned():
    talk = Talk(capacity=48_000, plan_ahead_s=1.0)
    talk.run(320)
    sent, name = 0, "long"
    while sent < 160_000:
        part = min(talk.queue.samples_wanted, 160_000 - sent)
        if part:
            talk.say(name, ramp(part, sent + 1), is_last=sent + part == 160_000)
            sent += part
        talk.run(3200)
    talk.run(64_000)
    heard = talk.sound()
    np.testing.assert_array_equal(heard[np.flatnonzero(heard)], ramp(160_000))
    assert talk.queue.underruns == 0


def test_a_barge_in_fades_within_20_ms_and_tells_what_was_really_heard():
    talk = Talk()
    talk.run(3200)
    talk.say("a", np.full(32_000, 10_000, np.int16))
    talk.say("b", np.full(8000, 10_000, np.int16))
    talk.run(16_000)
    talk.planned += talk.playback.interrupt()
    cut = talk.place
    talk.run(16_000)
    sound = talk.sound()
    heard = int(np.count_nonzero(sound))
    assert not sound[cut + FADE :].any()
    fading = sound[cut : cut + FADE]
    assert np.all(np.diff(fading.astype(int)) <= 0)
    assert np.abs(np.diff(sound[cut - 1 : cut + FADE].astype(int))).max() < 60  # no click
    by_name = {spoken.utterance_id: spoken for spoken in talk.spoken}
    assert by_name["a"].outcome is by_name["b"].outcome is SpeechOutcome.INTERRUPTED
    assert by_name["a"].samples_heard == pytest.approx(heard, abs=2)
    assert by_name["b"].samples_heard == 0
    assert talk.planned[-1].revision == 1
    np.testing.assert_array_equal(talk.followed_plan(), sound)


def test_a_cancelled_utterance_fades_and_the_next_one_is_said_whole():
    talk = Talk()
    talk.run(3200)
    talk.say("a", np.full(16_000, 9000, np.int16))
    talk.say("b", ramp(16_000))
    talk.run(12_800)
    talk.planned += talk.playback.cancel("a")
    talk.run(64_000)
    sound = talk.sound()
    start_of_b = int(np.flatnonzero(sound)[-1]) - 16_000 + 1
    np.testing.assert_array_equal(sound[start_of_b : start_of_b + 16_000], ramp(16_000))
    assert [(s.utterance_id, s.outcome) for s in talk.spoken] == [
        ("a", SpeechOutcome.CANCELED), ("b", SpeechOutcome.FINISHED),
    ]  # fmt: skip
    assert talk.spoken[1].samples_heard == 16_000
    np.testing.assert_array_equal(talk.followed_plan(), sound)


def test_cancelling_what_waits_leaves_what_is_said_alone():
    talk = Talk()
    talk.run(3200)
    talk.say("a", ramp(32_000))
    talk.say("b", np.full(8000, 500, np.int16))
    talk.run(16_000)
    talk.planned += talk.playback.cancel("b")
    talk.run(48_000)
    heard = talk.sound()
    np.testing.assert_array_equal(heard[np.flatnonzero(heard)], ramp(32_000))
    assert talk.spoken[0] == Spoken("b", SpeechOutcome.CANCELED, 0)


def test_a_slow_synthesiser_is_waited_for_and_nothing_of_it_is_left_out():
    talk = Talk(prebuffer=3200)
    talk.run(3200)
    talk.say("a", ramp(8000), is_last=False)
    talk.run(24_000)
    talk.say("a", ramp(8000, 8001), is_last=True)
    talk.run(32_000)
    heard = talk.sound()
    np.testing.assert_array_equal(heard[np.flatnonzero(heard)], ramp(16_000))
    assert talk.queue.underruns == 1
    assert talk.spoken == [Spoken("a", SpeechOutcome.FINISHED, 16_000)]


def test_an_utterance_without_an_end_fails_and_the_next_one_is_said():
    talk = Talk()
    talk.run(3200)
    talk.say("a", ramp(4000), is_last=False)
    talk.say("b", ramp(4000))
    talk.run(12 * 16_000)
    assert [(s.utterance_id, s.outcome) for s in talk.spoken] == [
        ("a", SpeechOutcome.FAILED), ("b", SpeechOutcome.FINISHED),
    ]  # fmt: skip
    assert "nothing came for utterance 'a'" in talk.spoken[0].message
    assert talk.spoken[0].samples_heard == 4000


@pytest.mark.parametrize(
    ("heard", "outcome"),
    [(0, SpeechOutcome.FAILED), (7000, SpeechOutcome.FAILED), (15_000, SpeechOutcome.FINISHED)],
)
def test_an_utterance_that_was_passed_over_is_not_called_finished(heard, outcome):
    """A busy machine played 0 of 16,000 samples, and the goal was FINISHED."""
    queue = SpeechQueue(160_000, 1920)
    queue.add("a", 16_000, ramp(16_000), is_last=True, now_ns=0)
    first, chunk = queue.next_chunk(0, 0, 16_000)
    queue.pass_until(first + heard)
    queue.pass_until(first + chunk.size, is_heard=False)
    (spoken,) = queue.take_spoken()
    assert (spoken.outcome, spoken.samples_heard) == (outcome, heard)
    assert f"{heard} of 16000 samples of utterance 'a' were heard" in spoken.message


def test_chunks_that_come_after_an_interruption_are_left_out_and_counted():
    talk = Talk()
    talk.run(3200)
    talk.say("a", ramp(8000), is_last=False)
    talk.run(8000)
    talk.playback.interrupt()
    talk.say("a", ramp(8000), is_last=False)
    before = np.count_nonzero(talk.sound())
    talk.run(16_000)
    assert np.count_nonzero(talk.sound()) - before <= FADE
    assert talk.queue.late_chunks == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"utterance_id": "", "rate_hz": 16_000}, "needs an utterance_id"),
        ({"utterance_id": "a", "rate_hz": 4000}, "sample_rate is 4000 Hz, expected 8000..192000"),
        (
            {"utterance_id": "a", "rate_hz": 16_000, "samples": np.zeros(0, np.int16)},
            "empty and not its last",
        ),
    ],
)
def test_an_impossible_chunk_is_refused_with_a_sentence(arguments, words):
    queue = SpeechQueue(16_000, 0)
    with pytest.raises(ValueError, match=words):
        queue.add(**({"samples": ramp(10)} | arguments), is_last=False, now_ns=0)


def test_one_utterance_has_one_rate():
    talk = Talk()
    talk.say("a", ramp(100), is_last=False)
    with pytest.raises(ValueError, match="began at 16000 Hz and goes on at 24000 Hz"):
        talk.say("a", ramp(100), rate_hz=24_000)


def test_a_new_clock_interrupts_what_is_said_and_speech_goes_on():
    talk = Talk()
    talk.run(16_000)
    talk.say("a", ramp(32_000))
    talk.run(16_000)
    talk.playback.restart(talk.queue)
    talk.place = 0
    talk.heard.clear()
    talk.run(3200)
    talk.say("b", ramp(3200))
    talk.run(16_000)
    assert [block.first_sample for block in talk.heard] == list(range(0, talk.place, BLOCK))
    heard = talk.sound()
    np.testing.assert_array_equal(heard[np.flatnonzero(heard)], ramp(3200))
    assert [s.outcome for s in talk.spoken] == [SpeechOutcome.INTERRUPTED, SpeechOutcome.FINISHED]


ACTIONS = st.one_of(
    st.tuples(st.just("say"), st.integers(1, 12_000), st.booleans()),
    st.tuples(st.just("run"), st.integers(1, 30), st.just(True)),
    st.tuples(st.just("interrupt"), st.just(0), st.just(True)),
    st.tuples(st.just("cancel"), st.integers(0, 5), st.just(True)),
)


@settings(deadline=None, max_examples=60)
@given(actions=st.lists(ACTIONS, max_size=25))
def test_whatever_happens_plan_and_hearing_agree_and_every_utterance_ends_once(actions):
    talk = Talk()
    talk.run(640)
    names = (f"u{number}" for number in itertools.count())
    opened = []
    current = next(names)
    for action, number, flag in actions:
        if action == "say":
            talk.say(current, np.full(number, 7000, np.int16), is_last=flag)
            opened += [current] if current not in opened else []
            if flag:
                current = next(names)
        elif action == "run":
            talk.run(number * BLOCK)
        elif action == "interrupt":
            talk.planned += talk.playback.interrupt()
            current = next(names)
        elif opened:
            victim = opened[number % len(opened)]
            talk.planned += talk.playback.cancel(victim)
            if victim == current:
                current = next(names)
    talk.run(20 * 16_000)
    np.testing.assert_array_equal(talk.followed_plan(), talk.sound())
    assert sorted(spoken.utterance_id for spoken in talk.spoken) == sorted(opened)
    # A fade ends in samples that round to silence, one or two for each cut.
    heard = sum(spoken.samples_heard for spoken in talk.spoken)
    assert 0 <= heard - np.count_nonzero(talk.sound()) <= 5 * len(actions)
