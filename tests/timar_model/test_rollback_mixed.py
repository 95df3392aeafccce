"""Rollback is exact to the last bit for any mixture of turn lengths, commits, previews and idle work."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from timar_model.architecture.config import SamplingConfig
from timar_model.architecture.inputs import MotionStatistics, speech_features
from timar_model.session.batch import BatchedSession, TurnArguments
from timar_model.session.session import Session

PUBLISHED = {
    "positions": "window",
    "past_frames": 0,
    "user_lag": "none",
    "user_lag_margin_frames": 0,
    "window_frames": 20,
    "loudness": "none",
    "sampling": SamplingConfig(),
}
KINDS = {
    "streaming": ({}, {"noise_correlation_s": 0.3}),
    "turns": ({"draws": "turns"}, {"noise_correlation_s": 0.3}),
    "published": (PUBLISHED, {"history": "filled", "when_full": "reanchor"}),
}


@pytest.fixture(scope="module")
def networks(make_network):
    return {name: make_network(**changes) for name, (changes, _) in KINDS.items()}


@pytest.fixture(params=KINDS)
def opened(request, networks, engine_name, engine_of):
    """Return what opens sessions of one kind on one engine."""
    network = networks[request.param]
    engine, sampling = engine_of(engine_name, network), SamplingConfig(**KINDS[request.param][1])

    def open_session():
        return Session(engine, speech_features(network.config), MotionStatistics(), sampling, 7)

    return open_session


LENGTHS = st.sampled_from([1, 1, 1, 2, 3, 5, 8, 13, 25, 30])
DETOURS = st.lists(st.tuples(st.sampled_from(["step", "commit"]), LENGTHS), min_size=1, max_size=4)
SIDE_STEPS = st.one_of(st.tuples(st.just("preview"), LENGTHS), st.tuples(st.just("idle"), st.just(0)))


@st.composite
def scripts(draw):
    """Draw turns that count, and before some of them what is rolled back, previewed or done in idle time."""
    return [
        (
            draw(st.sampled_from(["step", "step", "commit"])),
            draw(LENGTHS),
            draw(st.one_of(st.none(), DETOURS)),
            draw(st.lists(SIDE_STEPS, max_size=2)),
        )
        for _ in range(draw(st.integers(6, 22)))
    ]


def allowed(session, frames):
    """Return a turn's length that the model knows."""
    return session.config.turn_frames if session.config.has_fixed_turns else frames


def act(session, kind, frames, random):
    """Let a session take a turn of noise; return its motion, if any."""
    frames = allowed(session, frames)
    user = session.user_frames(frames)
    sound = [(0.1 * random.standard_normal(640 * count)).astype(np.float32) for count in (user, frames)]
    motion = random.standard_normal((user, 56)).astype(np.float32)
    return getattr(session, kind)(sound[0], motion, sound[1])


def play(session, script, with_detours):
    """Run a script; return the motion of the turns that count and what the cache holds at the end."""
    random, other = np.random.default_rng(0), np.random.default_rng(1)
    motion = []
    for kind, frames, detours, side_steps in script:
        if with_detours:
            for name, length in side_steps:
                if name == "idle":
                    session.idle(60.0)
                else:
                    session.preview(np.zeros(640 * allowed(session, length), np.float32))
            first = session.next_frame
            for detour, length in detours or []:
                act(session, detour, length, other)
            session.rollback(first)
        motion.append(act(session, kind, frames, random))
    return motion, session.cached_tokens, session.oldest_rollback


@given(script=scripts())
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_what_was_rolled_back_previewed_or_idled_away_changes_no_bit(script, opened):
    plain, cached, _ = play(opened(), script, with_detours=False)
    found, cached_after, _ = play(opened(), script, with_detours=True)
    assert cached_after == cached
    for one, other in zip(plain, found, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("back", range(6, 20))
def test_a_rollback_before_a_turn_of_one_frame_changes_no_later_turn(back, open_session):
    """The cache grew by the turns rolled back and stayed so: sums over its slots ran in another order."""
    script = [("step", (5, 3, 8, 1)[number % 4], None, []) for number in range(22)]
    detoured = [*script]
    detoured[back] = (*script[back][:2], [("step", 5)] * 3, [("preview", 25)])
    plain, *_ = play(open_session(), script, with_detours=False)
    found, *_ = play(open_session(), detoured, with_detours=True)
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(plain))


def test_rows_of_a_batch_roll_back_to_the_last_bit(networks, engine_name, engine_of, make_talk):
    network = networks["streaming"]
    features, sampling = speech_features(network.config), SamplingConfig()
    talks, motion = [make_talk(200, seed) for seed in range(2)], []
    for has_detours in (False, True):
        engine = engine_of(engine_name, network)
        batch = BatchedSession(engine, features, MotionStatistics(), sampling, [1, 2])
        parts = []
        for number in range(24):
            frames = (5, 1, 3, 1)[number % 4]
            if has_detours and number % 5 == 2:
                first = batch.rows[0].next_frame
                for _ in range(3):
                    batch.rows[0].step(**talks[0].turn(batch.rows[0], 1))
                batch.rows[0].rollback(first)
            turns = [
                TurnArguments(**talk.turn(row, frames)) for row, talk in zip(batch.rows, talks, strict=True)
            ]
            parts += batch.step(turns)
        motion.append(np.concatenate(parts))
    np.testing.assert_array_equal(*motion)
