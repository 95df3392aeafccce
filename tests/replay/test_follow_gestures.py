"""Following a turn log repeats gestures: drawn, requested and refused ones, with dials that were turned."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from component_scenarios import foreseeing
from hosting import BEGIN_NS, SECONDS, Step, as_arrived, inputs, record, time_of
from timar_inference.config import InferenceConfig
from timar_inference.inference_component import InferenceComponent
from timar_replay.bag_host import BagHost
from timar_replay.log_follower import RECORDED_LOG, RECORDED_MOTION, LogFollower


@pytest.fixture(scope="module")
def config(small_model: Path) -> InferenceConfig:
    return InferenceConfig(model=str(small_model), engine="torch", warmup_turns=0, steps=2, nod_rate=3.0)


@pytest.fixture(scope="module")
def recorded(config: InferenceConfig) -> list[Step]:
    """Return a conversation in which a dial is turned, with what the component published."""
    component = DialledComponent(config, foreseeing(config), "talk")
    steps = [step._replace(what=as_arrived(step.what)) for step in inputs() if step.topic in component.inputs]
    return record([component], steps)


class DialledComponent(InferenceComponent):
    """Somebody turns its dials after two seconds."""

    def handle(self, topic: str, message: Any, now_ns: int) -> Any:
        if now_ns > time_of(32_000) and self.config.nod_size == 1.0:
            self.reconfigure(dataclasses.replace(self.config, nod_size=1.7, expressiveness=0.8), now_ns)
        return super().handle(topic, message, now_ns)


def follow(follower: LogFollower, recorded: Sequence[Step]) -> None:
    host = BagHost([follower], lambda *_: None, itertools.repeat(0))
    host.start(BEGIN_NS)
    names = {"turn_log": RECORDED_LOG, "agent/motion": RECORDED_MOTION}
    for step in recorded:
        topic = names.get(step.topic, step.topic)
        if topic in follower.inputs:
            host.deliver(topic, as_arrived(step.what), step.at_ns)
    host.finish(time_of(round(SECONDS * 16_000)))


def motion_of(recorded: Sequence[Step]) -> list[Any]:
    return [step.what for step in recorded if step.topic == "agent/motion"]


@pytest.mark.slow
def test_gestures_are_followed_to_the_byte(config: InferenceConfig, recorded: list[Step]) -> None:
    gestures = [entry for message in motion_of(recorded) for entry in message.gestures]
    assert {entry.gesture_id for entry in gestures} == {"", "nod", "tilt", "wild"}
    dials = {float(step.what.dials.nod_size) for step in recorded if step.topic == "turn_log"}
    assert {0.0, 1.0, float(np.float32(1.7))} == dials  # 0 in entries that are no turns
    follower = LogFollower(config, foreseeing(config))
    follow(follower, recorded)
    assert follower.issues() == []
    assert follower.agreement.is_exact, follower.agreement
    assert follower.agreement.motions > 15


@pytest.mark.slow
def test_a_log_without_its_gestures_is_told_to_differ(config: InferenceConfig, recorded: list[Step]) -> None:
    changed = [
        step._replace(what=dataclasses.replace(step.what, gestures=[])) if step.topic == "turn_log" else step
        for step in recorded
    ]
    follower = LogFollower(config, foreseeing(config))
    follow(follower, changed)
    assert not follower.agreement.is_exact


def test_motion_says_how_likely_gestures_are_by_frame(recorded: list[Step]) -> None:
    turns = [message for message in motion_of(recorded) if not message.is_preview]
    assert turns
    for message in turns:
        assert message.gesture_kinds.tolist() == [0]
        assert message.gesture_probability.shape == (message.frames,)
        assert np.all((message.gesture_probability > 0) & (message.gesture_probability < 1))
