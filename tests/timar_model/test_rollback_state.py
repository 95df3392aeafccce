"""A turn that is rolled back leaves the session as it was, to the last byte of what a next turn reads."""

from __future__ import annotations

import dataclasses
import hashlib

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
    "sampling": SamplingConfig(),
}
KINDS = {
    "streaming": ("streaming", {"noise_correlation_s": 0.3}),
    "streaming, guided": ("streaming", {"guidance": 1.5, "iterations": 2, "iterations_see_drawn": True}),
    "published, masked": ("published", {"history": "masked"}),
    "published, filled, reanchored": ("published", {"history": "filled", "when_full": "reanchor"}),
}


@pytest.fixture(scope="module")
def networks(make_network):
    return {"streaming": make_network(), "published": make_network(**PUBLISHED)}


@pytest.fixture(params=KINDS)
def session(request, networks, engine_name, engine_of):
    name, options = KINDS[request.param]
    network, sampling = networks[name], SamplingConfig(**options)
    features = speech_features(network.config)
    return Session(engine_of(engine_name, network), features, MotionStatistics(), sampling, 7)


def digest(session) -> str:
    """Hash voices, past frames, noise, counters and window, and the keys and values the next turn sees."""
    session.idle(60.0)
    ring, window = session._window.ring, session._window
    seen = window.first_visible(session._state.window, session.next_frame + session.config.turn_frames)
    slots = np.arange(seen, ring.end) % ring.memory.capacity
    found = hashlib.sha256()
    for part in (session._state, (seen, ring.end), session.cached_tokens, session.user_frames(5)):
        add(found, part)
    for array in (*ring.memory.keys, *ring.memory.values):
        # A key of the ONNX engine has one value more, which each pass sets for the slots it sees.
        add(found, np.asarray(array[ring.row])[:, slots, : session.config.head_dim])
    return found.hexdigest()


def add(found, part) -> None:
    """Add a value, whatever it is made of, with its type and shape."""
    found.update(type(part).__name__.encode())
    if dataclasses.is_dataclass(part):
        part = vars(part)
    if isinstance(part, dict):
        for name in sorted(part):
            found.update(name.encode())
            add(found, part[name])
    elif isinstance(part, (tuple, list)):
        found.update(str(len(part)).encode())
        for one in part:
            add(found, one)
    elif isinstance(part, np.ndarray):
        found.update(f"{part.dtype} {part.shape}".encode() + part.tobytes())
    else:
        assert part is None or isinstance(part, (int, float, str, bool)), type(part)
        found.update(repr(part).encode())


@pytest.mark.slow
def test_turn_rolled_back_leaves_every_byte_as_before(session, talk):
    """Before the window is full, as it moves, and long after; one turn, three turns, a turn never drawn."""
    drawn = 0
    for turn in range(14):
        before, first_frame = digest(session), session.next_frame
        for _ in range(1 + 2 * (turn % 3 == 0)):
            session.step(**talk.turn(session, 5))
            drawn += 1
        assert digest(session) != before
        session.rollback(first_frame)
        assert digest(session) == before, turn
        session.commit(**talk.turn(session, 5))
        session.rollback(first_frame)
        assert digest(session) == before, turn
        session.step(**talk.turn(session, 5))
    assert drawn > 14


def test_digest_sees_a_single_bit(session, talk):
    """What the promise above is held by would notice a changed bit of a key, of the noise or of a voice."""
    for _ in range(3):
        session.step(**talk.turn(session, 5))
    before = digest(session)
    ring = session._window.ring
    slot = (ring.end - 1) % ring.memory.capacity
    ring.memory.keys[-1][ring.row][0, slot, 0] *= -1
    assert digest(session) != before
    ring.memory.keys[-1][ring.row][0, slot, 0] *= -1
    assert digest(session) == before
    session._state = dataclasses.replace(session._state, previous_frames=4)
    assert digest(session) != before
