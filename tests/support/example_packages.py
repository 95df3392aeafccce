"""Installs an example extension package as a third party would: with pip, into a folder of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "extensions"


def install_example(name: str, folder: Path) -> Path:
    """Install one of the example packages and return the folder that belongs on the path."""
    source = shutil.copytree(EXAMPLES / name, folder / "source" / name)  # pip builds in the source folder
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--quiet"]
    done = subprocess.run(
        [*command, "--target", str(folder / "installed"), str(source)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "installed"
