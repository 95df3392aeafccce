"""A robot's body read from its URDF: what to draw, and where every joint puts its child."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import trimesh
import yourdfpy

GREY_RGB = (0.7, 0.7, 0.7)

Transform = npt.NDArray[np.float64]
"""A rigid motion, (4, 4)."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """One visual of a link."""

    link: str
    link_from_shape: Transform
    kind: str
    """box, sphere, cylinder or mesh."""
    size_m: tuple[float, ...]
    """Box: x, y, z. Sphere: radius. Cylinder: radius and length along its z. Mesh: its scale."""
    color_rgb: tuple[float, float, float]
    """0..1 each."""
    mesh: trimesh.Trimesh | None = None


@dataclasses.dataclass(frozen=True)
class Joint:
    """One joint: where it sits on its parent, how it moves, and which joint drives it."""

    name: str
    parent: str
    child: str
    kind: str
    """fixed, revolute, continuous or prismatic."""
    parent_from_origin: Transform
    axis: npt.NDArray[np.float64]
    """(3,) unit vector in the joint's frame."""
    lower: float
    upper: float
    """Limits [rad or m]."""
    driver: str
    """The joint whose position counts: the joint itself, or the one it mimics."""
    multiplier: float = 1.0
    offset: float = 0.0

    @property
    def is_actuated(self) -> bool:
        """Whether the joint moves by itself."""
        return self.kind != "fixed" and self.driver == self.name

    def parent_from_child(self, position: float) -> Transform:
        """Return the child's frame in the parent's for a position of the driver [rad or m]."""
        if self.kind == "fixed":
            return self.parent_from_origin
        value = self.multiplier * position + self.offset
        motion = np.eye(4)
        if self.kind == "prismatic":
            motion[:3, 3] = self.axis * value
        else:
            motion[:3, :3] = _rotation(self.axis, value)
        return self.parent_from_origin @ motion


class Body:
    """A robot's joints and shapes, with its forward kinematics.

    Args:
        name: The robot's name.
        links: Every link's name.
        joints: Every joint, in any order.
        shapes: What to draw.

    Raises:
        ValueError: The links are no tree, or a joint mimics one that is not there.
    """

    def __init__(
        self, name: str, links: Sequence[str], joints: Sequence[Joint], shapes: Sequence[Shape]
    ) -> None:
        self.name = name
        self.root = _root(name, links, joints)
        self.joints = {joint.name: joint for joint in _parents_first(joints, self.root)}
        self.shapes = list(shapes)
        for joint in joints:
            if joint.name not in self.joints:
                raise ValueError(
                    f"joint {joint.name} of {name} hangs on {joint.parent!r}, not reached from {self.root}"
                )
            if joint.driver not in self.joints:
                raise ValueError(
                    f"joint {joint.name} of {name} mimics {joint.driver!r}, which is not a joint"
                )

    @property
    def actuated(self) -> list[Joint]:
        """The joints that move by themselves, parents first."""
        return [joint for joint in self.joints.values() if joint.is_actuated]

    def base_from_link(self, positions: Mapping[str, float]) -> dict[str, Transform]:
        """Return every link's frame in the root's.

        Args:
            positions: Positions of actuated joints by name [rad or m]; those left out stand at zero.
        """
        frames = {self.root: np.eye(4)}
        for joint in self.joints.values():
            frames[joint.child] = frames[joint.parent] @ joint.parent_from_child(
                positions.get(joint.driver, 0.0)
            )
        return frames


