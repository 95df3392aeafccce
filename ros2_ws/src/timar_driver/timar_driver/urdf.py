"""The joints that a driver moves, with their limits, from the robot's URDF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from timar_description.urdf import read_urdf

from timar_driver.driver import JointLimits


def read_driven_joints(path: Path) -> tuple[tuple[str, ...], JointLimits]:
    """Return names and limits of the joints that have a motor: movable ones that mimic no other.

    Raises:
        ValueError: The file is not a URDF, has no such joint, or one without limits; the message names file
            and joint.
        OSError: It cannot be read.
    """
    joints = read_urdf(path).driven
    if not joints:
        raise ValueError(
            f"{path} has no driven joint; a robot needs at least one revolute or prismatic joint"
        )
    lower, upper, velocity = np.array([[joint.lower, joint.upper, joint.velocity] for joint in joints]).T
    return tuple(joint.name for joint in joints), JointLimits(lower, upper, velocity)
