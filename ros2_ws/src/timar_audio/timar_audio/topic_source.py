"""Audio source that is another node's topic: unnumbered messages, lost ones detected by time."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from timar_common.clock import NS_PER_S, SAMPLE_RATE_HZ, SAMPLES_PER_MS, SampleClock
from timar_common.resample import ToConversationRate, pick_channel

from timar_audio.external_audio import ExternalAudio
from timar_audio.sources import Sound

_READ_LIMIT_S = 0.1
_MOST_WAITING = 500
_PERSISTS = 3
"""So many messages in a row, each in its time, must be late until sound counts as lost: one alone was only
held up, and those that waited behind it come all at once."""
_LATE_SHARE = 0.6
"""And each by at least so much of its own length."""
_OLDEST_NS = 5 * NS_PER_S
"""A stamp further than this from when its message came is of another clock, and is left out [ns]."""


class TopicSource:
    """Sound that another node publishes, as if a microphone heard it.

    The messages have no numbers, so a lost one is known by time alone: when what follows stays late by most
    of a message's length. Its length in silence is put in by capture, as for every source.

    Args:
        topic: Its name, for the log.
        channel: Which channel, counted from 0; -1 mixes all.
        vanished_after_ms: When it brings nothing for so long it counts as gone [ms].
        first_sound_within_ms: So long it may take to its first message [ms].
        clock: Machine time [ns]; replaced in tests.
    """

    def __init__(
        self,
        topic: str,
        channel: int,
        vanished_after_ms: int,
        first_sound_within_ms: int,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.dropped = 0
        """Messages that were not read in time and dropped, the oldest first."""
        self.odd_stamps = 0
        """Messages whose stamp cannot be true; when they came counts instead."""
        self.name = f"topic {topic!r}"
        """As messages call it."""
        self.remedy = "is its node running?"
        self._channel = channel
        self._vanished_after_ns = vanished_after_ms * 1_000_000
        self._first_sound_within_ns = first_sound_within_ms * 1_000_000
        self._clock = clock
        self._waiting: collections.deque[tuple[ExternalAudio, int]] = collections.deque()
        """Messages, and when the last sample of each was heard or it came [ns]."""
        self._has_come = threading.Condition()
        self._heard_ns = 0
        self._was_open = self._is_replaced = False
        self._rate_hz = 0
        self._resampler = ToConversationRate(SAMPLE_RATE_HZ)
        self._start_counting()

    def push(self, sound: ExternalAudio, first_ns: int | None, arrived_ns: int) -> None:
        """Take a message in; from any thread.

        Args:
            sound: Its sound.
            first_ns: When its first sample was heard by its stamp, CLOCK_MONOTONIC [ns]; None without stamp.
            arrived_ns: When it came [ns].
        """
        end_ns = arrived_ns if first_ns is None else first_ns + round(sound.duration_s * NS_PER_S)
        if abs(end_ns - arrived_ns) > _OLDEST_NS:
            self.odd_stamps += 1
            end_ns = arrived_ns
        with self._has_come:
            if len(self._waiting) >= _MOST_WAITING:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append((sound, end_ns))
            self._has_come.notify()

    def begin_anew(self) -> None:
        """Take what comes now for the sound of another sender: `read` reports that the first one is gone."""
        with self._has_come:
            self._waiting.clear()
            self._is_replaced = bool(self._frames)

    def open(self) -> str:
        """Begin to count; after sound has stopped, only when it comes again."""
        with self._has_come:
            if self._was_open and not self._waiting:
                raise OSError(f"{self.name} still brings no sound")
        self._was_open, self._is_replaced = True, False
        self._heard_ns = self._clock()
        self._start_counting()
        return f"{self.name} as microphone"

    def read(self) -> list[Sound]:
        """Wait for at most a tenth of a second and return what came.

        Raises:
            OSError: Nothing came for too long, or the sound has no such channel (any more).
        """
        with self._has_come:
            self._has_come.wait_for(lambda: bool(self._waiting), timeout=_READ_LIMIT_S)
            arrived = list(self._waiting)
            self._waiting.clear()
            if self._is_replaced:
                raise OSError(f"{self.name} was opened anew")
        now_ns = self._clock()
        if arrived:
            self._heard_ns = now_ns
            try:
                return [sound for message in arrived for sound in self._sounds(*message)]
            except ValueError as error:
                raise OSError(f"{self.name}: {error}") from error
        patience_ns = self._vanished_after_ns if self._frames else self._first_sound_within_ns
        if now_ns - self._heard_ns > patience_ns:
            raise OSError(
                f"{self.name} brought no sound for {(now_ns - self._heard_ns) / NS_PER_S:.1f} s; "
                f"{self.remedy}"
            )
        return []

    def close(self) -> None:
        """Forget what waits."""
        with self._has_come:
            self._waiting.clear()

    def _start_counting(self) -> None:
        self._frames = 0.0
        self._given = 0
        self._late: collections.deque[tuple[float, int]] = collections.deque(maxlen=_PERSISTS)
        self._tracked = SampleClock()
        self._lost = 0.0

    def _sounds(self, sound: ExternalAudio, heard_ns: int) -> list[Sound]:
        sounds = []
        if sound.rate_hz != self._rate_hz:
            if self._rate_hz:  # The sender goes on at another rate: nothing of what it sent before is lost.
                begin_ns = heard_ns - round(sound.duration_s * NS_PER_S)
                sounds.append(Sound(self._flush(sound.rate_hz), self._frames, begin_ns))
            self._rate_hz = sound.rate_hz
            self._resampler = ToConversationRate(sound.rate_hz)
        length = sound.samples.shape[0] * SAMPLE_RATE_HZ / sound.rate_hz
        lost = 0
        if sound.lost_frames:
            tail = self._flush(sound.rate_hz)
            sounds.append(Sound(tail, self._frames, heard_ns - round(sound.duration_s * NS_PER_S)))
            self._frames += sound.lost_frames * SAMPLE_RATE_HZ / sound.rate_hz
            lost = max(0, round(self._frames) - self._given)
            self._given += lost
        has_lost = self._has_lost(length, heard_ns)
        end_ns = heard_ns
        if self._late:  # perhaps only held up: until that is known the sender's own clock is believed
            end_ns = self._tracked.monotonic_ns(round(self._frames + self._lost + length))
        if has_lost:
            tail = self._flush(sound.rate_hz)
            sounds.append(Sound(tail, self._frames, end_ns - round(length * NS_PER_S / SAMPLE_RATE_HZ)))
        self._frames += length
        samples = self._resampler.push(pick_channel(sound.samples, self._channel))
        self._given += samples.size
        sounds.append(Sound(samples, self._frames, end_ns, has_overflowed=has_lost, lost_samples=lost))
        return sounds

    def _flush(self, rate_hz: int) -> npt.NDArray[np.int16]:
        """Return what the resampler still holds of the sound before a hole, and begin again after it."""
        tail = self._resampler.push(np.zeros(0, np.float32), is_last=True)
        self._resampler = ToConversationRate(rate_hz)
        self._given += tail.size
        return tail

    def _has_lost(self, length: float, end_ns: int) -> bool:
        """Follow the sender's clock, and tell whether a message before this one was lost."""
        counted = round(self._frames + self._lost + length)
        length_ms = 1000 * length / SAMPLE_RATE_HZ
        late_ms = 0.0
        if self._tracked.is_started:
            late_ms = (end_ns - self._tracked.monotonic_ns(counted)) / 1e6
        if late_ms <= _LATE_SHARE * length_ms:
            self._late.clear()
            self._tracked.observe(counted, end_ns)
            return False
        self._late.append((late_ms, end_ns))
        took_ms = (end_ns - self._late[0][1]) / 1e6
        if len(self._late) < _PERSISTS or took_ms < 0.9 * (_PERSISTS - 1) * length_ms:
            return False
        self._lost += min(late_ms for late_ms, _ in self._late) * SAMPLES_PER_MS
        self._late.clear()
        return True
