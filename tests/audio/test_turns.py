"""Speech turns and the floor, from both voices."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timar_audio.activity import SpeakerActivity
from timar_audio.end_of_turn import load_end_of_turn
from timar_audio.floor import Floor, Kind, Speaker, TurnRules, UserWords
from timar_audio.interruption_features import loud_part, power_of
from timar_audio.interruption_judge import UserSound
from timar_audio.turns import Decisions, Turns
from timar_audio.turns_config import TurnsConfig

FRAME = 320
USER, AGENT = Speaker.USER, Speaker.AGENT


class LevelDetector:
    """Speech is what is not silence."""

    frame_samples = FRAME

    def probability(self, frame: np.ndarray) -> float:
        return float(np.count_nonzero(frame) > FRAME // 2)


class Judge:
    """A model that answers in the order given, and keeps what it heard."""

    def __init__(self, *answers: float) -> None:
        self._answers = iter(answers)
        self.heard: list[np.ndarray] = []

    def probability(self, samples: np.ndarray) -> float:
        self.heard.append(samples)
        return next(self._answers)


def turns_by_level(model: Judge | None = None, wants_floor: float | None = None, **options: float) -> Turns:
    """Turns whose detector only tells sound from silence, so that the rules alone are asked.

    Args:
        model: Judges whether the user's turn is complete.
        wants_floor: How likely every sound over the agent's voice is an interruption; None: unchecked.
    """
    turns = Turns(TurnsConfig(interruption_check=False, barge_in_ms=280, **options), model)
    if wants_floor is not None:
        turns.rules = TurnRules(turns.config, hear=heard_as(turns, wants_floor))
    for speaker in Speaker:
        turns.voices[speaker] = SpeakerActivity(LevelDetector(), turns.config)
    return turns


def heard_as(turns: Turns, wants_floor: float):
    """Return what describes sounds by their length, as an `InterruptionJudge` of one opinion would."""

    def hear(first_sample: int, end_sample: int, louder_db: float, quiet_s: float) -> UserSound:
        samples = turns.voices[USER].read(first_sample, end_sample, 64_000)
        length_s = (int(np.flatnonzero(samples)[-1]) + 1) / 16_000
        is_judged = length_s >= 0.3 or quiet_s >= 0.16
        return UserSound(length_s, quiet_s, wants_floor if is_judged else -1.0)

    return hear


def voice(seconds: float, *spoken: tuple[float, float]) -> np.ndarray:
    """Return sound that is loud in the given stretches [s]."""
    samples = np.zeros(round(seconds * 16_000), np.int16)
    for start_s, end_s in spoken:
        samples[round(start_s * 16_000) : round(end_s * 16_000)] = 8000
    return samples


def decided(turns: Turns, user: np.ndarray, agent: np.ndarray, block: int = FRAME) -> Decisions:
    total = Decisions()
    for place in range(0, max(user.size, agent.size), block):
        for speaker, samples in ((USER, user), (AGENT, agent)):
            if place < samples.size:
                add(total, turns.push(speaker, place, samples[place : place + block]))
    add(total, turns.finish())
    return total


def add(total: Decisions, part: Decisions) -> None:
    total.events += part.events
    total.floor += part.floor
    total.activity += part.activity


def story(decisions: Decisions) -> list[tuple[str, str, float]]:
    return [(e.speaker.name, e.kind.name, round(e.event_sample / 16_000, 2)) for e in decisions.events]


def floors(decisions: Decisions) -> list[tuple[str, float]]:
    return [(change.state.name, round(change.since_sample / 16_000, 2)) for change in decisions.floor]


def test_a_question_and_its_answer():
    found = decided(turns_by_level(), voice(6, (1, 2)), voice(6, (3, 4)))
    assert story(found) == [
        ("USER", "START", 1.0), ("USER", "END", 2.0), ("AGENT", "START", 3.0), ("AGENT", "END", 4.0),
    ]  # fmt: skip
    assert floors(found) == [("USER", 1.0), ("IDLE", 2.0), ("AGENT", 3.0), ("IDLE", 4.0)]


def test_events_tell_how_long_their_decision_took():
    found = decided(turns_by_level(), voice(4, (1, 2)), voice(4))
    start, end = found.events
    assert start.decision_delay_s == pytest.approx(0.14)
    assert end.decision_delay_s == pytest.approx(0.5)
    assert (start.first_sample, start.end_sample) == (16_000, 16_000)
    assert (end.first_sample, end.end_sample) == (16_000, 32_000)


def test_a_pause_for_breath_belongs_to_the_turn():
    found = decided(turns_by_level(), voice(5, (1, 2), (2.4, 3)), voice(5))
    assert story(found) == [("USER", "START", 1.0), ("USER", "END", 3.0)]
    assert floors(found) == [("USER", 1.0), ("IDLE", 3.0)]


def test_a_pause_that_ends_just_in_time_belongs_to_the_turn():
    """Speech is known for speech only after start_ms of it; the turn once ended meanwhile."""
    found = decided(turns_by_level(), voice(5, (1, 2), (2.48, 3)), voice(5))
    assert story(found) == [("USER", "START", 1.0), ("USER", "END", 3.0)]
    found = decided(turns_by_level(), voice(5, (1, 2), (2.52, 3)), voice(5))
    assert [kind for _, kind, _ in story(found)] == ["START", "END", "START", "END"]


def test_noise_that_never_becomes_speech_holds_no_turn_open_beyond_the_longest_pause():
    frames = [2.3, 2.32, *np.arange(2.34, 6.0, 0.04)]  # after two of them every other one: neither of both
    clicks = [(at, at + 0.02) for at in frames]
    found = decided(turns_by_level(max_pause_ms=1200), voice(7, (1, 2), *clicks), voice(7))
    assert [event.kind for event in found.events] == [Kind.START, Kind.END]
    end = found.events[1]
    assert (end.kind, end.event_sample / 16_000) == (Kind.END, 2.0)
    assert end.decision_delay_s <= 1.2


@pytest.mark.parametrize(("answer", "delay_s"), [(0.9, 0.24), (0.1, 2.0)])
def test_a_model_ends_a_complete_turn_sooner_and_waits_longer_for_one_that_is_not(answer, delay_s):
    judge = Judge(answer)
    found = decided(turns_by_level(judge), voice(6, (1, 2)), voice(6))
    _, judged, end = found.events
    assert (judged.kind, judged.probability) == (Kind.JUDGED, answer)
    assert judged.decision_delay_s == pytest.approx(0.2)
    assert (end.kind, end.event_sample) == (Kind.END, 32_000)
    assert end.decision_delay_s == pytest.approx(delay_s)
    (heard,) = judge.heard  # asked once: the turn and its pause
    assert heard.size == round(1.2 * 16_000)
    assert heard[:16_000].all()
    assert not heard[16_000:].any()


def test_a_model_is_asked_again_in_the_next_pause_and_hears_the_turn_so_far():
    judge = Judge(0.1, 0.9)
    found = decided(turns_by_level(judge), voice(16, (1, 2), (3.5, 13)), voice(16))
    assert story(found) == [
        ("USER", "START", 1.0), ("USER", "JUDGED", 2.0), ("USER", "JUDGED", 13.0), ("USER", "END", 13.0),
    ]  # fmt: skip
    assert found.events[-1].decision_delay_s == pytest.approx(0.24)
    assert [sound.size for sound in judge.heard] == [round(1.2 * 16_000), 8 * 16_000]


def test_a_model_judges_the_user_only():
    found = decided(turns_by_level(Judge()), voice(5), voice(5, (1, 2)))
    assert found.events[1].decision_delay_s == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("smart", ValueError, "end_of_turn is 'smart', expected one of .*, or module:attribute"),
        ("no_such.module:Model", ValueError, "cannot be imported: No module named 'no_such'"),
        ("decimal:NoSuchModel", ValueError, "cannot be imported: module 'decimal' has no attribute"),
        ("numpy:ndarray", OSError, "end_of_turn 'numpy:ndarray' cannot be made"),
    ],
)
def test_a_model_that_is_not_there_is_refused_with_a_sentence(name, error, words):
    with pytest.raises(error, match=words):
        load_end_of_turn(name)


def test_a_mhm_inside_the_others_turn_is_a_backchannel_and_takes_no_floor():
    found = decided(turns_by_level(), voice(6, (2, 2.26)), voice(6, (1, 5)))
    assert story(found) == [
        ("AGENT", "START", 1.0), ("USER", "START", 2.0), ("USER", "BACKCHANNEL", 2.0), ("USER", "END", 2.26),
        ("AGENT", "END", 5.0),
    ]  # fmt: skip
    assert floors(found) == [("AGENT", 1.0), ("IDLE", 5.0)]


def test_speaking_on_into_the_agents_turn_is_a_barge_in_in_time():
    found = decided(turns_by_level(), voice(8, (2, 5)), voice(8, (1, 2.6)))
    assert story(found) == [
        ("AGENT", "START", 1.0), ("USER", "START", 2.0), ("USER", "INTERRUPTED", 2.0), ("AGENT", "END", 2.6),
        ("USER", "END", 5.0),
    ]  # fmt: skip
    assert floors(found) == [("AGENT", 1.0), ("BOTH", 2.0), ("USER", 2.6), ("IDLE", 5.0)]
    barge_in = found.events[2]
    assert barge_in.decision_delay_s <= 0.4


def test_two_mhms_with_a_pause_are_no_barge_in():
    found = decided(turns_by_level(), voice(6, (2, 2.26), (2.7, 2.96)), voice(6, (1, 5)))
    assert "INTERRUPTED" not in [kind for _, kind, _ in story(found)]


def test_an_answer_that_overlaps_the_last_word_is_no_barge_in():
    found = decided(turns_by_level(), voice(6, (2, 4)), voice(6, (1, 2.1)))
    assert story(found) == [
        ("AGENT", "START", 1.0), ("USER", "START", 2.0), ("AGENT", "END", 2.1), ("USER", "END", 4.0),
    ]  # fmt: skip
    assert floors(found) == [("AGENT", 1.0), ("USER", 2.1), ("IDLE", 4.0)]


def test_the_agent_talking_over_the_user_shares_the_floor_without_a_barge_in():
    found = decided(turns_by_level(), voice(6, (1, 4)), voice(6, (2, 3)))
    assert [kind for _, kind, _ in story(found)] == ["START", "START", "END", "END"]
    assert floors(found) == [("USER", 1.0), ("BOTH", 2.0), ("USER", 3.0), ("IDLE", 4.0)]


def test_without_an_agent_nobody_is_waited_for():
    turns = turns_by_level()
    user = voice(2, (0.5, 1.0))
    delays = {}
    for place in range(0, user.size, FRAME):
        for event in turns.push(USER, place, user[place : place + FRAME]).events:
            delays[event.kind] = (place + FRAME - event.event_sample) / 16_000
    assert delays == {Kind.START: pytest.approx(0.14), Kind.END: pytest.approx(0.5)}


def test_a_voice_that_stays_behind_is_waited_for_no_longer_than_the_skew():
    turns = turns_by_level(max_skew_ms=200)
    turns.push(AGENT, 0, np.zeros(FRAME, np.int16))
    user = voice(2, (0.5, 1.0))
    started_at = None
    for place in range(0, user.size, FRAME):
        if turns.push(USER, place, user[place : place + FRAME]).events and started_at is None:
            started_at = (place + FRAME) / 16_000
    assert started_at == pytest.approx(0.5 + 0.14 + 0.2)


stretches = st.lists(st.tuples(st.booleans(), st.integers(1, 60)), max_size=25)


def sound_of(runs: list[tuple[bool, int]]) -> np.ndarray:
    pieces = [np.full(length * FRAME, 8000 if is_loud else 0, np.int16) for is_loud, length in runs]
    return np.concatenate([np.zeros(FRAME, np.int16), *pieces])


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(user=stretches, agent=stretches)
def test_every_start_has_exactly_one_end_in_order_and_no_turn_overlaps_the_speakers_next(user, agent):
    found = decided(turns_by_level(), sound_of(user), sound_of(agent))
    for speaker in Speaker:
        events = [event for event in found.events if event.speaker is speaker]
        frame = [event for event in events if event.kind in (Kind.START, Kind.END)]
        assert [event.kind for event in frame] == [Kind.START, Kind.END] * (len(frame) // 2)
        assert [event.speech_turn for event in frame] == [i // 2 for i in range(len(frame))]
        ends = [event for event in frame if event.kind is Kind.END]
        for start, end in zip(frame[::2], ends, strict=True):
            assert start.first_sample == end.first_sample < end.end_sample
        assert all(a.end_sample <= b.first_sample for a, b in itertools.pairwise(ends))
        for remark in (event for event in events if event.kind in (Kind.BACKCHANNEL, Kind.INTERRUPTED)):
            assert remark.speech_turn in [event.speech_turn for event in frame]
        by_turn = [(e.speech_turn, e.kind) for e in events if e.kind in (Kind.BACKCHANNEL, Kind.INTERRUPTED)]
        assert len({turn for turn, _ in by_turn}) == len(by_turn)  # never both, never twice
    assert all(event.decided_sample >= event.event_sample for event in found.events)
    decisions = [event.decided_sample for event in found.events]
    assert decisions == sorted(decisions)
    sinces = [change.since_sample for change in found.floor]
    assert sinces == sorted(sinces)
    states = [Floor.IDLE] + [change.state for change in found.floor]
    assert all(a is not b for a, b in itertools.pairwise(states))
    assert states[-1] is Floor.IDLE


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(user=stretches, agent=stretches, block=st.integers(1, 3200))
def test_however_blocks_are_cut_the_events_are_the_same(user, agent, block):
    whole = decided(turns_by_level(), sound_of(user), sound_of(agent))
    cut = decided(turns_by_level(), sound_of(user), sound_of(agent), block)
    assert cut.events == whole.events
    assert cut.floor == whole.floor


def test_a_configuration_that_no_detector_takes_is_refused():
    with pytest.raises(ValueError, match="frame_ms is 25, expected 10, 20 or 30"):
        TurnsConfig(frame_ms=25)
    with pytest.raises(ValueError, match="max_pause_ms is 400, expected at least pause_ms"):
        TurnsConfig(max_pause_ms=400)
    with pytest.raises(ValueError, match=r"TurnsConfig\.hang_ms is -1, expected a number from 20 to 3000"):
        TurnsConfig(hang_ms=-1)


def effects(decisions: Decisions) -> list[tuple[str, float]]:
    """Return what the user's speech did to the agent's voice, and how long after it began [s]."""
    names = ("LOWERED", "PAUSED", "RESUMED", "INTERRUPTED", "BACKCHANNEL")
    return [
        (e.kind.name, round((e.decided_sample - e.first_sample) / 16_000, 2))
        for e in decisions.events
        if e.kind.name in names
    ]


def test_a_short_backchannel_only_lowers_the_voice():
    found = decided(turns_by_level(wants_floor=0.1), voice(6, (2, 2.4)), voice(6, (1, 5)))
    assert effects(found) == [("LOWERED", 0.08), ("RESUMED", 0.56), ("BACKCHANNEL", 0.9)]
    assert floors(found) == [("AGENT", 1.0), ("IDLE", 5.0)]


def test_what_may_become_speech_lowers_the_voice_and_begins_no_turn_when_it_does_not():
    found = decided(turns_by_level(wants_floor=0.9), voice(6, (2, 2.12)), voice(6, (1, 5)))
    assert effects(found) == [("LOWERED", 0.08), ("RESUMED", 0.46)]
    later = turns_by_level(lower_after_ms=140, wants_floor=0.9)
    assert effects(decided(later, voice(6, (2, 2.12)), voice(6, (1, 5)))) == []
    assert not [e for e in found.events if e.speaker is USER and e.kind in (Kind.START, Kind.END)]


def test_speech_that_comes_and_goes_before_its_start_lowers_the_voice_once():
    """A plosive after a short vowel once lowered the voice, let it go on and lowered it again."""
    spoken = ((2, 2.1), (2.2, 2.3), (2.4, 2.7))
    found = decided(turns_by_level(wants_floor=0.9), voice(6, *spoken), voice(6, (1, 5)))
    assert [name for name, _ in effects(found)] == ["LOWERED", "INTERRUPTED"]


@pytest.mark.parametrize(("join_ms", "begins"), [(400, {32_000, 59_200}), (0, {32_000, 41_600, 59_200})])
def test_sounds_with_a_short_pause_between_them_are_judged_as_one(join_ms: int, begins: set[int]):
    """ "No, stop" was judged as "no" and as "stop", and neither alone was an interruption."""
    turns, firsts = turns_by_level(wants_floor=0.1, join_ms=join_ms), set()
    hear = heard_as(turns, 0.1)

    def note(first_sample: int, end_sample: int, louder_db: float, quiet_s: float) -> UserSound:
        firsts.add(first_sample)
        return hear(first_sample, end_sample, louder_db, quiet_s)

    turns.rules = TurnRules(turns.config, hear=note)
    decided(turns, voice(6, (2, 2.3), (2.6, 2.9), (3.7, 4.1)), voice(6, (1, 5)))
    assert firsts == begins


def test_what_the_detector_missed_at_a_sounds_beginning_belongs_to_it():
    """A detector begins "stop it" at its second vowel; by that alone it was a back-channel."""
    noise = np.random.default_rng(0).standard_normal(16_000)
    sound = 10.0 * noise
    sound[4_000:8_000] *= 100  # then 60 ms of closure, and the part that was found
    sound[8_960:13_000] *= 100
    power = power_of(sound.astype(np.int16))
    first, end = loud_part(power, 56)
    assert (first, end) == (pytest.approx(25, abs=3), pytest.approx(81, abs=3))
    assert loud_part(power[24:], 32)[0] == pytest.approx(0, abs=3)
    assert loud_part(power_of(noise.astype(np.int16)), 10)[1] <= power.shape[0]


def test_a_sure_interruption_pauses_the_voice_at_once_and_ends_it_when_it_goes_on():
    found = decided(turns_by_level(wants_floor=0.99), voice(6, (2, 4)), voice(6, (1, 2.6)))
    assert effects(found) == [("LOWERED", 0.08), ("PAUSED", 0.3), ("INTERRUPTED", 0.8)]
    assert ("BOTH", 2.0) in floors(found)


def test_a_likely_interruption_pauses_the_voice_later_and_ends_it_when_it_is_over():
    found = decided(turns_by_level(wants_floor=0.6), voice(6, (2, 2.7)), voice(6, (1, 5)))
    assert effects(found) == [("LOWERED", 0.08), ("PAUSED", 0.46), ("INTERRUPTED", 0.86)]


def test_a_sound_that_is_longer_than_a_backchannel_needs_little_probability():
    found = decided(turns_by_level(wants_floor=0.1), voice(6, (2, 3.2)), voice(6, (1, 5)))
    assert effects(found) == [("LOWERED", 0.08), ("INTERRUPTED", 1.0)]


def test_an_unlikely_one_that_does_not_end_takes_the_floor_after_thrice_the_longest_backchannel():
    found = decided(turns_by_level(wants_floor=0.05), voice(9, (2, 8)), voice(9, (1, 8)))
    assert effects(found) == [("LOWERED", 0.08), ("INTERRUPTED", 3.0)]


@pytest.mark.parametrize(
    ("others", "wants_floor", "user_until", "expected"),
    [
        ({"interrupt_probability": 0.7}, 0.6, 2.7, ["LOWERED", "PAUSED", "RESUMED", "BACKCHANNEL"]),
        ({"interrupt_after_ms": 400}, 0.99, 2.45, ["LOWERED", "PAUSED", "INTERRUPTED"]),
        ({"long_probability": 0.2}, 0.1, 3.2, ["LOWERED", "RESUMED", "BACKCHANNEL"]),
    ],
)
def test_each_threshold_of_the_check_counts(others, wants_floor, user_until, expected):
    usual = decided(turns_by_level(wants_floor=wants_floor), voice(6, (2, user_until)), voice(6, (1, 5)))
    turns = turns_by_level(wants_floor=wants_floor, **others)
    found = effects(decided(turns, voice(6, (2, user_until)), voice(6, (1, 5))))
    assert [name for name, _ in found] == expected
    assert found != effects(usual)


def test_the_voice_resumes_after_the_silence_that_is_asked_for():
    for resume_after_ms, resumed_s in ((160, 0.56), (300, 0.70)):
        turns = turns_by_level(wants_floor=0.1, resume_after_ms=resume_after_ms)
        found = decided(turns, voice(6, (2, 2.4)), voice(6, (1, 5)))
        assert ("RESUMED", resumed_s) in effects(found)


def test_the_lists_of_words_and_the_wait_for_them_count():
    def names(at: int, text: str, **others: object) -> list[str]:
        turns = turns_by_level(wants_floor=0.1, **others)
        turns.rules.add_words(UserWords(0, 8_000, "hello", True))  # there is a recogniser
        total, user, agent = Decisions(), voice(6, (2, 2.4)), voice(6, (1, 5))
        for place in range(0, user.size, FRAME):
            if place == at:
                turns.rules.add_words(UserWords(32_000, 38_400, text, False))
            for speaker, samples in ((USER, user), (AGENT, agent)):
                add(total, turns.push(speaker, place, samples[place : place + FRAME]))
        add(total, turns.finish())
        return [name for name, _ in effects(total)]

    assert "INTERRUPTED" not in names(48_000, "genau")
    assert "INTERRUPTED" in names(48_000, "genau", interruption_words="genau")
    assert "INTERRUPTED" in names(48_000, "that is a lot")
    assert "INTERRUPTED" not in names(48_000, "that is a lot", backchannel_words="that is a lot")
    assert "INTERRUPTED" not in names(60_000, "stop", words_wait_ms=0)
    assert "INTERRUPTED" in names(50_560, "stop")


def test_a_pause_of_the_agents_voice_ends_no_turn_of_the_agent_until_it_is_decided():
    """The agent's own silence while it is paused once looked like the end of what it said."""
    turns = turns_by_level(wants_floor=0.55, interrupt_probability=0.9, longest_backchannel_ms=1500)
    found = decided(turns, voice(6, (2, 3.2)), voice(6, (1, 2.5), (3.7, 5)))
    assert effects(found) == [("LOWERED", 0.08), ("PAUSED", 0.46), ("RESUMED", 1.36), ("BACKCHANNEL", 1.7)]
    assert [(e.kind.name, e.event_sample / 16_000) for e in found.events if e.speaker is AGENT] == [
        ("START", 1.0), ("END", 5.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "is_final", "kind"),
    [
        ("Wait!", False, "INTERRUPTED"), ("no, stop", False, "INTERRUPTED"),
        ("the other one", False, "INTERRUPTED"), ("Mhm. Yeah.", False, "RESUMED"),
        ("That's right", False, "RESUMED"), ("", True, "RESUMED"),
    ],
)  # fmt: skip
def test_words_decide_against_the_sound(text: str, is_final: bool, kind: str):
    against = 0.1 if kind == "INTERRUPTED" else 0.99
    turns = turns_by_level(wants_floor=against, sure_probability=1.0, pause_probability=1.0)
    total = Decisions()
    user, agent = voice(6, (2, 2.6)), voice(6, (1, 5))
    for place in range(0, user.size, FRAME):
        if place == 40_000:
            turns.rules.add_words(UserWords(32_000, 40_000, text, is_final))
        for speaker, samples in ((USER, user), (AGENT, agent)):
            add(total, turns.push(speaker, place, samples[place : place + FRAME]))
    add(total, turns.finish())
    assert kind in [name for name, _ in effects(total)]
    assert {"INTERRUPTED": "RESUMED", "RESUMED": "INTERRUPTED"}[kind] not in [
        name for name, _ in effects(total)
    ]


