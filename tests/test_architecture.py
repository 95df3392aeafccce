"""The rules of docs/architecture.md: who may import whom, and where ROS may be touched."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "timar_model": ROOT / "timar_model" / "timar_model",
    "timar_training": ROOT / "training" / "timar_training",
    **{
        path.name: path / path.name
        for path in sorted((ROOT / "ros2_ws" / "src").iterdir())
        if (path / path.name).is_dir() and not path.is_symlink()
    },
}
OURS = set(PACKAGES) | {"timar_msgs"}
MAY_IMPORT = {
    "timar_common": set(),
    "timar_model": {"timar_common"},
    "timar_training": {"timar_common", "timar_model", "timar_perception"},
    "timar_audio": {"timar_common"},
    "timar_dialogue": {"timar_common"},
    "timar_inference": {"timar_common", "timar_model"},
    "timar_perception": {"timar_common"},
    "timar_retargeting": {"timar_common", "timar_description"},
    "timar_driver": {"timar_common", "timar_description"},
    "timar_description": {"timar_common"},
    "timar_view": {"timar_common", "timar_description"},
    "timar_websocket": {"timar_common"},
    "timar_pipecat": {"timar_websocket"},
    "timar_livekit": {"timar_websocket"},
    "timar_bag": {"timar_common", "timar_description", "timar_audio"},
    "timar_report": {
        "timar_common", "timar_description", "timar_model", "timar_bag", "timar_retargeting",
    },
    "timar_replay": {
        "timar_common", "timar_description", "timar_model", "timar_bag", "timar_report",
        "timar_audio", "timar_inference", "timar_retargeting",
    },
    "timar_bringup": OURS - {"timar_training", "timar_msgs"},
}  # fmt: skip
ROS_PACKAGES = {
    "rclpy", "launch", "launch_ros", "ament_index_python", "rcl_interfaces", "lifecycle_msgs",
    "builtin_interfaces", "unique_identifier_msgs", "timar_msgs",
}  # fmt: skip


def python_files() -> Iterator[tuple[str, Path]]:
    for package, folder in PACKAGES.items():
        for path in sorted(folder.parent.rglob("*.py")):
            if "build" not in path.parts and path.name != "setup.py":
                yield package, path


def imported_packages(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def is_ros(package: str) -> bool:
    return package in ROS_PACKAGES or package.endswith(("_msgs", "_srvs"))


FILES = [pytest.param(package, path, id=str(path.relative_to(ROOT))) for package, path in python_files()]


@pytest.mark.parametrize(("package", "path"), FILES)
def test_only_nodes_and_launch_files_touch_ros(package: str, path: Path) -> None:
    if path.name.endswith(("_node.py", ".launch.py")):
        return
    touched = {name for name in imported_packages(path) if is_ros(name)}
    assert touched == set(), f"{path.name} is plain Python and imports {touched}; move that to a *_node.py"


@pytest.mark.parametrize(("package", "path"), FILES)
def test_a_package_imports_only_what_it_may(package: str, path: Path) -> None:
    neighbours = (imported_packages(path) & OURS) - {package, "timar_msgs"}
    assert neighbours <= MAY_IMPORT[package], f"{package} may not import {neighbours - MAY_IMPORT[package]}"


def test_every_package_has_its_rule() -> None:
    assert set(PACKAGES) == set(MAY_IMPORT)


def test_no_package_imports_itself_by_way_of_others() -> None:
    arrows: dict[str, set[str]] = {package: set() for package in PACKAGES}
    for package, path in python_files():
        arrows[package] |= imported_packages(path) & set(PACKAGES) - {package}
    try:
        tuple(graphlib.TopologicalSorter(arrows).static_order())
    except graphlib.CycleError as error:
        pytest.fail(f"packages import each other in a circle: {' -> '.join(error.args[1])}")


def test_nothing_in_the_product_imports_tests() -> None:
    offenders = [str(path) for _, path in python_files() if "tests" in imported_packages(path)]
    assert offenders == []


def test_a_public_class_name_stands_for_one_thing() -> None:
    places: dict[str, list[str]] = {}
    for _, path in python_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}
