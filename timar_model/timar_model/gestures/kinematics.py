"""How real heads move: strokes of gestures and posture, as fitted from motion capture (`kinematics.yaml`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

KINEMATICS_FILE = Path(__file__).parent / "kinematics.yaml"


def read_kinematics(path: Path = KINEMATICS_FILE) -> dict[str, Any]:
    """Return strokes by kind and posture by axis, as `timar data kinematics` wrote them.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds something else.
    """
    content = yaml.safe_load(path.read_text("utf-8"))
    if not isinstance(content, dict) or not {"strokes", "posture"} <= set(content):
        raise ValueError(f"{path} holds no strokes and posture; write it by timar data kinematics")
    return content
