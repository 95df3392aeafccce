"""Plugins for tests of the dialogue node, named as module:Class: they compute nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from timar_dialogue.dialogues import Act, Heard, PlainDialogue
from timar_dialogue.voices import Speech


class OneWord:
    """A recogniser that always hears the same."""

    def transcribe(self, samples: np.ndarray) -> str:
        """Return a word for sound, none for silence."""
        return "hello" if np.any(samples) else ""


class Tone:
    """A voice: a tone, 0.1 s for each character."""

    def synthesise(self, text: str) -> Iterator[Speech]:
        """Yield the sentence."""
        at = np.arange(len(text) * 2205)
        yield Speech(22_050, (8_000 * np.sin(at * 0.06)).astype(np.int16))

    def close(self) -> None:
        """Nothing runs on."""


class Long(PlainDialogue):
    """A dialogue that nods and then speaks for 12 s."""

    def answer(self, heard: Heard) -> Iterator[str | Act]:
        """Yield six sentences of 2 s."""
        yield Act.NOD
        for _ in range(6):
            yield f"{heard.text} and so on now. "
