"""`timar robot tune`: lines in, targets within limits out, and a YAML of what was kept."""

import pytest
import yaml
from timar_retargeting.tuner import Tuner


@pytest.fixture
def tuner(robot):
    tuner = Tuner(robot.joints)
    tuner.update({"neck_yaw": 0.1, "jaw": 0.03, "tail": 1.0})
    return tuner


def test_a_joint_goes_where_it_is_told_and_steps_from_there(tuner):
    tuner.execute("jaw 0.2")
    tuner.execute("+")
    assert tuner.targets == {"jaw": pytest.approx(0.25)}
    tuner.execute("step 0.1")
    tuner.execute("-")
    assert tuner.targets == {"jaw": pytest.approx(0.15)}
    tuner.execute("0.3")
    assert tuner.targets == {"jaw": 0.3}


def test_the_first_step_starts_where_the_joint_is(tuner):
    tuner.execute("+")
    assert tuner.targets == {"neck_yaw": pytest.approx(0.15)}


def test_no_joint_is_sent_beyond_its_limits_and_that_is_said(tuner):
    assert "its limit in the YAML" in tuner.execute("jaw 9")
    assert tuner.targets == {"jaw": 0.44}


@pytest.mark.parametrize("line", ["tail 0.1", "jaw high", "jaw nan", "jaw 0.1 0.2", "jump", "step far"])
def test_what_cannot_be_meant_moves_nothing(tuner, line):
    answer = tuner.execute(line)
    assert "no " in answer
    assert tuner.targets == {}


def test_what_was_kept_is_yaml_for_the_robot(tuner):
    for line in ("jaw 0.05", "low", "jaw 0.35", "high", "jaw 0.1", "zero", "neck_yaw 0.4", "high", "quit"):
        tuner.execute(line)
    assert tuner.is_over
    assert yaml.safe_load(tuner.yaml()) == {
        "joints": {
            "jaw": {"offset_rad": 0.1, "position_rad": [0.05, 0.35]},
            "neck_yaw": {"position_rad": [-0.65, 0.4]},
        }
    }


def test_nothing_kept_is_nothing_written(tuner):
    assert tuner.yaml() == ""
    assert "neck_yaw: at +0.100" in tuner.execute("show")
