"""Whisper understands a synthetic voice, short and long, and does not repeat itself."""

from __future__ import annotations

import importlib.util
import io
import shutil
import subprocess

import numpy as np
import pytest
import soundfile
import soxr
from timar_dialogue.config import DialogueConfig
from timar_dialogue.recognisers import (
    NoRecogniser,
    RecogniserError,
    make_recogniser,
    packaged_whisper,
    without_repetition,
)

needs_whisper = pytest.mark.skipif(
    importlib.util.find_spec("faster_whisper") is None
    or packaged_whisper() is None
    or shutil.which("espeak-ng") is None,
    reason="faster-whisper or espeak-ng is not installed; `make setup-talk` installs them",
)


@pytest.fixture(scope="module")
def whisper():
    return make_recogniser(DialogueConfig(), print)


def spoken(text: str) -> np.ndarray:
    done = subprocess.run(["espeak-ng", "--stdout", text], capture_output=True, check=True)
    samples, rate_hz = soundfile.read(io.BytesIO(done.stdout), dtype="int16")
    return soxr.resample(samples, rate_hz, 16_000)


@needs_whisper
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I went to the mountains with my brother last weekend.", ["mountains", "brother", "weekend"]),
        ("Hello, how are you today? What can you do?", ["how are you", "what can you do"]),
        ("Stop.", ["stop"]),
    ],
)
def test_words_of_a_synthetic_voice_are_found_and_stand_once(whisper, text, words):
    found = whisper.transcribe(spoken(text)).lower()
    assert all(word in found for word in words), found
    assert len(found) < 1.5 * len(text) + 5


@needs_whisper
def test_silence_hum_and_nothing_at_all_bring_no_long_text(whisper):
    rng = np.random.default_rng(1)
    for samples in (np.zeros(0), np.zeros(32_000), rng.normal(0, 300, 32_000)):
        assert len(whisper.transcribe(samples.astype(np.int16))) < 20


def test_what_is_said_three_times_in_a_row_stands_once():
    assert without_repetition("wait wait wait wait wa") == "wait wa"
    assert without_repetition("No, stop. No, stop. No, stop. No,") == "No, stop No,"
    assert without_repetition("It was very, very good.") == "It was very, very good."


def test_without_a_model_the_head_hears_that_one_speaks_and_says_so(monkeypatch):
    monkeypatch.setattr("timar_dialogue.recognisers.packaged_whisper", lambda: None)
    said: list[str] = []
    assert isinstance(make_recogniser(DialogueConfig(), said.append), NoRecogniser)
    assert "make setup-talk" in said[0]


@needs_whisper
def test_a_model_that_is_none_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(RecogniserError, match=f"the Whisper model '{tmp_path}' cannot be loaded"):
        make_recogniser(DialogueConfig(recogniser=str(tmp_path)), print)
    with pytest.raises(RecogniserError, match="knows English only"):
        make_recogniser(DialogueConfig(recogniser=str(packaged_whisper()), language="de"), print)
