"""Gestures over a model's motion: requested and drawn ones, rollback, dials, and the mouth in silence."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from steady_gestures import SteadyPredictor
from timar_model.gestures.activity import SpeechActivity
from timar_model.gestures.dials import HeadDials
from timar_model.gestures.gesture import Gesture, GestureKind
from timar_model.gestures.gesture_layer import (
    GestureLayer,
    LayeredTurn,
    LayerInputs,
    RequestedGesture,
)
from timar_model.gestures.rendering import render

FRAME = 640


def voice(frames: int, speaks: slice | None = None) -> np.ndarray:
    sound = np.zeros(FRAME * frames, np.float32)
    if speaks is not None:
        part = sound[FRAME * speaks.start : FRAME * speaks.stop]
        part[:] = 0.2 * np.sin(np.arange(part.size) / 5)
    return sound


def wander(frames: int, seed: int = 0) -> np.ndarray:
    """Motion that drifts, jaw open."""
    motion = np.cumsum(np.random.default_rng(seed).normal(0, 0.003, (frames, 56)), axis=0)
    motion[:, 50] = 0.1
    return motion.astype(np.float32)


def run(
    layer: GestureLayer,
    motion: np.ndarray,
    turn: int,
    agent: np.ndarray | None = None,
    user: np.ndarray | None = None,
    requested: tuple[RequestedGesture, ...] = (),
    dials: HeadDials | None = None,
    first: int = 0,
) -> tuple[np.ndarray, list[Gesture]]:
    """Run the layer turn by turn and return the whole motion and the gestures that began."""
    agent = voice(len(motion)) if agent is None else agent
    user = voice(len(motion)) if user is None else user
    rows, begun = [], []
    for frame in range(first, len(motion), turn):
        laid = step(layer, motion, frame, turn, agent, user, requested, dials)
        rows.append(laid.motion)
        begun += [entry.gesture for entry in laid.begun]
    return np.concatenate(rows), begun


def step(layer, motion, frame, turn, agent, user, requested=(), dials=None) -> LayeredTurn:
    return layer.apply(inputs_of(frame, turn, agent, user, requested, dials), motion[frame : frame + turn])


def inputs_of(frame, turn, agent, user, requested=(), dials=None) -> LayerInputs:
    return LayerInputs(
        frame,
        agent[FRAME * frame : FRAME * (frame + turn)],
        agent[FRAME * (frame + turn) : FRAME * (frame + turn + 30)],
        user[FRAME * frame : FRAME * (frame + turn)],
        requested=requested,
        dials=dials or HeadDials(),
    )


def nod(first_frame: int, **fields: object) -> RequestedGesture:
    fields = {"count": 2, "size_rad": 0.1, "speed_hz": 2.0, **fields}
    return RequestedGesture(Gesture(GestureKind.NOD, first_frame, **fields), "a")


def test_without_gestures_the_motion_is_the_models_own_in_turns_of_any_length() -> None:
    motion = wander(60)
    agent = voice(100, slice(0, 100))
    for turn in (1, 2, 3, 5, 20):
        laid, begun = run(GestureLayer(), motion, turn, agent)
        assert begun == []
        np.testing.assert_array_equal(laid, motion)


@pytest.mark.parametrize("turn", [1, 2, 5])
def test_a_requested_nod_is_laid_over_the_motion_where_it_was_asked_for(turn: int) -> None:
    motion, request = np.zeros((100, 56), np.float32), nod(40)
    laid, begun = run(GestureLayer(), motion, turn, requested=(request,))
    assert begun == [request.gesture]
    np.testing.assert_allclose(laid[40:65, 53:56], render(request.gesture), atol=1e-6)
    assert np.abs(laid[:41, 53:56]).max() == 0
    assert np.abs(laid[65:, 53:56]).max() < 1e-6


def test_the_model_s_own_motion_gives_way_to_a_gesture_and_comes_back() -> None:
    """A nod of the model's that runs against the one asked for would make it invisible."""
    t = np.arange(150) / 25
    motion = np.zeros((150, 56), np.float32)
    motion[:, 53] = -0.08 * np.sin(2 * np.pi * 2.0 * t)
    laid, _ = run(GestureLayer(), motion, 2, requested=(nod(50, count=4),))
    during, after = slice(55, 98), slice(115, 150)
    asked = render(nod(50, count=4).gesture)[5:48, 0]
    assert np.corrcoef(laid[during, 53], asked)[0, 1] > 0.75
    assert np.std(laid[after, 53]) == pytest.approx(np.std(motion[after, 53]), rel=0.05)
    jumps = np.abs(np.diff(laid[:, 53], 2))
    assert jumps.max() < 2 * np.abs(np.diff(motion[:, 53], 2)).max() + np.abs(np.diff(asked, 2)).max()


