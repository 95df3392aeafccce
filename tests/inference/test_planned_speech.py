"""The plan of the agent's speech: what a turn reads is what is planned now, silence elsewhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timar_inference.planned_speech import PlannedSpeech


def pcm(value: int, count: int) -> np.ndarray:
    return np.full(count, value, np.int16)


def test_samples_outside_the_plan_are_silence():
    plan = PlannedSpeech(1000)
    plan.push(10, pcm(7, 5), 0)
    assert plan.read(8, 17).tolist() == [0, 0, 7, 7, 7, 7, 7, 0, 0]


def test_higher_revision_withdraws_everything_at_and_after_its_first_sample():
    plan = PlannedSpeech(1000)
    plan.push(0, pcm(1, 10), 0)
    plan.push(20, pcm(2, 10), 0)
    plan.push(5, pcm(3, 2), 1)
    assert plan.read(0, 30).tolist() == [1] * 5 + [3] * 2 + [0] * 23
    assert plan.revision == 1


def test_chunk_without_samples_only_cuts():
    plan = PlannedSpeech(1000)
    plan.push(0, pcm(1, 10), 3)
    plan.push(4, pcm(0, 0), 4)
    assert plan.read(0, 10).tolist() == [1] * 4 + [0] * 6


def test_chunk_of_an_older_plan_is_left_out_and_counted():
    plan = PlannedSpeech(1000)
    plan.push(0, pcm(1, 10), 2)
    plan.push(5, pcm(9, 10), 1)
    assert plan.read(0, 15).tolist() == [1] * 10 + [0] * 5
    assert plan.stale_chunks == 1


def test_revision_starts_anew_after_it_was_forgotten():
    plan = PlannedSpeech(1000)
    plan.push(0, pcm(1, 10), 7)
    plan.forget_revision()
    plan.push(10, pcm(2, 5), 0)
    assert plan.read(0, 15).tolist() == [1] * 10 + [2] * 5
    assert plan.revision == 0


def test_plan_is_bounded_and_a_refused_chunk_changes_nothing():
    plan = PlannedSpeech(100)
    plan.push(0, pcm(1, 80), 0)
    with pytest.raises(ValueError, match=r"101 samples .* at most 100"):
        plan.push(80, pcm(2, 21), 0)
    assert plan.planned_samples == 80
    plan.keep_within(80, 1000)
    plan.push(80, pcm(2, 100), 0)
    assert plan.planned_samples == 100


@pytest.mark.parametrize(
    ("first", "samples", "revision", "word"),
    [
        (-1, pcm(1, 3), 0, "sample -1"),
        (0, pcm(1, 3), -1, "revision -1"),
        (0, np.zeros(3, np.float32), 0, "float32"),
        (0, np.zeros((2, 3), np.int16), 0, r"\(2, 3\)"),
    ],
)
def test_impossible_chunk_is_refused_by_name(first, samples, revision, word):
    plan = PlannedSpeech(100)
    with pytest.raises(ValueError, match=word):
        plan.push(first, samples, revision)
    assert plan.planned_samples == 0


chunks = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 20), st.integers(0, 4), st.integers(1, 99)), max_size=25
)


@settings(max_examples=150, deadline=None)
@given(chunks)
def test_plan_equals_an_array_that_is_written_and_cut(pushes):
    plan, expected, newest = PlannedSpeech(10_000), np.zeros(100, np.int16), None
    for first, count, revision, value in pushes:
        plan.push(first, pcm(value, count), revision)
        if newest is None or revision >= newest:
            if newest is None or revision > newest:
                expected[first:] = 0
            newest = revision
            expected[first : first + count] = value
        assert plan.read(0, 100).tolist() == expected.tolist()
