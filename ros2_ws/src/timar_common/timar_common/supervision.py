"""What the supervisor knows of the graph's processes, where those that it started can read it.

The supervisor speaks no ROS: it writes into memory, and one process puts it into its diagnostics.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from timar_common.diagnostics import Level, Report

_VARIABLE = "TIMAR_SUPERVISION"
_LENGTH = 4096


class SupervisionBoard:
    """The supervisor's end: memory without a name in the file system, so that nothing is left behind."""

    def __init__(self) -> None:
        self._file = os.memfd_create("timar-supervision", os.MFD_CLOEXEC)
        self._written: dict[str, dict[str, object]] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What the process that reads it needs in its environment."""
        return {_VARIABLE: f"/proc/{os.getpid()}/fd/{self._file}"}

    def write(self, restarts: Mapping[str, int], down: Mapping[str, str]) -> None:
        """Write how often each process was started again, and why some stay down, if that is news."""
        state: dict[str, dict[str, object]] = {"restarts": dict(restarts), "down": dict(down)}
        if state != self._written and self._file >= 0:
            self._written = state
            os.pwrite(self._file, json.dumps(state).encode().ljust(_LENGTH), 0)

    def close(self) -> None:
        """Give the memory back; safe more than once."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def read_supervision() -> Report | None:
    """Return the health of all processes as the supervisor sees it; None where this process is not told."""
    path = os.environ.get(_VARIABLE, "")
    state: dict[str, dict[str, object]] = {}
    with contextlib.suppress(OSError, ValueError):
        state = json.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    if not state:
        return None
    report = Report(
        message="all processes run", values={f"restarts.{k}": v for k, v in state["restarts"].items()}
    )
    for process, why in state["down"].items():
        report.worsen(Level.ERROR, f"{process} stays down: {why}")
        report.values[f"down.{process}"] = why
    return report