def test_drawn_gestures_are_the_same_whatever_the_length_of_a_turn() -> None:
    motion = wander(1500)
    user = voice(1500, slice(300, 600))
    _, begun = run(GestureLayer(SteadyPredictor()), motion, 5, user=user)
    assert 5 < len(begun) < 40
    for turn in (1, 2):
        assert run(GestureLayer(SteadyPredictor()), motion, turn, user=user)[1] == begun
    assert all(b.first_frame >= a.end_frame for a, b in itertools.pairwise(begun))


def test_another_seed_draws_other_gestures_and_the_same_seed_the_same() -> None:
    motion, found = wander(1500), []
    for seed in (1, 1, 2):
        layer = GestureLayer(SteadyPredictor())
        layer.reset(seed)
        found.append(run(layer, motion, 5)[1])
    assert found[0] == found[1] != found[2]


def test_a_rolled_back_turn_is_made_again_to_the_bit_from_the_same_inputs() -> None:
    motion, agent, user = wander(400), voice(430, slice(100, 200)), voice(400)
    straight, begun = run(GestureLayer(SteadyPredictor()), motion, 5, agent, user, (nod(100),))
    layer, rows, again = GestureLayer(SteadyPredictor()), {}, []
    frame = 0
    for back in (20, 60, 95, 100, 105, 300):
        while frame < back + 15:
            rows[frame] = step(layer, motion, frame, 5, agent * 0 + 0.1, user, (nod(100),)).motion
            frame += 5
        layer.rollback(back)
        frame = back
        if back == 20:
            layer.rollback(0)
            frame = 0
        while frame <= back:
            laid = step(layer, motion, frame, 5, agent, user, (nod(100),))
            rows[frame] = laid.motion
            again += [entry.gesture for entry in laid.begun]
            frame += 5
        # From here on the inputs are those of the straight run; what was made from others is made again.
        other = step(layer, motion, frame, 5, agent * 0 + 0.1, user, (nod(100),))
        assert other is not None
        layer.rollback(frame)
        for _ in range(3):
            laid = step(layer, motion, frame, 5, agent, user, (nod(100),))
            rows[frame] = laid.motion
            frame += 5
        layer.rollback(back + 5)
        frame = back + 5
    while frame < 400:
        rows[frame] = step(layer, motion, frame, 5, agent, user, (nod(100),)).motion
        frame += 5
    assert begun
    np.testing.assert_array_equal(rows[395], straight[395:400])
    np.testing.assert_array_equal(rows[100], straight[100:105])


def test_a_drawn_gesture_of_a_turn_that_is_made_again_is_withdrawn_with_it() -> None:
    motion, user = wander(800), voice(800)
    _, begun = run(GestureLayer(SteadyPredictor()), motion, 5, user=user)
    first = next(gesture.first_frame for gesture in begun)
    turn = first // 5 * 5
    layer = GestureLayer(SteadyPredictor())
    run(layer, motion[: turn + 5], 5)
    layer.rollback(turn)
    calm = dataclasses.replace(HeadDials(), nod_rate=0.0)
    laid = [
        step(layer, motion, frame, 5, voice(900), user, dials=calm) for frame in range(turn, turn + 50, 5)
    ]
    assert all(not part.begun for part in laid)
    np.testing.assert_array_equal(
        np.concatenate([part.motion for part in laid])[:, 53], motion[turn : turn + 50, 53]
    )


def test_a_turn_that_is_not_shown_draws_nothing_and_makes_its_requests_wait() -> None:
    motion, agent, user = np.zeros((100, 56), np.float32), voice(130), voice(100)
    layer = GestureLayer(SteadyPredictor())
    for frame in range(0, 100, 5):
        inputs = inputs_of(frame, 5, agent, user, (nod(50),), HeadDials(nod_rate=0.0))
        laid = layer.apply(inputs, None if frame == 50 else motion[:5])
        if frame == 55:
            assert [entry.gesture.first_frame for entry in laid.begun] == [55]
        else:
            assert laid is None or not laid.begun


def test_a_request_ends_a_drawn_gesture_without_a_jump() -> None:
    motion = np.zeros((2000, 56), np.float32)
    _, begun = run(GestureLayer(SteadyPredictor()), motion, 5)
    drawn = next(gesture for gesture in begun if gesture.count > 1)
    middle = drawn.first_frame + drawn.frames // 2
    request = RequestedGesture(Gesture(GestureKind.SHAKE, middle, 2, 0.1, 1.5), "b")
    # It is asked for only when the drawn one is under way already.
    layer, rows = GestureLayer(SteadyPredictor()), []
    for frame in range(0, drawn.end_frame + 60, 1):
        requested = (request,) if frame >= middle - 1 else ()
        rows.append(step(layer, motion, frame, 1, voice(2100), voice(2000), requested).motion)
    laid = np.concatenate(rows)[:, 53:56]
    assert np.abs(np.diff(laid, 2, axis=0)).max() < 0.03
    assert np.abs(laid[middle : middle + 30, 1]).max() == pytest.approx(0.1, abs=0.01)
    assert np.abs(laid[request.gesture.end_frame + 1 : request.gesture.end_frame + 5]).max() < 1e-6


