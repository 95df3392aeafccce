"""A turn can be followed: one step on onnx enters few files of ours, none of them long."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import timar_common
from timar_model.engines.export import export_onnx
from timar_model.model_folder import save_model

import timar_model
from timar_model import load_model

OURS = [Path(package.__file__).resolve().parent for package in (timar_model, timar_common)]
MOST_FILES, MOST_LINES, MOST_CACHE_FILES = 4, 600, 2


def files_entered(work) -> set[Path]:
    """Return our files in which a function was called while the work ran."""
    found: set[Path] = set()

    def trace(frame, event, argument):
        if event == "call":
            found.add(Path(frame.f_code.co_filename))

    before = sys.getprofile()
    sys.setprofile(trace)
    try:
        work()
    finally:
        sys.setprofile(before)
    return {path for path in found if any(folder in path.resolve().parents for folder in OURS)}


@pytest.mark.parametrize("draws", ["frames", "turns"])
def test_one_step_on_onnx_enters_at_most_four_files(draws, tmp_path, make_network, talk):
    """The first step too, and one of another length past the window: nothing is hidden in a warm cache."""
    save_model(tmp_path / "model", make_network(draws=draws))
    export_onnx(tmp_path / "model")
    session = load_model(tmp_path / "model").session(engine="onnx")
    entered = set()
    for frames in [5] * 8 + [3, 1, 7]:
        entered |= files_entered(lambda frames=frames: session.step(**talk.turn(session, frames)))
    assert 1 < len(entered) <= MOST_FILES, sorted(entered)
    lengths = {path.name: len(path.read_text().splitlines()) for path in entered}
    assert max(lengths.values()) <= MOST_LINES, lengths


def test_the_cache_lives_in_at_most_two_files():
    """Windows, commit and rollback of keys and values, and their slots: in `cache.py`; engines add arrays."""
    holders = [
        path
        for path in OURS[0].rglob("*.py")
        if any(
            word in path.read_text() for word in ("self.first_capacity", "class RollingWindow", "% capacity")
        )
    ]
    assert 1 <= len(holders) <= MOST_CACHE_FILES, holders
