"""What of old recordings and logs goes, and what never does."""

from __future__ import annotations

import os
import time
from pathlib import Path

from timar_common.retention import DAY_S, KeptFile, remove_surplus, surplus

NOW_S = 1_800_000_000.0


def kept(name: str, gigabytes: float, age_days: float) -> KeptFile:
    return KeptFile(Path(name), round(gigabytes * 1e9), NOW_S - age_days * DAY_S)


def names(files: list[KeptFile], max_gb: float = 0.0, max_days: float = 0.0) -> list[str]:
    return [file.path.name for file in surplus(files, max_gb * 1e9, max_days * DAY_S, NOW_S)]


def test_the_oldest_go_until_the_rest_fits():
    files = [kept("new", 3, 1), kept("old", 3, 9), kept("middle", 3, 5)]
    assert names(files) == []
    assert names(files, max_gb=9) == []
    assert names(files, max_gb=7) == ["old"]
    assert names(files, max_gb=1) == ["old", "middle", "new"]


def test_what_is_too_old_goes_whatever_its_size_and_what_is_written_now_stays():
    files = [kept("new", 9, 1), kept("old", 0.001, 31), kept("running", 99, 0.001)]
    assert names(files, max_days=30) == ["old"]
    assert names(files, max_gb=1) == ["old", "new"]


def test_files_of_a_machine_that_did_not_know_the_time_have_no_age():
    unknown = KeptFile(Path("1970"), 10, 3600.0)
    assert names([unknown], max_days=30) == []
    assert names([unknown, kept("new", 1, 1)], max_gb=0.5) == ["1970", "new"]


def test_a_clock_that_was_set_back_removes_nothing_by_age():
    assert names([kept("tomorrow", 1, -1)], max_days=30) == []


def test_folders_and_files_are_removed_with_all_that_is_in_them(tmp_path: Path):
    for number in range(3):
        part = tmp_path / f"bag{number}" / "part_2"
        part.mkdir(parents=True)
        (part / "data.mcap").write_bytes(bytes(1000))
        for path in (part / "data.mcap", part, part.parent):
            os.utime(path, (0, time.time() - (number + 1) * 86_400))
    bags = sorted(tmp_path.iterdir())
    assert remove_surplus(bags, 0.0, 0.0) == []
    assert [gone.path.name for gone in remove_surplus(bags, 0.0, 2.5)] == ["bag2"]
    assert [gone.path.name for gone in remove_surplus(bags[:2], 1.5e-6, 0.0)] == ["bag1"]
    assert [path.name for path in tmp_path.iterdir()] == ["bag0"]
