"""What face tracking lacks is named with the command that brings it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from timar_perception import landmarks
from timar_perception.landmarks import MediaPipeLandmarker, find_model, import_mediapipe


def test_a_missing_mediapipe_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(RuntimeError, match=r"face tracking needs MediaPipe.*make setup-perception brings it"):
        import_mediapipe()


def test_a_missing_model_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with pytest.raises(RuntimeError, match=r"there is no model .*none\.task"):
        find_model(str(tmp_path / "none.task"))
    monkeypatch.setattr(landmarks.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="face model, which is not installed; make setup-perception"):
        find_model("")


def test_a_model_that_is_not_googles_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(landmarks, "MODEL_SHA256", "0" * 64)
    with pytest.raises(RuntimeError, match="is not the face model that Google published"):
        find_model("")


def test_a_file_that_is_no_model_is_refused(tmp_path: Path):
    broken = tmp_path / "broken.task"
    broken.write_bytes(b"no model")
    with pytest.raises(ValueError, match="MediaPipe cannot use the model"):
        MediaPipeLandmarker(broken)
