"""Dialogues as plugins: what to answer. The contract, and how one is made."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from timar_common.extensions import load_extension

from timar_dialogue.config import DialogueConfig
from timar_dialogue.voices import Speech

GROUP = "timar.dialogues"


class DialogueError(RuntimeError):
    """There is no answer; the message says why and what to do."""


class Heard(NamedTuple):
    """A speech turn of the user."""

    text: str
    """What was understood; empty without a recogniser."""
    samples: npt.NDArray[np.int16]
    """(n,) at 16 kHz."""


class Act(enum.Enum):
    """What the head does beside speaking."""

    NOD = "nod"
    SHAKE = "shake"
    TILT = "tilt"
    LOOK_AWAY = "look away"
    LOOK_BACK = "look back"


class Dialogue(Protocol):
    """What the node asks of a dialogue; `answer` and `was_heard` are called in the same thread."""

    hears_itself: bool
    """Whether it is given the user's sound as it comes, and needs no recogniser."""

    def answer(self, heard: Heard) -> Iterator[str | Act | Speech]:
        """Yield an answer piece by piece: text for the voice, acts, or sound of its own.

        Raises:
            DialogueError: There is none, or no more of it.
        """

    def was_heard(self, text: str, seconds: float, *, is_whole: bool) -> None:
        """Learn what was heard of the last answer: its text as far as is known, and how long [s]."""

    def interrupt(self) -> None:
        """End the answer at hand soon; called in another thread."""

    def hear(self, samples: npt.NDArray[np.int16]) -> None:
        """Take the user's sound at 16 kHz as it comes, if `hears_itself`; never blocks."""

    def close(self) -> None:
        """End; called once."""


class PlainDialogue:
    """Base of dialogues that need words and no more than `answer`."""

    hears_itself = False

    def answer(self, heard: Heard) -> Iterator[str | Act | Speech]:
        """Yield an answer."""
        raise NotImplementedError(f"{type(self).__name__} does not answer")

    def was_heard(self, text: str, seconds: float, *, is_whole: bool) -> None:
        """Forget it."""

    def interrupt(self) -> None:
        """Go on: the rest of the answer is not asked for."""

    def hear(self, samples: npt.NDArray[np.int16]) -> None:
        """Wait for words."""

    def close(self) -> None:
        """Nothing runs on."""


def make_dialogue(config: DialogueConfig) -> Dialogue:
    """Make the dialogue that the configuration names; nothing else is imported.

    Raises:
        ValueError: There is none of that name.
        DialogueError: It cannot be used.
    """
    if config.dialogue == "built-in":
        from timar_dialogue.small_talk import SmallTalk

        return SmallTalk()
    if config.dialogue == "chat":
        from timar_dialogue.chat_server import ChatServer

        return ChatServer(config)
    if config.dialogue == "realtime":
        from timar_dialogue.realtime import RealtimeServer

        return RealtimeServer(config)
    known = {"built-in": None, "chat": None, "realtime": None}
    make = load_extension(GROUP, config.dialogue, known, what="dialogue")
    dialogue: Dialogue = make()
    return dialogue
