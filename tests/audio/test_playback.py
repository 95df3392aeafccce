"""The agent's voice on the microphone's clock."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from timar_audio.plan import SpeechPlan
from timar_audio.playback import Playback
from timar_audio.playback_config import PlaybackConfig
from timar_audio.speech import FileSpeech, SpeechSource
from timar_common.diagnostics import Level
from timar_common.wav import SoundFile

START_NS = 7_000_000_000
SAMPLE_NS = 62_500
FRAME = 320


@pytest.fixture
def ramp(tmp_path):
    """A file whose sample n is n + 1, three seconds long."""
    path = tmp_path / "ramp.wav"
    soundfile.write(path, (np.arange(1, 48_001) % 30_000).astype(np.int16), 16_000)
    return path


def ramp_at(first: int, samples: int) -> np.ndarray:
    places = np.arange(first, first + samples)
    return np.where(places < 48_000, (places + 1) % 30_000, 0).astype(np.int16)


class Run:
    """Playback with a user's stream that arrives a millisecond after each block's end."""

    def __init__(self, playback: Playback) -> None:
        self.playback = playback
        self.planned, self.heard = [], []

    def user_block(self, first: int, samples: int = FRAME) -> None:
        now_ns = START_NS + (first + samples) * SAMPLE_NS + 1_000_000
        self.playback.observe_user(first, samples, START_NS + first * SAMPLE_NS, now_ns)
        self.advance(now_ns)

    def advance(self, now_ns: int) -> None:
        planned, heard = self.playback.advance(now_ns)
        self.planned += planned
        self.heard += heard


def heard_sound(run: Run) -> np.ndarray:
    return np.concatenate([block.samples for block in run.heard])


def test_the_files_position_is_the_conversations_and_silence_follows(ramp):
    run = Run(Playback(PlaybackConfig(), FileSpeech(SoundFile(ramp))))
    for first in range(0, 64_000, FRAME):
        run.user_block(first)
    np.testing.assert_array_equal(heard_sound(run), ramp_at(0, 64_000))
    assert [block.first_sample for block in run.heard] == list(range(0, 64_000, FRAME))
    for block in run.heard:
        assert abs(block.monotonic_ns - START_NS - block.first_sample * SAMPLE_NS) < 1000


def test_speech_is_planned_at_least_so_far_ahead_and_only_where_there_is_some(ramp):
    config = PlaybackConfig(plan_ahead_s=1.5)
    run = Run(Playback(config, FileSpeech(SoundFile(ramp))))
    for first in range(0, 64_000, FRAME):
        run.user_block(first)
        planned_end = run.planned[-1].first_sample + run.planned[-1].samples.size
        assert planned_end >= min(48_000, run.playback.samples_heard + 24_000)
    sound = np.concatenate([chunk.samples for chunk in run.planned])
    np.testing.assert_array_equal(sound, ramp_at(0, 48_000))
    assert {chunk.revision for chunk in run.planned} == {0}


def test_what_was_planned_is_what_is_heard(ramp):
    run = Run(Playback(PlaybackConfig(), FileSpeech(SoundFile(ramp))))
    for first in range(0, 32_000, FRAME):
        run.user_block(first)
    planned = np.zeros(100_000, np.int16)
    for chunk in run.planned:
        planned[chunk.first_sample : chunk.first_sample + chunk.samples.size] = chunk.samples
    np.testing.assert_array_equal(planned[:32_000], heard_sound(run))


def test_coming_late_it_joins_at_the_conversations_place(ramp):
    run = Run(Playback(PlaybackConfig(), FileSpeech(SoundFile(ramp))))
    for first in range(16_000, 32_000, FRAME):
        run.user_block(first)
    assert run.heard[0].first_sample == 16_000
    np.testing.assert_array_equal(heard_sound(run), ramp_at(16_000, 16_000))


def test_lost_user_blocks_shift_nothing(ramp):
    run = Run(Playback(PlaybackConfig(), FileSpeech(SoundFile(ramp))))
    for first in range(0, 40_000, FRAME):
        if not 8000 <= first < 16_000:
            run.user_block(first)
    np.testing.assert_array_equal(heard_sound(run), ramp_at(0, 40_000))


@settings(deadline=None, max_examples=40)
@given(cuts=st.lists(st.integers(1, 4000), min_size=1, max_size=20))
def test_however_user_blocks_are_cut_the_agents_voice_is_whole(tmp_path_factory, cuts):
    path = tmp_path_factory.mktemp("ramp") / "ramp.wav"
    soundfile.write(path, (np.arange(1, 48_001) % 30_000).astype(np.int16), 16_000)
    run = Run(Playback(PlaybackConfig(), FileSpeech(SoundFile(path))))
    place = 0
    for length in cuts:
        run.user_block(place, length)
        place += length
    assert [block.first_sample for block in run.heard] == list(range(0, place // FRAME * FRAME, FRAME))
    if run.heard:
        np.testing.assert_array_equal(heard_sound(run), ramp_at(0, place // FRAME * FRAME))


def test_when_the_microphone_is_silent_the_clock_is_carried_on(ramp):
    run = Run(Playback(PlaybackConfig(free_run_after_ms=100), FileSpeech(SoundFile(ramp))))
    for first in range(0, 16_000, FRAME):
        run.user_block(first)
    last_ns = START_NS + 16_000 * SAMPLE_NS + 1_000_000
    run.advance(last_ns + 50_000_000)
    assert run.playback.samples_heard == 16_000
    run.advance(last_ns + 500_000_000)
    assert run.playback.samples_heard == pytest.approx(24_000, abs=FRAME)
    np.testing.assert_array_equal(heard_sound(run), ramp_at(0, run.playback.samples_heard))


def test_nothing_happens_before_the_clock_is_known(ramp):
    playback = Playback(PlaybackConfig(), FileSpeech(SoundFile(ramp)))
    assert playback.advance(START_NS) == ([], [])
    report = playback.report()
    assert report.level is Level.WARN
    assert "waiting for user/audio_raw" in report.message


def test_an_agent_that_says_nothing_is_heard_as_silence():
    run = Run(Playback(PlaybackConfig(), SpeechSource()))
    for first in range(0, 16_000, FRAME):
        run.user_block(first)
    assert run.planned == []
    assert heard_sound(run).size == 16_000
    assert not heard_sound(run).any()


def test_a_cut_withdraws_what_is_planned_but_not_what_was_heard(ramp):
    run = Run(Playback(PlaybackConfig(), FileSpeech(SoundFile(ramp))))
    for first in range(0, 8000, FRAME):
        run.user_block(first)
    cut = run.playback.plan.cut(8000)
    assert (cut.first_sample, cut.revision, cut.samples.size) == (8000, 1, 0)
    for first in range(8000, 16_000, FRAME):
        run.user_block(first)
    sound = heard_sound(run)
    np.testing.assert_array_equal(sound[:8000], ramp_at(0, 8000))
    assert not sound[8000:16_000].any()


def test_a_jump_of_the_clock_is_skipped_and_counted(ramp):
    run = Run(Playback(PlaybackConfig(), FileSpeech(SoundFile(ramp))))
    run.user_block(0)
    run.user_block(160_000)
    assert run.playback.samples_skipped == (160_320 - 320 - 32_000) // FRAME * FRAME
    assert run.playback.report().level is Level.WARN
    assert run.heard[-1].first_sample == 160_000


def test_planned_speech_never_overlaps():
    plan = SpeechPlan()
    plan.add(100, np.ones(50, np.int16))
    with pytest.raises(ValueError, match="speech at sample 120 overlaps what is planned until 150; cut"):
        plan.add(120, np.ones(50, np.int16))
    plan.cut(110)
    plan.add(120, np.full(10, 2, np.int16))
    np.testing.assert_array_equal(
        plan.take(95, 135), np.r_[np.zeros(5), np.ones(10), np.zeros(10), np.full(10, 2), np.zeros(5)]
    )
    assert plan.planned_samples == 0
