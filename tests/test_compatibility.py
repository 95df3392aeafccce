"""A bag, a model folder and a robot of version 0.1 (tests/data/v0_1) still work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from timar_bag.bag import BagReader
from timar_bag.check import check_bag
from timar_driver.config import DriverConfig
from timar_driver.driver_setup import set_up_driver
from timar_replay.replay import replay
from timar_replay.replay_settings import ReplaySettings
from timar_report.joints import limits_of
from timar_report.score import score_bag
from timar_report.summary import summarize
from timar_retargeting.robot import load_robot

from timar_model import load_model

DATA = Path(__file__).parent / "data" / "v0_1"
BAG, MODEL, ROBOT = DATA / "bag", DATA / "model", DATA / "robot" / "timar_head.yaml"
EXACT = 5e-6
"""Engines of other processors round in other places."""


def settings(**changes: object) -> ReplaySettings:
    return ReplaySettings(**changes).changed([f"inference.model={MODEL}", "inference.engine=onnx"])


def test_every_message_of_the_bag_is_read() -> None:
    with BagReader(BAG) as reader:
        counts: dict[str, int] = {}
        for entry in reader.messages():
            counts[entry.topic] = counts.get(entry.topic, 0) + 1
        assert counts == {name: topic.messages for name, topic in reader.topics.items() if topic.messages}
        assert reader.issues == []
    assert len(counts) == 13
    assert check_bag(BAG)[1] == []


def test_the_bag_is_summed_up_and_scored(tmp_path: Path) -> None:
    numbers = summarize(BAG, tmp_path, limits=limits_of(str(ROBOT)))
    assert (numbers["turns"], numbers["late_turns"], numbers["engine"]) == (16, 0, "onnx-cpu-float32")
    assert numbers["latency_ms"]["floor"] == 280.0
    assert numbers["latency_ms"]["microphone_to_joint"]["p95"] is not None
    assert numbers["extra"]["losses"] == []
    assert score_bag(BAG, limits_of(str(ROBOT))).numbers["motion"]["shown_share"] > 0.9


def test_the_bag_is_replayed(tmp_path: Path) -> None:
    report = replay(BAG, tmp_path / "out", settings())
    assert report.issues == []
    assert report.counts["turn_log"] >= 16
    assert score_bag(tmp_path / "out", limits_of(str(ROBOT))).numbers["late_turns"] == 0


def test_the_log_is_repeated_and_it_is_said_that_it_lacks_the_input_cursor(tmp_path: Path) -> None:
    report = replay(BAG, tmp_path / "out", settings(is_following=True))
    assert report.agreement["motions"] == report.agreement["previews"] == 16
    assert report.agreement["largest_difference"] < EXACT
    assert any("cursor" in issue for issue in report.issues)


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_the_model_folder_opens_and_generates(engine: str) -> None:
    session = load_model(MODEL).session(engine=engine)
    rng = np.random.default_rng(0)
    frames = 5
    sound = (0.1 * rng.standard_normal(640 * frames)).astype(np.float32)
    motion = session.step(sound, None, sound)
    assert motion.shape == (frames, 56)
    assert np.isfinite(motion).all()


def test_the_robot_is_read_and_its_servos_move() -> None:
    robot = load_robot(ROBOT)
    assert {"jaw", "neck_yaw", "neck_pitch", "neck_roll"} <= set(robot.joint_names)
    driver = set_up_driver(DriverConfig(), DATA / "robot" / "timar_head.urdf").driver
    assert set(robot.joint_names) <= set(driver.joint_names)


def test_parameters_by_their_former_names_count_in_a_replay_and_are_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text("/**/retargeting:\n  ros__parameters: {life: false, patience_s: 0.3}\n", "utf-8")
    with pytest.warns(FutureWarning, match=r"retargeting\.life is now called retargeting\.idle_behavior"):
        config = ReplaySettings().with_parameters(path).changed(["retargeting.headway_ms=7"]).retargeting
    assert (config.idle_behavior, config.hold_s, config.min_lead_ms) == (False, 0.3, 7.0)
