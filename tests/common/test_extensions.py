"""Extension points: found by name, by module:attribute, or refused with what there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from timar_common.extensions import extension_names, load_extension

GROUP = "timar.test_extensions"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay out what pip leaves of two packages, one of them without its module."""
    for name, target in (("loud", "loud_package:Loud"), ("broken", "no_such_package:Broken")):
        folder = tmp_path / f"{name}_package-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}_package\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {target}\n")
    (tmp_path / "loud_package.py").write_text("class Loud:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("name", ["loud", "loud_package:Loud"])
def test_an_installed_implementation_is_found_by_name_and_by_module(installed, name):
    assert load_extension(GROUP, name).__name__ == "Loud"


def test_a_built_in_one_is_not_replaced(installed):
    assert load_extension(GROUP, "loud", {"loud": 1}) == 1
    assert extension_names(GROUP, {"soft": 1}) == ["broken", "loud", "soft"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lout", "voice is 'lout', expected one of broken, loud, soft.*did you mean loud"),
        ("broken", "no_such_package"),
        ("loud_package:Soft", "'loud_package:Soft' and cannot be imported.*Soft"),
        ("nowhere:Loud", "is it installed"),
        ("", "expected one of"),
    ],
)
def test_a_name_that_is_none_is_refused_with_what_there_is(installed, name, words):
    with pytest.raises(ValueError, match=words):
        load_extension(GROUP, name, {"soft": 1}, what="voice")
