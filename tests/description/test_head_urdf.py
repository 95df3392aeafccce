from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import yourdfpy
from timar_description import find_urdf

WANTED_JOINTS = {
    "neck_yaw", "neck_pitch", "neck_roll", "jaw", "eyes_yaw", "eyes_pitch",
    "left_upper_lid", "right_upper_lid", "left_brow", "right_brow", "left_lip_corner", "right_lip_corner",
}  # fmt: skip


@pytest.fixture(scope="module")
def urdf() -> yourdfpy.URDF:
    return yourdfpy.URDF.load(str(find_urdf()), load_meshes=False)


@pytest.fixture(scope="module")
def xml() -> ElementTree.Element:
    return ElementTree.parse(find_urdf()).getroot()


def place(urdf: yourdfpy.URDF, link: str, point: tuple[float, float, float], **pose: float) -> np.ndarray:
    """Return where a point of a link is in base_link, in a pose."""
    urdf.update_cfg({name: pose.get(name, 0.0) for name in urdf.actuated_joint_names})
    return (urdf.get_transform(link, "base_link") @ [*point, 1.0])[:3]


def visuals(xml: ElementTree.Element, link: str, material: str | None = None) -> list[ElementTree.Element]:
    found = xml.findall(f"link[@name='{link}']/visual")
    return [v for v in found if material is None or v.find("material").get("name") == material]


def sphere(visual: ElementTree.Element) -> tuple[np.ndarray, float]:
    origin = visual.find("origin")
    centre = np.zeros(3) if origin is None else np.array(origin.get("xyz").split(), float)
    return centre, float(visual.find("geometry/sphere").get("radius"))


def test_the_head_is_a_valid_urdf(urdf: yourdfpy.URDF) -> None:
    assert urdf.validate(), urdf.errors
    assert urdf.robot.name == "timar_head"
    assert urdf.base_link == "base_link"


def test_the_twelve_joints_are_actuated_and_the_second_eye_mimics_the_first(urdf: yourdfpy.URDF) -> None:
    assert set(urdf.actuated_joint_names) == WANTED_JOINTS
    mimics = {joint.name: joint.mimic.joint for joint in urdf.robot.joints if joint.mimic is not None}
    assert mimics == {"right_eye_yaw": "eyes_yaw", "right_eye_pitch": "eyes_pitch"}


def test_every_moving_joint_has_limits_around_zero(urdf: yourdfpy.URDF) -> None:
    for joint in urdf.robot.joints:
        if joint.type == "fixed":
            continue
        assert joint.limit.lower <= 0.0 <= joint.limit.upper, joint.name
        assert joint.limit.upper - joint.limit.lower > 0.1, joint.name
        assert 1.0 <= joint.limit.velocity <= 30.0, joint.name
        assert 0.0 < joint.limit.effort <= 1.5, joint.name


@pytest.mark.parametrize(
    ("joint", "lower", "upper"),
    [("neck_yaw", -0.7, 0.7), ("neck_pitch", -0.45, 0.45), ("neck_roll", -0.35, 0.35), ("jaw", 0.0, 0.45)],
)
def test_neck_and_jaw_have_the_agreed_range(
    urdf: yourdfpy.URDF, joint: str, lower: float, upper: float
) -> None:
    limit = urdf.joint_map[joint].limit
    assert (limit.lower, limit.upper) == (lower, upper)


def test_only_primitives_are_drawn_and_every_colour_is_defined(xml: ElementTree.Element) -> None:
    kinds = {geometry[0].tag for geometry in xml.iter("geometry")}
    assert kinds == {"box", "sphere", "cylinder"}
    colors = {material.get("name") for material in xml.findall("material")}
    used = {material.get("name") for material in xml.findall("link/visual/material")}
    assert used <= colors
    assert len(xml.findall("link/visual/material")) == len(xml.findall("link/visual"))


