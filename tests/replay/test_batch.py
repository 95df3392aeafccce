"""A folder of bags: many workers give the bytes of one, whatever happens to one bag or to the run itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from synthetic_talk import voice
from timar_bag.make_bag import WholeSound, write_bag
from timar_common.folder_lock import folder_lock
from timar_replay.batch import find_bags, jobs_for, run_batch, write_summary, write_table
from timar_replay.replay_settings import ReplaySettings
from timar_replay.runs import ReplayJob
from timar_report.compare import paired

PATIENCE_S = 600
"""A run takes seconds; a machine that does much else besides may take long to begin."""


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fleet") / "bags"
    for number in range(3):
        write_bag(root / f"talk{number}", WholeSound(voice(number, 3)), WholeSound(voice(number + 5, 3)))
    return root


@pytest.fixture(scope="module")
def by_one(bags: Path, settings: ReplaySettings) -> Path:
    """Every bag replayed in this process."""
    out = bags.with_name("one")
    assert [item.error for item in run_batch(jobs(bags, out, settings), workers=1)] == ["", "", ""]
    return out


def jobs(bags: Path, out: Path, settings: ReplaySettings) -> list[ReplayJob]:
    return jobs_for(find_bags(bags), bags, out, ReplayJob(bags, out, settings, has_report=False))


def results(out: Path) -> dict[str, bytes]:
    files = [*out.rglob("score.json"), *out.rglob("bag.mcap")]
    assert len(files) == 6
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


@pytest.mark.slow
def test_two_processes_give_the_bytes_of_one(
    bags: Path, by_one: Path, settings: ReplaySettings, tmp_path: Path
):
    run_batch(jobs(bags, tmp_path, settings), workers=2)
    assert results(tmp_path) == results(by_one)


@pytest.mark.slow
def test_a_cluster_gives_the_bytes_of_one(bags: Path, by_one: Path, settings: ReplaySettings, tmp_path: Path):
    import distributed

    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, protocol="tcp://", dashboard_address=None
    ) as cluster:
        finished = run_batch(jobs(bags, tmp_path, settings), 1, cluster=cluster.scheduler_address)
    assert [item.error for item in finished] == ["", "", ""]
    assert results(tmp_path) == results(by_one)


def test_results_are_one_table_of_parquet(bags: Path, by_one: Path, settings: ReplaySettings):
    finished = run_batch(jobs(bags, by_one, settings), workers=1)
    assert all(item.is_resumed for item in finished)
    assert write_summary(finished, by_one) == {"bags": 3, "resumed": 3, "failed": {}}
    table = write_table(finished, by_one)
    assert table.suffix == ".parquet"
    rows = parquet.read_table(table).to_pylist()
    assert [Path(row["bag"]).name for row in rows] == ["talk0", "talk1", "talk2"]
    assert all(row["turns"] == 15 for row in rows)


def session_of(leader: int) -> list[int]:
    """Return the processes that still live in a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda one: one.name)
def test_a_killed_run_leaves_no_worker_and_goes_on_where_it_was(
    bags: Path, by_one: Path, settings: ReplaySettings, tmp_path: Path, number: signal.Signals
):
    command = [sys.executable, "-m", "timar_common.cli", "replay", str(bags), "--out", str(tmp_path)]
    command += ["--no-report", "--workers", "2"]
    for name in ("model", "engine", "warmup_turns", "preview_frames", "steps"):
        command += ["--set", f"inference.{name}={getattr(settings.inference, name)}"]
    first = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        deadline_s = time.monotonic() + PATIENCE_S
        while not list(tmp_path.rglob("source.json")):
            assert first.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        first.send_signal(number)
        first.wait(PATIENCE_S)
        while session_of(first.pid):  # Two workers and their server stayed, and went on writing.
            assert time.monotonic() < deadline_s, session_of(first.pid)
            time.sleep(0.05)
        done_before = len(list(tmp_path.rglob("source.json")))
        second = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    finally:
        first.kill()
        first.wait()
    assert second.returncode == 0, second.stderr
    resumed = json.loads((tmp_path / "fleet.json").read_text())["resumed"]
    assert done_before <= resumed <= 3
    assert resumed >= 1
    assert results(tmp_path) == results(by_one)


def test_a_result_is_made_anew_when_its_bag_or_a_setting_has_changed(
    bags: Path, by_one: Path, settings: ReplaySettings
):
    from timar_replay.batch import is_done

    one = jobs(bags, by_one, settings)[0]
    assert is_done(one)
    assert not is_done(jobs(bags, by_one, settings.changed(["inference.seed=3"]))[0])
    file = next(one.bag.glob("*.mcap"))
    before = file.stat()
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    assert not is_done(one)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_one_broken_bag_of_many_is_told_and_the_others_go_on(settings: ReplaySettings, tmp_path: Path):
    write_bag(tmp_path / "bags" / "good", WholeSound(voice(1, 2)))
    (tmp_path / "bags" / "bad").mkdir()
    (tmp_path / "bags" / "bad" / "bad.mcap").write_bytes(b"no bag at all")
    bad, good = run_batch(jobs(tmp_path / "bags", tmp_path / "out", settings), workers=1)
    assert "cannot be read" in bad.error
    assert good.error == ""


def test_folder_that_another_run_writes_into_is_named(settings: ReplaySettings, tmp_path: Path):
    """Two runs into one folder ended with a misleading message for one of them."""
    write_bag(tmp_path / "bag", WholeSound(voice(1, 2)))
    job = ReplayJob(tmp_path / "bag", tmp_path / "out", settings, has_report=False)
    with folder_lock(job.out):
        (finished,) = run_batch([job], workers=1)
    assert f"the folder {job.out} is in use by process {os.getpid()} (" in finished.error
    assert run_batch([job], workers=1)[0].error == ""


def test_every_bag_has_results_of_its_own_whatever_it_is_called(settings: ReplaySettings, tmp_path: Path):
    """Bags called talk.1 and talk.2 were both written to talk."""
    for name in ("talk.1/a.mcap", "talk.2/a.mcap", "bare/a.mcap", "bare/a.db3", "bare/b.mcap"):
        path = tmp_path / "bags" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    bags = tmp_path / "bags"
    places = {str(job.out.relative_to(tmp_path)) for job in jobs(bags, tmp_path, settings)}
    assert places == {"talk.1", "talk.2", "bare/a.mcap", "bare/a.db3", "bare/b"}


def test_a_comparison_of_a_thousand_bags_takes_little_memory():
    """All resamples at once were: of twenty thousand windows 640 MB."""
    before, change = np.random.default_rng(0).normal(0.0, [[1.0], [0.01]], (2, 20_000))
    tracemalloc.start()
    compared = paired("jerk", "lower", before, before + 0.01 + change)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert compared.verdict == "worse"
    assert compared.low < 0.01 < compared.high
    assert peak < 20e6
