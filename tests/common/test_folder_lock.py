"""Two runs never write into one folder; the second one names the first."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from timar_common.folder_lock import FolderInUseError, folder_lock

HOLDER = """
import sys, time
from pathlib import Path
from timar_common.folder_lock import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_folder_in_use_is_named_with_the_process_that_writes_there(holder, tmp_path):
    with pytest.raises(FolderInUseError) as error, folder_lock(tmp_path / "out"):
        pass
    assert f"the folder {tmp_path / 'out'} is in use by process {holder.pid} (" in str(error.value)
    assert "name another folder" in str(error.value)


def test_folder_of_a_killed_process_is_free_and_nothing_is_left_in_it(holder, tmp_path):
    holder.kill()
    holder.wait()
    deadline_s = time.monotonic() + 60.0
    while True:
        try:
            with folder_lock(tmp_path / "out"):
                break
        except FolderInUseError:
            assert time.monotonic() < deadline_s
    assert os.listdir(tmp_path / "out") == []


def test_folder_is_made_and_can_be_held_again_and_beside_others(tmp_path):
    for _ in range(2):
        with folder_lock(tmp_path / "a" / "b"), folder_lock(tmp_path / "a"):
            assert (tmp_path / "a" / "b").is_dir()
