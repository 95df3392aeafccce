"""Sessions with absolute positions: the window slides and is computed anew, also back across that border."""

from __future__ import annotations

import numpy as np
import pytest
from timar_model.architecture.config import SamplingConfig
from timar_model.architecture.inputs import MotionStatistics, speech_features
from timar_model.session.session import Session

PUBLISHED = {
    "positions": "window",
    "past_frames": 0,
    "user_lag": "none",
    "user_lag_margin_frames": 0,
    "window_frames": 20,
    "loudness": "none",
}


@pytest.fixture(scope="module")
def published(make_network):
    return make_network(sampling=SamplingConfig(), **PUBLISHED)


@pytest.fixture(params=["masked", "filled"])
def open_published(published, engine_name, engine_of, request):
    def make():
        sampling = SamplingConfig(history=request.param)
        features = speech_features(published.config)
        return Session(
            engine_of(engine_name, published), features, MotionStatistics(), sampling, rollback_turns=5
        )

    return make


def run(session, talk, turns):
    return np.stack([session.step(**talk.turn(session, 5)) for _ in range(turns)])


@pytest.mark.parametrize("back", [1, 2, 5])
def test_taking_back_across_the_first_slide_of_the_window(back, open_published, talk):
    """The fifth turn of a window of four is the first that is computed anew; before it the cache is exact."""
    session = open_published()
    motion = run(session, talk, 7)
    session.rollback((7 - back) * 5)
    np.testing.assert_array_equal(run(session, talk, back), motion[7 - back :])


def test_sliding_window_forgets_what_left_it(open_published, talk, make_talk):
    """Filled history carries a first turn on through what was drawn from it; masked history does not."""
    other = make_talk(160)
    other.user_motion[:5] += 1.0
    first, second = open_published(), open_published()
    motion, changed = run(first, talk, 8), run(second, other, 8)
    assert np.abs(motion[1] - changed[1]).max() > 1e-4
    if first.sampling.history == "masked":
        np.testing.assert_array_equal(motion[4:], changed[4:])


def open_with(engine, **sampling):
    features = speech_features(engine.config)
    return Session(engine, features, MotionStatistics(), SamplingConfig(**sampling), rollback_turns=5)


@pytest.mark.slow
@pytest.mark.parametrize("window_turns", [4, 3, 2, 1])
def test_reanchored_window_equals_the_released_code_with_that_shorter_window(
    window_turns, published, engine_name, engine_of, talk
):
    """Full, it drops its older half at once; each turn is what a window of just the turns it sees gives."""
    engine = engine_of(engine_name, published)
    anchored = open_with(engine, window_frames=5 * window_turns, when_full="reanchor")
    sliding = {n: open_with(engine, window_frames=5 * n) for n in range(1, window_turns + 1)}
    seen = []
    for _ in range(3 * window_turns + 1):
        seen.append(anchored.cached_tokens // published.config.turn_tokens + 1)
        motion = anchored.step(**talk.turn(anchored, 5))
        expected = {n: session.step(**talk.turn(session, 5)) for n, session in sliding.items()}
        np.testing.assert_allclose(motion, expected[seen[-1]], rtol=0, atol=2e-5)
    cycle = list(range(window_turns // 2 + 1, window_turns + 1))
    assert seen == [*range(1, window_turns + 1), *(cycle * len(seen))][: len(seen)]


@pytest.mark.parametrize("when_full", ["recompute", "reanchor"])
def test_work_done_in_idle_time_changes_no_bit(when_full, published, engine_name, engine_of, talk):
    engine = engine_of(engine_name, published)
    busy, rested = (open_with(engine, when_full=when_full) for _ in range(2))
    waited = 0.0
    for _ in range(11):
        arguments = talk.turn(busy, 5)
        np.testing.assert_array_equal(busy.step(**arguments), rested.step(**arguments))
        assert rested.idle(60.0)
        waited += rested.timings_ms["history"]
        assert rested.idle()
    assert waited > 0.0


def test_idle_without_time_leaves_the_work_to_the_next_turn(published, engine_name, engine_of, talk):
    session = open_with(engine_of(engine_name, published), when_full="reanchor")
    run(session, talk, 4)
    assert not session.idle(0.0)
    session.step(**talk.turn(session, 5))
    assert session.timings_ms["history"] > 0.0
    # That turn's own place in the next window.
    assert not session.idle(0.0)
    assert session.idle(60.0)
    assert session.idle(0.0)


@pytest.mark.parametrize("when_full", ["recompute", "reanchor"])
def test_taking_back_across_a_moved_window_changes_no_bit(when_full, published, engine_name, engine_of, talk):
    session = open_with(engine_of(engine_name, published), when_full=when_full)
    motion = run(session, talk, 9)
    for back in (1, 3, 5):
        session.rollback((9 - back) * 5)
        np.testing.assert_array_equal(run(session, talk, back), motion[9 - back :])


def test_turn_of_another_length_is_refused(open_published, talk):
    session = open_published()
    with pytest.raises(ValueError, match="3 frames, but this model knows only turns of 5"):
        session.step(**{**talk.turn(session, 5), "agent_speech": np.zeros(3 * 640, np.float32)})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["published", "streaming"])
def test_session_of_many_turns_keeps_no_more_than_one_of_few(kind, open_published, open_session, talk):
    session = open_published() if kind == "published" else open_session()
    arguments, sizes = talk.turn(session, 5), []
    for _ in range(4):
        for _ in range(20):
            session.step(**arguments)
        encoded = len(session._window._slots.held) if kind == "published" else 0
        turns = len(session._state.window.turns)
        sizes.append((session._window.ring.memory.capacity, len(session._snapshots), turns, encoded))
    assert sizes[1:] == [sizes[0]] * 3


def test_preview_leaves_no_trace_in_a_sliding_window(open_published, talk):
    plain, guessing = open_published(), open_published()
    expected = run(plain, talk, 8)
    found = []
    for turn in range(8):
        guessing.preview(talk.agent_speech[turn * 3200 : (turn + 1) * 3200])
        found.append(guessing.step(**talk.turn(guessing, 5)))
    np.testing.assert_array_equal(np.stack(found), expected)
    with pytest.raises(ValueError, match="only turns of 5"):
        guessing.preview(np.zeros(640, np.float32))
