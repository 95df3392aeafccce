from __future__ import annotations

from pathlib import Path

import pytest
from timar_description import find_joint_map, find_urdf


def test_a_robot_is_found_by_name_and_by_path() -> None:
    by_name = find_urdf("timar_head")
    assert by_name.name == "timar_head.urdf"
    assert find_urdf(str(by_name)) == by_name


def test_a_robot_of_a_sourced_workspace_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "share" / "timar_description" / "urdf"
    folder.mkdir(parents=True)
    (folder / "other_head.yaml").write_text("joints: {}\n")
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/not/there:{tmp_path}")
    assert find_joint_map("other_head") == folder / "other_head.yaml"


def test_a_missing_robot_is_refused_with_the_places_looked_in() -> None:
    with pytest.raises(FileNotFoundError, match=r"no_such_head\.urdf; looked in .*urdf"):
        find_urdf("no_such_head")


def test_a_missing_file_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.urdf"):
        find_urdf(str(tmp_path / "nowhere.urdf"))