def test_words_that_come_after_the_sound_still_interrupt_and_the_turn_waits_for_them():
    turns = turns_by_level(wants_floor=0.1)
    turns.rules.add_words(UserWords(0, 8_000, "hello", True))  # there is a recogniser
    total = Decisions()
    user, agent = voice(6, (2, 2.4)), voice(6, (1, 5))
    for place in range(0, user.size, FRAME):
        if place == 50_560:
            turns.rules.add_words(UserWords(32_000, 38_400, "stop", True))
        for speaker, samples in ((USER, user), (AGENT, agent)):
            add(total, turns.push(speaker, place, samples[place : place + FRAME]))
    assert [name for name, _ in effects(total)] == ["LOWERED", "RESUMED", "INTERRUPTED"]
    assert total.events[-1].kind is Kind.END or any(e.kind is Kind.END for e in total.events)


def test_an_answer_of_the_model_that_comes_later_counts_and_is_published():
    asked: list[tuple[int, int]] = []
    turns = Turns(
        TurnsConfig(interruption_check=False), ask=lambda number, at, samples: asked.append((number, at))
    )
    for speaker in Speaker:
        turns.voices[speaker] = SpeakerActivity(LevelDetector(), turns.config)
    total = Decisions()
    user = voice(4, (1, 2))
    for place in range(0, user.size, FRAME):
        if place == 36_480:
            turns.rules.answer(*asked[0], 0.9, place)
        for speaker in (USER, AGENT):
            add(total, turns.push(speaker, place, user[place : place + FRAME] * (speaker is USER)))
    assert asked == [(0, 35_200)]
    kinds = [(e.kind.name, round(e.decision_delay_s, 2), e.probability) for e in total.events]
    assert kinds == [("START", 0.14, -1.0), ("JUDGED", 0.28, 0.9), ("END", 0.3, -1.0)]
