"""Captured sound in its place: index, time, holes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timar_audio.capture import Capture
from timar_audio.capture_config import CaptureConfig
from timar_audio.sources import Sound
from timar_common.diagnostics import Level

START_NS = 5_000_000_000
SAMPLE_NS = 62_500
BLOCK = 320


def sound(samples: np.ndarray, counter: float, lag_ms: float = 0.0, has_overflowed: bool = False) -> Sound:
    """Sound whose source's counter stood at `counter` on time, or after `lag_ms` of lost sound."""
    return Sound(samples, counter, START_NS + round(counter * SAMPLE_NS + lag_ms * 1e6), has_overflowed)


def ramp(first: int, length: int) -> np.ndarray:
    return (np.arange(first, first + length) % 30_000).astype(np.int16)


def fed(capture: Capture, cuts: list[int]) -> list:
    blocks, place = [], 0
    for length in cuts:
        blocks += capture.push(sound(ramp(place, length), place + length))
        place += length
    return blocks


@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, 2000), min_size=1, max_size=40))
def test_however_sound_comes_cut_the_blocks_are_the_same(cuts):
    blocks = fed(Capture(320), cuts)
    assert [block.first_sample for block in blocks] == list(range(0, sum(cuts) // 320 * 320, 320))
    heard = np.concatenate([block.samples for block in blocks]) if blocks else np.zeros(0)
    np.testing.assert_array_equal(heard, ramp(0, heard.size))
    assert all(block.filled_samples == 0 for block in blocks)


def test_a_block_is_stamped_with_the_time_of_its_first_sample():
    blocks = fed(Capture(320), [320] * 100)
    for block in blocks:
        assert abs(block.monotonic_ns - (START_NS + block.first_sample * SAMPLE_NS)) < 1000


def test_stamps_stay_within_5_ms_of_a_jittering_device_200_ppm_off():
    rng = np.random.default_rng(0)
    capture = Capture(320)
    true_ns = SAMPLE_NS * (1 - 200e-6)
    errors_ms = []
    for index in range(1, 3000):
        observed_ns = START_NS + index * 320 * true_ns + rng.exponential(2e6)
        blocks = capture.push(Sound(ramp(0, 320), 320.0 * index, round(observed_ns)))
        errors_ms += [abs(b.monotonic_ns - START_NS - b.first_sample * true_ns) / 1e6 for b in blocks]
    assert np.percentile(errors_ms[100:], 99) < 5
    assert capture.clock.rate_error_ppm == pytest.approx(200, abs=30)


def test_an_overflow_is_filled_with_silence_of_the_lost_length_and_counted():
    capture = Capture(320)
    blocks = fed(capture, [320] * 100)
    place, lost_ms = 32_000, 75.0
    for index in range(1, 51):
        counter = place + 320 * index
        blocks += capture.push(sound(ramp(counter - 320, 320), counter, lost_ms, has_overflowed=index == 1))
    assert capture.samples_lost == pytest.approx(1200, abs=16)
    assert capture.overflows == 1
    heard = np.concatenate([block.samples for block in blocks])
    after = place + capture.samples_lost
    np.testing.assert_array_equal(heard[:place], ramp(0, place))
    assert not heard[place:after].any()
    np.testing.assert_array_equal(heard[after:], ramp(place, heard.size - after))
    assert sum(block.filled_samples for block in blocks) == capture.samples_lost
    last = blocks[-1]
    assert abs(last.monotonic_ns - (START_NS + last.first_sample * SAMPLE_NS)) < 2e6
    report = capture.report()
    assert report.level is Level.WARN
    assert report.values["samples_lost"] == capture.samples_lost


def test_a_device_that_stood_still_in_silence_is_filled_as_well():
    capture = Capture(320)
    fed(capture, [320] * 100)
    capture.push(sound(ramp(32_000, 320), 32_320, lag_ms=2000.0))
    assert capture.samples_lost == pytest.approx(32_000, abs=32)


def test_lateness_that_is_only_jitter_fills_nothing():
    capture = Capture(320)
    fed(capture, [320] * 100)
    capture.push(sound(ramp(32_000, 320), 32_320, lag_ms=200.0))
    assert capture.samples_lost == 0


def test_a_hole_beyond_a_minute_is_a_broken_clock():
    capture = Capture(320)
    fed(capture, [320] * 100)
    with pytest.raises(ValueError, match=r"stays 70\.0 s behind machine time; at most 60 s are filled"):
        capture.push(sound(ramp(32_000, 320), 32_320, lag_ms=70_000.0))


def test_level_and_peak_are_those_of_the_last_second():
    capture = Capture(320)
    tone = np.round(16_384 * np.sin(2 * np.pi * 500 * np.arange(320) / 16_000)).astype(np.int16)
    place = 0
    for block in [np.full(320, 32_767, np.int16)] * 10 + [tone] * 50:
        place += 320
        capture.push(sound(block, place))
    values = capture.report().values
    assert values["level_dbfs"] == pytest.approx(-9.03, abs=0.05)
    assert values["peak_dbfs"] == pytest.approx(-6.02, abs=0.05)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("source", "telepathy", "expected one of microphone, file"),
        ("block_ms", 5, "expected a number from 10 to 100"),
        ("wait_timeout_s", float("nan"), "expected float, a finite number"),
        ("channel", -2, "expected a number from -1 to 63"),
    ],
)
def test_a_configuration_out_of_range_is_refused_with_field_value_and_range(field, value, words):
    with pytest.raises(ValueError, match=rf"CaptureConfig\.{field} is .*{words}"):
        CaptureConfig(**{field: value})


