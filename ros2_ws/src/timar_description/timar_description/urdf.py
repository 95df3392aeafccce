"""Reads a URDF or xacro file: joints, limits, forward kinematics and shapes. The one place for all packages.

Source: the URDF specification, http://wiki.ros.org/urdf/XML. Written on the standard library: the maintained
reader (yourdfpy) loads trimesh and scipy, 90 MB in the driver's and the retargeting process, and accepts
files that cannot move; the tests compare the kinematics here with it.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

Transform = npt.NDArray[np.float64]
"""A rigid motion, (4, 4)."""

GREY_RGB = (0.7, 0.7, 0.7)
MOVABLE = ("revolute", "prismatic")
"""Kinds that a motor drives within limits."""
SUPPORTED = ("fixed", "revolute", "continuous", "prismatic")
LIMITS = ("lower", "upper", "velocity")
PRIMITIVES = {"box": {"size": 3}, "sphere": {"radius": 1}, "cylinder": {"radius": 1, "length": 1}}
"""Attributes of each kind of shape, and how many numbers each holds."""
NO_LIMIT = (-np.pi, np.pi, np.inf)
LARGEST_ANGLE_RAD = 2 * np.pi
"""A limit beyond one revolution is in degrees, or the joint is a continuous one."""
XACRO = "http://www.ros.org/wiki/xacro"


@dataclasses.dataclass(frozen=True)
class UrdfJoint:
    """One joint: where it sits on its parent, how it moves, and which joint drives it."""

    name: str
    parent: str
    child: str
    kind: str
    """fixed, revolute, continuous, prismatic, or one that is not supported."""
    parent_from_origin: Transform
    axis: npt.NDArray[np.float64]
    """(3,) unit vector in the joint's frame."""
    lower: float
    upper: float
    """Position limits [rad or m]."""
    driver: str
    """The joint whose position counts: the joint itself, or the one it mimics."""
    multiplier: float = 1.0
    offset: float = 0.0
    velocity: float = np.inf
    """Limit [rad/s or m/s]."""

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


@dataclasses.dataclass(frozen=True)
class VisualShape:
    """One visual of a link."""

    link: str
    link_from_shape: Transform
    kind: str
    """box, sphere, cylinder or mesh."""
    size_m: tuple[float, ...]
    """Box: x, y, z. Sphere: radius. Cylinder: radius and length along its z. Mesh: its scale."""
    color_rgb: tuple[float, float, float]
    """0..1 each."""
    mesh: Path | None = None
    """File of a mesh."""


@dataclasses.dataclass(frozen=True)
class RobotModel:
    """What a URDF says of a robot."""

    path: Path
    name: str
    links: tuple[str, ...]
    joints_by_name: Mapping[str, UrdfJoint]
    """In the order of the file."""
    shapes: tuple[VisualShape, ...]

    @functools.cached_property
    def driven(self) -> tuple[UrdfJoint, ...]:
        """The joints that have a motor: revolute or prismatic ones that mimic no other, in file order."""
        return tuple(j for j in self.joints_by_name.values() if j.kind in MOVABLE and j.is_actuated)

    @functools.cached_property
    def root(self) -> str:
        """The link that no joint moves.

        Raises:
            ValueError: There is not exactly one, or a joint leads to a link that is not there.
        """
        children = {joint.child for joint in self.joints_by_name.values()}
        if missing := sorted(children - set(self.links)):
            raise ValueError(f"{self.path} has joints to links that are not there: {', '.join(missing)}")
        roots = [link for link in self.links if link not in children]
        if len(roots) != 1:
            raise ValueError(
                f"{self.path} has {len(roots)} links without a parent ({', '.join(roots)}); expected one"
            )
        return roots[0]

    @functools.cached_property
    def joints(self) -> dict[str, UrdfJoint]:
        """Every joint, parents before their children.

        Raises:
            ValueError: They are no tree, one mimics a joint that is not there, or its kind is not supported.
        """
        ordered: dict[str, UrdfJoint] = {}
        waiting = [self.root]
        while waiting:
            parent = waiting.pop(0)
            found = [joint for joint in self.joints_by_name.values() if joint.parent == parent]
            ordered |= {joint.name: joint for joint in found}
            waiting += [joint.child for joint in found]
        for joint in self.joints_by_name.values():
            where = f"joint {joint.name} of {self.path}"
            if joint.kind not in SUPPORTED:
                raise ValueError(f"{where} is {joint.kind}; expected one of {', '.join(SUPPORTED)}")
            if joint.name not in ordered:
                raise ValueError(f"{where} hangs on {joint.parent!r}, not reached from {self.root}")
            if joint.driver not in self.joints_by_name:
                raise ValueError(f"{where} mimics {joint.driver!r}, which is not a joint")
        return ordered

    @property
    def actuated(self) -> list[UrdfJoint]:
        """The joints that move by themselves, continuous ones too, parents first."""
        return [joint for joint in self.joints.values() if joint.is_actuated]

    def base_from_link(self, positions: Mapping[str, float]) -> dict[str, Transform]:
        """Return every link's frame in the root's: forward kinematics.

        Args:
            positions: Positions of actuated joints by name [rad or m]; those left out stand at zero.
        """
        frames = {self.root: np.eye(4)}
        for joint in self.joints.values():
            position = positions.get(joint.driver, 0.0)
            frames[joint.child] = frames[joint.parent] @ joint.parent_from_child(position)
        return frames


