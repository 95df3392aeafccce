"""Requests for gestures in inference: when they begin, what is refused, what survives a rollback."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from timar_common.messages import Header, constants, new
from timar_inference.config import InferenceConfig
from timar_inference.gesture_requests import GestureRequests
from timar_inference.runtime import _predictor
from timar_inference.turn_jobs import TurnRequest
from timar_model.architecture.config import ModelConfig
from timar_model.gestures.dials import HeadDials
from timar_model.gestures.gesture import GestureKind

KIND = {name: value for name, value in constants("Gesture").items() if name in GestureKind.__members__}


def wish(gesture_id: str = "a", kind: str = "NOD", **fields):
    return new("Gesture", gesture_id=gesture_id, kind=KIND[kind], **fields)


def ask(stage, gesture, stamp_ns=0) -> str:
    return stage.scheduler.push_gesture(
        new("GestureRequest", header=Header(stamp_ns, "", stamp_ns), gesture=gesture)
    )


def turns(jobs) -> list:
    return [job for job in jobs if isinstance(job, TurnRequest)]


def test_gestures_are_numbered_as_in_the_message() -> None:
    assert {kind.name: int(kind) for kind in GestureKind} == KIND


def test_a_gesture_begins_with_the_next_turn_or_at_the_instant_that_was_asked_for(stage) -> None:
    stage.hear_until(0, 6400)
    next_frame = stage.scheduler.next_frame
    assert ask(stage, wish("soon", size_rad=0.1, count=3, speed_hz=2.0)) == ""
    wanted_ns = stage.clock() + 2_000_000_000
    assert ask(stage, wish("later"), wanted_ns) == ""
    found = {
        r.gesture_id: r.gesture for job in turns(stage.hear_until(6400, 64_000)) for r in job.layer.requested
    }
    assert found["soon"].first_frame == next_frame
    assert (found["soon"].count, found["soon"].speed_hz) == (3, 2.0)
    due_ns = stage.scheduler.clock.monotonic_ns(640 * found["later"].first_frame)
    assert 0 <= due_ns - wanted_ns < 41_000_000


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"size_rad": 3.0}, "size is 3, expected 0.01 to 0.5 rad"),
        ({"speed_hz": float("nan")}, "speed is nan"),
        ({"count": 40}, "count is 40, expected 1 to 12"),
        ({"kind": "TILT", "count": 2}, "count is 2, expected 1 to 1 of a tilt"),
        ({"side": 3}, "side of a nod is 3"),
        ({"size_rad": 0.5, "speed_hz": 5.0}, "make it smaller or slower"),
    ],
)
def test_what_cannot_be_is_refused_with_value_and_range(stage, fields, reason) -> None:
    stage.hear_until(0, 6400)
    assert reason in ask(stage, wish(**fields))
    refused = [entry for job in turns(stage.hear_until(6400, 12_800)) for entry in job.refused]
    assert [(entry.gesture_id, reason in entry.reason) for entry in refused] == [("a", True)]


def test_an_unknown_kind_the_past_the_far_future_and_a_silent_microphone_are_refused(stage) -> None:
    assert "no sound of the user" in ask(stage, wish())
    stage.hear_until(0, 64_000)
    unknown = wish()
    unknown.kind = 9
    assert "the kind is 9, expected one of 0 (nod)" in ask(stage, unknown)
    assert "s before the next frame" in ask(stage, wish(), stage.clock() - 3_000_000_000)
    assert "expected at most 60" in ask(stage, wish(), stage.clock() + 90_000_000_000)


def test_a_second_gesture_at_the_same_time_is_refused_but_not_a_look(stage) -> None:
    stage.hear_until(0, 6400)
    assert ask(stage, wish("a", count=4)) == ""
    assert "a nod that was asked for is under way from frame" in ask(stage, wish("b", "SHAKE"))
    assert ask(stage, wish("c", "LOOK_AWAY")) == ""
    assert "is asked for already" in ask(stage, wish("a", "LOOK_AWAY"))


def test_a_request_that_is_taken_back_in_time_is_not_made(stage) -> None:
    stage.hear_until(0, 6400)
    assert ask(stage, wish("a"), stage.clock() + 2_000_000_000) == ""
    back = new("GestureRequest", gesture=wish("a"), is_withdrawn=True)
    stage.scheduler.push_gesture(back)
    assert not [r for job in turns(stage.hear_until(6400, 64_000)) for r in job.layer.requested]


def test_a_rolled_back_turn_is_given_its_requests_again(stage) -> None:
    stage.plan(0, np.full(64_000, 500))
    stage.hear_until(0, 6400)
    assert ask(stage, wish("a")) == ""
    jobs = turns(stage.hear_until(6400, 8320))
    carried = [
        job for job in jobs if any(r.gesture.first_frame == job.first_frame for r in job.layer.requested)
    ]
    turn = carried[0]
    stage.plan(640 * turn.first_frame, np.zeros(64), revision=1)
    again = [job for job in turns(stage.jobs()) if job.first_frame == turn.first_frame]
    assert [job.layer.requested for job in again] == [turn.layer.requested]


def test_a_reset_refuses_what_waits() -> None:
    requests = GestureRequests()
    assert requests.add(wish("a"), 500, 10, HeadDials(), 0) == ""
    requests.restart()
    assert [entry.gesture_id for entry in requests.take_refused()] == ["a"]
    assert requests.known(0, 10_000) == ()


def test_what_a_request_leaves_open_follows_the_dials() -> None:
    requests = GestureRequests()
    requests.add(wish("a"), 10, 10, HeadDials(), 0)
    requests.add(wish("b"), 100, 10, HeadDials(nod_size=2.0, nod_speed=0.5), 0)
    requests.add(wish("c", size_rad=0.05), 300, 10, HeadDials(nod_size=2.0), 0)
    first, second, third = (request.gesture for request in requests.known(0, 1000))
    assert second.size_rad == pytest.approx(2 * first.size_rad)
    assert second.speed_hz == pytest.approx(0.5 * first.speed_hz)
    assert third.size_rad == pytest.approx(0.05)


def test_a_turned_dial_counts_from_the_next_turn(make_stage) -> None:
    stage = make_stage()
    before = turns(stage.hear_until(0, 12_800))
    stage.scheduler.config = dataclasses.replace(stage.scheduler.config, nod_rate=2.5, decisive=True)
    after = turns(stage.hear_until(12_800, 25_600))
    assert {job.layer.dials.nod_rate for job in before} == {1.0}
    assert {(job.layer.dials.nod_rate, job.layer.dials.decisive) for job in after} == {(2.5, True)}


@pytest.mark.parametrize("name", ["expressiveness", "nod_rate", "nod_size", "nod_speed"])
def test_a_dial_out_of_range_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        InferenceConfig(**{name: 9.0})


def test_a_model_without_a_user_lag_foresees_no_gestures_unless_it_is_told_to() -> None:
    ours, published = ModelConfig.of_size("tiny"), ModelConfig.of_size("base")
    assert (ours.user_lag, published.user_lag) == ("turn", "none")
    found = [
        _predictor(InferenceConfig(gestures=wanted), model) is not None
        for model in (ours, published)
        for wanted in ("auto", "people", "none")
    ]
    assert found == [True, True, False, False, True, False]
