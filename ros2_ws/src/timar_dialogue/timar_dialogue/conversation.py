"""A conversation: the user's speech turns become words, the words an answer, the answer speech of the head.

Two threads: one recognises while the user still speaks, one answers. The head itself is reached by `Head`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import threading
import time
import uuid
from collections.abc import Callable, Generator
from typing import Protocol

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ, SAMPLES_PER_MS
from timar_common.diagnostics import Level, Percentiles, Report
from timar_common.stream import SampleStream

from timar_dialogue.config import DialogueConfig
from timar_dialogue.dialogues import Act, Dialogue, DialogueError, Heard
from timar_dialogue.recognisers import NoRecogniser, Recogniser, RecogniserError
from timar_dialogue.sentences import SentenceCutter
from timar_dialogue.voices import Speech, Voice, VoiceError, checked

LONGEST_TURN_S = 29
"""Of a longer turn the last so many seconds are understood [s]."""
LEAD_S = 0.2
"""Sound before a turn's first sample that is heard as well: soft beginnings [s]."""
PARTIAL_S = 0.4
"""While the head speaks, words are found so often: they tell an interruption from a back-channel [s]."""
WORDLESS_S = 0.6
"""A turn without words that is shorter is no question: a cough, a chair [s]."""


class AnswerOutcome(enum.IntEnum):
    """As in timar_msgs/Speak."""

    FINISHED = 0
    CANCELED = 1
    INTERRUPTED = 2
    FAILED = 3


class Intention(enum.IntEnum):
    """As in timar_msgs/AgentIntent, as far as a dialogue knows more than the rules."""

    LISTENING = 0
    THINKING = 1


class SpokenUtterance(Protocol):
    """What the head says under one id; the methods may wait."""

    def send(self, speech: Speech) -> bool:
        """Send more sound as soon as it is wanted; return False when the utterance is over."""

    def finish(self) -> tuple[AnswerOutcome, int]:
        """Say that this was all, and return how it ended and how much was heard [samples at 16 kHz]."""

    def cancel(self) -> tuple[AnswerOutcome, int]:
        """Withdraw it; else as `finish`."""


class Head(Protocol):
    """What a conversation asks of the head; called in the threads of the conversation."""

    def say(self, utterance_id: str) -> SpokenUtterance:
        """Begin an utterance."""

    def act(self, act: Act) -> None:
        """Make a gesture."""

    def intend(self, intention: Intention, hold_s: float) -> None:
        """Show what comes, for at most so long [s]."""

    def report_user_words(self, text: str, first_sample: int, end_sample: int, *, is_final: bool) -> None:
        """Publish what was understood of the user's sound [first_sample, end_sample)."""

    def report_own_words(self, text: str, samples: int) -> None:
        """Publish what was heard of an answer: its words, and how long it was [samples]."""

    def log(self, level: Level, text: str) -> None:
        """Write a line; never with what somebody said."""


@dataclasses.dataclass
class _Turn:
    """A speech turn of the user."""

    number: int
    first_sample: int
    end_sample: int | None = None
    """One past its last sample; None while it goes on."""
    ended_ns: int = 0
    words: str = ""
    """What was understood so far."""
    understood_sample: int = -1
    """Up to where."""
    wanted_sample: int = -1
    """Up to where it is to be understood."""


@dataclasses.dataclass(frozen=True)
class _Question:
    """What waits for an answer."""

    turn: int
    heard: Heard
    ended_ns: int


