"""A turn cancelled anywhere leaves the session as if it had never begun, and ends at once."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from timar_common.cancellation import Cancellation, WorkCancelledError
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
    "sampling": SamplingConfig(),
}
KINDS = {
    "streaming": ({}, {"noise_correlation_s": 0.3}),
    "published": (PUBLISHED, {"history": "filled", "when_full": "reanchor", "guidance": 1.5}),
}


class CancelledAtLook(Cancellation):
    """Is cancelled at its n-th look: the places where work can be cut, one after another."""

    def __init__(self, number) -> None:
        super().__init__()
        self.left = number

    def check(self):
        self.left -= 1
        if self.left == 0:
            self.cancel()
        super().check()


@pytest.fixture(params=KINDS)
def opened(request, make_network, engine_name, engine_of):
    changes, sampling = KINDS[request.param]
    network = make_network(**changes)
    engine = engine_of(engine_name, network)

    def make():
        features = speech_features(network.config)
        return Session(engine, features, MotionStatistics(), SamplingConfig(**sampling), 7)

    return make


def test_turn_cut_at_any_place_leaves_no_trace(opened, talk):
    """Each turn is cut at one place after another, and only then made; so are previews and idle work."""
    plain, cut, cuts = opened(), opened(), 0
    for number in range(9):
        turn = talk.turn(cut, 5)
        for work in (
            lambda turn=turn: cut.preview(turn["agent_speech"], by="turn"),
            lambda: cut.idle(60.0),
            lambda turn=turn: cut.step(**turn),
        ):
            first = cut.next_frame
            for place in range(1, 40, 1 + number % 3):
                try:
                    with CancelledAtLook(place).scope():
                        work()
                    break
                except WorkCancelledError:
                    cuts += 1
            else:
                raise AssertionError("a turn has fewer places than that")
            if cut.next_frame != first:
                cut.rollback(first)
        np.testing.assert_array_equal(cut.step(**turn), plain.step(**turn))
    assert cuts > 30


def predict_for_long(session, agent_speech):
    for _ in range(1000):
        session.preview(agent_speech, by="turn")


def test_graph_under_way_is_cut_from_another_thread(make_network, engine_of, talk):
    """A pass of 200 ms ends within a few operators, and the same session then gives the same bits."""
    sizes = {"width": 512, "heads": 8, "blocks": 16, "token_dim": 64, "head_width": 64}
    network = make_network(**{**PUBLISHED, "window_frames": 200, "turn_frames": 25, **sizes})
    engine = engine_of("onnx", network)
    features = speech_features(network.config)
    sessions = [Session(engine, features, MotionStatistics(), SamplingConfig(), 7) for _ in range(2)]
    for number in range(3):
        turn = talk.turn(sessions[0], 25)
        cancellation, started = Cancellation(), time.perf_counter()
        threading.Timer(0.01 + 0.01 * number, cancellation.cancel).start()
        with pytest.raises(WorkCancelledError), cancellation.scope():
            predict_for_long(sessions[0], turn["agent_speech"])
        assert time.perf_counter() - started < 2.0
        np.testing.assert_array_equal(*(session.step(**turn) for session in sessions))
