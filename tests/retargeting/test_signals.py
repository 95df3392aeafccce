"""Axis conventions by named poses: a nod is a nod."""

import numpy as np
import pytest
import yourdfpy
from motion_signals import motion_signals, yaw_pitch_roll
from scipy.spatial.transform import Rotation
from timar_description.find import find_joint_map
from timar_retargeting.robot import load_robot
from timar_retargeting.signals import FLAME_TO_ROS, Neutral

ANGLE = 0.3


def motion(neck=(0.0, 0.0, 0.0), jaw=0.0) -> np.ndarray:
    frames = np.zeros((1, 56))
    frames[:, 53:56], frames[:, 50] = neck, jaw
    return frames


@pytest.mark.parametrize(
    ("pose", "neck", "signal"),
    [
        ("nods down", (ANGLE, 0, 0), "neck_pitch"),
        ("turns to its left", (0, ANGLE, 0), "neck_yaw"),
        ("leans to its right shoulder", (0, 0, ANGLE), "neck_roll"),
    ],
)
def test_a_named_pose_moves_its_own_signal_forward_and_no_other(pose, neck, signal):
    signals = motion_signals(motion(neck))
    for name in ("neck_yaw", "neck_pitch", "neck_roll"):
        assert signals[name][0] == pytest.approx(ANGLE if name == signal else 0.0, abs=1e-12), pose


def test_an_opening_jaw_is_positive():
    assert motion_signals(motion(jaw=0.1))["jaw_opening"][0] == pytest.approx(0.1)


def test_the_neutral_pose_gives_zero_signals_and_is_taken_off_as_a_rotation():
    rest = Neutral((0.18, 0.24, -0.08), 0.01)
    signals = motion_signals(motion(rest.neck_rad, 0.01), rest)
    assert all(abs(values[0]) < 1e-12 for values in signals.values())
    # A nod made from the tilted rest is a nod and nothing else.
    nodded = (Rotation.from_rotvec(rest.neck_rad) * Rotation.from_rotvec([ANGLE, 0, 0])).as_rotvec()
    signals = motion_signals(motion(nodded), rest)
    assert signals["neck_pitch"][0] == pytest.approx(ANGLE, abs=1e-12)
    assert signals["neck_yaw"][0] == pytest.approx(0.0, abs=1e-12)


def test_the_neck_of_the_default_head_reaches_the_very_rotation_that_was_asked_for():
    robot = load_robot(find_joint_map())
    urdf = yourdfpy.URDF.load(str(robot.urdf), load_meshes=False, build_scene_graph=True)
    rng = np.random.default_rng(3)
    for vector in rng.uniform(-0.4, 0.4, (20, 3)):
        angles = yaw_pitch_roll(vector)[0]
        urdf.update_cfg(dict(zip(("neck_yaw", "neck_pitch", "neck_roll"), angles, strict=True)))
        reached = urdf.get_transform("head", "torso")[:3, :3]
        np.testing.assert_allclose(
            reached, Rotation.from_rotvec(vector[list(FLAME_TO_ROS)]).as_matrix(), atol=1e-9
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("joint", "point", "direction"),
    [
        ("neck_pitch", (0.1, 0, 0.05), (0, 0, -1)),
        ("neck_yaw", (0.1, 0, 0.05), (0, 1, 0)),
        ("jaw", (0.1, 0, 0), (0, 0, -1)),
        ("left_lip_corner", (0, 0.03, 0), (0, 0, 1)),
        ("right_lip_corner", (0, -0.03, 0), (0, 0, 1)),
        ("left_upper_lid", (0.02, 0, 0), (0, 0, -1)),
        ("left_brow", (0.1, 0, 0), (0, 0, 1)),
    ],
)
def test_a_joint_moves_what_it_carries_the_way_its_name_says(joint, point, direction):
    robot = load_robot(find_joint_map())
    urdf = yourdfpy.URDF.load(str(robot.urdf), load_meshes=False, build_scene_graph=True)
    child = urdf.joint_map[joint].child

    def place(angle):
        urdf.update_cfg({joint: angle})
        return (urdf.get_transform(child, "base_link") @ np.array([*point, 1.0]))[:3]

    assert np.dot(place(0.1) - place(0.0), direction) > 0


@pytest.mark.parametrize("name", ["timar_head", "reachy_mini"])
@pytest.mark.parametrize(
    ("pose", "frame", "axis", "direction"),
    [
        ("nods: the face points down", {"neck": (ANGLE, 0, 0)}, 0, (0, 0, -1)),
        ("turns left: the face points left", {"neck": (0, ANGLE, 0)}, 0, (0, 1, 0)),
        ("leans right: the left ear rises", {"neck": (0, 0, ANGLE)}, 1, (0, 0, 1)),
    ],
)
def test_a_named_pose_of_the_person_is_that_pose_of_every_shipped_robot(name, pose, frame, axis, direction):
    """From FLAME numbers through the joint map and the URDF: which way the head's own axes point."""
    robot = load_robot(find_joint_map(name))
    urdf = yourdfpy.URDF.load(str(robot.urdf), load_meshes=False, build_scene_graph=True)

    def head(**parts):
        signals = {**motion_signals(motion(**parts)), **dict.fromkeys(robot.expressions, np.zeros(1))}
        names = list(signals)
        wanted = robot.mapper.wanted(
            np.stack([signals[name] for name in names], 1), robot.mapper.gains(names)
        )
        urdf.update_cfg(dict(zip(robot.joint_names, robot.mapper.joints(wanted)[0], strict=True)))
        return urdf.get_transform("head", urdf.base_link)[:3, axis]

    moved = head(**frame) - head()
    assert np.dot(moved, direction) > 0.8 * np.linalg.norm(moved), pose
    assert np.linalg.norm(moved) > 0.2, pose


def test_motion_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"expected \(frames, 56\)"):
        motion_signals(np.zeros((5, 55)))


def test_a_quarter_turn_of_pitch_stays_finite_and_silent(recwarn):
    assert np.isfinite(yaw_pitch_roll([[np.pi / 2, 0, 0], [0, np.pi, 0], [1e20, 1e20, 0]])).all()
    assert not recwarn.list
