"""Conversations in a batch: each as if it were alone, whatever the others hear, lack or begin anew."""

from __future__ import annotations

import numpy as np
import pytest
from timar_model.architecture.config import SamplingConfig
from timar_model.architecture.inputs import MotionStatistics, speech_features
from timar_model.session.batch import BatchedSession, TurnArguments
from timar_model.session.session import Session

WINDOW = {"positions": "window", "past_frames": 0, "user_lag": "none", "user_lag_margin_frames": 0}


@pytest.fixture(scope="module")
def networks(make_network):
    published = make_network(sampling=SamplingConfig(), window_frames=20, loudness="none", **WINDOW)
    return {"streaming": make_network(), "published": published}


@pytest.fixture(params=["streaming", "published"])
def kind(request, networks, engine_name, engine_of):
    network = networks[request.param]
    engine = engine_of(engine_name, network)
    sampling = SamplingConfig(when_full="reanchor", guidance=1.5)
    return engine, sampling, speech_features(network.config)


def open_batch(kind, seeds):
    engine, sampling, features = kind
    return BatchedSession(engine, features, MotionStatistics(), sampling, seeds, rollback_turns=4)


def open_alone(kind, seed):
    engine, sampling, features = kind
    return Session(engine, features, MotionStatistics(), sampling, seed, rollback_turns=4)


def turns_of(batch, talks, frames=5):
    return [
        None if talk is None else TurnArguments(**talk.turn(session, frames))
        for session, talk in zip(batch.rows, talks, strict=True)
    ]


@pytest.mark.slow
def test_conversations_of_a_batch_are_what_they_are_alone(kind, make_talk):
    """Row 1 begins anew after three turns, row 2 comes in late and rests once, row 0 is taken back."""
    talks, seeds = [make_talk(160, seed) for seed in range(3)], [5, 6, 7]
    batch, alone = open_batch(kind, seeds), [open_alone(kind, seed) for seed in seeds]
    for number in range(10):
        if number == 3:
            batch.rows[1].reset()
            alone[1].reset()
        if number == 6:
            batch.rows[0].rollback(15)
            alone[0].rollback(15)
        present = [True, True, number not in (0, 1, 5)]
        chosen = [talk if here else None for talk, here in zip(talks, present, strict=True)]
        expected = [
            session.step(**talk.turn(session, 5)) if here else None
            for session, talk, here in zip(alone, talks, present, strict=True)
        ]
        found = batch.step(turns_of(batch, chosen))
        for one, other in zip(found, expected, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                np.testing.assert_allclose(one, other, rtol=0, atol=5e-5)


def test_rows_of_a_batch_do_not_hear_each_other(kind, make_talk):
    same, first, second = make_talk(160, 0), make_talk(160, 1), make_talk(160, 2)
    batches = [open_batch(kind, [1, 2]) for _ in range(2)]
    for _ in range(9):
        motion = [
            batch.step(turns_of(batch, [same, other]))
            for batch, other in zip(batches, (first, second), strict=True)
        ]
        np.testing.assert_array_equal(motion[0][0], motion[1][0])
        assert np.abs(motion[0][1] - motion[1][1]).max() > 1e-4


def test_bad_turn_of_one_leaves_all_as_they_were(kind, make_talk):
    talks = [make_talk(160, seed) for seed in range(2)]
    batch, twin = open_batch(kind, [1, 2]), open_batch(kind, [1, 2])
    for one in (batch, twin):
        one.step(turns_of(one, talks))
    bad = turns_of(batch, talks)
    bad[1] = TurnArguments(bad[1].user_speech * np.nan, None, bad[1].agent_speech)
    with pytest.raises(ValueError, match="user_speech holds"):
        batch.step(bad)
    for one, other in zip(batch.step(turns_of(batch, talks)), twin.step(turns_of(twin, talks)), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="given 1 turns, expected one for each of 2"):
        batch.step([None])
