"""Runs scripts of voice bots in their own environment, without ROS."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv" / "voice-bots" / "bin" / "python"
PACKAGES = ("timar_websocket", "timar_pipecat", "timar_livekit")


@contextlib.contextmanager
def voice_bot(script: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Run a script until the block ends; of this process's environment it sees what leads it to the head.

    Args:
        script: Its file.
        environment: Variables beside that.
    """
    packages = os.pathsep.join(str(ROOT / "ros2_ws" / "src" / name) for name in PACKAGES)
    kept = {name: os.environ[name] for name in ("HOME", "PATH", "XDG_RUNTIME_DIR") if name in os.environ}
    process = subprocess.Popen(
        [str(PYTHON), str(script)],
        env={**kept, "PYTHONPATH": packages, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
