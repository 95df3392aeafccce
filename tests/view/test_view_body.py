from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yourdfpy
from timar_description import find_urdf
from timar_view.body import load_body

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

ONE_MESH = """<robot name="r"><link name="a"><visual><geometry>
  <mesh {attributes}/></geometry></visual></link></robot>"""


def written(folder: Path, text: str) -> Path:
    path = folder / "robot.urdf"
    path.write_text(text)
    return path


def test_forward_kinematics_agree_with_yourdfpy() -> None:
    body = load_body(find_urdf())
    reference = yourdfpy.URDF.load(str(find_urdf()), load_meshes=False)
    rng = np.random.default_rng(3)
    for _ in range(5):
        pose = {joint.name: rng.uniform(joint.lower, joint.upper) for joint in body.actuated}
        reference.update_cfg(pose)
        for link, frame in body.base_from_link(pose).items():
            np.testing.assert_allclose(
                frame, reference.get_transform(link, body.root), atol=1e-9, err_msg=link
            )


def test_a_mimic_joint_follows_with_multiplier_and_offset(tmp_path: Path) -> None:
    body = load_body(written(tmp_path, ONE_JOINT.format(leader="slide")))
    assert [joint.name for joint in body.actuated] == ["slide"]
    frames = body.base_from_link({"slide": 0.2})
    np.testing.assert_allclose(frames["b"][:3, 3], [0, 0, 1.2])
    np.testing.assert_allclose(frames["c"][0, 0], np.cos(0.5))


def test_shapes_have_the_colour_their_material_is_defined_with(tmp_path: Path) -> None:
    (shape,) = load_body(written(tmp_path, ONE_JOINT.format(leader="slide"))).shapes
    assert (shape.kind, shape.size_m, shape.color_rgb) == ("box", (1.0, 2.0, 3.0), (1.0, 0.0, 0.0))


def test_a_mesh_beside_the_urdf_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "part.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    text = ONE_MESH.format(attributes='filename="part.obj" scale="2 2 2"')
    (shape,) = load_body(written(tmp_path, text)).shapes
    assert shape.size_m == (2.0, 2.0, 2.0)
    assert len(shape.mesh.faces) == 1


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("not a robot", "is not XML"),
        ("<robot name='r'/>", "0 links without a parent"),
        ("<robot name='r'><link name='a'/><link name='b'/></robot>", r"2 links without a parent \(a, b\)"),
        (ONE_JOINT.format(leader="nobody"), "mimics 'nobody'"),
        (ONE_JOINT.replace('"0 0 2"', '"0 0 0"').format(leader="slide"), "joint slide has the axis"),
        (
            ONE_JOINT.replace('type="prismatic"', 'type="planar"').format(leader="slide"),
            "joint slide is planar",
        ),
        (
            ONE_JOINT.replace('child link="b"', 'child link="z"').format(leader="slide"),
            "links that are not there: z",
        ),
    ],
)
def test_a_broken_urdf_is_refused_by_what_is_wrong_with_it(tmp_path: Path, text: str, finding: str) -> None:
    with pytest.raises(ValueError, match=finding):
        load_body(written(tmp_path, text))


def test_a_missing_mesh_is_refused_by_name(tmp_path: Path) -> None:
    text = ONE_MESH.format(attributes='filename="gone.stl"')
    with pytest.raises(FileNotFoundError, match=r"gone\.stl"):
        load_body(written(tmp_path, text))
