"""What all tests share: a missing component skips with a reason, and fails when it was asked for.

TIMAR_REQUIRE lists the components a run relies on ("ros,sound,browser"); `make test` sets it to what the
set-up has brought.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
import voice_bots

pytest_plugins = ["virtual_sound", "leftovers"]  # tests/support

COMPONENTS = ("ros", "sound", "browser", "bots", "reachy")
REQUIRED = {name for name in os.environ.get("TIMAR_REQUIRE", "").split(",") if name}


@functools.cache
def missing(component: str) -> str:
    """Return why a component cannot be used; empty when it can."""
    if component == "ros":
        if importlib.util.find_spec("rclpy") is None:
            return "rclpy is not installed (make setup, then: . tools/env.bash)"
        if importlib.util.find_spec("timar_msgs") is None:
            return "the workspace is not built or not sourced (make setup, then: . tools/env.bash)"
    if component == "sound" and not (shutil.which("pulseaudio") and shutil.which("pactl")):
        return "pulseaudio or pactl is not installed"
    if component == "browser" and not any(
        map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    ):
        return "no Chromium is installed"
    if component == "bots" and not voice_bots.PYTHON.is_file():
        return (
            "Pipecat and LiveKit Agents are not installed (make setup-all-tests, with Python 3.11 or newer)"
        )
    if component == "reachy" and not (
        os.environ.get("REACHY_MINI_DAEMON") or shutil.which("reachy-mini-daemon")
    ):
        return "reachy-mini-daemon is not installed (docs/driver.md), nor named by REACHY_MINI_DAEMON"
    return ""


def pytest_report_header() -> list[str]:
    reason = missing("ros")
    return [f"tests/ros is left out: {reason}"] if reason else []


def pytest_configure(config: pytest.Config) -> None:
    # What tests measure of their small models is nobody's but this run's.
    folder = tempfile.TemporaryDirectory(prefix="timar-cache.", ignore_cleanup_errors=True)
    os.environ["TIMAR_CACHE"] = folder.name
    config.add_cleanup(folder.cleanup)
    # A shell hands SIGINT down as ignored to what it starts with `&`; tests interrupt their programs by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        # Under nohup the run itself outlives its terminal, but what it starts must not inherit that.
        signal.signal(signal.SIGHUP, lambda *_: None)
    if unknown := REQUIRED - set(COMPONENTS):
        raise pytest.UsageError(f"TIMAR_REQUIRE names {sorted(unknown)}; it knows {', '.join(COMPONENTS)}")
    reason = missing("ros")
    if reason and "ros" in REQUIRED:
        raise pytest.UsageError(f"TIMAR_REQUIRE asks for ros: {reason}")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    # Modules there import rclpy on top; without it they could not even be read.
    return True if collection_path.parts[-2:] == ("tests", "ros") and missing("ros") else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    for component in COMPONENTS:
        if item.get_closest_marker(component) is not None and missing(component):
            if component in REQUIRED:
                pytest.fail(f"TIMAR_REQUIRE asks for {component}: {missing(component)}", pytrace=False)
            pytest.skip(missing(component))
