"""DATA.md names every file of the repository that is neither code nor text, and nothing that is not there."""

from __future__ import annotations

import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = (
    *(".bin", ".csv", ".flac", ".gif", ".json", ".jpg", ".mcap", ".mp3", ".mp4", ".npy", ".npz", ".ogg"),
    *(".onnx", ".png", ".pt", ".pth", ".rttm", ".safetensors", ".stl", ".urdf", ".wav", ".xml", ".yaml"),
)
"""Endings of what may hold data."""
SETTINGS = (
    ".pre-commit-config.yaml",
    "*package.xml",
    "*/config/*",
    "training/timar_training/configs/*",
    ".github/*",
    ".devcontainer/*",
    "docker/*",
    "*mkdocs.yml",
)
"""What has such an ending and is code."""


def tracked() -> list[str]:
    try:
        listed = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this tree is not a checkout")
    return listed.splitlines()


def test_every_data_file_has_its_row_and_every_row_its_files():
    rows = [
        line for line in (ROOT / "DATA.md").read_text(encoding="utf-8").splitlines() if line.startswith("| `")
    ]
    patterns = [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
    files = [
        name
        for name in tracked()
        if name.endswith(DATA) and not any(fnmatch(name, setting) for setting in SETTINGS)
    ]
    unnamed = [name for name in files if not any(fnmatch(name, pattern) for pattern in patterns)]
    assert not unnamed, f"add a row with origin, licence and command to DATA.md for {unnamed}"
    without_files = [pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in files)]
    assert not without_files, f"DATA.md names what is not there: {without_files}"


def test_every_row_says_origin_and_licence():
    rows = [
        line for line in (ROOT / "DATA.md").read_text(encoding="utf-8").splitlines() if line.startswith("| `")
    ]
    assert all(len([cell for cell in row.strip("|").split("|") if cell.strip()]) == 4 for row in rows)
