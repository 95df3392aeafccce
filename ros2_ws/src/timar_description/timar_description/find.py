"""Find a robot's files by the robot's name or by path; packages bring robots of their own.

A package from outside names its robots as entry points of the group ``timar.robots``: the robot's name, and
the Python package that holds ``NAME.urdf``, ``NAME.yaml`` and, if it has servos, ``NAME.hardware.yaml``.
"""

from __future__ import annotations

import importlib.util
import os
from importlib.metadata import entry_points
from pathlib import Path

from timar_common.suggest import nearest

DEFAULT_ROBOT = "timar_head"
GROUP = "timar.robots"


def find_urdf(robot: str = DEFAULT_ROBOT) -> Path:
    """Return the URDF of a robot.

    Args:
        robot: A name such as ``timar_head``, or a path to a ``.urdf`` or ``.xacro`` file.

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


def robot_names() -> list[str]:
    """Return the names of all robots with a joint map: shipped, of sourced workspaces, of packages."""
    files = [path for folder in _folders() for path in folder.glob("*.yaml")]
    shipped = {path.stem for path in files if not path.stem.endswith(".hardware")}
    return sorted(shipped | {entry.name for entry in entry_points(group=GROUP)})


def _find(robot: str, suffix: str) -> Path:
    if robot.endswith((suffix, ".xacro")) or os.sep in robot:
        path = Path(robot).expanduser()
        if path.is_file():
            return path
        raise FileNotFoundError(
            f"there is no file {path}; name a robot ({', '.join(robot_names())}) or an existing {suffix} file"
        )
    folders = [*_folders(), *_package_folders(robot)]
    for folder in folders:
        path = folder / (robot + suffix)
        if path.is_file():
            return path
    near, names = nearest(robot, robot_names()), ", ".join(robot_names()) or "none"
    raise FileNotFoundError(
        f"there is no {robot}{suffix}; looked in {', '.join(map(str, folders)) or 'nowhere'}: "
        + (f"did you mean {near}? " if near else "")
        + f"The robots are: {names}; give one or a path, or source the workspace that has it"
    )


def _folders() -> list[Path]:
    """The source tree comes first, so that an edit is seen without a build; then every sourced prefix."""
    beside = Path(__file__).resolve().parents[1] / "urdf"
    prefixes = [prefix for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    shared = [Path(prefix) / "share" / "timar_description" / "urdf" for prefix in prefixes]
    return [folder for folder in (beside, *shared) if folder.is_dir()]


def _package_folders(robot: str) -> list[Path]:
    """Return the folders of the packages that bring a robot; nothing of them is imported."""
    folders = []
    for entry in entry_points(group=GROUP):
        if entry.name == robot:
            spec = importlib.util.find_spec(entry.module)
            folders += [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    return folders
