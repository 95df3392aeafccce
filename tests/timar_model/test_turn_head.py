"""A head that draws turns: it goes on from what was shown, at any length, and moves only what it should."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from timar_model.architecture.config import MOTION_DIM, MOTION_GROUPS, ModelConfig, ObjectiveConfig
from timar_model.architecture.inputs import MotionStatistics, layout_of, speech_features
from timar_model.architecture.model import TrainingBatch
from timar_model.architecture.schedule import cosine_schedule, drawing_schedule, trailing
from timar_model.architecture.sequences import attention_mask, lead_frames, sliding_window, turn_sequence
from timar_model.session.session import Session

MIXTURES = {
    "short": [5, 5],
    "default": [5] * 20,
    "long": [25] * 5,
    "mixed": [5, 10, 25, 5, 5, 10, 25, 10, 5, 5],
    "odd": [7, 3, 30, 1, 1, 20, 11],
}


@pytest.fixture(scope="module")
def drawing(make_network):
    return make_network(draws="turns")


def batch_of(config, lengths, clips=2):
    lead, random = lead_frames(lengths, config), torch.Generator().manual_seed(0)
    shapes = (config.speech_dim, MOTION_DIM, config.speech_dim, MOTION_DIM)
    streams = [torch.randn(clips, lead + sum(lengths), width, generator=random) for width in shapes]
    return TrainingBatch(lengths, *streams, lead=lead)


def head_inputs(network, turns=3, frames=5):
    random = torch.Generator().manual_seed(1)
    config = network.config
    z = torch.randn(1, turns * frames, config.width, generator=random)
    noise = torch.randn(6, turns * frames, MOTION_DIM, generator=random)
    past = torch.randn(turns, config.past_frames, MOTION_DIM, generator=random)
    return z, noise, past, torch.ones(turns, config.past_frames)


def sample(network, z, noise, past, known, steps=5, guidance=1.0):
    schedule = drawing_schedule(network.config, steps)
    with torch.inference_mode():
        return network.head.sample(z, noise, schedule, torch.tensor(guidance), past, known)


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("draws", ["frames", "turns"])
def test_the_sliding_window_that_training_computes_is_the_whole_mask(name, draws, make_network):
    network, lengths = make_network(draws=draws), MIXTURES[name]
    config = network.config
    # A sequence shorter than half the window has fewer chunks than are looked back to; that ended training.
    assert name == "short" or sum(lengths) > 2 * config.window_frames
    layout = layout_of(turn_sequence(lengths, config), config.past_tokens)
    with torch.inference_mode():
        inputs = network._training_inputs(
            batch_of(config, lengths), turns_layout=layout, generator=torch.Generator().manual_seed(2)
        )
        visible = torch.from_numpy(attention_mask(layout, config.window_frames))
        whole = network.encode(inputs, network.token_positions(layout), visible, None)
        windowed = network.encode_sequence(inputs, sliding_window(layout, config.window_frames))
    torch.testing.assert_close(windowed, whole, rtol=0, atol=2e-5)


def test_turns_of_a_batch_are_what_they_are_alone(drawing):
    z, noise, past, known = head_inputs(drawing)
    together = sample(drawing, z, noise, past, known, guidance=1.4).view(3, 5, MOTION_DIM)
    for turn in range(3):
        rows = slice(5 * turn, 5 * turn + 5)
        own = slice(turn, turn + 1)
        alone = sample(drawing, z[:, rows], noise[:, rows], past[own], known[own], guidance=1.4)
        torch.testing.assert_close(alone, together[turn], rtol=0, atol=1e-5)


def test_movement_goes_on_from_the_last_shown_frame(drawing):
    """Shifting what was shown shifts where the turn begins; a head that drew frames alone could jump."""
    z, noise, past, known = head_inputs(drawing, turns=1)
    drawn = sample(drawing, z, noise, past, known)
    step = drawn[0] - past[0, -1]
    size = torch.cat(
        [torch.full((width,), s) for width, s in zip((50, 3, 3), drawing.config.step_size, strict=True)]
    )
    assert ((step / size).abs() < 6).all()
    shifted = sample(drawing, z, noise, past + 3.0, known)
    assert (shifted[0] - past[0, -1] - 3.0).abs().max() < 6 * size.max()


def test_every_shown_frame_and_whether_it_is_known_matters(drawing):
    z, noise, past, known = head_inputs(drawing, turns=1)
    drawn = sample(drawing, z, noise, past, known)
    for frame in range(past.shape[1] - 1):
        changed = past.clone()
        changed[0, frame] += 1.0
        assert (sample(drawing, z, noise, changed, known) - drawn).abs().max() > 1e-4
    assert (sample(drawing, z, noise, past, torch.zeros_like(known)) - drawn).abs().max() > 1e-4


def test_guidance_makes_more_of_what_is_heard_but_not_of_the_jaw(drawing):
    z, noise, past, known = head_inputs(drawing, turns=1)
    head = drawing.head
    plain, guided = (sample(drawing, z, noise, past, known, guidance=by) for by in (1.0, 1.5))
    assert (guided - plain)[:, MOTION_GROUPS["neck"]].abs().max() > 1e-3
    with torch.inference_mode():
        mean = head.predict_mean(z)
        expected = []
        for factor in (1.0, 1.5):
            guided_mean = mean.clone()
            guided_mean[..., MOTION_GROUPS["neck"]] *= factor
            guided_mean[..., MOTION_GROUPS["expression"]] *= factor
            parts = head.modulations(torch.tensor([[999]]), z)
            clean = head.denoise(
                noise[:1], guided_mean, head.read_past(past, known), parts.blocks, parts.final
            )
            expected.append(past[:, -1] + torch.cumsum(clean[0] * head.step_size, dim=0))
    one_step = sample(drawing, z, noise, past, known, steps=1, guidance=1.5)
    torch.testing.assert_close(one_step, expected[1], rtol=0, atol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 1e-3


def test_groups_that_are_not_moved_rest_at_their_mean(make_network):
    network = make_network(draws="turns", moved_groups=("neck",))
    drawn = sample(network, *head_inputs(network))
    assert (drawn[:, :53] == 0).all()
    assert drawn[:, MOTION_GROUPS["neck"]].abs().min() > 0


def test_what_is_not_moved_does_not_reach_the_loss(make_network):
    network = make_network(draws="turns", moved_groups=("jaw", "neck"))
    batch = batch_of(network.config, [5] * 8)
    network.config = dataclasses.replace(
        network.config, objective=ObjectiveConfig(mask_ratio_min=1.0, user_token_drop=0.0)
    )
    other = batch.agent_motion.clone()
    other[..., MOTION_GROUPS["expression"]] += 10.0
    losses = [
        network.training_loss(
            dataclasses.replace(batch, agent_motion=motion), torch.Generator().manual_seed(3)
        ).total.item()
        for motion in (batch.agent_motion, other)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_the_mean_head_learns_from_its_own_loss_alone(drawing):
    """The head's loss must not teach the mean head, or it would lean on what was shown."""
    head, frames = drawing.head, 5
    random = torch.Generator().manual_seed(4)
    z = torch.randn(2, frames, drawing.config.width, generator=random)
    target = torch.randn(2, frames, MOTION_DIM, generator=random)
    past = torch.randn(2, drawing.config.past_frames, MOTION_DIM, generator=random)
    noise = torch.randn(target.shape, generator=random)

    def taught(loss):
        drawing.zero_grad()
        loss.sum().backward()
        return head.mean_head.weight.grad is not None, head.output.weight.grad is not None

    known, t = torch.ones(past.shape[:2]), torch.tensor([500, 900])
    assert taught(head.loss(z, target, past, known, t, noise)) == (False, True)
    assert taught(head.regression_loss(z, target, past[:, -1])) == (True, False)
    drawing.zero_grad()


