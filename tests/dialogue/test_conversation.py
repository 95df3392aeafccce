"""A conversation: words are found ahead, answers are sent as they come, what was heard of them is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from timar_common.diagnostics import Level
from timar_dialogue.config import DialogueConfig
from timar_dialogue.conversation import AnswerOutcome, Conversation
from timar_dialogue.dialogues import Act, DialogueError, Heard, PlainDialogue
from timar_dialogue.sentences import SentenceCutter, speakable
from timar_dialogue.voices import Speech, VoiceError

S = 16_000
PATIENCE_S = 20.0


class Said:
    """An utterance of the head that was interrupted after `heard_s`, or never."""

    def __init__(self, name: str, heard_s: float | None) -> None:
        self.name, self.samples, self.is_finished = name, 0, False
        self._limit = None if heard_s is None else round(heard_s * S)

    def send(self, speech: Speech) -> bool:
        self.samples += speech.samples.size
        return self._limit is None or self.samples < self._limit

    def finish(self) -> tuple[AnswerOutcome, int]:
        self.is_finished = True
        if self._limit is not None and self.samples >= self._limit:
            return AnswerOutcome.INTERRUPTED, self._limit
        return AnswerOutcome.FINISHED, self.samples

    cancel = finish


class Stage:
    """A head that keeps what it is asked for; its recogniser hears a level of 100 n as the nth word."""

    def __init__(self) -> None:
        self.said: list[Said] = []
        self.heard_s: float | None = None
        self.acts: list[Act] = []
        self.words: list[tuple[str, bool]] = []
        self.own_words: list[str] = []
        self.logged: list[tuple[Level, str]] = []
        self.transcribed: list[int] = []
        self.at = 0

    def say(self, utterance_id: str) -> Said:
        self.said.append(Said(utterance_id, self.heard_s))
        return self.said[-1]

    def act(self, act: Act) -> None:
        self.acts.append(act)

    def intend(self, intention, hold_s: float) -> None:
        assert 0 <= hold_s <= 60

    def report_user_words(self, text: str, first_sample: int, end_sample: int, *, is_final: bool) -> None:
        assert 0 <= first_sample <= end_sample
        self.words.append((text, is_final))

    def report_own_words(self, text: str, samples: int) -> None:
        self.own_words.append(text)

    def log(self, level: Level, text: str) -> None:
        self.logged.append((level, text))

    def transcribe(self, samples: np.ndarray) -> str:
        self.transcribed.append(samples.size)
        levels = {int(value) for value in samples} - {0}
        return " ".join(f"word{level // 100}" for level in sorted(levels))


class Echo(PlainDialogue):
    """Answers with what it heard, as `make` says."""

    def __init__(self, make: Callable[[Heard], Iterator]) -> None:
        self._make = make
        self.heard: list[str] = []
        self.learnt: list[tuple[str, bool]] = []

    def answer(self, heard: Heard) -> Iterator:
        self.heard.append(heard.text)
        yield from self._make(heard)

    def was_heard(self, text: str, seconds: float, *, is_whole: bool) -> None:
        self.learnt.append((text, is_whole))


class Voice:
    """A tenth of a second for each character."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.make = lambda text: Speech(S, np.full(len(text) * S // 10, 500, np.int16))

    def synthesise(self, text: str) -> Iterator[Speech]:
        self.sentences.append(text)
        yield self.make(text)

    def close(self) -> None:
        """Nothing runs on."""


@pytest.fixture
def begin() -> Iterator[Callable[..., tuple[Stage, Conversation, Echo, Voice]]]:
    running: list[Conversation] = []

    def begin(make=lambda heard: [f"You said {heard.text}."], **options):
        stage, echo, voice = Stage(), Echo(make), Voice()
        running.append(Conversation(DialogueConfig(**options), stage, lambda: stage, echo, voice))
        running[-1].start()
        wait(lambda: running[-1].is_ready)
        stage.transcribed.clear()
        voice.sentences.clear()
        return stage, running[-1], echo, voice

    yield begin
    for conversation in running:
        conversation.close()