def test_every_moving_link_has_a_mass_and_an_inertia_a_body_can_have(urdf: yourdfpy.URDF) -> None:
    children = {joint.child for joint in urdf.robot.joints if joint.type != "fixed"}
    total_kg = 0.0
    for link in urdf.robot.links:
        if link.inertial is None:
            assert link.name not in children
            continue
        total_kg += link.inertial.mass
        i1, i2, i3 = np.sort(np.linalg.eigvalsh(link.inertial.inertia))
        assert i1 > 0, link.name
        assert i3 <= (i1 + i2) * 1.001, f"{link.name} breaks the triangle rule of moments"
    assert 2.0 < total_kg < 6.0


def test_positive_pitch_lowers_the_nose(urdf: yourdfpy.URDF) -> None:
    nose = (0.1, 0.0, 0.083)
    assert place(urdf, "head", nose, neck_pitch=0.4)[2] < place(urdf, "head", nose)[2] - 0.03


def test_positive_yaw_turns_the_nose_to_its_left(urdf: yourdfpy.URDF) -> None:
    nose = (0.1, 0.0, 0.083)
    assert place(urdf, "head", nose)[1] == pytest.approx(0.0)
    assert place(urdf, "head", nose, neck_yaw=0.4)[1] > 0.03


def test_positive_roll_lowers_the_right_ear(urdf: yourdfpy.URDF) -> None:
    left, right = (0.0, 0.1, 0.1), (0.0, -0.1, 0.1)
    assert place(urdf, "head", right, neck_roll=0.3)[2] < place(urdf, "head", right)[2] - 0.02
    assert place(urdf, "head", left, neck_roll=0.3)[2] > place(urdf, "head", left)[2] + 0.02


def test_positive_jaw_lowers_the_chin_by_centimetres(urdf: yourdfpy.URDF) -> None:
    chin = (0.08, 0.0, -0.05)
    drop_m = place(urdf, "jaw_link", chin)[2] - place(urdf, "jaw_link", chin, jaw=0.45)[2]
    assert 0.02 < drop_m < 0.06


@pytest.mark.parametrize("eye", ["left_eye", "right_eye"])
def test_both_eyes_look_left_and_down_for_positive_angles(urdf: yourdfpy.URDF, eye: str) -> None:
    pupil = (0.03, 0.0, 0.0)
    ahead = place(urdf, eye, pupil)
    assert place(urdf, eye, pupil, eyes_yaw=0.4)[1] > ahead[1] + 0.01
    assert place(urdf, eye, pupil, eyes_pitch=0.3)[2] < ahead[2] - 0.008


@pytest.mark.parametrize("side", ["left", "right"])
def test_positive_brow_and_lip_corner_go_up(urdf: yourdfpy.URDF, side: str) -> None:
    outwards = 1 if side == "left" else -1
    brow, corner = (0.08, 0.036 * outwards, 0.045), (-0.008, 0.021 * outwards, 0.005)
    for joint, point in ((f"{side}_brow", brow), (f"{side}_lip_corner", corner)):
        rest = place(urdf, f"{joint}_link", point)
        assert place(urdf, f"{joint}_link", point, **{joint: 0.2})[2] > rest[2] + 0.003, joint
        assert place(urdf, f"{joint}_link", point, **{joint: -0.1})[2] < rest[2] - 0.0015, joint


