"""One bot's utterances on their way to playback: buffered, handed on in order, and reported as heard.

A bot sends an utterance as fast as it can; playback takes a minute of speech at most. So a bot's speech waits
here, and little more of it goes on than will be heard in the next seconds. No I/O, no threads, no clock.
"""

from __future__ import annotations

import collections
import dataclasses
import enum

import numpy as np
import numpy.typing as npt

from timar_websocket.protocol import (
    OUTCOMES,
    USER_RATE_HZ,
    DoneMessage,
    FromHead,
    HeardMessage,
    Outcome,
    SpeakMessage,
    StartedMessage,
)

NS_PER_S = 1_000_000_000
WINDOW_S = 5.0
"""So much speech may be with playback and unheard [s]."""
CHUNK_S = 0.5
"""Longest piece that is handed on at once [s]."""
MAX_BUFFERED_S = 600.0
"""So much of one bot's speech may wait here [s]."""
MAX_UTTERANCES = 100
GIVEN_UP_AFTER_NS = 2 * NS_PER_S
"""An utterance of which playback tells nothing for so long has failed: its process is gone [ns]."""


@dataclasses.dataclass(frozen=True)
class OpenUtterance:
    """Send a goal of `speak`."""

    utterance_id: str
    rate_hz: int


@dataclasses.dataclass(frozen=True)
class HandOn:
    """Publish a piece of speech on `agent/speech`."""

    utterance_id: str
    rate_hz: int
    samples: npt.NDArray[np.int16]
    """(n,), one channel."""
    is_last: bool


@dataclasses.dataclass(frozen=True)
class CancelUtterance:
    """Cancel a goal of `speak`."""

    utterance_id: str


Step = OpenUtterance | HandOn | CancelUtterance | FromHead
"""What is to be done: for the head, or a message for the bot."""


class _State(enum.Enum):
    WAITING = 0
    OPENING = 1
    OPEN = 2


class _BotUtterance:
    """One utterance: what was not handed on yet, and how far it is heard."""

    def __init__(self, utterance_id: str, message: SpeakMessage) -> None:
        self.id = utterance_id
        self.name = message.id
        self.rate_hz = message.sample_rate
        self.channels = message.channels
        self.hold_ns = round(message.hold_s * NS_PER_S)
        self.state = _State.WAITING
        self.is_complete = False
        """Whether all of its sound has come."""
        self.is_handed_on = False
        """Whether playback has its last piece."""
        self.is_dropped = False
        """Whether it is to be cancelled as soon as playback knows it."""
        self.sent = 0.0
        """How much playback was given, at 16 kHz [samples]."""
        self.heard = 0
        """At 16 kHz [samples]."""
        self.first_ns = 0
        """When its first sound came [ns]."""
        self.sign_ns = 0
        """When playback last told something of it [ns]."""
        self._pieces: collections.deque[npt.NDArray[np.int16]] = collections.deque()
        self._waiting = 0

    @property
    def waiting_s(self) -> float:
        """How much waits here [s]."""
        return self._waiting / self.rate_hz

    def append(self, samples: npt.NDArray[np.int16], now_ns: int) -> None:
        self.first_ns = self.first_ns or now_ns
        self._pieces.append(samples)
        self._waiting += samples.size

    def take(self, most: int) -> npt.NDArray[np.int16]:
        """Return up to so many samples, and forget them."""
        taken: list[npt.NDArray[np.int16]] = []
        while self._pieces and most > 0:
            piece = self._pieces.popleft()
            if piece.size > most:
                self._pieces.appendleft(piece[most:])
                piece = piece[:most]
            taken.append(piece)
            most -= piece.size
            self._waiting -= piece.size
        return np.concatenate(taken) if taken else np.zeros(0, np.int16)