def test_a_microphone_that_comes_back_goes_on_in_true_time_over_counted_silence():
    capture = Capture(BLOCK)
    blocks = feed_counter(capture, start_ns=START_NS, seconds=2.0)
    gone_ns = START_NS + 2_000_000_000
    for now_ns in range(gone_ns, gone_ns + 3_000_000_000, 20_000_000):
        blocks += capture.fill_until(now_ns)
    back_ns = gone_ns + 3_050_000_000
    blocks += feed_counter(capture, start_ns=back_ns, seconds=2.0)
    assert [block.first_sample for block in blocks] == list(range(0, BLOCK * len(blocks), BLOCK))
    assert capture.samples_lost == pytest.approx(3.05 * 16_000, abs=40)
    sound = np.concatenate([block.samples for block in blocks])
    silent = np.flatnonzero(sound == 0)
    assert silent[0] == 32_000
    assert silent[-1] == pytest.approx(5.05 * 16_000, abs=40)
    assert abs(blocks[-1].monotonic_ns - START_NS - blocks[-1].first_sample * 62_500) < 3_000_000
    assert sum(block.filled_samples for block in blocks) == pytest.approx(capture.samples_lost, abs=BLOCK)


def test_sound_that_was_already_filled_with_silence_is_not_put_in_again():
    capture = Capture(BLOCK)
    feed_counter(capture, start_ns=START_NS, seconds=1.0)
    capture.fill_until(START_NS + 2_000_000_000)
    blocks = feed_counter(capture, start_ns=START_NS + 1_500_000_000, seconds=1.0)
    assert abs(blocks[-1].monotonic_ns - START_NS - blocks[-1].first_sample * 62_500) < 3_000_000
    assert blocks[-1].first_sample == pytest.approx(2.5 * 16_000, abs=2 * BLOCK)


def feed_counter(capture: Capture, start_ns: int, seconds: float) -> list:
    """A source that begins to count at start_ns; every sample is 100."""
    blocks = []
    for taken in range(BLOCK, round(seconds * 16_000) + 1, BLOCK):
        sound = Sound(np.full(BLOCK, 100, np.int16), float(taken), start_ns + taken * 62_500)
        blocks += capture.push(sound)
    return blocks
