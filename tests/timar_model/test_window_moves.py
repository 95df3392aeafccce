"""A moving window of absolute positions: the released code's numbers, spread work, rollback across moves."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from timar_model.architecture.config import SamplingConfig
from timar_model.architecture.inputs import (
    MotionStatistics,
    TurnInputs,
    TurnPreprocessor,
    layout_of,
    next_turn,
    speech_features,
)
from timar_model.architecture.schedule import respaced
from timar_model.architecture.sequences import attention_mask, join, turn_sequence
from timar_model.session.session import Session

WINDOW, TURNS = 6, 31
PUBLISHED = {
    "positions": "window",
    "past_frames": 0,
    "user_lag": "none",
    "user_lag_margin_frames": 0,
    "window_frames": 5 * WINDOW,
    "loudness": "none",
    "sampling": SamplingConfig(),
}


@pytest.fixture(scope="module")
def network(make_network):
    return make_network(**PUBLISHED)


@pytest.fixture(scope="module")
def given(make_talk):
    """What each turn brings, its noise included."""
    talk, random = make_talk(5 * TURNS, seed=11), np.random.default_rng(12)
    return [
        {
            "user_speech": talk.user_speech[3200 * turn : 3200 * (turn + 1)],
            "user_motion": talk.user_motion[5 * turn : 5 * (turn + 1)],
            "agent_speech": talk.agent_speech[3200 * turn : 3200 * (turn + 1)],
            "noise": random.standard_normal((6, 5, 56)).astype(np.float32),
        }
        for turn in range(TURNS)
    ]


class CountingEngine:
    """An engine whose passes are counted."""

    def __init__(self, engine) -> None:
        self.engine, self.passes = engine, 0

    def __getattr__(self, name):
        return getattr(self.engine, name)

    def encode(self, *arguments):
        self.passes += 1
        return self.engine.encode(*arguments)


@pytest.fixture
def opened(network, engine_name, engine_of):
    def make(when_full="reanchor", **sampling):
        engine = CountingEngine(engine_of(engine_name, network))
        options = SamplingConfig(when_full=when_full, **sampling)
        return Session(engine, speech_features(network.config), MotionStatistics(), options, rollback_turns=5)

    return make


def seen_by_turn(when_full, keep_turns):
    """Return how many turns each turn sees, itself included."""
    seen = [1]
    while len(seen) < TURNS:
        is_full = seen[-1] == WINDOW
        kept = (WINDOW - 1 if when_full == "recompute" else keep_turns) if is_full else seen[-1]
        seen.append(kept + 1)
    return seen


@pytest.fixture(scope="module")
def released(network, given):
    """Compute a turn as the released code does: its whole window anew in one masked pass, nothing cached."""
    config, features = network.config, speech_features(network.config)
    preprocessor = TurnPreprocessor(config, features, MotionStatistics())
    nothing = np.zeros((0, 56), np.float32), np.zeros(0, np.float32)
    voices, inputs = (features.initial(), features.initial()), []
    for number, turn in enumerate(given):
        arguments = (turn["user_speech"], turn["user_motion"], turn["agent_speech"])
        prepared = preprocessor.prepare(
            next_turn(5 * number, 5, 5, config), *arguments, None, voices, nothing
        )
        voices = prepared.voices
        inputs.append(prepared.inputs)

    @torch.inference_mode()
    def motion(number, seen):
        window = inputs[number + 1 - seen : number + 1]
        layout = layout_of(turn_sequence([5] * seen, config), 0)
        visible = torch.from_numpy(attention_mask(layout, config.window_frames))
        streams = {name: torch.from_numpy(array) for name, array in vars(join(window)).items()}
        z = network.encode(TurnInputs(**streams), network.token_positions(layout), visible, None)[:, -5:]
        noise = torch.from_numpy(given[number]["noise"])
        return network.head.sample(z, noise, respaced(1000, 5), torch.tensor(1.0)).numpy()

    return motion


def converse(session, given, detours=None):
    """Hold a conversation; before some turns take other ways and come back, as `detours` draws them."""
    motion = []
    for number, turn in enumerate(given):
        for _ in range(0 if detours is None else detours.integers(0, 4)):
            kind = ("rollback", "again", "preview", "idle", "commit")[detours.integers(0, 5)]
            if kind == "preview":
                session.preview(turn["agent_speech"])
            elif kind == "idle":
                session.idle(60.0)
            elif kind == "commit":
                session.commit(*(turn[name] for name in ("user_speech", "user_motion", "agent_speech")))
                session.rollback(5 * number)
            else:
                back = min(number, int(detours.integers(1, 6)))
                if kind == "again":
                    for other in given[number : number + 2]:
                        session.step(**{**other, "agent_speech": 0.5 * other["agent_speech"]})
                    session.rollback(5 * number)
                session.rollback(max(session.oldest_rollback, 5 * (number - back)))
                for missed in range(session.next_frame // 5, number):
                    np.testing.assert_array_equal(session.step(**given[missed]), motion[missed])
        motion.append(session.step(**turn))
    return motion


CASES = [("recompute", 0), *(("reanchor", keep) for keep in (1, 2, 3, 4, 5))]


@pytest.mark.parametrize(("when_full", "keep_turns"), CASES)
def test_every_turn_is_what_the_released_code_gives_for_the_turns_it_sees(
    when_full, keep_turns, opened, given, released
):
    """Over many moves of the window: for ever the whole window by recompute, the turns seen by reanchor."""
    session = opened(when_full, keep_turns=keep_turns)
    seen = seen_by_turn(when_full, keep_turns)
    for number, motion in enumerate(converse(session, given)):
        np.testing.assert_allclose(motion, released(number, seen[number]), rtol=0, atol=2e-5)


@pytest.mark.parametrize(("when_full", "keep_turns"), CASES)
def test_no_detour_across_any_move_changes_a_bit(when_full, keep_turns, opened, given):
    plain = converse(opened(when_full, keep_turns=keep_turns), given)
    found = converse(opened(when_full, keep_turns=keep_turns), given, np.random.default_rng(keep_turns))
    np.testing.assert_array_equal(np.stack(found), np.stack(plain))


@pytest.mark.parametrize("keep_turns", [1, 2, 3, 4])
def test_a_move_is_spread_over_the_turns_before_it(keep_turns, opened, given):
    """Without any idle time, no turn waits for more than its even share of the next window."""
    session, most = opened(keep_turns=keep_turns), -(-keep_turns // (WINDOW - keep_turns))
    passes = []
    for turn in given:
        before = session._engine.passes
        session.step(**turn)
        passes.append(session._engine.passes - before - 1)
    assert max(passes) == most
    cycle = WINDOW - keep_turns
    for start in range(2 * WINDOW, TURNS - cycle, cycle):
        assert sum(passes[start : start + cycle]) == keep_turns


def test_work_in_idle_time_is_no_more_than_the_next_turn_would_need(opened, given):
    """What idle time does, the turns then need not do; it never runs ahead of what the moves need."""
    busy, rested = opened(), opened()
    for turn in given:
        busy.step(**turn)
        rested.step(**turn)
        assert rested.idle(60.0)
        assert rested._engine.passes - busy._engine.passes in (0, 1)


def test_rolling_back_the_turn_that_moved_the_window_encodes_little_anew(opened, given):
    """The old window lies there still: an interruption just after a move does not stall."""
    session = opened()
    for turn in given[:WINDOW]:
        session.step(**turn)
        session.idle(60.0)
    session.rollback(5 * (WINDOW - 1))
    before = session._engine.passes
    session.step(**given[WINDOW - 1])
    assert session._engine.passes - before == 1
    session.idle(60.0)
    session.step(**given[WINDOW])
    session.idle(60.0)
    session.rollback(5 * (WINDOW - 1))
    before = session._engine.passes
    session.step(**given[WINDOW - 1])
    assert session._engine.passes - before <= 4


def test_keeping_a_whole_window_is_refused(network, engine_name, engine_of):
    with pytest.raises(ValueError, match="keep_turns is 6 of a window of 6 turns, expected fewer"):
        Session(
            engine_of(engine_name, network),
            speech_features(network.config),
            MotionStatistics(),
            dataclasses.replace(SamplingConfig(), when_full="reanchor", keep_turns=WINDOW),
        )
