"""What is written atomically is there whole or not at all."""

import contextlib
import json
import os

import pytest
from timar_common.atomic import remove_leftovers, replacing_file, replacing_folder, write_json, write_text


def test_a_file_is_replaced_only_when_all_of_it_is_written(tmp_path):
    path = tmp_path / "sub" / "a.txt"
    write_text(path, "old\n")
    with contextlib.suppress(RuntimeError), replacing_file(path) as scratch:
        scratch.write_text("half of the n")
        assert path.read_text() == "old\n"
        raise RuntimeError
    assert path.read_text() == "old\n"
    write_text(path, "neu: ä\n")
    assert path.read_text(encoding="utf-8") == "neu: ä\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


def test_an_atomic_file_may_be_read_by_whom_an_ordinary_one_may(tmp_path):
    (tmp_path / "ordinary").write_text("")
    write_text(tmp_path / "atomic", "")
    modes = {name: os.stat(tmp_path / name).st_mode for name in ("ordinary", "atomic")}
    assert modes["atomic"] == modes["ordinary"]


def test_json_that_no_other_reader_knows_is_refused_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}


def test_a_folder_is_replaced_as_a_whole_or_stays(tmp_path):
    place = tmp_path / "model"
    for number in (1, 2):
        with replacing_folder(place) as new:
            (new / f"file{number}").touch()
        assert [entry.name for entry in place.iterdir()] == [f"file{number}"]
    with contextlib.suppress(RuntimeError), replacing_folder(place) as new:
        (new / "file3").touch()
        raise RuntimeError
    assert [entry.name for entry in place.iterdir()] == ["file2"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_the_folder_of_a_faster_process_is_kept_when_both_hold_the_same(tmp_path):
    place = tmp_path / "entry"
    with replacing_folder(place, is_first_kept=True) as slower:
        with replacing_folder(place, is_first_kept=True) as faster:
            (faster / "by_the_faster").touch()
        (slower / "by_the_slower").touch()
    assert [entry.name for entry in place.iterdir()] == ["by_the_faster"]


def test_scratch_folders_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    kept = [".model.backup_1", ".model.x7k2a_b1", ".other.x7k2a_b1", "model"]
    for name in kept:
        (tmp_path / name / ("mine" if name == ".model.backup_1" else "new")).mkdir(parents=True)
    remove_leftovers(tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".model.backup_1", ".other.x7k2a_b1", "model"]
