"""Reads the files that a replay leaves: the score, and what it was made with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCORE_NAME = "score.json"
RUN_NAME = "replay.json"


def read_score(folder: Path) -> dict[str, Any]:
    """Return what a replay's folder holds as its score.

    Raises:
        FileNotFoundError: It holds none.
        ValueError: It is damaged.
    """
    path = folder / SCORE_NAME if folder.is_dir() else folder
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {SCORE_NAME}; give the --out folder of a replay")
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); replay the bag again") from error
    if not isinstance(content, dict) or not {"numbers", "windows"} <= set(content):
        raise ValueError(f"{path} is no score: it lacks numbers or windows; replay the bag again")
    return content


def described_run(folder: Path) -> str:
    """Return what a replay's folder was made with, for people; empty when it does not say."""
    try:
        run = json.loads((folder / RUN_NAME).read_text("utf-8"))
        settings = run["settings"]
        policy = settings["policy"]["kind"]
        policy += f":{settings['policy']['compute_ms']:g}" if policy == "fixed" else ""
        policy = "follow-log" if settings["is_following"] else policy
        model = f"{settings['inference']['model']} ({run['model_sha256'][:12]})"
        return (
            f"{model} on {run['engine']}, seed {settings['inference']['seed']}, {policy}, code {run['code']}"
        )
    except (OSError, ValueError, KeyError, TypeError):
        return ""