def wait(condition: Callable[[], object]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def speak(stage: Stage, conversation: Conversation, turn: int, word: int, *, pause_s: float = 0.5) -> None:
    """A second of a word, and a pause after which the turn ends."""
    first = stage.at
    conversation.start_turn(turn, first)
    for i in range(50 + round(pause_s * 50)):
        is_voiced = i < 50
        conversation.hear(stage.at, np.full(320, 100 * word if is_voiced else 0, np.int16))
        stage.at += 320
        conversation.observe_activity(stage.at, 320, is_voiced=is_voiced)
    conversation.end_turn(turn, first, first + S)


def test_words_are_found_in_the_pause_and_not_again_at_the_end(begin):
    stage, conversation, echo, _ = begin()
    first = stage.at
    conversation.start_turn(0, first)
    for i in range(75):
        conversation.hear(stage.at, np.full(320, 100 if i < 50 else 0, np.int16))
        stage.at += 320
        conversation.observe_activity(stage.at, 320, is_voiced=i < 50)
    wait(lambda: stage.words)
    assert stage.words == [("word1", False)]
    conversation.end_turn(0, first, first + S)
    wait(lambda: stage.own_words)
    assert stage.words == [("word1", False), ("word1", True)]
    assert len(stage.transcribed) == 1
    assert (echo.heard, stage.own_words) == (["word1"], ["You said word1."])


def test_a_back_channel_is_not_answered_and_ids_are_of_this_start(begin):
    stage, conversation, echo, _ = begin()
    conversation.start_turn(0, 0)
    conversation.drop_turn(0)
    conversation.end_turn(0, 0, 100)
    stage.at = 320
    speak(stage, conversation, 1, 2)
    wait(lambda: stage.own_words)
    assert echo.heard == ["word2"]
    other_stage, other, _, _ = begin()
    speak(other_stage, other, 0, 2)
    wait(lambda: other_stage.own_words)
    assert stage.said[0].name != other_stage.said[0].name


def test_of_an_interrupted_answer_only_the_words_that_were_heard_are_kept(begin):
    stage, conversation, echo, voice = begin(lambda heard: ["One two three. ", "Four five six. ", "Never."])
    stage.heard_s = 2.35  # Each sentence takes 1.4 s; the word "six" begins after 2.4 s.
    speak(stage, conversation, 0, 1)
    wait(lambda: echo.learnt)
    assert echo.learnt == [("One two three. Four five", False)]
    assert stage.own_words == ["One two three. Four five"]
    assert "Never." not in voice.sentences


def test_who_goes_on_before_the_answer_begins_is_answered_once_and_to_all(begin):
    is_open, asked = threading.Event(), threading.Event()

    def make(heard):
        asked.set()
        is_open.wait(PATIENCE_S)
        yield f"You said {heard.text}."

    stage, conversation, echo, _ = begin(make)
    speak(stage, conversation, 0, 1)
    assert asked.wait(PATIENCE_S)
    conversation.start_turn(1, stage.at)
    is_open.set()
    wait(lambda: conversation.report().values["dropped_answers"])
    stage_first = stage.at
    for _ in range(50):
        conversation.hear(stage.at, np.full(320, 200, np.int16))
        stage.at += 320
    conversation.end_turn(1, stage_first, stage.at)
    wait(lambda: stage.own_words)
    assert echo.heard == ["word1", "word1 word2"]
    assert stage.own_words == ["You said word1 word2."]


def test_acts_are_made_and_a_long_answer_is_cut_in_sentences_and_at_its_longest(begin):
    long = "🙂 " + "Word after word, " * 10_000
    stage, conversation, _, voice = begin(lambda heard: [Act.NOD, long], max_answer_chars=900)
    speak(stage, conversation, 0, 1)
    wait(lambda: stage.own_words)
    assert stage.acts == [Act.NOD]
    assert 700 < len(" ".join(voice.sentences)) <= 900
    assert max(map(len, voice.sentences)) <= 240
    assert (Level.WARN, "the answer is cut after 900 characters") in stage.logged


@pytest.mark.parametrize("fault", ["nan", "nothing", "rate", "voice", "dialogue", "bug"])
def test_after_any_fault_the_utterance_ends_the_fault_is_named_and_the_next_turn_is_answered(begin, fault):
    def make(heard):
        yield "First. And then "
        if heard.text == "word1" and fault == "dialogue":
            raise DialogueError("the server is gone")
        if heard.text == "word1" and fault == "bug":
            raise KeyError("a fault of a plugin")
        yield "second."

    stage, conversation, _, voice = begin(make)
    good = voice.make
    bad = {
        "nan": lambda text: Speech(S, np.full(9, np.nan, np.float32)),
        "nothing": lambda text: Speech(S, np.zeros(0, np.int16)),
        "rate": lambda text: Speech(0, np.zeros(9, np.int16)),
        "voice": lambda text: (_ for _ in ()).throw(VoiceError("the voice broke")),
    }
    voice.make = bad.get(fault, good)
    speak(stage, conversation, 0, 1)
    wait(lambda: conversation.report().values["failures"] or fault == "nothing")
    wait(lambda: conversation._question is None and not conversation._is_speaking)
    assert all(said.is_finished for said in stage.said)
    voice.make = good
    speak(stage, conversation, 1, 2)
    wait(lambda: stage.own_words and stage.own_words[-1] == "First. And then second.")
    if fault != "nothing":
        assert any(level is Level.ERROR and text for level, text in stage.logged)


def test_text_is_made_speakable_and_cut_where_sentences_end():
    assert speakable("**Hello** 🙂, _you_ `there`\u0007!") == "Hello , you there !"
    assert speakable("🙂🙂 ...") == ""
    assert speakable("שלום, مرحبا") == "שלום, مرحبا"
    cutter = SentenceCutter(1000)
    assert cutter.push("It costs 3") == []
    assert cutter.push(".14 euros. Well") == ["It costs 3.14 euros."]
    assert cutter.push(', good! "Yes." ') == ["Well, good!", '"Yes."']
    assert cutter.push("And the rest") == []
    assert cutter.flush() == ["And the rest"]
    assert SentenceCutter(1000).push("This is a first sentence of some length, which goes on") == [
        "This is a first sentence of some length,"
    ]