def test_a_look_away_stays_until_a_look_back() -> None:
    motion = np.zeros((200, 56), np.float32)
    away = RequestedGesture(Gesture(GestureKind.LOOK_AWAY, 25, 1, 0.3, 1.0, hold_s=20.0), "a")
    back = RequestedGesture(Gesture(GestureKind.LOOK_BACK, 100, 1, 0.3, 1.0), "b")
    laid, _ = run(GestureLayer(), motion, 5, requested=(away, back))
    assert np.all(laid[40:100, 54] == pytest.approx(0.3, abs=1e-3))
    assert np.abs(laid[115:, 54]).max() < 1e-6
    assert np.abs(np.diff(laid[:, 54], 2)).max() < 0.02


DIALS = {
    "nod_rate": (0.3, 3.0, lambda laid, begun: len(begun)),
    "nod_size": (0.5, 2.0, lambda laid, begun: np.mean([gesture.size_rad for gesture in begun])),
    "nod_speed": (0.5, 2.0, lambda laid, begun: np.mean([gesture.speed_hz for gesture in begun])),
    "expressiveness": (0.5, 2.0, lambda laid, begun: np.std(np.diff(laid[:, 53:56], axis=0))),
}


@pytest.mark.parametrize("name", DIALS)
def test_a_dial_makes_what_it_names_smaller_and_larger(name: str) -> None:
    low, high, measure = DIALS[name]
    motion, found = wander(3000), []
    for value in (low, 1.0, high):
        dials = HeadDials(**{name: value})
        found.append(measure(*run(GestureLayer(SteadyPredictor()), motion, 5, dials=dials)))
    assert found[0] < 0.8 * found[1] < 0.6 * found[2]


def test_person_seeds_nod_differently_often_and_on_average_as_people_do() -> None:
    persons = [HeadDials(person_seed=seed).person() for seed in range(1, 2000)]
    rates = [person.rate for person in persons]
    assert np.mean(rates) == pytest.approx(1.0, abs=0.1)
    assert np.quantile(rates, 0.9) > 3 * np.quantile(rates, 0.1)
    motion = wander(3000)
    counts = [
        len(run(GestureLayer(SteadyPredictor()), motion, 5, dials=HeadDials(person_seed=seed))[1])
        for seed in (int(np.argmin(rates[:50])) + 1, int(np.argmax(rates[:50])) + 1)
    ]
    assert counts[0] < 0.5 * counts[1]


def test_a_decisive_head_nods_where_the_probability_passes_its_threshold() -> None:
    motion, user = wander(600), voice(600, slice(200, 300))
    dials = HeadDials(decisive=True)
    _, begun = run(GestureLayer(SteadyPredictor()), motion, 5, user=user, dials=dials)
    assert begun[0].first_frame == 200
    assert all(200 <= gesture.first_frame < 303 for gesture in begun)


def test_the_mouth_is_shut_in_silence_and_does_not_chatter_in_short_pauses() -> None:
    motion = np.zeros((200, 56), np.float32)
    motion[:, 50] = 0.2
    agent = voice(230, slice(50, 100))
    for pause in (60, 75):
        agent[FRAME * pause : FRAME * (pause + 5)] = 0
    for turn in (2, 5):
        laid, _ = run(GestureLayer(), motion, turn, agent)
        jaw = laid[:, 50]
        assert np.abs(jaw[:46]).max() == 0
        assert np.all(jaw[50:100] == pytest.approx(0.2))
        assert np.abs(jaw[108:]).max() == 0
        assert np.abs(np.diff(jaw)).max() < 0.12
    open_all_the_time, _ = run(GestureLayer(), motion, 5, agent, dials=HeadDials(mouth_gate=False))
    np.testing.assert_array_equal(open_all_the_time, motion)


def test_a_preview_is_what_the_next_turn_shows_and_leaves_no_trace() -> None:
    motion, agent, user = wander(300), voice(330, slice(100, 200)), voice(300)
    requested = (nod(63),)
    plain, _ = run(GestureLayer(), motion, 5, agent, user, requested)
    layer = GestureLayer()
    for frame in range(0, 295, 5):
        step(layer, motion, frame, 5, agent, user, requested)
        ahead = layer.preview(inputs_of(frame, 5, agent, user, requested), motion[frame + 5 : frame + 10])
        np.testing.assert_allclose(ahead, plain[frame + 5 : frame + 10], atol=1e-6)


def test_voice_activity_is_the_same_in_any_blocks() -> None:
    random = np.random.default_rng(3)
    level = np.repeat(np.abs(random.normal(0, 0.05, 300)), FRAME)
    sound = (level * random.normal(0, 1, 300 * FRAME)).astype(np.float32)
    whole = SpeechActivity().step(sound)
    parts, detector = [], SpeechActivity()
    for frame in range(0, 300, 4):
        parts.append(detector.step(sound[FRAME * frame : FRAME * (frame + 4)]))
        detector.peek(sound[: 10 * FRAME])
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert 0.2 < whole.mean() < 1.0
