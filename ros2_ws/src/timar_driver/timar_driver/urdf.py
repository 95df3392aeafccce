"""The joints a driver moves, as the URDF lists them."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from timar_driver.driver import JointLimits


def read_driven_joints(path: Path) -> tuple[tuple[str, ...], JointLimits]:
    """Return names and limits of the joints that have a motor: movable ones that mimic no other.

    Raises:
        ValueError: The file is not a URDF, has no such joint, or one without limits; the message names file
        and joint.
        OSError: It cannot be read.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is not a URDF: {error}") from error
    names, rows = [], []
    for joint in root.findall("joint"):
        if joint.get("type") not in ("revolute", "prismatic") or joint.find("mimic") is not None:
            continue
        limit = joint.find("limit")
        try:
            rows.append(
                [float(limit.attrib[key]) for key in ("lower", "upper", "velocity")]
                if limit is not None
                else []
            )
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path}: <limit> of joint {joint.get('name')!r} is wrong: {error}") from error
        if not rows[-1]:
            raise ValueError(
                f"{path}: joint {joint.get('name')!r} has no <limit>; give lower, upper and velocity"
            )
        names.append(str(joint.get("name")))
    if not names:
        raise ValueError(
            f"{path} has no driven joint; a robot needs at least one revolute or prismatic joint"
        )
    lower, upper, velocity = np.array(rows).T
    return tuple(names), JointLimits(lower, upper, velocity)
