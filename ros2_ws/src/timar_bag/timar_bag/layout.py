"""Makes a layout for Foxglove and Lichtblick: voices, floor, motion, joints, a turn's time, health, the head.

The layout itself is `foxglove_layout.json` beside this file; what depends on the robot is put in here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timar_bag.bag import BagReader

TEMPLATE = Path(__file__).with_name("foxglove_layout.json")
SHOWN_JOINTS = 4
HEAD, HEALTH = "3D!head", "DiagnosticSummary!health"


def layout_of_bag(bag: Path, urdf: Path | None = None, namespace: str | None = None) -> dict[str, Any]:
    """Return the layout for a recorded robot: its namespace, and its joints by the order in its messages.

    Args:
        bag: A rosbag2 folder or file.
        urdf: Of the robot, to be shown moving; None: without.
        namespace: Which robot, when the bag holds several.

    Raises:
        FileNotFoundError: There is no bag.
        ValueError: It cannot be read.
    """
    names: dict[str, list[str]] = {}
    with BagReader(bag, namespace) as reader:
        for topic, field in (("joint_states", "name"), ("joint_trajectory", "joint_names")):
            first = next(reader.messages({topic}), None)
            names[topic] = [] if first is None else list(getattr(first.message, field))
        return layout(names["joint_states"], names["joint_trajectory"], reader.namespace, urdf)


def layout(
    states: Sequence[str], commands: Sequence[str], namespace: str = "", urdf: Path | None = None
) -> dict[str, Any]:
    """Return a layout.

    Args:
        states: Joints in the order of joint_states.
        commands: Joints in the order of joint_trajectory.
        namespace: Of the robot's topics, with its leading slash; empty for none.
        urdf: Of the robot, to be shown moving; None: without.
    """
    content: dict[str, Any] = json.loads(TEMPLATE.read_text("utf-8"))
    panels = content["configById"]
    shown = commands[:SHOWN_JOINTS]
    paths = [(f"/joint_states.position[{states.index(name)}]", name) for name in shown]
    paths += [
        (f"/joint_trajectory.points[0].positions[{index}]", f"{name} (command)")
        for index, name in enumerate(shown)
    ]
    panels["Plot!joints"]["paths"] = [
        {"value": value, "label": label, "enabled": True, "timestampMethod": "receiveTime"}
        for value, label in paths
    ]
    for panel in panels.values():
        for path in panel.get("paths", ()):
            path["value"] = namespace + path["value"]
    if urdf is None:
        del panels[HEAD]
        content["layout"]["second"] = HEALTH
    else:
        head = panels[HEAD]["layers"]["head"]
        head |= {"filePath": str(urdf.absolute()), "jointStatesTopic": f"{namespace}/joint_states"}
    return content


def write_layout(path: Path, content: dict[str, Any]) -> None:
    """Write a layout as Foxglove reads it ("Import from file").

    Raises:
        OSError: It cannot be written.
    """
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
