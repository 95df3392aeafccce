"""A bag whose recorder's clock stepped costs replay and summary what its sound costs, in time and disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rewritten_bag import Stamp, rewritten
from timar_inference.runtime import Runtime
from timar_replay.replay import replay
from timar_replay.replay_settings import ReplaySettings
from timar_report.summary import summarize

DAY_NS = 86_400 * 10**9
SECONDS = 4.0
STEPS: dict[str, Stamp] = {
    "forward a day": lambda number, time_ns: time_ns + (DAY_NS if number > 200 else 0),
    "back a day": lambda number, time_ns: time_ns - (DAY_NS if number > 200 else 0),
    "the end of the type": lambda number, time_ns: time_ns if number % 50 else 2**64 - 1 - number,
}


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
def test_time_and_disk_follow_the_sound_and_not_the_clock(
    name: str, make_bag: Any, settings: ReplaySettings, runtime: Runtime, tmp_path: Path
) -> None:
    """A step of one day once wrote 1.2 GB in a minute, and a summary took 11 GB of memory."""
    clean = make_bag(seconds=SECONDS)
    stepped = rewritten(clean, tmp_path / "stepped.mcap", STEPS[name])
    reports = [replay(bag, tmp_path / bag.stem, settings, runtime) for bag in (clean, stepped)]
    assert size(tmp_path / "stepped") < 2 * size(tmp_path / clean.stem)
    assert reports[1].counts["user/audio"] == reports[0].counts["user/audio"]
    assert any("clock stepped" in issue or "cannot be true" in issue for issue in reports[1].issues)
    numbers = [summarize(bag, tmp_path / f"summary-{bag.stem}") for bag in (clean, stepped)]
    assert numbers[1]["turns"] == numbers[0]["turns"]
    assert size(tmp_path / "summary-stepped") < 2 * size(tmp_path / f"summary-{clean.stem}")
