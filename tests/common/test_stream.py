from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timar_common.stream import SampleStream


def counted(first: int, count: int) -> np.ndarray:
    """Samples that carry their own index, so that a misplaced one shows."""
    return (np.arange(first, first + count) % 30_000 + 1).astype(np.int16)


def test_lost_audio_block_is_filled_with_silence_of_its_length() -> None:
    stream = SampleStream(10_000)
    stream.push(0, counted(0, 320))
    assert stream.push(640, counted(640, 320)) == 320
    np.testing.assert_array_equal(stream.read(320, 640), 0)
    np.testing.assert_array_equal(stream.read(640, 960), counted(640, 320))
    assert (stream.counters.received, stream.counters.lost, stream.counters.repeated) == (640, 320, 0)
    assert stream.count_filled(0, 960) == 320


def test_a_block_that_comes_twice_or_late_changes_nothing() -> None:
    stream = SampleStream(10_000)
    for first in (0, 320, 640):
        stream.push(first, counted(first, 320))
    stream.push(320, counted(7_000, 320))
    np.testing.assert_array_equal(stream.read(0, 960), counted(0, 960))
    assert stream.counters.repeated == 320


def test_what_was_never_heard_reads_as_silence() -> None:
    stream = SampleStream(1_000)
    stream.push(100, counted(100, 10))
    np.testing.assert_array_equal(stream.read(-5, 100), np.zeros(105))
    np.testing.assert_array_equal(stream.read(110, 200), np.zeros(90))


@given(
    cuts=st.lists(st.integers(1, 700), min_size=1, max_size=40),
    fates=st.lists(st.sampled_from(["whole", "lost", "twice"]), min_size=40, max_size=40),
    capacity=st.integers(200, 3_000),
)
@settings(max_examples=150, deadline=None)
def test_no_sample_ever_changes_its_place(cuts: list[int], fates: list[str], capacity: int) -> None:
    stream = SampleStream(capacity)
    truth = np.zeros(sum(cuts), np.int16)
    first = 0
    for count, fate in zip(cuts, fates, strict=False):
        if fate != "lost":
            truth[first : first + count] = counted(first, count)
            for _ in range(2 if fate == "twice" else 1):
                stream.push(first, counted(first, count))
        first += count
    low = max(stream.first_sample, stream.end_sample - capacity)
    np.testing.assert_array_equal(stream.read(low, stream.end_sample), truth[low : stream.end_sample])
    assert stream.counters.received + stream.counters.lost == stream.end_sample - stream.first_sample


@pytest.mark.parametrize(
    ("first", "samples", "word"),
    [
        (-1, np.zeros(3, np.int16), "starts at sample -1"),
        (10**9, np.zeros(3, np.int16), "reset the conversation"),
        (320, np.zeros(3, np.float32), "one row of int16"),
        (320, np.zeros((3, 2), np.int16), "one row of int16"),
    ],
)
def test_an_impossible_block_is_refused_and_changes_nothing(
    first: int, samples: np.ndarray, word: str
) -> None:
    stream = SampleStream(1_000)
    stream.push(0, counted(0, 320))
    with pytest.raises(ValueError, match=word):
        stream.push(first, samples)
    assert stream.end_sample == 320


def test_reading_what_is_no_longer_kept_is_refused() -> None:
    stream = SampleStream(100)
    stream.push(0, counted(0, 320))
    with pytest.raises(ValueError, match="no longer kept"):
        stream.read(0, 320)


@pytest.mark.parametrize("filled", [1, 100, 319])
def test_a_partly_filled_block_counts_its_filled_samples_exactly_however_the_range_is_cut(
    filled: int,
) -> None:
    """It counted as wholly filled or not at all."""
    stream = SampleStream(4000)
    stream.push(0, np.ones(320, np.int16))
    stream.push(320, np.ones(320, np.int16), filled)
    stream.push(640, np.ones(320, np.int16), 320)
    assert stream.count_filled(0, 960) == filled + 320
    assert (
        sum(stream.count_filled(first, first + 7) for first in range(320, 635, 7))
        + stream.count_filled(635, 640)
        == filled
    )
    assert stream.count_filled(320, 480) == pytest.approx(filled / 2, abs=1)
    with pytest.raises(ValueError, match="321 of 320"):
        stream.push(960, np.ones(320, np.int16), 321)
