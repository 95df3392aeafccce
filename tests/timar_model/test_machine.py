"""What was measured is kept once for each processor and version, and nothing depends on being able to."""

from __future__ import annotations

import json

from timar_model import machine


def counting(value):
    asked = []

    def find():
        asked.append(value)
        return {"value": value}

    return find, asked


def test_a_measurement_is_made_once_and_again_for_another_key(tmp_path, monkeypatch):
    monkeypatch.setenv("TIMAR_CACHE", str(tmp_path / "cache"))
    find, asked = counting(1)
    for version, times in (("1", 1), ("1", 1), ("2", 2), ("1", 2)):
        assert machine.remembered("speed", {"version": version}, find) == {"value": 1}
        assert len(asked) == times
    monkeypatch.setattr(machine, "processor", lambda: "another one")
    machine.remembered("speed", {"version": "1"}, find)
    assert len(asked) == 3


def test_a_broken_file_is_measured_again(tmp_path, monkeypatch):
    monkeypatch.setenv("TIMAR_CACHE", str(tmp_path))
    find, asked = counting(1)
    for content in ("", "{", "[]", json.dumps({"key": {}, "found": {"value": 9}})):
        machine.remembered("speed", {}, find)
        (path,) = tmp_path.glob("speed-*.json")
        path.write_text(content)
    machine.remembered("speed", {}, find)
    assert len(asked) == 5


def test_where_nothing_can_be_written_it_lasts_as_long_as_the_process(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TIMAR_CACHE", str(tmp_path / "file" / "below"))
    find, asked = counting(1)
    for _ in range(2):
        assert machine.remembered("speed", {}, find) == {"value": 1}
    assert len(asked) == 1


def test_the_folder_is_the_users_by_the_xdg_specification(tmp_path, monkeypatch):
    monkeypatch.delenv("TIMAR_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for chosen, expected in (
        ("", tmp_path / ".cache" / "timar"),
        ("relative", tmp_path / ".cache" / "timar"),
        ("/var/x", "/var/x/timar"),
    ):
        monkeypatch.setenv("XDG_CACHE_HOME", chosen)
        assert str(machine.cache_folder()) == str(expected)
