"""Voices: what they give is sound, and a voice that fails costs a message and no silence."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import shutil
import time
from collections.abc import Iterator

import numpy as np
import pytest
from timar_dialogue.config import DialogueConfig
from timar_dialogue.voices import (
    EspeakVoice,
    FirstThatSpeaks,
    PiperVoice,
    Speech,
    VoiceError,
    checked,
    make_voice,
    packaged_piper_voice,
)

needs_piper = pytest.mark.skipif(
    importlib.util.find_spec("piper") is None or packaged_piper_voice() is None,
    reason="piper-tts is not installed; `make setup-talk` installs it",
)
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")


@pytest.fixture
def piper() -> Iterator[PiperVoice]:
    voice = PiperVoice(packaged_piper_voice())
    yield voice
    voice.close()


@needs_piper
def test_piper_speaks_sentence_after_sentence_emoji_and_right_to_left_and_leaves_no_file(piper):
    lengths = []
    for text in ("Hello.", "This sentence is a good deal longer than the other one.", "\nשלום\n", "a" * 300):
        (speech,) = piper.synthesise(text)
        assert checked(speech).rate_hz == 22_050
        lengths.append(speech.samples.size)
    assert 5_000 < lengths[0] < lengths[1] < lengths[3]
    assert np.abs(speech.samples).max() > 3_000
    assert list(pathlib.Path(piper._folder.name).iterdir()) == []


@needs_piper
def test_a_piper_that_was_killed_speaks_the_next_sentence(piper):
    list(piper.synthesise("Hello."))
    piper._piper.kill()
    piper._piper.wait()
    (speech,) = piper.synthesise("Hello again.")
    assert speech.samples.size > 5_000


@needs_piper
@needs_espeak
def test_a_voice_that_is_none_costs_a_message_and_another_voice_speaks(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    pathlib.Path(f"{broken}.json").write_text(json.dumps({"audio": {"sample_rate": 22_050}}))
    said: list[str] = []
    voice = FirstThatSpeaks([PiperVoice(broken), EspeakVoice("en")], said.append)
    (speech,) = voice.synthesise("Hello.")
    voice.close()
    assert speech.samples.size > 5_000
    assert len(said) == 1
    assert said[0].startswith("piper")


@needs_espeak
def test_espeak_speaks_at_once_in_any_of_its_languages():
    for language, text in (("en", "Hello."), ("de", "Guten Tag."), ("ar", "مرحبا")):
        began_s = time.monotonic()
        (speech,) = EspeakVoice(language).synthesise(text)
        assert checked(speech).samples.size > 5_000
        assert time.monotonic() - began_s < 10.0


@pytest.mark.parametrize(
    ("rate_hz", "samples", "reason"),
    [
        (16_000, np.array([0.1, np.nan], np.float32), "not finite"),
        (500, np.zeros(10, np.int16), "500 samples a second"),
        (16_000, np.zeros((10, 2), np.int16), "shape"),
        (16_000, np.zeros(10, np.int64), "type int64"),
        (16_000, np.zeros(16_000 * 200, np.int16), "at most 120 s"),
    ],
)
def test_what_is_no_sound_is_refused(rate_hz, samples, reason):
    with pytest.raises(VoiceError, match=reason):
        checked(Speech(rate_hz, samples))


def test_a_voice_is_named_by_what_it_is():
    with pytest.raises(VoiceError, match=r"are no voice of Piper|piper-tts is not installed"):
        make_voice(DialogueConfig(voice="/nowhere/voice.onnx"), print)
    with pytest.raises(ValueError, match=r"voice is 'espeek'.*did you mean espeak"):
        make_voice(DialogueConfig(voice="espeek"), print)
