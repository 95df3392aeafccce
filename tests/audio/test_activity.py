"""Voice activity: the state machine, and blocks in any cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timar_audio.activity import ActivityConfig, SpeakerActivity, Started, State, Stopped, VoiceState
from timar_audio.vad import WebRtcDetector

FRAME = 320
EAGER = ActivityConfig(start_ms=60)
"""Three frames of speech make a start."""


class LevelDetector:
    """Speech is what is not silence."""

    frame_samples = FRAME

    def probability(self, frame: np.ndarray) -> float:
        return float(np.count_nonzero(frame) > FRAME // 2)


def changes_of(decisions: list[bool], config: ActivityConfig | None = None) -> list[tuple[int, object]]:
    """Run frames through the state machine; return (frame in which it was decided, change)."""
    machine = VoiceState(config or EAGER)
    found = []
    for index, is_speech in enumerate(decisions):
        change = machine.step(index * FRAME, (index + 1) * FRAME, is_speech)
        if change is not None:
            found.append((index, change))
    return found


def frames(text: str) -> list[bool]:
    return [letter == "x" for letter in text]


def test_starts_and_ends_are_times_of_the_sound_and_not_of_the_decision():
    found = changes_of(frames("..... xxxxxxxxxx ..................".replace(" ", "")))
    assert found == [(7, Started(5 * FRAME)), (26, Stopped(15 * FRAME))]


def test_a_click_starts_nothing():
    assert changes_of(frames("..x....xx......x.x...")) == []


def test_a_stutter_at_the_start_starts_where_it_began():
    assert changes_of(frames("..xx.xx.xx.....")) == [(6, Started(2 * FRAME))]


def test_a_short_pause_is_no_end():
    found = changes_of(frames("xxxxx" + "." * 11 + "xxxxx" + "." * 20))
    assert found == [(2, Started(0)), (32, Stopped(21 * FRAME))]


def test_a_click_in_the_hang_does_not_prolong_it():
    found = changes_of(frames("xxxxx" + "." * 6 + "x" + "." * 10))
    assert found == [(2, Started(0)), (16, Stopped(5 * FRAME))]


def test_every_state_is_passed_through():
    machine = VoiceState(EAGER)
    seen = []
    for index, is_speech in enumerate(frames(".xxx..xx............")):
        machine.step(index * FRAME, (index + 1) * FRAME, is_speech)
        seen.append(machine.state)
    order = [state for index, state in enumerate(seen) if index == 0 or seen[index - 1] is not state]
    assert " ".join(state.value for state in order) == (
        "quiet starting speaking stopping speaking stopping quiet"
    )


@settings(deadline=None, max_examples=300)
@given(
    decisions=st.lists(st.booleans(), max_size=300),
    start_ms=st.integers(10, 200),
    hang_ms=st.integers(20, 500),
    resume_ms=st.integers(10, 200),
)
def test_every_start_has_one_end_in_order_without_overlap(decisions, start_ms, hang_ms, resume_ms):
    config = ActivityConfig(start_ms=start_ms, hang_ms=hang_ms, resume_ms=resume_ms)
    found = changes_of(decisions + [False] * 40, config)
    assert [type(change) for _, change in found] == [Started, Stopped] * (len(found) // 2)
    places = [c.first_sample if isinstance(c, Started) else c.end_sample for _, c in found]
    assert places == sorted(places)
    assert all(start < end for start, end in zip(places[::2], places[1::2], strict=True))
    for (index, change), place in zip(found, places, strict=True):
        decided = (index + 1) * FRAME
        hang = hang_ms * 16
        if isinstance(change, Stopped):
            assert hang <= decided - place < hang + FRAME + resume_ms * 16
        else:
            assert place < decided


def speech_like(seed: int, seconds: float) -> np.ndarray:
    """Bursts of noise with pauses, which the WebRTC detector answers with every kind of change."""
    rng = np.random.default_rng(seed)
    samples = rng.standard_normal(round(seconds * 16_000)) * 30
    place = 0
    while place < samples.size:
        place += int(rng.integers(1600, 16_000))
        length = int(rng.integers(800, 16_000))
        samples[place : place + length] *= 200
        place += length
    return np.clip(samples, -32_768, 32_767).astype(np.int16)


SOUND = speech_like(3, 8)


def whole() -> list:
    voice = SpeakerActivity(WebRtcDetector(2, 20), ActivityConfig())
    return [frame for i in range(0, SOUND.size, 16_000) for frame in voice.push(i, SOUND[i : i + 16_000])]


WHOLE = whole()


@settings(deadline=None, max_examples=30)
@given(cuts=st.lists(st.integers(1, 5000), min_size=30, max_size=60))
def test_however_blocks_are_cut_the_decisions_are_the_same(cuts):
    voice = SpeakerActivity(WebRtcDetector(2, 20), ActivityConfig())
    found, place = [], 0
    for length in cuts:
        found += voice.push(place, SOUND[place : place + length])
        place = min(place + length, SOUND.size)
    assert found == WHOLE[: len(found)]
    assert len(found) == place // FRAME


def test_the_sound_used_here_has_starts_and_ends():
    kinds = [type(frame.change) for frame in WHOLE if frame.change]
    assert len(kinds) >= 8
    assert {Started, Stopped} == set(kinds)


def voice_of_levels() -> SpeakerActivity:
    return SpeakerActivity(LevelDetector(), ActivityConfig())


def pushed(voice: SpeakerActivity, blocks: list[tuple[int, np.ndarray]]) -> list:
    return [frame for first, samples in blocks for frame in voice.push(first, samples)]


def test_lost_sound_is_heard_as_silence_of_its_length():
    loud = np.full(3200, 9000, np.int16)
    lossy = voice_of_levels()
    found = pushed(lossy, [(0, loud), (12_800, loud)])
    with_silence = voice_of_levels()
    wanted = pushed(with_silence, [(0, loud), (3200, np.zeros(9600, np.int16)), (12_800, loud)])
    assert found == wanted
    assert lossy.stream.counters.lost == 9600
    assert [f.change for f in found if f.change] == [Started(0), Stopped(3200), Started(12_800)]


def test_sound_that_comes_twice_or_late_changes_nothing():
    blocks = [(i, SOUND[i : i + 320]) for i in range(0, 32_000, 320)]
    wanted = pushed(SpeakerActivity(WebRtcDetector(), ActivityConfig()), blocks)
    doubled = SpeakerActivity(WebRtcDetector(), ActivityConfig())
    found = pushed(doubled, [block for pair in zip(blocks, blocks, strict=True) for block in pair])
    found += doubled.push(640, SOUND[640:960])
    assert found == wanted
    assert doubled.stream.counters.repeated == 32_320


def test_a_long_hole_is_heard_whole_with_bounded_memory():
    voice = voice_of_levels()
    loud = np.full(3200, 9000, np.int16)
    found = pushed(voice, [(0, loud), (16_000 * 50, loud)])
    assert [frame.end_sample for frame in found] == list(range(FRAME, 16_000 * 50 + 3200 + 1, FRAME))


def test_an_index_an_hour_ahead_is_refused():
    voice = voice_of_levels()
    voice.push(0, np.zeros(320, np.int16))
    with pytest.raises(ValueError, match="at most 960000 can be filled with silence"):
        voice.push(3600 * 16_000, np.zeros(320, np.int16))


def test_frames_lie_on_the_clocks_own_grid():
    voice = voice_of_levels()
    found = pushed(voice, [(1000, np.zeros(1000, np.int16))])
    assert [frame.first_sample for frame in found] == [960, 1280, 1600]


def test_faint_sound_is_never_speech():
    faint = (SOUND[:32_000] / 300).astype(np.int16)
    voice = SpeakerActivity(WebRtcDetector(0, 20), ActivityConfig(min_level_dbfs=-40.0))
    assert all(frame.state is State.QUIET for frame in pushed(voice, [(0, faint)]))


@pytest.mark.parametrize("frame_ms", [10, 20, 30])
def test_the_detector_takes_10_20_and_30_ms(frame_ms):
    detector = WebRtcDetector(2, frame_ms)
    assert detector.probability(np.zeros(detector.frame_samples, np.int16)) == 0.0


def test_the_detector_refuses_other_frames_with_what_it_expects():
    with pytest.raises(ValueError, match="frame_ms is 25, expected 10, 20 or 30"):
        WebRtcDetector(2, 25)
    with pytest.raises(ValueError, match="aggressiveness is 4, expected 0"):
        WebRtcDetector(4)
    with pytest.raises(ValueError, match="a frame is 320 int16 samples, got int16 of shape"):
        WebRtcDetector().probability(np.zeros(319, np.int16))