def read_urdf(path: Path) -> RobotModel:
    """Read a URDF file, shapes left out.

    Raises:
        ValueError: It is not XML, or a joint is wrong; the message names file, joint and finding.
        OSError: It cannot be read.
    """
    return _read(path, has_shapes=False)


def read_drawable_urdf(path: Path) -> RobotModel:
    """Read a URDF that can be drawn and moved: a tree of supported joints, with all its mesh files.

    Raises:
        ValueError: As `read_urdf`, or it is no such tree, or a shape is wrong.
        FileNotFoundError: The file or a mesh is not there.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no robot description {path}; give a URDF file or the name of a robot"
        )
    model = _read(path, has_shapes=True)
    _ = model.joints  # Raises where they are no tree.
    for shape in model.shapes:
        if shape.mesh is not None and not shape.mesh.is_file():
            raise FileNotFoundError(
                f"link {shape.link} of {path} is drawn by {shape.mesh}, which is not there"
            )
    return model


def _read(path: Path, has_shapes: bool) -> RobotModel:
    root = _root(path)
    links = root.findall("link")
    try:
        _require_unique("link", links)
        _require_unique("joint", root.findall("joint"))
        joints = [_joint(element) for element in root.findall("joint")]
        shapes = _shapes(path, root, links) if has_shapes else ()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return RobotModel(
        path,
        root.get("name", path.stem),
        tuple(link.get("name", "") for link in links),
        {joint.name: joint for joint in joints},
        shapes,
    )


def _root(path: Path) -> ElementTree.Element:
    try:
        if path.suffix == ".xacro":
            return ElementTree.fromstring(_expanded(path))
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a URDF, for it is not XML: {error}") from error
    if root.tag != "robot" or not {"link", "joint"} & {element.tag for element in root}:
        raise ValueError(
            f"{path} is not a URDF: it is <{root.tag}> with {len(root.findall('link'))} links; expected "
            "<robot> with a <link> (an SRDF and an SDF are other formats)"
        )
    if any(element.tag.startswith(f"{{{XACRO}}}") for element in root.iter()):
        raise ValueError(f"{path} holds xacro's macros; call it {path.stem}.urdf.xacro, and it is expanded")
    return root


def _expanded(path: Path) -> str:
    """Expand xacro's macros. They hold Python expressions: a xacro file is a program that runs."""
    try:
        import xacro
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{path} needs the package xacro: pip install xacro; or expand it yourself"
        ) from error
    try:
        text: str = xacro.process_file(str(path)).toxml()
    except Exception as error:  # Whatever an expression raises comes out as it is.
        raise ValueError(f"{path} cannot be expanded by xacro: {error}") from error
    return text


def _require_unique(what: str, elements: list[ElementTree.Element]) -> None:
    names = [element.get("name", "") for element in elements]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{names.count(twice)} {what}s are called {twice!r}; each needs a name of its own")


def _joint(element: ElementTree.Element) -> UrdfJoint:
    name, kind = element.get("name", ""), element.get("type", "")
    axis = _numbers(element.find("axis"), "xyz", (1.0, 0.0, 0.0), f"axis of joint {name!r}")
    length = float(np.linalg.norm(axis))
    if not length > 0.0:
        raise ValueError(f"joint {name!r} has the axis {axis}; expected a direction")
    mimic = element.find("mimic")
    multiplier = offset = 0.0
    if mimic is not None:
        (multiplier,) = _numbers(mimic, "multiplier", (1.0,), f"mimic of joint {name!r}")
        (offset,) = _numbers(mimic, "offset", (0.0,), f"mimic of joint {name!r}")
    lower, upper, velocity = _limits(name, element) if kind in MOVABLE else NO_LIMIT
    if kind == "revolute" and max(-lower, upper) > LARGEST_ANGLE_RAD:
        raise ValueError(
            f"<limit> of joint {name!r} is lower {lower:g}, upper {upper:g} rad, beyond a revolution: if "
            f"these are degrees, write {np.deg2rad(lower):.4g} and {np.deg2rad(upper):.4g}; a joint "
            "without an end is continuous"
        )
    return UrdfJoint(
        name=name,
        parent=_attribute(element, "parent", "link"),
        child=_attribute(element, "child", "link"),
        kind=kind,
        parent_from_origin=_origin(element, f"joint {name!r}"),
        axis=np.asarray(axis) / length,
        lower=lower,
        upper=upper,
        velocity=velocity,
        driver=name if mimic is None else mimic.get("joint", ""),
        multiplier=1.0 if mimic is None else multiplier,
        offset=offset,
    )


