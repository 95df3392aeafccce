"""docs/bringup.md says of each process what the code says."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
process_page = importlib.import_module("process_page")


def test_tables_are_what_the_code_says() -> None:
    text = process_page.PAGE.read_text(encoding="utf-8")
    assert process_page.page(text) == text, "run python tools/process_page.py"


def test_table_that_has_no_place_in_the_page_is_named() -> None:
    with pytest.raises(ValueError, match="has no lines '<!-- processes: made by"):
        process_page.page("# Bringup")
