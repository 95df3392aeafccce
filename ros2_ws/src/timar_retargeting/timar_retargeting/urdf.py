"""The movable joints of a URDF and their limits."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ElementTree
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class UrdfJoint:
    """What a URDF allows one joint."""

    name: str
    lower_rad: float
    upper_rad: float
    velocity_rad_s: float
    mimics: str = ""
    """Name of the joint it follows mechanically; empty: it is driven."""


def read_urdf_joints(path: Path) -> dict[str, UrdfJoint]:
    """Read every revolute or prismatic joint of a URDF.

    Raises:
        ValueError: The file is not XML, or a movable joint has no limits; the message names file and joint.
        OSError: The file cannot be read.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is not a URDF: {error}") from error
    joints = {}
    for element in root.findall("joint"):
        if element.get("type") not in ("revolute", "prismatic"):
            continue
        name = element.get("name", "")
        limit, mimic = element.find("limit"), element.find("mimic")
        try:
            lower, upper, velocity = (
                float((limit.attrib if limit is not None else {})[key]) for key in _LIMITS
            )
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"{path}: joint {name!r} needs <limit> with numbers {', '.join(_LIMITS)}; "
                f"wrong or missing: {error}"
            ) from error
        joints[name] = UrdfJoint(
            name, lower, upper, velocity, "" if mimic is None else mimic.get("joint", "")
        )
    return joints


_LIMITS = ("lower", "upper", "velocity")
