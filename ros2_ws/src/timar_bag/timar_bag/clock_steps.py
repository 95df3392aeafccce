"""Takes steps of the recorder's clock out of a bag's times of arrival, by the sample counter of its sound.

Without this a clock that was set forward a day while it was recorded makes a day of silence.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterator

from timar_common.clock import NOMINAL_NS_PER_SAMPLE, NS_PER_S

from timar_bag.recovery import RawMessage

STEP_BACK_NS = NS_PER_S // 2
"""Messages of one recorder arrive by no more than this out of order [ns]."""
STEP_FORWARD_NS = 5 * NS_PER_S
"""Two messages in a row that are further apart are a step, unless the sound's counter went on as far [ns]."""
NOMINAL_GAP_NS = 20_000_000
"""What a step is replaced by where no sound tells more [ns]."""
LOOKED_AHEAD = 2000
"""So many messages are read ahead for the next sound."""

SoundRange = Callable[[RawMessage], "tuple[int, int] | None"]
"""Returns the range [first, end) of samples that a message of sound holds; None for another message."""


class ClockSteps:
    """Corrects times of arrival; `issues` says what was done.

    A time that leaves its neighbours and comes back is a wrong stamp: the message takes its predecessor's.

    Args:
        sound_range: Reads the counter of a message of sound.
    """

    def __init__(self, sound_range: SoundRange) -> None:
        self._sound_range = sound_range
        self._offset_ns = 0
        self._last_ns: int | None = None
        self._heard: dict[str, tuple[RawMessage, int]] = {}
        """The newest message of sound by topic, and its corrected time [ns]."""
        self._standing_ns: int | None = None
        """The recorder's time at which its clock stands still."""
        self._steps: list[int] = []
        self._stood_ns = 0
        self._wrong_stamps = 0

    def issues(self) -> list[str]:
        """Return what was wrong with the recorder's clock; complete when all was read."""
        found = []
        if self._steps:
            told = ", ".join(f"{step / NS_PER_S:+.1f} s" for step in self._steps[:5])
            more = ", …" if len(self._steps) > 5 else ""
            found.append(f"the recorder's clock stepped ({told}{more}); time went on without it")
        if self._stood_ns:
            found.append(
                f"the recorder's clock stood still for {self._stood_ns / NS_PER_S:.1f} s; the sound's "
                "counter counts instead"
            )
        if self._wrong_stamps:
            found.append(
                f"{self._wrong_stamps} times of arrival cannot be true; the message before counts instead"
            )
        return found

    def steady(self, messages: Iterator[RawMessage], is_sound: Callable[[str], bool]) -> Iterator[RawMessage]:
        """Yield messages with corrected times, in their order.

        Args:
            messages: As recorded.
            is_sound: Whether a topic's messages have a counter.
        """
        ahead: collections.deque[RawMessage] = collections.deque()
        while ahead or (ahead := collections.deque(itertools.islice(messages, 1))):
            message = ahead.popleft()
            if self._last_ns is None:
                ahead.extend(itertools.islice(messages, 2))
                message = self._first(message, ahead)
            at_ns = message.receive_ns + self._offset_ns
            if self._stands_still(message, ahead, messages, is_sound):
                at_ns = self._while_standing(message)
            elif self._last_ns is not None and self._is_apart(at_ns):
                if len(ahead) < 2:
                    ahead.extend(itertools.islice(messages, 2))
                if self._is_alone(ahead):
                    self._wrong_stamps += 1
                    at_ns = self._last_ns
                else:
                    ahead.extend(itertools.islice(messages, max(0, LOOKED_AHEAD - len(ahead))))
                    at_ns = self._step(message, ahead, is_sound)
            self._last_ns = at_ns if self._last_ns is None else max(self._last_ns, at_ns)
            if is_sound(message.topic):
                self._heard[message.topic] = message, at_ns
            yield message._replace(receive_ns=at_ns)

    def _stands_still(
        self,
        message: RawMessage,
        ahead: collections.deque[RawMessage],
        messages: Iterator[RawMessage],
        is_sound: Callable[[str], bool],
    ) -> bool:
        """Return whether the clock stays at a message's time while more sound comes than a burst holds."""
        if message.receive_ns == self._standing_ns:
            return True
        self._standing_ns = None
        if message.topic not in self._heard or not is_sound(message.topic):
            return False
        before, _ = self._heard[message.topic]
        if before.receive_ns != message.receive_ns:
            return False
        begin, newest = self._sound_range(before), message
        for following in itertools.chain(list(ahead), _kept(messages, ahead)):
            if following.receive_ns != message.receive_ns:
                break
            newest = following if following.topic == message.topic else newest
        end = self._sound_range(newest)
        if begin is None or end is None or (end[1] - begin[1]) * NOMINAL_NS_PER_SAMPLE < STEP_BACK_NS:
            return False
        self._standing_ns = message.receive_ns
        return True

    def _while_standing(self, message: RawMessage) -> int:
        """Return a time that goes on as far as the sound does."""
        assert self._last_ns is not None
        if message.topic not in self._heard:
            return self._last_ns
        before, before_ns = self._heard[message.topic]
        old, new = self._sound_range(before), self._sound_range(message)
        if old is None or new is None or new[1] <= old[1]:
            return self._last_ns
        at_ns = max(before_ns + round((new[1] - old[1]) * NOMINAL_NS_PER_SAMPLE), self._last_ns)
        self._stood_ns += at_ns - self._last_ns
        return at_ns

    def _first(self, message: RawMessage, ahead: collections.deque[RawMessage]) -> RawMessage:
        """Return the bag's first message, at its successor's time where two of these agree without it."""
        if len(ahead) < 2 or not _are_apart(message.receive_ns, ahead[0].receive_ns):
            return message
        if _are_apart(ahead[0].receive_ns, ahead[1].receive_ns):
            return message
        self._wrong_stamps += 1
        return message._replace(receive_ns=ahead[0].receive_ns)

    def _is_apart(self, at_ns: int) -> bool:
        assert self._last_ns is not None
        return _are_apart(self._last_ns, at_ns)

    def _is_alone(self, ahead: collections.deque[RawMessage]) -> bool:
        """Return whether one of the next two messages goes on where the last one was."""
        following = itertools.islice(ahead, 2)
        return any(not self._is_apart(message.receive_ns + self._offset_ns) for message in following)

    def _step(
        self, message: RawMessage, ahead: collections.deque[RawMessage], is_sound: Callable[[str], bool]
    ) -> int:
        """Return the corrected time of the first message after a step."""
        assert self._last_ns is not None
        at_ns = message.receive_ns + self._offset_ns
        wanted_ns = self._last_ns + NOMINAL_GAP_NS
        sounds = (m for m in (message, *ahead) if is_sound(m.topic) and m.topic in self._heard)
        if (sound := next(sounds, None)) is not None:
            before, before_ns = self._heard[sound.topic]
            old, new = self._sound_range(before), self._sound_range(sound)
            if old is not None and new is not None and new[1] >= old[1]:
                passed_ns = round((new[1] - old[1]) * NOMINAL_NS_PER_SAMPLE)
                true_ns = max(before_ns + passed_ns - (sound.receive_ns - message.receive_ns), self._last_ns)
                if abs(at_ns - true_ns) <= STEP_FORWARD_NS:
                    return at_ns  # nothing was recorded for so long, and the sound's counter knows
                wanted_ns = true_ns
        self._steps.append(at_ns - wanted_ns)
        self._offset_ns += wanted_ns - at_ns
        return wanted_ns


def _kept(messages: Iterator[RawMessage], ahead: collections.deque[RawMessage]) -> Iterator[RawMessage]:
    """Yield as many further messages as are looked ahead for, and keep them."""
    for message in itertools.islice(messages, max(0, LOOKED_AHEAD - len(ahead))):
        ahead.append(message)
        yield message


def _are_apart(before_ns: int, after_ns: int) -> bool:
    return not -STEP_BACK_NS <= after_ns - before_ns <= STEP_FORWARD_NS
