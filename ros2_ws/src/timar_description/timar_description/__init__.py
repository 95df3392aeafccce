"""URDF and joint map of the default head."""

from timar_description.find import find_joint_map, find_urdf

__all__ = ["find_joint_map", "find_urdf"]
