"""Every dependency a package.xml names is one that rosdep resolves, or a package of this workspace."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "ros2_ws" / "src"
PACKAGES = sorted(path.parent for path in SOURCE.glob("*/package.xml"))

# Looked up in ros/rosdistro (rosdep/base.yaml, rosdep/python.yaml, humble and jazzy), state of August 2026.
RESOLVED = {
    "action_msgs", "ament_cmake", "builtin_interfaces", "diagnostic_msgs", "geometry_msgs",
    "joint_state_publisher_gui", "launch", "launch_ros", "lifecycle_msgs", "portaudio19-dev",
    "python3-cryptography", "python3-matplotlib", "python3-numpy", "python3-opencv", "python3-pil",
    "python3-rich", "python3-scipy", "python3-sounddevice-pip", "python3-soundfile", "python3-torch",
    "python3-websockets", "python3-yaml", "rclpy", "robot_state_publisher", "rosidl_default_generators",
    "rosgraph_msgs", "rosidl_default_runtime", "rosidl_interface_packages", "rviz2", "sensor_msgs",
    "std_msgs", "std_srvs", "tf2_ros", "trajectory_msgs", "xacro",
}  # fmt: skip


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_every_dependency_key_resolves(package: Path):
    root = ElementTree.parse(package / "package.xml").getroot()
    keys = {element.text for element in root if element.tag.endswith("depend") and element.text}
    ours = {path.name for path in PACKAGES}
    assert keys <= RESOLVED | ours


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_package_has_the_fields_a_release_needs(package: Path):
    root = ElementTree.parse(package / "package.xml").getroot()
    fields = {tag: root.findtext(tag) for tag in ("name", "version", "description", "maintainer", "license")}
    assert fields["name"] == package.name
    assert all(fields.values()), fields
