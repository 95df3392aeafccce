"""Turn taking node: publishes voice_activity, turn_events and floor from both speakers' audio."""

from __future__ import annotations

from timar_common.base_node import run
from timar_common.component_node import ComponentNode

from timar_audio.turns_component import TurnsComponent


class TurnsNode(ComponentNode):
    """Runs `TurnsComponent` on ROS 2."""

    component_type = TurnsComponent


def main() -> int:
    """Run the node until a signal."""
    return run([TurnsNode])
