"""Retargeting node: runs `RetargetingComponent` on ROS 2."""

from __future__ import annotations

import sys

from timar_common.base_node import run
from timar_common.component_node import ComponentNode

from timar_retargeting.retargeting_component import RetargetingComponent


class RetargetingNode(ComponentNode):
    """agent/motion in, joint_trajectory out."""

    component_type = RetargetingComponent


def main() -> int:
    """Run retargeting in a process of its own."""
    return run([RetargetingNode])


if __name__ == "__main__":
    sys.exit(main())
