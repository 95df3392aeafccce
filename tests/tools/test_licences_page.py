"""Whatever is installed names its licence, and copyleft runs in processes of its own."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
licences_page = importlib.import_module("licences_page")


def test_every_package_installed_names_a_licence_that_lets_this_project_be_passed_on():
    assert licences_page.troubles(licences_page.installed()) == []


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("GPL-3.0-or-later", True),
        ("AGPL-3.0", True),
        ("GNU General Public License v2 (GPLv2)", True),
        ("LGPL-2.1-or-later", False),
        ("MPL-2.0", False),
        ("Public Domain or BSD or GNU General Public License (GPL)", False),
        ("Apache-2.0", False),
    ],
)
def test_copyleft_is_what_leaves_no_other_choice(stated, expected):
    assert licences_page.is_copyleft(stated) == expected


def test_what_bars_passing_on_is_said_by_name():
    found = {
        "fine": ("1", "MIT"),
        "unknown": ("2", ""),
        "strict": ("3", "GPL-3.0-only"),
        "piper-tts": ("4", "GPL-3.0"),
    }
    assert licences_page.troubles(found) == [
        "unknown 2 names no licence",
        "strict 3 is GPL-3.0-only; run it in a process of its own and say so in APART",
    ]
