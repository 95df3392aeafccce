"""Silero behind the same interface, without torch."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import numpy as np
import pytest
from timar_audio import vad
from timar_audio.turns_config import TurnsConfig


def test_it_runs_without_importing_torch():
    code = (
        "import sys, numpy as np\n"
        "from timar_audio.vad import SileroDetector\n"
        "SileroDetector().probability(np.zeros(512, np.int16))\n"
        "assert not {'torch', 'silero_vad'} & set(sys.modules)\n"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)}, timeout=240
    )


def test_noise_and_silence_are_no_speech_and_two_voices_do_not_mix():
    rng = np.random.default_rng(0)
    first, second = vad.SileroDetector(), vad.SileroDetector()
    for _ in range(30):
        noise = (rng.standard_normal(512) * 500).astype(np.int16)
        assert first.probability(noise) < 0.5
        alone = vad.SileroDetector()
        assert second.probability(np.zeros(512, np.int16)) < 0.5
    assert alone.probability(np.zeros(512, np.int16)) == vad.SileroDetector().probability(
        np.zeros(512, np.int16)
    )


@pytest.mark.parametrize("frame", [np.zeros(320, np.int16), np.zeros(512, np.float32)])
def test_another_frame_is_refused(frame):
    with pytest.raises(ValueError, match="a frame is 512 int16 samples"):
        vad.SileroDetector().probability(frame)


def test_without_the_package_the_words_say_how_to_get_it(monkeypatch):
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    vad._silero_session.cache_clear()
    with pytest.raises(OSError, match="pip install --no-deps silero-vad"):
        TurnsConfig(detector="silero").make_detector()
    vad._silero_session.cache_clear()