def covered_share(
    urdf: yourdfpy.URDF, xml: ElementTree.Element, side: str, lid_rad: float, **gaze: float
) -> float:
    """Return which share of iris and pupil lies behind the lids, seen from in front."""
    pose = {f"{side}_upper_lid": lid_rad, **gaze}
    lids = [(f"{side}_upper_lid_link", *sphere(visuals(xml, f"{side}_upper_lid_link", "lid")[0]))]
    lower = [
        v for v in visuals(xml, "head", "lid") if np.sign(sphere(v)[0][1]) == (1 if side == "left" else -1)
    ]
    lids.append(("head", *sphere(lower[0])))
    centres = [(place(urdf, link, tuple(centre), **pose), radius) for link, centre, radius in lids]
    iris_centre, iris_radius = sphere(visuals(xml, f"{side}_eye", "iris")[0])
    rng = np.random.default_rng(7)
    directions = rng.normal(size=(400, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    surface = iris_centre + iris_radius * directions[directions[:, 0] > 0.85]
    seen = np.array([place(urdf, f"{side}_eye", tuple(point), **pose) for point in surface])
    hidden = np.zeros(len(seen), bool)
    for centre, radius in centres:
        off_axis = np.hypot(seen[:, 1] - centre[1], seen[:, 2] - centre[2])
        front = centre[0] + np.sqrt(np.maximum(radius**2 - off_axis**2, 0.0))
        hidden |= (off_axis < radius) & (front > seen[:, 0])
    return float(hidden.mean())


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    "gaze", [{}, {"eyes_yaw": 0.5, "eyes_pitch": 0.35}, {"eyes_yaw": -0.5, "eyes_pitch": -0.35}]
)
def test_closed_lids_cover_the_eye_wherever_it_looks(
    urdf: yourdfpy.URDF, xml: ElementTree.Element, side: str, gaze: dict[str, float]
) -> None:
    closed_rad = urdf.joint_map[f"{side}_upper_lid"].limit.upper
    assert covered_share(urdf, xml, side, closed_rad, **gaze) == 1.0


@pytest.mark.parametrize("side", ["left", "right"])
def test_open_lids_leave_the_eye_free(urdf: yourdfpy.URDF, xml: ElementTree.Element, side: str) -> None:
    assert covered_share(urdf, xml, side, 0.0) == 0.0


def balls(
    urdf: yourdfpy.URDF, xml: ElementTree.Element, link: str, **pose: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return centres, in base_link, and radii of a link's spheres."""
    found = [sphere(v) for v in visuals(xml, link) if v.find("geometry/sphere") is not None]
    return np.array([place(urdf, link, tuple(centre), **pose) for centre, _ in found]), np.array(
        [r for _, r in found]
    )


@pytest.mark.parametrize("jaw", [0.0, 0.25, 0.45])
@pytest.mark.parametrize("roll", [-0.35, 0.0, 0.35])
def test_the_chin_stays_clear_of_the_chest_in_the_deepest_nod(
    urdf: yourdfpy.URDF, xml: ElementTree.Element, jaw: float, roll: float
) -> None:
    chin, chin_radius = balls(urdf, xml, "jaw_link", neck_pitch=0.45, jaw=jaw, neck_roll=roll)
    chest, chest_radius = balls(urdf, xml, "torso")
    distance = np.linalg.norm(chin[:, None] - chest[None], axis=2)
    assert (distance - chin_radius[:, None] - chest_radius[None]).min() > 0.005


def test_left_and_right_mirror_each_other(xml: ElementTree.Element) -> None:
    for name in ("eye", "upper_lid_link", "brow_link", "lip_corner_link"):
        sides = []
        for side in ("left", "right"):
            shapes = [
                (shape.find("origin").get("xyz") if shape.find("origin") is not None else "0 0 0").split()
                for shape in visuals(xml, f"{side}_{name}", None)
            ]
            sides.append(np.array(shapes, float))
        if name == "eye":  # The light falls on both eyes from one side.
            sides = [side[:4] for side in sides]
        np.testing.assert_allclose(
            sorted(map(tuple, sides[0] * [1, -1, 1])), sorted(map(tuple, sides[1])), atol=1e-5
        )


def test_the_link_at_the_top_of_the_project_leads_to_the_packages_own_folder() -> None:
    root = Path(__file__).resolve().parents[2]
    assert (root / "urdf" / "timar_head.urdf").resolve() == find_urdf().resolve()
