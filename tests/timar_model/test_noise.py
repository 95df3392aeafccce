"""The noise of a session: standard normal in every frame, smooth over time when asked to be."""

from __future__ import annotations

import numpy as np
import pytest
from timar_model.architecture.config import SamplingConfig
from timar_model.architecture.inputs import Turn
from timar_model.session.sampling import gather_draws
from timar_model.session.session import (
    NoiseState,
    draw_noise,
    guidance_of_pass,
    random_order,
    sampling_plan,
)


def initial(seed):
    return NoiseState(np.random.PCG64(seed).state, None, 0)


def draw(draws, correlation_s, lengths, first_frame=0):
    state, parts = initial(0), []
    for frames in lengths:
        turn = Turn(first_frame, frames, first_frame, frames)
        noise, state = draw_noise(turn, draws, correlation_s, state)
        parts.append(noise)
        first_frame += frames
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("correlation_s", [0.0, 0.1, 0.4])
def test_every_frame_is_standard_normal_and_correlated_as_asked(correlation_s):
    noise = draw(6, correlation_s, [5, 1, 7, 25] * 40)
    assert noise.mean() == pytest.approx(0.0, abs=0.05)
    assert noise.std() == pytest.approx(1.0, abs=0.03)
    neighbours = np.mean(noise[:, 1:] * noise[:, :-1])
    expected = np.exp(-1 / (25 * correlation_s)) if correlation_s else 0.0
    assert neighbours == pytest.approx(expected, abs=0.03)


def test_correlation_goes_on_across_turns():
    """Cut into turns of any length, the noise is the same process: only its draws' order differs."""
    noise = draw(6, 0.4, [1] * 1000)
    seams = draw(6, 0.4, [5] * 200)
    across = np.mean(seams[:, 4:-1:5] * seams[:, 5::5])
    assert across == pytest.approx(np.mean(noise[:, 1:] * noise[:, :-1]), abs=0.03)


def test_undrawn_frames_let_the_correlation_fade():
    first, state = draw_noise(Turn(0, 1, 0, 1), 400, 0.2, initial(0))
    later, _ = draw_noise(Turn(6, 1, 6, 1), 400, 0.2, state)
    assert np.mean(first * later) == pytest.approx(np.exp(-6 / 5), abs=0.02)


def test_state_is_never_changed_in_place():
    _, state = draw_noise(Turn(0, 5, 0, 5), 6, 0.3, initial(3))
    again = [draw_noise(Turn(5, 5, 5, 5), 6, 0.3, state)[0] for _ in range(2)]
    np.testing.assert_array_equal(*again)


@pytest.mark.parametrize(
    ("frames", "iterations", "sizes"),
    [(25, 4, [2, 6, 8, 9]), (25, 1, [25]), (5, 3, [1, 2, 2]), (1, 4, [1]), (3, 3, [1, 1, 1]), (2, 5, [1, 1])],
)
def test_passes_share_the_frames_of_a_turn(frames, iterations, sizes):
    plan = sampling_plan(frames, iterations)
    assert [rows.size for rows in plan] == sizes
    np.testing.assert_array_equal(np.concatenate(plan), np.arange(frames))


def test_random_order_draws_every_frame_once_and_is_the_same_for_the_same_turn():
    orders = [random_order(25, seed, frame) for seed, frame in ((3, 50), (3, 50), (3, 75), (4, 50))]
    plan = sampling_plan(25, 4, orders[0])
    assert [rows.size for rows in plan] == [2, 6, 8, 9]
    np.testing.assert_array_equal(np.sort(np.concatenate(plan)), np.arange(25))
    np.testing.assert_array_equal(orders[0], orders[1])
    assert all(np.any(orders[0] != other) for other in orders[2:])


def test_linear_guidance_grows_over_the_passes_to_all_of_it():
    sampling = SamplingConfig(guidance=3.0, guidance_schedule="linear", iterations=4)
    drawn = np.cumsum([rows.size for rows in sampling_plan(25, 4)])
    found = [guidance_of_pass(sampling, 25, int(count)) for count in drawn]
    np.testing.assert_allclose(found, [1 + 2 * 2 / 25, 1 + 2 * 8 / 25, 1 + 2 * 16 / 25, 3.0])


def test_draws_of_the_released_code_are_gathered_from_their_last_conditional_rows():
    random = np.random.default_rng(0)
    plan = sampling_plan(5, 2)
    start, later = random.standard_normal((2, 4, 56)), random.standard_normal((2, 8, 56))
    draws = [start[0][:3], later[0], start[1][:4], later[1]]
    noise = gather_draws(draws, plan, 1, 5)
    first = plan[0].size
    np.testing.assert_array_equal(noise[0, :first], start[0][:3][-first:].astype(np.float32))
    np.testing.assert_array_equal(noise[1, first:], later[1][:4][-(5 - first) :].astype(np.float32))
    with pytest.raises(ValueError, match="a list of 3 draws, expected 2 for each of 2 passes"):
        gather_draws(draws[:3], plan, 1, 5)
    with pytest.raises(ValueError, match=r"draw 0 of pass 1 has shape \(1, 56\), expected at least"):
        gather_draws([*draws[:2], start[1][:1], later[1]], plan, 1, 5)
