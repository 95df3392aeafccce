"""Find a robot's files by the robot's name or by path."""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT_ROBOT = "timar_head"


def find_urdf(robot: str = DEFAULT_ROBOT) -> Path:
    """Return the URDF of a robot.

    Args:
        robot: A name such as ``timar_head``, or a path to a ``.urdf`` file.

    Raises:
        FileNotFoundError: There is none; the message says where it was looked for.
    """
    return _find(robot, ".urdf")


def find_joint_map(robot: str = DEFAULT_ROBOT) -> Path:
    """Return the YAML that maps motion to a robot's joints.

    Args:
        robot: A name such as ``timar_head``, or a path to a ``.yaml`` file.

    Raises:
        FileNotFoundError: There is none; the message says where it was looked for.
    """
    return _find(robot, ".yaml")


def _find(robot: str, suffix: str) -> Path:
    if robot.endswith(suffix) or os.sep in robot:
        path = Path(robot).expanduser()
        if path.is_file():
            return path
        raise FileNotFoundError(
            f"there is no file {path}; name a robot ({DEFAULT_ROBOT}) or an existing {suffix} file"
        )
    folders = _folders()
    for folder in folders:
        path = folder / (robot + suffix)
        if path.is_file():
            return path
    looked = ", ".join(map(str, folders)) or "nowhere, for AMENT_PREFIX_PATH is empty"
    raise FileNotFoundError(
        f"there is no {robot}{suffix}; looked in {looked}: give a path, or source the workspace"
    )


def _folders() -> list[Path]:
    """The source tree comes first, so that an edit is seen without a build; then every sourced prefix."""
    beside = Path(__file__).resolve().parents[1] / "urdf"
    prefixes = [prefix for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    shared = [Path(prefix) / "share" / "timar_description" / "urdf" for prefix in prefixes]
    return [folder for folder in (beside, *shared) if folder.is_dir()]
