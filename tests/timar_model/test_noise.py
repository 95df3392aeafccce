"""The noise of a session: standard normal in every frame, smooth over time when asked to be."""

from __future__ import annotations

import numpy as np
import pytest
from timar_model.noise import NoiseSource
from timar_model.sampling import drawing_plan
from timar_model.turns import Turn


def draw(source, lengths, seed=0, first_frame=0):
    state, parts = source.initial(seed), []
    for frames in lengths:
        noise, state = source.draw(Turn(first_frame, frames, first_frame, frames), state)
        parts.append(noise)
        first_frame += frames
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("correlation_s", [0.0, 0.1, 0.4])
def test_every_frame_is_standard_normal_and_correlated_as_asked(correlation_s):
    noise = draw(NoiseSource(6, correlation_s), [5, 1, 7, 25] * 40)
    assert noise.mean() == pytest.approx(0.0, abs=0.05)
    assert noise.std() == pytest.approx(1.0, abs=0.03)
    neighbours = np.mean(noise[:, 1:] * noise[:, :-1])
    expected = np.exp(-1 / (25 * correlation_s)) if correlation_s else 0.0
    assert neighbours == pytest.approx(expected, abs=0.03)


def test_correlation_goes_on_across_turns():
    """Cut into turns of any length, the noise is the same process: only its draws' order differs."""
    noise = draw(NoiseSource(6, 0.4), [1] * 1000)
    seams = draw(NoiseSource(6, 0.4), [5] * 200)
    across = np.mean(seams[:, 4:-1:5] * seams[:, 5::5])
    assert across == pytest.approx(np.mean(noise[:, 1:] * noise[:, :-1]), abs=0.03)


def test_undrawn_frames_let_the_correlation_fade():
    source = NoiseSource(400, 0.2)
    first, state = source.draw(Turn(0, 1, 0, 1), source.initial(0))
    later, _ = source.draw(Turn(6, 1, 6, 1), state)
    assert np.mean(first * later) == pytest.approx(np.exp(-6 / 5), abs=0.02)


def test_state_is_never_changed_in_place():
    source = NoiseSource(6, 0.3)
    _, state = source.draw(Turn(0, 5, 0, 5), source.initial(3))
    again = [source.draw(Turn(5, 5, 5, 5), state)[0] for _ in range(2)]
    np.testing.assert_array_equal(*again)


@pytest.mark.parametrize(
    ("frames", "iterations", "sizes"),
    [(25, 4, [2, 6, 8, 9]), (25, 1, [25]), (5, 3, [1, 2, 2]), (1, 4, [1]), (3, 3, [1, 1, 1]), (2, 5, [1, 1])],
)
def test_passes_share_the_frames_of_a_turn(frames, iterations, sizes):
    plan = drawing_plan(frames, iterations)
    assert [rows.stop - rows.start for rows in plan] == sizes
    assert [row for rows in plan for row in range(frames)[rows]] == list(range(frames))