class SpeechRelay:
    """Hand a bot's utterances on in order, no faster than they are heard, and tell the bot what was heard.

    Every method returns what is to be done. Each utterance ends with exactly one `DoneMessage`.

    Args:
        prefix: Of the ids that playback sees; no two relays share one.
    """

    def __init__(self, prefix: str) -> None:
        self.late_bytes = 0
        """Sound that came for an utterance that was over."""
        self._prefix = prefix
        self._begun = 0
        self._utterances: collections.deque[_BotUtterance] = collections.deque()
        self._incoming: _BotUtterance | None = None
        self._is_receiving = False
        self._wanted: float | None = None
        """How much playback takes, at 16 kHz, as it said last, less what it got since [samples]."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is said and nothing waits."""
        return not self._utterances

    # From the bot.

    def begin(self, message: SpeakMessage, now_ns: int) -> list[Step]:
        """Begin an utterance, and end the one before it if the bot has not."""
        steps = self.end(now_ns)
        if len(self._utterances) >= MAX_UTTERANCES:
            self._is_receiving, self._incoming = True, None
            reason = f"{len(self._utterances)} utterances wait already, at most {MAX_UTTERANCES} may"
            return [*steps, DoneMessage(message.id, "failed", 0.0, reason)]
        self._begun += 1
        self._incoming = _BotUtterance(f"{self._prefix}-{self._begun}", message)
        self._is_receiving = True
        self._utterances.append(self._incoming)
        return steps

    def append(self, pcm: bytes, now_ns: int) -> list[Step]:
        """Take sound of the utterance begun last; sound of one that is over is left out and counted.

        Raises:
            ValueError: No utterance was begun, or these are not whole 16-bit samples of its channels.
        """
        if not self._is_receiving:
            raise ValueError("sound came outside an utterance; send a message of type speak first")
        utterance = self._incoming
        if utterance is None:
            self.late_bytes += len(pcm)
            return []
        if len(pcm) % (2 * utterance.channels):
            raise ValueError(
                f"a binary message holds {len(pcm)} bytes, expected a multiple of {2 * utterance.channels}: "
                f"16-bit samples of {utterance.channels} channels"
            )
        samples = np.frombuffer(pcm, "<i2").astype(np.int16, copy=False)
        if utterance.channels > 1:
            mean = samples.reshape(-1, utterance.channels).mean(axis=1, dtype=np.float32)
            samples = np.rint(mean).astype(np.int16)
        if samples.size:
            utterance.append(samples, now_ns)
        if sum(waiting.waiting_s for waiting in self._utterances) > MAX_BUFFERED_S:
            return self._fail(utterance, f"more than {MAX_BUFFERED_S:.0f} s of speech wait to be said")
        return self._hand_on(now_ns)

    def end(self, now_ns: int) -> list[Step]:
        """Take an utterance as complete."""
        self._is_receiving = False
        if self._incoming is None:
            return []
        utterance, self._incoming = self._incoming, None
        utterance.is_complete = True
        if not utterance.first_ns:  # without any sound there is nothing to be heard
            return [self._finish(utterance, "finished")]
        return self._hand_on(now_ns)

    def clear(self, now_ns: int) -> list[Step]:
        """Stop everything; what playback does not know yet is over at once."""
        self._is_receiving = False
        self._incoming = None
        steps: list[Step] = []
        for utterance in list(self._utterances):
            if utterance.state is _State.WAITING:
                steps.append(self._finish(utterance, "canceled"))
            else:
                steps += self._drop(utterance, now_ns)
        return steps

    # From playback.

    def on_accepted(self, utterance_id: str, now_ns: int) -> list[Step]:
        """Learn that playback waits for an utterance's sound."""
        utterance = self._find(utterance_id)
        if utterance is None:
            return [CancelUtterance(utterance_id)]
        utterance.state, utterance.sign_ns = _State.OPEN, now_ns
        if utterance.is_dropped:
            return [CancelUtterance(utterance_id)]
        return self._hand_on(now_ns)

    def on_refused(self, utterance_id: str, reason: str, now_ns: int) -> list[Step]:
        """Learn that playback does not take an utterance."""
        utterance = self._find(utterance_id)
        if utterance is None:
            return []
        return [self._finish(utterance, "failed", reason), *self._hand_on(now_ns)]

    def on_feedback(self, utterance_id: str, heard: int, wanted: int, now_ns: int) -> list[Step]:
        """Learn how much of an utterance was heard, and how much more playback takes, at 16 kHz [samples]."""
        utterance = self._find(utterance_id)
        if utterance is None:
            return []
        utterance.sign_ns = now_ns
        self._wanted = wanted
        return [*self._tell_heard(utterance, heard), *self._hand_on(now_ns)]

    def on_result(self, utterance_id: str, outcome: int, heard: int, message: str, now_ns: int) -> list[Step]:
        """Learn how an utterance ended; an interruption ends what waits as well."""
        utterance = self._find(utterance_id)
        if utterance is None:
            return []
        steps: list[Step] = [*self._tell_heard(utterance, heard)]
        steps.append(self._finish(utterance, OUTCOMES[outcome], message))  # type: ignore[arg-type]
        if OUTCOMES[outcome] == "interrupted":
            for other in list(self._utterances):
                if other.state is _State.WAITING:
                    steps.append(self._finish(other, "interrupted"))
                elif other.state is _State.OPENING:
                    steps += self._drop(other, now_ns)
        return [*steps, *self._hand_on(now_ns)]

    def tick(self, now_ns: int) -> list[Step]:
        """Give up what playback has said nothing of for too long, and hand on what was held."""
        steps: list[Step] = []
        for utterance in list(self._utterances):
            if utterance.state is not _State.WAITING and now_ns - utterance.sign_ns > GIVEN_UP_AFTER_NS:
                reason = f"playback gave no sign for {GIVEN_UP_AFTER_NS / NS_PER_S:.0f} s; does it run?"
                steps += self._fail(utterance, reason)
        return [*steps, *self._hand_on(now_ns)]

    # Parts.

    def _hand_on(self, now_ns: int) -> list[Step]:
        steps: list[Step] = []
        for utterance in self._utterances:
            if utterance.is_handed_on or utterance.is_dropped:
                continue
            if utterance.state is _State.WAITING:
                if not utterance.first_ns or now_ns - utterance.first_ns < utterance.hold_ns:
                    break
                utterance.state, utterance.sign_ns = _State.OPENING, now_ns
                steps.append(OpenUtterance(utterance.id, utterance.rate_hz))
            if utterance.state is _State.OPENING:
                break
            steps += self._pieces_of(utterance)
            if not utterance.is_handed_on:
                break  # the next one's turn comes when this one is with playback
        return steps

    def _pieces_of(self, utterance: _BotUtterance) -> list[Step]:
        steps: list[Step] = []
        while (room := self._room()) >= 1.0:
            most = min(CHUNK_S, room / USER_RATE_HZ) * utterance.rate_hz
            samples = utterance.take(max(1, int(most)))
            is_last = utterance.is_complete and not utterance.waiting_s
            if not (samples.size or is_last):
                break
            size = samples.size * USER_RATE_HZ / utterance.rate_hz
            utterance.sent += size
            if self._wanted is not None:
                self._wanted -= size
            utterance.is_handed_on = is_last
            steps.append(HandOn(utterance.id, utterance.rate_hz, samples, is_last))
            if is_last:
                break
        return steps

    def _room(self) -> float:
        unheard = sum(utterance.sent - utterance.heard for utterance in self._utterances)
        room = WINDOW_S * USER_RATE_HZ - unheard
        return room if self._wanted is None else min(room, self._wanted)

    def _tell_heard(self, utterance: _BotUtterance, heard: int) -> list[Step]:
        if heard <= utterance.heard:
            return []
        is_first = utterance.heard == 0
        utterance.heard = heard
        heard_s = heard / USER_RATE_HZ
        told = HeardMessage(utterance.name, heard_s)
        return [StartedMessage(utterance.name, heard_s), told] if is_first else [told]

    def _drop(self, utterance: _BotUtterance, now_ns: int) -> list[Step]:
        """Cancel an utterance that playback knows, or will know soon; its result tells the bot."""
        utterance.is_dropped = True
        utterance.sign_ns = now_ns
        return [CancelUtterance(utterance.id)] if utterance.state is _State.OPEN else []

    def _fail(self, utterance: _BotUtterance, reason: str) -> list[Step]:
        is_known = utterance.state is _State.OPEN
        done = self._finish(utterance, "failed", reason)
        return [CancelUtterance(utterance.id), done] if is_known else [done]

    def _finish(self, utterance: _BotUtterance, outcome: Outcome, message: str = "") -> DoneMessage:
        self._utterances.remove(utterance)
        if self._incoming is utterance:
            self._incoming = None  # what still comes of it is left out
        return DoneMessage(utterance.name, outcome, utterance.heard / USER_RATE_HZ, message)

    def _find(self, utterance_id: str) -> _BotUtterance | None:
        return next((utterance for utterance in self._utterances if utterance.id == utterance_id), None)
