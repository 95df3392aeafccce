"""The training loss sees just what a session will see, and batches change nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from timar_model.architecture.config import ObjectiveConfig
from timar_model.architecture.inputs import TurnInputs, layout_of, next_turn, positions_of
from timar_model.architecture.model import TrainingBatch
from timar_model.architecture.sequences import attention_mask, lead_frames, turn_sequence

LENGTHS = [5, 3, 7, 5, 1, 5, 9, 5, 5]
PLAIN = ObjectiveConfig(mask_ratio_min=1.0, user_token_drop=0.0)


def make_batch(config, clips=2, lengths=LENGTHS, seed=0):
    random = torch.Generator().manual_seed(seed)
    frames = lead_frames(lengths, config) + sum(lengths)

    def draw(width):
        return torch.randn(clips, frames, width, generator=random)

    return TrainingBatch(lengths, draw(config.speech_dim), draw(56), draw(config.speech_dim), draw(56))


def loss_of(network, batch, seed=1):
    return network.training_loss(batch, torch.Generator().manual_seed(seed)).total


def test_every_parameter_learns(make_network):
    objective = ObjectiveConfig(
        mask_ratio_min=1.0, user_token_drop=0.3, user_turn_drop=0.3, user_group_drop=0.5, past_drop=0.5
    )
    network = make_network(objective=objective)
    batch = make_batch(network.config)
    loss_of(network, batch).backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert silent == []


def test_a_few_steps_on_one_batch_lower_the_loss(make_network):
    network = make_network(seed=2)
    batch = make_batch(network.config)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss = network.training_loss(batch, torch.Generator().manual_seed(0))
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        losses.append(loss.squared_error.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("stream", ["user_speech", "user_motion", "agent_speech"])
def test_conditions_of_a_turn_depend_on_no_stream_beyond_its_reach(stream, make_network):
    """Gradients of one turn's conditions are zero outside the frames the one clock lets it see."""
    network = make_network(objective=PLAIN, past_frames=0)
    config, batch = network.config, make_batch(make_network(past_frames=0).config, clips=1)
    array = getattr(batch, stream).clone().requires_grad_()
    turns = turn_sequence(LENGTHS, config)
    layout = layout_of(turns, config.past_tokens)
    inputs = network._training_inputs(dataclasses.replace(batch, **{stream: array}), layout, None)
    z = network.encode(
        inputs,
        network.token_positions(layout),
        torch.from_numpy(attention_mask(layout, config.window_frames)),
        None,
    )
    turn = turns[6]
    z[0, turn.first_frame : turn.end_frame].square().sum().backward()
    reached = array.grad[0].abs().amax(dim=1).nonzero().flatten() - lead_frames(LENGTHS, config)
    newest = (
        turn.end_frame - 1
        if stream == "agent_speech"
        else turn.first_frame - config.user_lag_margin_frames - 1
    )
    assert reached.max() == newest
    assert (reached == turn.first_frame).any() == (stream == "agent_speech")


def test_each_user_frame_is_read_exactly_once(make_network):
    config = make_network().config
    turns = turn_sequence(LENGTHS, config)
    read = np.concatenate([np.arange(t.user_first_frame, t.user_first_frame + t.user_frames) for t in turns])
    np.testing.assert_array_equal(read, np.arange(-7, read.size - 7))


def test_rows_of_a_batch_do_not_hear_each_other(make_network):
    network = make_network(objective=PLAIN)
    config, both = network.config, make_batch(make_network().config)
    layout = layout_of(turn_sequence(LENGTHS, config), config.past_tokens)
    inputs = network._training_inputs(both, layout, None)
    places, visible = (
        network.token_positions(layout),
        torch.from_numpy(attention_mask(layout, config.window_frames)),
    )
    with torch.inference_mode():
        together = network.encode(inputs, places, visible, None)
        for row in range(2):
            one = TurnInputs(**{name: tensor[row : row + 1] for name, tensor in vars(inputs).items()})
            torch.testing.assert_close(
                network.encode(one, places, visible, None)[0], together[row], rtol=0, atol=1e-5
            )


def test_masked_share_stays_within_its_bounds(make_network):
    network = make_network(objective=ObjectiveConfig(mask_ratio_min=0.7))
    random = torch.Generator().manual_seed(0)
    shares = [1 - float(network._draw_known(3, 100, torch.device("cpu"), random).mean()) for _ in range(200)]
    assert min(shares) >= 0.7
    assert max(shares) <= 1.0
    # Mean of a normal (1, 0.25) cut to [0.7, 1].
    assert np.mean(shares) == pytest.approx(0.866, abs=0.02)


def test_unseen_user_motion_is_never_read(make_network):
    network = make_network()
    batch = make_batch(network.config)
    seen = torch.ones(2, batch.user_motion.shape[1], 3)
    seen[:, 10:30, 0] = 0.0
    poisoned = batch.user_motion.clone()
    poisoned[:, 10:30, :50] = 1e6
    marked, changed = (
        loss_of(network, dataclasses.replace(batch, user_motion=motion, user_motion_seen=seen))
        for motion in (batch.user_motion, poisoned)
    )
    assert marked == changed
    assert marked != loss_of(network, batch)


def test_loss_is_the_same_for_the_same_seed_and_only_then(make_network):
    network = make_network()
    batch = make_batch(network.config)
    assert loss_of(network, batch) == loss_of(network, batch)
    assert loss_of(network, batch) != loss_of(network, batch, seed=2)


def test_batch_of_another_length_is_refused(make_network):
    network = make_network()
    batch = make_batch(network.config)
    short = dataclasses.replace(batch, agent_motion=batch.agent_motion[:, 1:])
    with pytest.raises(ValueError, match="the clips have 51 frames, expected 52"):
        network.training_loss(short)
    with pytest.raises(ValueError, match="leads in with 3 frames, expected at least 7"):
        network.training_loss(dataclasses.replace(batch, lead=3))
    with pytest.raises(ValueError, match="user_motion has 51 frames, expected 52"):
        network.training_loss(dataclasses.replace(batch, user_motion=batch.user_motion[:, 1:]))


def test_published_layout_has_its_110_tokens_in_order(make_network):
    config = make_network(
        positions="window",
        past_frames=0,
        user_lag="none",
        user_lag_margin_frames=0,
        turn_frames=25,
        window_frames=50,
    ).config
    layout = layout_of([next_turn(0, 25, None, config)], 0)
    assert len(layout) == 110
    assert list(layout.kind[[0, 1, 27, 28, 54, 55, 81, 82, 108, 109]]) == list(range(10))


def test_rotation_after_a_day_is_exact(make_network):
    config = make_network().config
    frame = 24 * 3600 * 25 + 3
    layout = layout_of([next_turn(frame, 5, 5, config)], 0)
    # The first token, a marker, stands at the turn's first frame; its first pair turns by 1 rad a frame.
    assert positions_of(layout, config).cos[0, 0, 0] == pytest.approx(
        float(np.cos(frame % (2 * np.pi))), abs=1e-6
    )
