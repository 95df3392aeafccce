"""The joint map: what is wrong in it is named by file, line, joint and rule."""

import numpy as np
import pytest
from timar_description.find import find_joint_map, find_urdf
from timar_retargeting.robot import load_robot
from timar_retargeting.urdf import read_urdf_joints

CONTRACT = {
    "neck_yaw", "neck_pitch", "neck_roll", "jaw", "eyes_yaw", "eyes_pitch", "left_upper_lid",
    "right_upper_lid", "left_brow", "right_brow", "left_lip_corner", "right_lip_corner",
}  # fmt: skip

URDF = """<robot name="two">
<link name="a"/><link name="b"/><link name="c"/><link name="d"/>
<joint name="pan" type="revolute"><parent link="a"/><child link="b"/><axis xyz="0 0 1"/>
  <limit lower="-1" upper="1" velocity="3" effort="1"/></joint>
<joint name="tilt" type="revolute"><parent link="b"/><child link="c"/><axis xyz="0 1 0"/>
  <limit lower="-0.5" upper="0.5" velocity="3" effort="1"/></joint>
<joint name="slave" type="revolute"><parent link="c"/><child link="d"/><axis xyz="0 1 0"/>
  <limit lower="-0.5" upper="0.5" velocity="3" effort="1"/><mimic joint="tilt"/></joint>
</robot>"""

YAML = """robot: two
urdf: two.urdf
loudspeaker_delay_s: 0.01
expressions:
  grin: {3: 0.5, 7: -1.0}
joints:
  pan:
    signals: {neck_yaw: 1.0}
    sign: -1
    position_rad: [-0.9, 0.9]
    velocity_rad_s: 2.0
    acceleration_rad_s2: 20.0
    servo_delay_s: 0.03
  tilt:
    mimic: {joint: pan, multiplier: 0.5, offset_rad: 0.1}
    position_rad: [-0.4, 0.4]
    velocity_rad_s: 2.0
    acceleration_rad_s2: 20.0
"""


@pytest.fixture
def write(tmp_path):
    (tmp_path / "two.urdf").write_text(URDF)

    def writer(text):
        path = tmp_path / "two.yaml"
        path.write_text(text)
        return path

    return writer


def test_the_default_head_has_the_joints_of_the_contract_and_agrees_with_its_urdf():
    robot = load_robot(find_joint_map())
    assert set(robot.joint_names) == CONTRACT
    driven = {name for name, joint in read_urdf_joints(find_urdf()).items() if not joint.mimics}
    assert driven == CONTRACT


def test_sign_mimic_delays_and_channels_are_taken_in(write):
    robot = load_robot(write(YAML))
    assert robot.gains(("neck_yaw",)).tolist() == [[-1.0, -0.5]]
    np.testing.assert_allclose(robot.offsets_rad, [0.0, 0.1])
    np.testing.assert_allclose(robot.leads_s, [0.02, -0.01])
    assert robot.expressions["grin"][[3, 7]].tolist() == [0.5, -1.0]


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("  pan:\n", "  pann:\n", 7, "no movable joint 'pann'; it has: pan, tilt"),
        ("[-0.9, 0.9]", "[-1.2, 0.9]", 7, "wider than the URDF's"),
        ("velocity_rad_s: 2.0\n    acceleration_rad_s2: 20.0\n    servo", "velocity_rad_s: 9\n"
         "    acceleration_rad_s2: 20.0\n    servo", 7, "above the URDF's 3"),
        ("neck_yaw: 1.0", "neck_jaw: 1.0", 8, "no signal 'neck_jaw'"),
        ("    sign: -1", "    sign: 2", 9, "expected 1 or -1"),
        ("    sign: -1", "    gian: -1", 9, "unknown key 'gian'"),
        ("    sign: -1", "    sign: .nan", 9, "must be a finite number"),
        ("    sign: -1\n", "    sign: -1\n    sign: 1\n", 10, "said twice"),
        ("[-0.9, 0.9]", "[0.9, -0.9]", 10, "expected lower < upper"),
        ("[-0.9, 0.9]", "[0.1, 0.9]", 7, "neutral position 0 lies outside"),
        ("[-0.9, 0.9]", "0.9", 10, "must be a list of 2 numbers"),
        ("joint: pan", "joint: head", 15, "expected a joint that stands above it"),
        ("  tilt:\n    mimic: {joint: pan, multiplier: 0.5, offset_rad: 0.1}", "  slave:\n    signals: {}",
         14, "follow 'tilt' mechanically"),
        ("{3: 0.5,", "{50: 0.5,", 5, "expected 0..49"),
        ("  grin:", "  blink:", 5, "name of a built-in signal"),
        ("robot: two\n", "", 1, "'robot' is missing"),
        ("servo_delay_s: 0.03", "servo_delay_s: 3", 13, "expected 0 to 0.5"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_file_line_and_rule(write, old, new, line, message):
    assert old in YAML
    with pytest.raises(ValueError) as error:
        load_robot(write(YAML.replace(old, new, 1)))
    assert message in str(error.value)
    assert f"two.yaml, line {line}," in str(error.value)


def test_a_file_that_is_no_yaml_or_a_urdf_that_is_no_xml_is_named(write, tmp_path):
    with pytest.raises(ValueError, match="is not YAML"):
        load_robot(write("joints: [}"))
    with pytest.raises(ValueError, match="must be a mapping"):
        load_robot(write("- 1\n"))
    (tmp_path / "two.urdf").write_text("<robot")
    with pytest.raises(ValueError, match=r"two\.urdf is not a URDF"):
        load_robot(write(YAML))


def test_no_yaml_tag_can_run_code(write):
    with pytest.raises(ValueError, match="must be a word"):
        load_robot(write(YAML.replace("robot: two", "robot: !!python/object/apply:os.getcwd []", 1)))
