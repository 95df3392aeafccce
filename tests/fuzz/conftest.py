"""Reports at the end how many inputs each reader has had."""

from __future__ import annotations

from typing import Any

from fuzzing import read_progress


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for name, progress in sorted(read_progress().items(), key=lambda item: -item[1].tried):
        terminalreporter.write_line(f"{name:25} {progress}")
