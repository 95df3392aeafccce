"""The built-in dialogue answers what was said, does what it is told, and is quiet when asked to."""

from __future__ import annotations

import pathlib
import random
import re

import numpy as np
import yaml
from timar_dialogue.dialogues import Act, Heard
from timar_dialogue.small_talk import SmallTalk, words_of_meaning

CONVERSATIONS = yaml.safe_load((pathlib.Path(__file__).with_name("conversations.yaml")).read_text())
NO_SOUND = np.zeros(0, np.int16)


def say(dialogue: SmallTalk, text: str) -> tuple[list[Act], str]:
    pieces = list(dialogue.answer(Heard(text, NO_SOUND)))
    words = " ".join(piece for piece in pieces if isinstance(piece, str))
    dialogue.was_heard(words, 1.0, is_whole=True)
    return [piece for piece in pieces if isinstance(piece, Act)], words


def stems(text: str) -> set[str]:
    return {word[:5] for word in words_of_meaning(text)}


def refers(turn: dict, before: str, acts: list[Act], answer: str) -> bool:
    """The criterion that stands at the head of conversations.yaml."""
    if "act" in turn:
        return turn["act"] in [act.value for act in acts]
    if "about" in turn:
        return any(re.search(rf"\b{re.escape(word)}\b", answer, re.IGNORECASE) for word in turn["about"])
    return bool(stems(answer) & (stems(turn["say"]) | stems(before)))


def transcripts() -> list[list[tuple[dict, str, list[Act], str]]]:
    all_of_them = []
    for conversation in CONVERSATIONS:
        dialogue, before, turns = SmallTalk(), "", []
        for turn in conversation:
            turns.append((turn, before, *say(dialogue, turn["say"])))
            before = turn["say"]
        all_of_them.append(turns)
    return all_of_them


def share(turns: list[tuple[dict, str, list[Act], str]]) -> float:
    return sum(refers(*turn) for turn in turns) / len(turns)


def test_four_of_five_answers_refer_to_what_was_said_and_exchanged_answers_do_not():
    assert [len(conversation) for conversation in CONVERSATIONS] == [6] * 20
    known, held_out = (
        [turn for turns in part for turn in turns] for part in (transcripts()[:10], transcripts()[10:])
    )
    answers = [(acts, answer) for _, _, acts, answer in known + held_out]
    random.Random(1).shuffle(answers)
    exchanged = [(turn, before, *answers[i]) for i, (turn, before, _, _) in enumerate(known + held_out)]
    assert share(known) >= 0.8, [t for t in known if not refers(*t)]
    assert share(held_out) >= 0.8, [t for t in held_out if not refers(*t)]
    assert share(exchanged) < 0.2