def test_regression_loss_is_nothing_where_the_steps_were_predicted(drawing):
    head = drawing.head
    z = torch.randn(3, 5, drawing.config.width, generator=torch.Generator().manual_seed(5))
    before = torch.full((3, MOTION_DIM), 0.5)
    with torch.inference_mode():
        predicted = before[:, None] + torch.cumsum(head.predict_mean(z) * head.step_size, dim=1)
        assert head.regression_loss(z, predicted, before).max() < 1e-8
        assert head.regression_loss(z, predicted + 0.1, before).min() > 1e-3


def test_what_was_shown_reaches_the_head_but_not_the_backbone(drawing):
    config = drawing.config
    layout = layout_of(turn_sequence([5] * 4, config), config.past_tokens)
    batch = batch_of(config, [5] * 4)
    moved = dataclasses.replace(batch, agent_motion=batch.agent_motion + 1.0)
    conditions, losses = [], []
    with torch.inference_mode():
        for other in (batch, moved):
            random = torch.Generator().manual_seed(6)
            inputs = drawing._training_inputs(other, turns_layout=layout, generator=random)
            conditions.append(drawing.encode_sequence(inputs, sliding_window(layout, config.window_frames)))
            losses.append(drawing.training_loss(other, torch.Generator().manual_seed(6)).total)
    torch.testing.assert_close(*conditions, rtol=0, atol=0)
    assert losses[0] != losses[1]


