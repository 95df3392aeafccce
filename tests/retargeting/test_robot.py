"""The joint map: what is wrong in it is named by file, line, joint and rule."""

import numpy as np
import pytest
from timar_description.find import find_joint_map, find_urdf
from timar_description.urdf import read_urdf
from timar_retargeting.robot import load_robot

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
    driven = {joint.name for joint in read_urdf(find_urdf()).driven}
    assert driven == CONTRACT


def test_sign_mimic_delays_and_channels_are_taken_in(write):
    robot = load_robot(write(YAML))
    assert robot.mapper.gains(("neck_yaw",)).tolist() == [[-1.0, -0.5]]
    np.testing.assert_allclose(robot.offsets_rad, [0.0, 0.1])
    np.testing.assert_allclose(robot.leads_s, [0.02, -0.01])
    assert robot.expressions["grin"].weights[[3, 7]].tolist() == [0.5, -1.0]


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("  pan:\n", "  pann:\n", 7, "no movable joint 'pann'; did you mean 'pan'? It has: pan, tilt"),
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
        ("    sign: -1", "    soft_limits_rad: [-0.9, 0.5]", 9, "strictly inside position_rad [-0.9, 0.9]"),
        ("    sign: -1", "    dead_zone_rad: -0.1", 9, "expected 0 to 0.5"),
        ("    sign: -1", "    coupling: {tilt: 0.5}", 9, "expected a joint that stands above"),
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


def axes_to_joints(robot, **wanted):
    row = robot.mapper.offsets.copy()
    for name, value in wanted.items():
        row[[axis.name for axis in robot.mapper.axes].index(name)] = value
    return dict(zip(robot.joint_names, robot.mapper.joints(row[None])[0], strict=True))


def test_motion_smaller_than_the_dead_zone_is_left_out_and_the_rest_has_no_step(write):
    robot = load_robot(write(YAML.replace("    sign: -1", "    dead_zone_rad: 0.05", 1)))
    yaw = np.array([-0.3, -0.06, -0.04, 0.0, 0.05, 0.07])[:, None]
    wanted = robot.mapper.wanted(yaw, robot.mapper.gains(("neck_yaw",)))
    np.testing.assert_allclose(wanted[:, 0], [-0.25, -0.01, 0.0, 0.0, 0.0, 0.02], atol=1e-12)
    np.testing.assert_allclose(wanted[:, 1] - 0.1, 0.5 * wanted[:, 0], err_msg="a mimic joint does the same")


def test_a_stop_reached_by_design_is_no_limit_hit_and_the_same_limit_without_one_is(write):
    mimic, limits = "mimic: {joint: pan, multiplier: 0.5, offset_rad: 0.1}", "position_rad: [-0.4, 0.4]"
    text = YAML.replace(mimic, "signals: {jaw_opening: 1.0}")

    def with_stops(stops):
        return write(text.replace(limits, f"{limits}\n    stops: {stops}" if stops else limits))

    below, above = np.array([[0.0, -0.6]]), np.array([[0.0, 0.6]])
    for stops, hits in (("[lower]", (False, True)), ("[lower, upper]", (False, False)), ("", (True, True))):
        mapper = load_robot(with_stops(stops)).mapper
        assert (mapper.is_clipped(below)[1], mapper.is_clipped(above)[1]) == hits
    with pytest.raises(ValueError, match=r"stops names 'shut', expected lower or upper"):
        load_robot(with_stops("[shut]"))


def test_soft_limits_are_where_the_bend_begins(write):
    robot = load_robot(write(YAML.replace("    sign: -1", "    soft_limits_rad: [-0.4, 0.7]", 1)))
    for yaw, is_bent in ((-0.35, False), (-0.5, True), (0.65, False), (0.8, True)):
        assert (axes_to_joints(robot, pan=yaw)["pan"] != yaw) == is_bent
    assert -0.9 < axes_to_joints(robot, pan=-30.0)["pan"] < -0.85


