"""docs/data.md and docs/reading-guide.md say what the code says."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
data_page = importlib.import_module("data_page")
FOLDERS = ("timar_model", "training", "ros2_ws/src/*")


@pytest.fixture(scope="module")
def workspace() -> Any:
    return data_page.Workspace()


def test_the_page_of_data_is_current(workspace: Any):
    assert data_page.PAGE.read_text(encoding="utf-8") == data_page.page(workspace), (
        "run python tools/data_page.py"
    )


def test_at_most_ten_data_shapes_travel_between_packages(workspace: Any):
    names = [shape.full_name for shape in workspace.shapes()]
    assert len(names) <= data_page.MAX_SHAPES, names


def test_a_field_is_listed_with_its_type_and_the_sentence_below_it():
    node = ast.parse(
        '@dataclasses.dataclass\nclass Block:\n    first_sample: int\n    """Its place\n    [samples]."""\n'
        "    samples: Array\n    kind: ClassVar[int] = 1\n"
    ).body[0]
    assert isinstance(node, ast.ClassDef)
    fields = list(data_page.DataClass("timar_a.blocks", node).fields())
    assert fields == [("first_sample", "int", "Its place [samples]."), ("samples", "Array", "")]


def test_every_file_and_class_of_the_reading_guide_exists():
    text = (ROOT / "docs" / "reading-guide.md").read_text(encoding="utf-8")
    paths = re.findall(r"`(timar_\w+/[\w/.]+)`", text)
    assert len(paths) > 20
    for path in paths:
        assert any(list(ROOT.glob(f"{folder}/{path}")) for folder in FOLDERS), f"there is no {path}"
    files = (file for folder in FOLDERS for file in ROOT.glob(f"{folder}/timar_*/**/*.py"))
    sources = "\n".join(file.read_text(encoding="utf-8") for file in files)
    for name in re.findall(r"`([A-Z][A-Za-z]+)(?:\.\w+)?`", text):
        assert re.search(rf"^class {name}\b", sources, re.MULTILINE), f"there is no class {name}"
