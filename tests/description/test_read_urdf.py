"""The reader of robot descriptions: kinematics as the reference reader has them; errors say what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yourdfpy
from timar_description import find_urdf
from timar_description.urdf import XACRO, read_drawable_urdf, read_urdf

ONE_JOINT = """<robot name="r">
  <material name="red"><color rgba="1 0 0 1"/></material>
  <link name="a"><visual><geometry><box size="1 2 3"/></geometry><material name="red"/></visual></link>
  <link name="b"/><link name="c"/>
  <joint name="slide" type="prismatic"><parent link="a"/><child link="b"/><origin xyz="0 0 1"/>
    <axis xyz="0 0 2"/><limit lower="-1" upper="1" effort="1" velocity="1"/></joint>
  <joint name="follow" type="revolute"><parent link="b"/><child link="c"/><axis xyz="0 1 0"/>
    <limit lower="-1" upper="1" effort="1" velocity="1"/>
    <mimic joint="{leader}" multiplier="2" offset="0.1"/></joint>
</robot>"""

TWICE = '<joint name="slide" type="fixed"><parent link="a"/><child link="b"/></joint></robot>'

MACROS = f"""<robot name="r" xmlns:xacro="{XACRO}"><xacro:arg name="reach" default="45"/>
  <link name="a"/><link name="b"/>
  <xacro:macro name="hinge" params="name"><joint name="${{name}}" type="revolute">
    <parent link="a"/><child link="b"/><axis xyz="0 0 1"/>
    <limit lower="-0.5" upper="${{radians($(arg reach))}}" effort="1" velocity="1"/></joint></xacro:macro>
  <xacro:hinge name="yaw"/></robot>"""

ONE_MESH = """<robot name="r"><link name="a"><visual><geometry>
  <mesh {attributes}/></geometry></visual></link></robot>"""


def broken(old: str, new: str) -> str:
    return ONE_JOINT.replace(old, new).format(leader="slide")


def written(folder: Path, text: str) -> Path:
    path = folder / "robot.urdf"
    path.write_text(text)
    return path


@pytest.mark.parametrize("robot", ["timar_head", "reachy_mini"])
def test_forward_kinematics_agree_with_yourdfpy(robot: str) -> None:
    model = read_drawable_urdf(find_urdf(robot))
    reference = yourdfpy.URDF.load(str(find_urdf(robot)), load_meshes=False)
    rng = np.random.default_rng(3)
    for _ in range(5):
        pose = {joint.name: rng.uniform(joint.lower, joint.upper) for joint in model.actuated}
        reference.update_cfg(pose)
        for link, frame in model.base_from_link(pose).items():
            np.testing.assert_allclose(
                frame, reference.get_transform(link, model.root), atol=1e-9, err_msg=link
            )


def test_an_origin_turns_by_roll_then_pitch_then_yaw_about_fixed_axes(tmp_path: Path) -> None:
    text = broken('xyz="0 0 1"', 'xyz="0 0 1" rpy="0.3 -0.5 1.1"')
    path = written(tmp_path, text.replace('"0 0 2"', '"0 0 1"'))  # The reference takes axes as they are.
    reference = yourdfpy.URDF.load(str(path), load_meshes=False)
    reference.update_cfg({"slide": 0.2})
    frames = read_drawable_urdf(path).base_from_link({"slide": 0.2})
    np.testing.assert_allclose(frames["c"], reference.get_transform("c", "a"), atol=1e-12)


def test_a_mimic_joint_follows_with_multiplier_and_offset(tmp_path: Path) -> None:
    model = read_drawable_urdf(written(tmp_path, ONE_JOINT.format(leader="slide")))
    assert [joint.name for joint in model.actuated] == ["slide"]
    frames = model.base_from_link({"slide": 0.2})
    np.testing.assert_allclose(frames["b"][:3, 3], [0, 0, 1.2])
    np.testing.assert_allclose(frames["c"][0, 0], np.cos(0.5))


def test_shapes_have_the_colour_their_material_is_defined_with(tmp_path: Path) -> None:
    (shape,) = read_drawable_urdf(written(tmp_path, ONE_JOINT.format(leader="slide"))).shapes
    assert (shape.kind, shape.size_m, shape.color_rgb) == ("box", (1.0, 2.0, 3.0), (1.0, 0.0, 0.0))


def test_a_mesh_beside_the_urdf_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "part.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    text = ONE_MESH.format(attributes='filename="part.obj" scale="2 2 2"')
    (shape,) = read_drawable_urdf(written(tmp_path, text)).shapes
    assert shape.size_m == (2.0, 2.0, 2.0)
    assert shape.mesh == tmp_path / "part.obj"


def test_a_mesh_of_a_package_is_found_in_its_share_folder_or_beside_the_urdf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = tmp_path / "prefix" / "share" / "my_robot" / "meshes"
    share.mkdir(parents=True)
    (share / "part.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    text = ONE_MESH.format(attributes='filename="package://my_robot/meshes/part.obj"')
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "prefix"))
    (shape,) = read_drawable_urdf(written(tmp_path, text)).shapes
    assert shape.mesh == share / "part.obj"
    monkeypatch.delenv("AMENT_PREFIX_PATH")
    (shape,) = read_drawable_urdf(written(share.parent, text)).shapes
    assert shape.mesh == share / "part.obj"


def test_a_driver_is_not_stopped_by_what_only_a_picture_needs(tmp_path: Path) -> None:
    text = "<robot name='r'><link name='a'><visual/></link><joint name='p' type='planar'/></robot>"
    assert read_urdf(written(tmp_path, text)).driven == ()


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("not a robot", "is not XML"),
        ("<robot name='r'/>", "it is <robot> with 0 links"),
        ("<sdf><model name='r'/></sdf>", "it is <sdf> with 0 links; expected <robot>"),
        ("<robot name='r'><group name='head'/></robot>", "an SRDF and an SDF are other formats"),
        (ONE_JOINT.replace('name="b"', 'name="a"').format(leader="slide"), "2 links are called 'a'"),
        (ONE_JOINT.format(leader="slide").replace("</robot>", TWICE), "2 joints are called 'slide'"),
        (
            broken('type="prismatic"', 'type="revolute"').replace('upper="1"', 'upper="90"'),
            "if these are degrees, write -0.01745 and 1.571",
        ),
        (broken('upper="1"', ""), "lacks upper; give lower, upper, velocity"),
        (
            f"<robot xmlns:x='{XACRO}' name='r'><link name='a'/><x:arg/></robot>",
            r"robot\.urdf\.xacro, and it is",
        ),
        ("<robot name='r'><link name='a'/><link name='b'/></robot>", r"2 links without a parent \(a, b\)"),
        (ONE_JOINT.format(leader="nomodel"), "mimics 'nomodel'"),
        (ONE_JOINT.replace('"0 0 2"', '"0 0 0"').format(leader="slide"), "joint 'slide' has the axis"),
        (
            ONE_JOINT.replace('type="prismatic"', 'type="planar"').format(leader="slide"),
            "joint slide of .* is planar",
        ),
        (
            ONE_JOINT.replace('child link="b"', 'child link="z"').format(leader="slide"),
            "links that are not there: z",
        ),
        (broken('lower="-1"', ""), "<limit> of joint 'slide' lacks lower"),
        (broken('lower="-1"', 'lower="2"'), "lower 2, upper 1, velocity 1"),
        (broken('upper="1"', 'upper="nan"'), "upper nan"),
        (broken('velocity="1"', 'velocity="0"'), "velocity > 0"),
        (broken('"0 0 1"', '"0 0"'), "xyz of origin of joint 'slide' is '0 0'"),
        (broken('size="1 2 3"', 'size="1 2 x"'), "size of visual of link 'a'"),
    ],
)
def test_a_broken_urdf_is_refused_by_what_is_wrong_with_it(tmp_path: Path, text: str, finding: str) -> None:
    with pytest.raises(ValueError, match=finding):
        read_drawable_urdf(written(tmp_path, text))


def test_a_xacro_file_is_expanded_and_read(tmp_path: Path) -> None:
    path = tmp_path / "r.urdf.xacro"
    path.write_text(MACROS)
    assert find_urdf(str(path)) == path
    joint = read_drawable_urdf(path).joints["yaw"]
    assert (joint.lower, joint.upper) == (-0.5, pytest.approx(np.pi / 4))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<xacro:hinge name", "<xacro:hing name"),
        ("radians", "no_function"),
        ("</robot>", ""),
        ("45", "$(find no)"),
    ],
)
def test_a_xacro_file_that_cannot_be_expanded_is_refused_in_one_sentence(
    tmp_path: Path, old: str, new: str
) -> None:
    path = tmp_path / "r.xacro"
    path.write_text(MACROS.replace(old, new))
    with pytest.raises(ValueError, match=r"r\.xacro cannot be expanded by xacro: "):
        read_urdf(path)


def test_a_missing_mesh_is_refused_by_name(tmp_path: Path) -> None:
    text = ONE_MESH.format(attributes='filename="gone.stl"')
    with pytest.raises(FileNotFoundError, match=r"gone\.stl"):
        read_drawable_urdf(written(tmp_path, text))