COUPLED = YAML.replace("    mimic: {joint: pan, multiplier: 0.5, offset_rad: 0.1}",
                       "    signals: {neck_pitch: 1.0}\n    coupling: {pan: 0.5}")  # fmt: skip


def test_a_coupled_joint_makes_good_what_another_does_to_it_and_keeps_its_own_limits(write):
    robot = load_robot(write(COUPLED))
    assert axes_to_joints(robot, pan=0.3, tilt=0.1)["tilt"] == pytest.approx(0.1 + 0.15)
    pushed = axes_to_joints(robot, pan=5.0, tilt=0.0)
    assert pushed["pan"] < 0.9
    assert pushed["tilt"] < 0.4
    assert robot.mapper.is_clipped(np.array([[0.6, 0.3]])).tolist() == [False, True]


PLATFORM = """robot: two
urdf: two.urdf
kinematics:
  neck:
    type: two_rod
    joints: [pan, tilt]
    axes:
      pitch: {signals: {neck_pitch: 1.0}, position_rad: [-0.2, 0.2]}
      roll: {signals: {neck_roll: 1.0, sway_roll: 1.0}, position_rad: [-0.15, 0.15]}
    geometry:
      base_m: [[-0.03, 0.03, -0.08], [-0.03, -0.03, -0.08]]
      plate_m: [[-0.05, 0.03, 0.0], [-0.05, -0.03, 0.0]]
      crank_m: 0.02
      azimuth_rad: [3.14159265, 3.14159265]
joints:
  pan: {position_rad: [-0.9, 0.9], velocity_rad_s: 2.0, acceleration_rad_s2: 20.0, servo_delay_s: 0.03}
  tilt: {position_rad: [-0.5, 0.5], velocity_rad_s: 2.0, acceleration_rad_s2: 20.0, servo_delay_s: 0.03}
"""


def test_a_nod_reaches_both_motors_of_a_two_rod_neck(write):
    robot = load_robot(write(PLATFORM))
    np.testing.assert_allclose(robot.offsets_rad, 0.0, atol=1e-9)
    joints = axes_to_joints(robot, **{"neck.pitch": 0.1})
    kinematics = robot.platforms[0].kinematics
    pose = kinematics.forward(np.array([list(joints.values())]))[0]
    np.testing.assert_allclose(pose, [0.1, 0.0], atol=1e-6)
    far = axes_to_joints(robot, **{"neck.pitch": 3.0, "neck.roll": -3.0})
    assert all(np.isfinite(value) for value in far.values())
    assert abs(far["tilt"]) < 0.5


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("type: two_rod", "type: delta", 5, "type is 'delta', expected one of stewart, two_rod"),
        ("[pan, tilt]", "[pan]", 6, "two_rod has 2 motors, got 1 joints"),
        ("[pan, tilt]", "[pan, pan]", 6, "each said once"),
        ("[pan, tilt]", "[pan, nod]", 4, "joints lacks 'nod'"),
        ("      pitch:", "      pitsch:", 8, "unknown key 'pitsch'"),
        ("neck_pitch: 1.0", "neck_pich: 1.0", 8, "no signal 'neck_pich'"),
        ("crank_m: 0.02", "crank_m: 0.02\n      rod_m: 0.3", 10, "does not reach its crank"),
        ("[[-0.03, 0.03, -0.08], ", "[", 11, "list of 2 lists of 3 numbers"),
        ("  pan: {", "  pan: {signals: {neck_yaw: 1}, ", 16, "moves this joint; signals belongs to its axes"),
        ("position_rad: [-0.5, 0.5]", "position_rad: [0.1, 0.5]", 4, "neutral pose asks 'tilt' for 0"),
        ("servo_delay_s: 0.03", "servo_delay_s: 0.02", 4, "one servo_delay_s"),
    ],
)
def test_a_mistake_in_a_platform_is_named_by_file_line_and_rule(write, old, new, line, message):
    assert old in PLATFORM
    with pytest.raises(ValueError) as error:
        load_robot(write(PLATFORM.replace(old, new, 1)))
    assert message in str(error.value)
    assert f"two.yaml, line {line}," in str(error.value)