def _limits(name: str, element: ElementTree.Element) -> tuple[float, float, float]:
    limit = element.find("limit")
    if limit is None:
        raise ValueError(f"joint {name!r} has no <limit>; give lower, upper and velocity")
    if missing := [key for key in LIMITS if key not in limit.attrib]:
        raise ValueError(f"<limit> of joint {name!r} lacks {', '.join(missing)}; give {', '.join(LIMITS)}")
    try:
        lower, upper, velocity = (float(limit.attrib[key]) for key in LIMITS)
    except ValueError as error:
        raise ValueError(f"<limit> of joint {name!r} is wrong: {error}") from error
    if not (lower <= upper and velocity > 0.0 and np.isfinite([lower, upper, velocity]).all()):
        raise ValueError(
            f"<limit> of joint {name!r} is lower {lower:g}, upper {upper:g}, velocity {velocity:g}; expected "
            "finite numbers, lower <= upper and velocity > 0"
        )
    return lower, upper, velocity


def _shapes(
    path: Path, root: ElementTree.Element, links: list[ElementTree.Element]
) -> tuple[VisualShape, ...]:
    colors = {m.get("name"): color for m in root.findall("material") if (color := _color(m)) is not None}
    shapes = []
    for link in links:
        name = link.get("name", "")
        where = f"visual of link {name!r}"
        for visual in link.findall("visual"):
            material, color = visual.find("material"), GREY_RGB
            if material is not None:
                color = _color(material) or colors.get(material.get("name"), GREY_RGB)
            kind, size_m, mesh = _geometry(path, visual.find("geometry"), where)
            shapes.append(VisualShape(name, _origin(visual, where), kind, size_m, color, mesh))
    return tuple(shapes)


def _geometry(
    path: Path, geometry: ElementTree.Element | None, where: str
) -> tuple[str, tuple[float, ...], Path | None]:
    """Return kind, size and mesh file."""
    for element in geometry if geometry is not None else ():
        if element.tag == "mesh":
            is_uniform = len(element.get("scale", "").split()) == 1
            scale = _numbers(element, "scale", (1.0,) if is_uniform else (1.0, 1.0, 1.0), where)
            size_m = 3 * scale if is_uniform else scale
            return "mesh", size_m, _mesh_path(element.get("filename", ""), path)
        if element.tag in PRIMITIVES:
            sizes = [_numbers(element, key, None, where, n) for key, n in PRIMITIVES[element.tag].items()]
            return element.tag, tuple(number for size in sizes for number in size), None
    raise ValueError(f"{where} has no geometry; expected mesh, {', '.join(PRIMITIVES)}")


def _mesh_path(filename: str, urdf: Path) -> Path:
    """Return the file of a mesh: beside the URDF, above it, or in the ROS package it names."""
    rest = filename.split("://", 1)[-1]
    if filename.startswith("package://"):
        package, _, rest = rest.partition("/")
        prefixes = [prefix for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
        folders = [Path(prefix) / "share" / package for prefix in prefixes]
    else:
        folders = []
    # Relative to a folder further up as well, as `package://` is read without a sourced workspace.
    candidates = [folder / rest for folder in (*urdf.absolute().parents, *folders)]
    return next((candidate for candidate in candidates if candidate.is_file()), urdf.parent / rest)


def _color(material: ElementTree.Element) -> tuple[float, float, float] | None:
    color = material.find("color")
    if color is None:
        return None
    red, green, blue, _ = _numbers(color, "rgba", None, f"color of material {material.get('name')!r}", 4)
    return red, green, blue


def _origin(element: ElementTree.Element, where: str) -> Transform:
    """Return the frame that an <origin> gives: xyz, then fixed-axis roll, pitch, yaw."""
    frame, origin = np.eye(4), element.find("origin")
    if origin is None:
        return frame
    frame[:3, 3] = _numbers(origin, "xyz", (0.0, 0.0, 0.0), f"origin of {where}")
    roll, pitch, yaw = _numbers(origin, "rpy", (0.0, 0.0, 0.0), f"origin of {where}")
    frame[:3, :3] = _rotation(_Z, yaw) @ _rotation(_Y, pitch) @ _rotation(_X, roll)
    return frame


def _attribute(element: ElementTree.Element, tag: str, key: str) -> str:
    found = element.find(tag)
    return "" if found is None else found.get(key, "")


def _numbers(
    element: ElementTree.Element | None,
    key: str,
    default: tuple[float, ...] | None,
    where: str,
    count: int | None = None,
) -> tuple[float, ...]:
    """Return the numbers of an attribute; the default where it is not given."""
    text = None if element is None else element.get(key)
    if text is None and default is not None:
        return default
    wanted = len(default) if default is not None else count
    try:
        numbers = tuple(float(word) for word in (text or "").split())
    except ValueError:
        numbers = ()
    if len(numbers) != wanted or not np.isfinite(numbers).all():
        raise ValueError(f"{key} of {where} is {text!r}, expected {wanted} finite numbers")
    return numbers


_X, _Y, _Z = np.eye(3)


def _rotation(axis: npt.NDArray[np.float64], angle_rad: float) -> npt.NDArray[np.float64]:
    """Rodrigues' formula."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle_rad) * cross + (1.0 - np.cos(angle_rad)) * (cross @ cross)
