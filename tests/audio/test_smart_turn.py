"""Smart Turn v3: the spectrum that it takes, and its answers."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from labelled_speech import AGENT_VOICE
from timar_audio.end_of_turn import load_end_of_turn
from timar_audio.smart_turn import SmartTurn, log_mel

RATE_HZ = 16_000


def speech(first_s: float, end_s: float) -> np.ndarray:
    sound, _ = soundfile.read(AGENT_VOICE, dtype="int16")
    return sound[round(first_s * RATE_HZ) : round(end_s * RATE_HZ)]


@pytest.mark.parametrize("seconds", [0.5, 8.0, 12.0])
def test_the_spectrum_is_that_of_whisper(seconds: float):
    transformers = pytest.importorskip("transformers", reason="pip install transformers")
    sound = speech(14.0, 14.0 + seconds)
    last = sound[-8 * RATE_HZ :].astype(np.float32) / 32_768
    whole = np.pad(last, (8 * RATE_HZ - last.size, 0))
    expected = transformers.WhisperFeatureExtractor(chunk_length=8)(
        whole, sampling_rate=RATE_HZ, return_tensors="np", do_normalize=True
    )
    np.testing.assert_allclose(log_mel(sound), expected["input_features"][0], atol=1e-4)


def test_silence_and_nothing_have_a_finite_spectrum():
    for sound in (np.zeros(0, np.int16), np.zeros(200_000, np.int16)):
        assert np.isfinite(log_mel(sound)).all()


def test_a_file_that_is_no_model_is_refused_with_a_sentence(tmp_path: Path):
    path = tmp_path / "no-model.onnx"
    path.write_bytes(b"nothing")
    with pytest.raises(OSError, match=r"no-model\.onnx cannot be used as a Smart Turn model"):
        load_end_of_turn("smart_turn", str(path))


def test_without_its_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(OSError, match="pip install --no-deps pipecat-ai"):
        load_end_of_turn("smart_turn")


def test_the_installed_model_tells_an_end_from_the_middle_of_a_sentence():
    """Of a synthesised voice, Piper's; with flite's flat one it takes no end for one."""
    try:
        model = SmartTurn()
    except OSError as error:
        pytest.skip(str(error))
    at_end, in_between = (
        [model.probability(speech(end_s - 6.0, end_s)) for end_s in ends]
        for ends in ((15.1, 25.7, 47.0), (34.5, 42.0, 44.5))
    )
    assert min(at_end) > 0.5 > max(in_between)