class Conversation:
    """Listen and answer.

    Args:
        config: Parameters.
        head: The head.
        make_recogniser: Makes the recogniser, which takes seconds: in a thread, before `is_ready`.
        dialogue: What answers.
        voice: What speaks.
    """

    def __init__(
        self,
        config: DialogueConfig,
        head: Head,
        make_recogniser: Callable[[], Recogniser],
        dialogue: Dialogue,
        voice: Voice,
    ) -> None:
        self.is_ready = False
        """Whether recogniser and voice have been warmed up."""
        self._config, self._head, self._make_recogniser = config, head, make_recogniser
        self._dialogue, self._voice = dialogue, voice
        self._session = uuid.uuid4().hex[:8]
        self._utterances = 0
        self._stream = SampleStream((LONGEST_TURN_S + 10) * SAMPLE_RATE_HZ)
        self._changed = threading.Condition()
        self._turn: _Turn | None = None
        self._silent_samples = 0
        self._question: _Question | None = None
        self._unanswered = ""
        """Words of a turn whose answer was not begun when the user went on."""
        self._is_speaking = self._is_closing = False
        self._counts = {"answers": 0, "failures": 0, "dropped_answers": 0}
        self._recognise_s, self._answer_s = Percentiles(256), Percentiles(256)
        self._problem = ""
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start both threads."""
        for work in (self._recognise_all, self._answer_all):
            self._threads.append(threading.Thread(target=work, name=work.__name__.strip("_"), daemon=True))
            self._threads[-1].start()

    def close(self, timeout_s: float = 3.0) -> None:
        """End both threads, the dialogue and the voice."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._dialogue.interrupt()
        for thread in self._threads:
            thread.join(timeout_s)
        self._dialogue.close()
        self._voice.close()

    # What the head hears; called in one thread.

    def hear(self, first_sample: int, samples: npt.NDArray[np.int16]) -> None:
        """Take the user's sound in.

        Raises:
            ValueError: Its place cannot be true.
        """
        with self._changed:
            self._stream.push(first_sample, samples)
            is_open = self._turn is not None and self._turn.end_sample is None
        if is_open and self._dialogue.hears_itself:
            self._dialogue.hear(samples)

    def restart(self) -> None:
        """Forget the sound and the turn at hand: the sample counter began again."""
        with self._changed:
            self._stream = SampleStream((LONGEST_TURN_S + 10) * SAMPLE_RATE_HZ)
            self._turn = self._question = None
        self._dialogue.interrupt()

    def start_turn(self, number: int, first_sample: int) -> None:
        """The user began to speak; an answer that was not begun waits for what he adds."""
        with self._changed:
            turn = self._turn = _Turn(number, max(0, first_sample - round(LEAD_S * SAMPLE_RATE_HZ)))
            self._silent_samples = 0
            earlier = self._read(turn.first_sample, self._stream.end_sample)
            if self._question is not None:
                self._withdraw(self._question)
                self._question = None
            is_making = not self._is_speaking
        if is_making:
            self._dialogue.interrupt()
        if self._dialogue.hears_itself and earlier.size:
            self._dialogue.hear(earlier)

    def observe_activity(self, end_sample: int, samples: int, *, is_voiced: bool) -> None:
        """Take in whether the user's voice is heard; in a pause, what he has said is understood ahead."""
        with self._changed:
            self._silent_samples = 0 if is_voiced else self._silent_samples + samples
            turn = self._turn
            if turn is None or turn.end_sample is not None or self._dialogue.hears_itself:
                return
            pause = self._config.pause_ms * SAMPLES_PER_MS
            is_pause = self._silent_samples >= pause > self._silent_samples - samples
            since = max(turn.first_sample + round(LEAD_S * SAMPLE_RATE_HZ), turn.wanted_sample)
            if is_pause or (self._is_speaking and end_sample - since >= PARTIAL_S * SAMPLE_RATE_HZ):
                turn.wanted_sample = end_sample
                self._changed.notify_all()

    def drop_turn(self, number: int) -> None:
        """It was a back-channel: it is not answered."""
        with self._changed:
            if self._turn is not None and self._turn.number == number:
                self._turn = None

    def end_turn(self, number: int, first_sample: int, end_sample: int) -> None:
        """The user has said what he wanted; it is answered, unless it was dropped."""
        with self._changed:
            if self._turn is None or self._turn.number != number:
                return
            turn = self._turn
            turn.end_sample, turn.ended_ns = end_sample, time.monotonic_ns()
            self._changed.notify_all()
        self._head.intend(Intention.THINKING, min(60.0, self._config.patience_s))

    def report(self) -> Report:
        """Return counts, times and what is wrong."""
        report = Report(values={"is_ready": self.is_ready, **self._counts})
        for name, times in (("recognise", self._recognise_s), ("answer_begins", self._answer_s)):
            summary = times.summary()
            if summary:
                report.values[f"{name}_p50_ms"] = round(1000 * summary["p50"])
                report.values[f"{name}_p95_ms"] = round(1000 * summary["p95"])
        if self._problem:
            report.worsen(Level.WARN, self._problem)
        return report

    # Recognition, in a thread of its own.

    def _recognise_all(self) -> None:
        recogniser: Recogniser = NoRecogniser()
        if not self._dialogue.hears_itself:
            try:
                recogniser = self._make_recogniser()
                recogniser.transcribe(np.zeros(SAMPLE_RATE_HZ, np.int16))
            except (RecogniserError, ValueError) as error:
                self._fail(f"{error}. The head hears that somebody speaks, and not what")
        with contextlib.suppress(VoiceError):  # It says so when it is needed.
            for _ in self._voice.synthesise("Hello."):
                pass
        self.is_ready = True
        if self._config.greeting:
            self._ask(_Question(-1, Heard("", np.zeros(0, np.int16)), time.monotonic_ns()))
        while (work := self._next_work()) is not None:
            turn, samples, end_sample, is_final = work
            self._recognise(recogniser, turn, samples, end_sample)
            if is_final:
                self._finish_turn(turn)

    def _next_work(self) -> tuple[_Turn, npt.NDArray[np.int16], int, bool] | None:
        """Wait for sound to be understood; return turn, sound, its end, whether it is all; or None."""
        with self._changed:
            while True:
                if self._is_closing:
                    return None
                turn = self._turn
                if turn is not None:
                    is_final = turn.end_sample is not None
                    end = turn.end_sample if turn.end_sample is not None else turn.wanted_sample
                    if is_final or end > turn.understood_sample:
                        if is_final:
                            self._turn = None
                        return turn, self._read(turn.first_sample, end), end, is_final
                self._changed.wait()

    def _recognise(
        self, recogniser: Recogniser, turn: _Turn, samples: npt.NDArray[np.int16], end_sample: int
    ) -> None:
        is_final = turn.end_sample is not None
        if turn.understood_sample < end_sample:
            began_s = time.monotonic()
            try:
                turn.words = recogniser.transcribe(samples)
            except RecogniserError as error:
                self._fail(str(error))
            turn.understood_sample = end_sample
            self._recognise_s.add(time.monotonic() - began_s)
        self._head.report_user_words(turn.words, turn.first_sample, turn.understood_sample, is_final=is_final)

    def _finish_turn(self, turn: _Turn) -> None:
        assert turn.end_sample is not None
        with self._changed:
            samples = self._read(turn.first_sample, turn.end_sample)
            text = f"{self._unanswered} {turn.words}".strip()
            self._unanswered = ""
        self._ask(_Question(turn.number, Heard(text, samples), turn.ended_ns))

    def _read(self, first_sample: int, end_sample: int) -> npt.NDArray[np.int16]:
        first_sample = max(first_sample, end_sample - LONGEST_TURN_S * SAMPLE_RATE_HZ)
        return self._stream.read(first_sample, end_sample)

    # Answers, in a thread of its own.

    def _ask(self, question: _Question) -> None:
        with self._changed:
            if self._question is not None:
                self._withdraw(self._question)
                question = dataclasses.replace(
                    question,
                    heard=question.heard._replace(text=f"{self._unanswered} {question.heard.text}".strip()),
                )
                self._unanswered = ""
            self._question = question
            self._changed.notify_all()

    def _withdraw(self, question: _Question) -> None:
        """Keep a question's words for the next one; it is not answered alone."""
        self._unanswered = f"{self._unanswered} {question.heard.text}".strip()
        self._counts["dropped_answers"] += 1

    def _answer_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._question is not None or self._is_closing)
                if self._is_closing:
                    return
                question, self._question = self._question, None
            assert question is not None
            try:
                self._answer(question)
            except Exception as error:  # The thread's edge: plugins of others must not silence the head.
                self._fail(f"the answer failed: {type(error).__name__}: {error}")
            finally:
                self._is_speaking = False

    def _pieces(self, heard: Heard, turn: int) -> Generator[str | Act | Speech, None, None]:
        if turn < 0:
            yield self._config.greeting
        elif heard.text or self._dialogue.hears_itself or self._config.llm_hears:
            yield from self._dialogue.answer(heard)
        elif heard.samples.size >= (WORDLESS_S + LEAD_S) * SAMPLE_RATE_HZ and self._config.not_understood:
            yield self._config.not_understood

    def _answer(self, question: _Question) -> None:
        speaker = _Speaker(self, question)
        problem = ""
        try:
            self._speak_pieces(question, speaker)
        except (DialogueError, VoiceError) as error:
            problem = str(error)
            self._fail(problem)
        finally:
            # Whatever a plugin raised, the mouth closes after what was said.
            speaker.end()
        if not problem:
            self._problem = ""

    def _speak_pieces(self, question: _Question, speaker: _Speaker) -> None:
        cutter = SentenceCutter(self._config.max_answer_chars)
        with contextlib.closing(self._pieces(question.heard, question.turn)) as pieces:
            for piece in pieces:
                if isinstance(piece, Act):
                    self._head.act(piece)
                elif isinstance(piece, Speech):
                    speaker.play(piece, "")
                else:
                    for sentence in cutter.push(piece):
                        speaker.speak(sentence)
                if speaker.is_over or cutter.is_full or self._is_withdrawn(question, speaker):
                    break
            for sentence in cutter.flush():
                speaker.speak(sentence)
        if cutter.is_full:
            self._head.log(Level.WARN, f"the answer is cut after {self._config.max_answer_chars} characters")

    def _is_withdrawn(self, question: _Question, speaker: _Speaker) -> bool:
        """Whether the user went on before the first sound of the answer: then it waits for what he adds."""
        with self._changed:
            if (
                speaker.has_begun
                or speaker.is_over
                or self._turn is None
                or self._turn.number == question.turn
            ):
                return False
            self._withdraw(question)
        speaker.is_over = True
        return True

    def _new_utterance(self) -> SpokenUtterance:
        self._utterances += 1
        self._is_speaking = True
        return self._head.say(f"dialogue-{self._session}-{self._utterances}")

    def _fail(self, problem: str) -> None:
        self._problem = problem
        self._counts["failures"] += 1
        self._head.log(Level.ERROR, problem)


