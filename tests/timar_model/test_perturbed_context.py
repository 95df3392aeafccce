"""What training takes for shown: one smooth course into the target, a stop where turns went undrawn."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from timar_model.architecture.config import MOTION_DIM, ObjectiveConfig
from timar_model.architecture.perturbed_context import CONTEXT_NOISE, HELD_FRAMES, perturb_context

PAST, FRAMES, ROWS = 4, 40, [20, 60]
ALWAYS_DRAWN = ObjectiveConfig(past_drop=0.0, past_noise=1.0)


@pytest.fixture
def motion():
    time = torch.arange(110.0)[:, None] / 30
    return torch.sin(time + torch.arange(MOTION_DIM)).expand(3, -1, -1).contiguous()


def shown(motion, objective, known=None, frames=FRAMES):
    return perturb_context(motion, known, ROWS, frames, PAST, objective, torch.Generator().manual_seed(1))


def test_standing_off_fades_without_a_jerk_at_the_seam(motion):
    turns = shown(motion, ALWAYS_DRAWN)
    rows = torch.as_tensor(ROWS)[:, None] + torch.arange(-PAST, FRAMES)
    off = torch.cat([turns.past, turns.target], dim=2) - motion[:, rows]
    assert off[:, :, PAST].abs().mean() > 0.2
    assert off[:, :, -1].abs().max() < 0.3 * off[:, :, PAST].abs().max()
    # Third differences of the spring itself are below 0.01; the rest is the noise on what was shown.
    jerk = torch.diff(off, n=3, dim=2).abs()
    assert jerk[:, :, PAST:].max() < 0.01
    assert jerk[:, :, :PAST].max() < 40 * CONTEXT_NOISE


def test_without_standing_off_the_target_is_the_recording(motion):
    turns = shown(motion, dataclasses.replace(ALWAYS_DRAWN, past_noise=0.0))
    torch.testing.assert_close(turns.target, turns.recorded, rtol=0, atol=0)
    torch.testing.assert_close(turns.recorded_before, motion[:, torch.as_tensor(ROWS) - 1], rtol=0, atol=0)
    assert (turns.past_known == 1).all()


def test_an_undrawn_turn_leaves_the_head_where_it_stopped(motion):
    turns = shown(motion, ObjectiveConfig(past_drop=1.0, past_noise=1.0))
    assert (turns.past_known == 0).all()
    stopped = motion[:, torch.as_tensor(ROWS) - 1 - HELD_FRAMES, None]
    torch.testing.assert_close(turns.past, stopped.expand(-1, -1, PAST, -1), rtol=0, atol=0)
    # It sets off from there, and is back on the recorded course later.
    first = (turns.target[:, :, 0] - stopped[:, :, 0]).abs().max()
    assert first < 0.1
    assert (turns.target - turns.recorded)[:, :, -1].abs().max() < 0.05


def test_before_a_conversation_the_head_rests_at_the_mean(motion):
    known = torch.ones(motion.shape[:2])
    known[:, : ROWS[0]] = 0.0
    turns = shown(motion, ALWAYS_DRAWN, known)
    assert (turns.past_known[:, 0] == 0).all()
    assert (turns.past_known[:, 1] == 1).all()
    assert (turns.past[:, 0] == 0).all()
    torch.testing.assert_close(turns.recorded_before[:, 0], turns.recorded[:, 0, 0], rtol=0, atol=0)
