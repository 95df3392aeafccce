"""Motion player node: hosts the component."""

from __future__ import annotations

from timar_common.base_node import run
from timar_common.component_node import ComponentNode

from timar_bag.motion_player_component import MotionPlayerComponent


class MotionPlayerNode(ComponentNode):
    """Publish recorded motion on user/motion, along with the recorded voice."""

    component_type = MotionPlayerComponent


def main() -> int:
    """Run the node until a signal."""
    return run([MotionPlayerNode])