class _Speaker:
    """One answer as an utterance: which of its samples are which words."""

    def __init__(self, conversation: Conversation, question: _Question) -> None:
        self._conversation, self._question = conversation, question
        self._utterance: SpokenUtterance | None = None
        self._parts: list[tuple[str, float]] = []
        """Each sentence's words and length [samples at 16 kHz]."""
        self.is_over = False

    @property
    def has_begun(self) -> bool:
        """Whether sound of the answer was sent."""
        return self._utterance is not None

    def speak(self, sentence: str) -> None:
        """Synthesise a sentence and send it.

        Raises:
            VoiceError: It cannot be synthesised.
        """
        if self.is_over or self._conversation._is_withdrawn(self._question, self):
            return
        words = sentence
        for speech in self._conversation._voice.synthesise(sentence):
            self.play(speech, words)
            words = ""
            if self.is_over:
                return

    def play(self, speech: Speech, words: str) -> None:
        """Send sound.

        Raises:
            VoiceError: It cannot be sound.
        """
        speech = checked(speech)
        if not speech.samples.size:
            return
        if self._utterance is None:
            self._conversation._answer_s.add((time.monotonic_ns() - self._question.ended_ns) * 1e-9)
            self._utterance = self._conversation._new_utterance()
        length = speech.samples.size * SAMPLE_RATE_HZ / speech.rate_hz
        if words or not self._parts:
            self._parts.append((words, length))
        else:
            self._parts[-1] = (self._parts[-1][0], self._parts[-1][1] + length)
        self.is_over = not self._utterance.send(speech)

    def end(self) -> None:
        """Wait for the end, and tell what was heard."""
        conversation = self._conversation
        if self._utterance is None:
            conversation._head.intend(Intention.LISTENING, 0.1)
            return
        outcome, samples = self._utterance.finish()
        is_whole = outcome is AnswerOutcome.FINISHED
        text = self.heard_text(samples, is_whole=is_whole)
        if self._question.turn >= 0:
            conversation._dialogue.was_heard(text, samples / SAMPLE_RATE_HZ, is_whole=is_whole)
        conversation._counts["answers"] += 1
        if outcome is AnswerOutcome.FAILED:
            conversation._fail(
                "the answer was not heard to its end: playback failed or is gone; its log says why"
            )
        conversation._head.report_own_words(text, samples)

    def heard_text(self, samples: int, *, is_whole: bool) -> str:
        """Return the words within the first samples; within a sentence in proportion to its length."""
        heard = []
        for words, length in self._parts:
            if is_whole or samples >= length:
                heard.append(words)
            else:
                letters = words[: int(len(words) * max(0, samples) / length) + 1]
                # The word at the cut was not heard whole.
                heard.append(letters.rpartition(" ")[0] if len(letters) < len(words) else letters)
            samples -= round(length)
        return " ".join(filter(None, heard))