@pytest.mark.slow
def test_temperature_zero_is_the_same_for_every_seed_and_one_is_not(drawing, talk, engine_of, engine_name):
    def drawn(seed, temperature):
        options = dataclasses.replace(drawing.config.sampling, temperature=temperature)
        features = speech_features(drawing.config)
        session = Session(engine_of(engine_name, drawing), features, MotionStatistics(), options, seed)
        return session.step(**talk.turn(session, 5))

    np.testing.assert_array_equal(drawn(1, 0.0), drawn(2, 0.0))
    assert np.abs(drawn(1, 1.0) - drawn(2, 1.0)).max() > 1e-2


@pytest.mark.slow
def test_after_an_undrawn_turn_the_movement_starts_where_the_head_stopped(
    drawing, talk, engine_of, engine_name
):
    engine = engine_of(engine_name, drawing)
    session = Session(engine, speech_features(drawing.config), MotionStatistics(), drawing.config.sampling)
    shown = [session.step(**talk.turn(session, 5)) for _ in range(4)][-1]
    session.commit(**talk.turn(session, 5))
    np.testing.assert_allclose(session._state.past_motion, np.tile(shown[-1], (4, 1)), rtol=0, atol=1e-6)
    assert not session._state.past_known.any()


def test_steps_are_taken_from_the_noisiest_down_and_leave_the_clean_end_out():
    assert trailing(1000, 5).timestep.tolist() == [199, 399, 599, 799, 999]
    assert trailing(1000, 1).timestep.tolist() == [999]
    np.testing.assert_allclose(
        trailing(1000, 4).alpha_bar, cosine_schedule(1000).alpha_bar[[249, 499, 749, 999]], rtol=1e-8
    )
    with pytest.raises(ValueError, match="0 steps"):
        trailing(1000, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"past_frames": 0}, "past_frames 0"),
        ({"moved_groups": ("eyes",)}, "moved_groups is"),
        ({"step_size": (0.1, 0.0, 0.1)}, "step_size is"),
    ],
)
def test_a_configuration_without_sense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig.of_size("tiny", **{"draws": "turns", **changes})


def test_several_passes_are_refused_for_a_turn_is_drawn_at_once(drawing, engine_of, engine_name):
    options = dataclasses.replace(drawing.config.sampling, iterations=2)
    with pytest.raises(ValueError, match="draws a turn's frames together"):
        Session(engine_of(engine_name, drawing), speech_features(drawing.config), MotionStatistics(), options)