def load_body(path: Path) -> Body:
    """Read a URDF file, and the mesh files it names.

    Raises:
        FileNotFoundError: The file or a mesh is not there.
        ValueError: It is not a URDF the view can draw; the message names the file and the finding.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no robot description {path}; give a URDF file or the name of a robot"
        )
    try:
        ElementTree.parse(path)
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is not XML, so it is no URDF: {error}") from error
    try:
        robot = yourdfpy.URDF.load(str(path), build_scene_graph=False, load_meshes=False).robot
        colors = {m.name: _rgb(m) for m in robot.materials if m.color is not None}
        shapes = [_shape(path, link.name, visual, colors) for link in robot.links for visual in link.visuals]
        joints = [_joint(joint) for joint in robot.joints]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not a complete URDF: {error}") from error
    return Body(robot.name, [link.name for link in robot.links], joints, shapes)


def _joint(joint: yourdfpy.Joint) -> Joint:
    if joint.type not in ("fixed", "revolute", "continuous", "prismatic"):
        raise ValueError(
            f"joint {joint.name} is {joint.type}; expected fixed, revolute, continuous or prismatic"
        )
    has_limits = joint.limit is not None and joint.type != "continuous"
    mimic = joint.mimic
    return Joint(
        name=joint.name,
        parent=joint.parent,
        child=joint.child,
        kind=joint.type,
        parent_from_origin=np.eye(4) if joint.origin is None else np.asarray(joint.origin, float),
        axis=_unit(joint.name, joint.axis),
        lower=float(joint.limit.lower or 0.0) if has_limits else -np.pi,
        upper=float(joint.limit.upper or 0.0) if has_limits else np.pi,
        driver=joint.name if mimic is None else mimic.joint,
        multiplier=1.0 if mimic is None or mimic.multiplier is None else float(mimic.multiplier),
        offset=0.0 if mimic is None or mimic.offset is None else float(mimic.offset),
    )


def _unit(name: str, axis: npt.ArrayLike | None) -> npt.NDArray[np.float64]:
    vector = np.array([1.0, 0.0, 0.0]) if axis is None else np.asarray(axis, float)
    length = float(np.linalg.norm(vector))
    if not length > 0:
        raise ValueError(f"joint {name} has the axis {vector.tolist()}; expected a direction")
    return vector / length


def _shape(
    path: Path, link: str, visual: yourdfpy.Visual, colors: Mapping[str, tuple[float, float, float]]
) -> Shape:
    origin = np.eye(4) if visual.origin is None else np.asarray(visual.origin, float)
    material = visual.material
    color = GREY_RGB
    if material is not None:
        color = _rgb(material) if material.color is not None else colors.get(material.name, GREY_RGB)
    geometry = visual.geometry
    if geometry.box is not None:
        return Shape(link, origin, "box", tuple(map(float, geometry.box.size)), color)
    if geometry.sphere is not None:
        return Shape(link, origin, "sphere", (float(geometry.sphere.radius),), color)
    if geometry.cylinder is not None:
        size = (float(geometry.cylinder.radius), float(geometry.cylinder.length))
        return Shape(link, origin, "cylinder", size, color)
    if geometry.mesh is None:
        raise ValueError(f"link {link} has a visual without a geometry")
    return _mesh_shape(path, link, origin, geometry.mesh, color)


def _mesh_shape(
    path: Path, link: str, origin: Transform, mesh: yourdfpy.Mesh, color: tuple[float, float, float]
) -> Shape:
    file = Path(yourdfpy.filename_handler_magic(mesh.filename, dir=str(path.parent)))
    if not file.is_file():
        raise FileNotFoundError(f"link {link} of {path} is drawn by {mesh.filename}, which is not there")
    scale = np.broadcast_to(np.asarray(1.0 if mesh.scale is None else mesh.scale, float), (3,))
    return Shape(link, origin, "mesh", tuple(map(float, scale)), color, trimesh.load_mesh(file))


def _rgb(material: yourdfpy.Material) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in material.color.rgba[:3])
    return red, green, blue


def _root(name: str, links: Sequence[str], joints: Sequence[Joint]) -> str:
    children = {joint.child for joint in joints}
    if not children <= set(links):
        raise ValueError(
            f"{name} has joints to links that are not there: {', '.join(sorted(children - set(links)))}"
        )
    roots = [link for link in links if link not in children]
    if len(roots) != 1:
        raise ValueError(f"{name} has {len(roots)} links without a parent ({', '.join(roots)}); expected one")
    return roots[0]


def _parents_first(joints: Sequence[Joint], root: str) -> Iterator[Joint]:
    waiting = [root]
    while waiting:
        parent = waiting.pop(0)
        for joint in joints:
            if joint.parent == parent:
                yield joint
                waiting.append(joint.child)


def _rotation(axis: npt.NDArray[np.float64], angle_rad: float) -> npt.NDArray[np.float64]:
    """Rodrigues' formula."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle_rad) * cross + (1.0 - np.cos(angle_rad)) * (cross @ cross)
