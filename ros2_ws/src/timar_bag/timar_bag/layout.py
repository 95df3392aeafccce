"""A layout for Foxglove (and Lichtblick): who speaks, what the head does, how late turns are, how all are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timar_bag.bag import BagReader

PLOT = {
    "showLegend": True, "legendDisplay": "floating", "showXAxisLabels": True, "showYAxisLabels": True,
    "isSynced": True, "xAxisVal": "timestamp",
}  # fmt: skip
SHOWN_JOINTS = 4


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
    names: dict[str, list[str]] = {"joint_states": [], "joint_trajectory": []}
    with BagReader(bag, namespace) as reader:
        for topic in names:
            for entry in reader.messages({topic}):
                message = entry.message
                names[topic] = list(message.name if topic == "joint_states" else message.joint_names)
                break
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

    def plot(title: str, *paths: tuple[str, str]) -> dict[str, Any]:
        return {"foxglovePanelTitle": title, **PLOT, "paths": [_path(namespace, *path) for path in paths]}

    measured = [(f"joint_states.position[{states.index(name)}]", name) for name in commands[:SHOWN_JOINTS]]
    commanded = [
        (f"joint_trajectory.points[0].positions[{number}]", f"{name} (command)")
        for number, name in enumerate(commands[:SHOWN_JOINTS])
    ]
    panels: dict[str, dict[str, Any]] = {
        "Plot!voices": plot(
            "Voices [dBFS]",
            ("voice_activity{speaker==0}.level_dbfs", "user"),
            ("voice_activity{speaker==1}.level_dbfs", "agent"),
        ),
        "StateTransitions!floor": {
            "foxglovePanelTitle": "Floor: 0 idle, 1 user, 2 agent, 3 both; events: 0 start, 1 end, "
            "2 backchannel, 3 barge-in",
            "isSynced": True,
            "paths": [
                _path(namespace, path, label)
                for path, label in (
                    ("floor.state", "floor"),
                    ("turn_events{speaker==0}.kind", "user"),
                    ("turn_events{speaker==1}.kind", "agent"),
                    ("turn_log.decision", "decision: 0 generated, 1 unsampled, 2 taken back, 3 new"),
                )
            ],
        },
        "Plot!motion": plot(
            "Generated motion, first frame of each turn [rad]",
            ("agent/motion{is_preview==false}.neck[0]", "nod"),
            ("agent/motion{is_preview==false}.neck[1]", "turn"),
            ("agent/motion{is_preview==false}.neck[2]", "tilt"),
            ("agent/motion{is_preview==false}.jaw[0]", "jaw"),
        ),
        "Plot!joints": plot("Joints [rad]", *measured, *commanded),
        "Plot!compute": plot(
            "A turn's time [ms]",
            ("turn_log.compute_ms", "compute"),
            ("turn_log.queue_ms", "waited"),
            ("turn_log.is_late", "late"),
        ),
        "DiagnosticSummary!health": {
            "minLevel": 0, "pinnedIds": [], "hardwareIdFilter": "", "topicToRender": "/diagnostics",
            "sortByLevel": True,
        },
    }  # fmt: skip
    side = _column("DiagnosticSummary!health")
    if urdf is not None:
        panels["3D!head"] = _head(namespace, urdf)
        side = _column("3D!head", "DiagnosticSummary!health")
    plots = ("Plot!voices", "StateTransitions!floor", "Plot!motion", "Plot!joints", "Plot!compute")
    return {
        "configById": panels,
        "globalVariables": {},
        "userNodes": {},
        "playbackConfig": {"speed": 1},
        "layout": {"direction": "row", "first": _column(*plots), "second": side, "splitPercentage": 70},
    }


def write_layout(path: Path, content: dict[str, Any]) -> None:
    """Write a layout as Foxglove reads it ("Import from file").

    Raises:
        OSError: It cannot be written.
    """
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _path(namespace: str, path: str, label: str) -> dict[str, Any]:
    value = f"{namespace}/{path}"
    return {"value": value, "label": label, "enabled": True, "timestampMethod": "receiveTime"}


def _head(namespace: str, urdf: Path) -> dict[str, Any]:
    layer = {
        "layerId": "foxglove.Urdf", "instanceId": "head", "label": "head", "visible": True,
        "sourceType": "filePath", "filePath": str(urdf.absolute()), "controlMode": "jointStates",
        "jointStatesTopic": f"{namespace}/joint_states", "displayMode": "visual",
    }  # fmt: skip
    camera = {"distance": 0.7, "phi": 75, "thetaOffset": 90, "perspective": True, "target": [0, 0, 0.1]}
    return {"foxglovePanelTitle": "Head", "layers": {"head": layer}, "cameraState": camera}


def _column(*panels: str) -> Any:
    """Stack panels, each as high as the others."""
    if len(panels) == 1:
        return panels[0]
    return {
        "direction": "column",
        "first": panels[0],
        "second": _column(*panels[1:]),
        "splitPercentage": 100 / len(panels),
    }
