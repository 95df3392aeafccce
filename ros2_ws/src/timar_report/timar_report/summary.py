"""Sums a recorded conversation up: ``summary.json`` and a picture."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timar_report.joints import JointLimit
from timar_report.measure import measure, read_run

FILE_NAME = "summary.json"
PICTURE_NAME = "summary.png"


def summarize(
    bag: Path,
    out: Path,
    *,
    limits: Mapping[str, JointLimit] | None = None,
    cpu_cores_used: float | None = None,
    namespace: str | None = None,
    title: str = "",
    has_picture: bool = True,
) -> dict[str, Any]:
    """Write ``summary.json`` and ``summary.png`` for a recorded conversation.

    Args:
        bag: A rosbag2 folder or file.
        out: Folder for both; made if need be. A ``run.json`` in it may hold what only the starter of the run
            knows: ``cpu_cores_used`` and ``title``.
        limits: Of the robot's joints (see `joints.limits_of`); without them limit hits are null.
        cpu_cores_used: Average over the run; taken from ``run.json`` unless given.
        namespace: The robot's; found by itself unless the bag holds several robots.
        title: What was run, for the picture; taken from ``run.json`` unless given.
        has_picture: Whether to draw.

    Returns:
        What was written to ``summary.json``.

    Raises:
        FileNotFoundError: There is no bag.
        ValueError: Nothing in it can be read, or ``run.json`` is damaged.
        OSError: A file cannot be written.
    """
    measured = measure(bag, out, limits=limits, cpu_cores_used=cpu_cores_used, namespace=namespace)
    write_json(out / FILE_NAME, measured.numbers)
    if has_picture:
        # Only here, for drawing takes a second to import.
        from timar_report.picture import save_picture

        save_picture(measured, out / PICTURE_NAME, title or str(read_run(out).get("title", "")))
    return measured.numbers


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file so that a reader finds the old one or the whole new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", "utf-8")
    os.replace(part, path)
