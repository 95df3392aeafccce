"""Audio sources: one interface for microphones and files.

A source hands out `Sound` as it comes and says what its own counter showed at which instant. Putting the
sound on the conversation clock is `timar_audio.capture`'s work.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt
from timar_common.clock import NS_PER_S, SAMPLE_RATE_HZ
from timar_common.wav import SoundFile

from timar_audio.capture_config import CaptureConfig


@dataclasses.dataclass(frozen=True)
class Sound:
    """A run of captured sound and one observation of its source's counter."""

    samples: npt.NDArray[np.int16]
    """(n,) at 16 kHz, one channel; n >= 0."""
    counter: float
    """How far the source has counted since it started, sound it still holds included [16 kHz samples]."""
    monotonic_ns: int
    """When its counter stood there, CLOCK_MONOTONIC [ns]."""
    has_overflowed: bool = False
    """Whether the source lost sound just before these samples, it cannot say how much."""
    lost_samples: int = 0
    """How much it knows that it lost just before these samples; `counter` counts it, too [samples]."""


class SoundSource(Protocol):
    """What capture asks of a microphone or a file. Used by one thread at a time."""

    def open(self) -> str:
        """Make ready to be read, and return one line that describes the source.

        Raises:
            OSError, ValueError: It cannot be opened; the message says why and what to do.
        """

    def read(self) -> list[Sound]:
        """Wait for at most about a tenth of a second and return what came, perhaps nothing.

        Raises:
            OSError: The source is gone.
        """

    def close(self) -> None:
        """Let the source go; safe more than once."""


class PacedFile:
    """A file's sound in blocks, each due when its last sample would have been captured.

    Args:
        file: Read forward; after its end follows silence.
        block_samples: Length of a block [samples].
        start_ns: When sample 0 begins, CLOCK_MONOTONIC [ns].
    """

    def __init__(self, file: SoundFile, block_samples: int, start_ns: int) -> None:
        self.has_ended = False
        """Whether silence has begun to follow the file."""
        self._file = file
        self._block = block_samples
        self._start_ns = start_ns
        self._taken = 0

    @property
    def next_due_ns(self) -> int:
        """When the next block is due, CLOCK_MONOTONIC [ns]; exact, so that nothing adds up."""
        return self._start_ns + (self._taken + self._block) * NS_PER_S // SAMPLE_RATE_HZ

    def take(self, monotonic_ns: int, limit: int = 50) -> list[Sound]:
        """Return the blocks due by now, all of them after a late call.

        Args:
            monotonic_ns: Now, CLOCK_MONOTONIC [ns].
            limit: At most so many at once; the rest comes with the next call.
        """
        sounds: list[Sound] = []
        while len(sounds) < limit and self.next_due_ns <= monotonic_ns:
            due_ns = self.next_due_ns
            samples = self._file.read(self._block)
            if samples.size < self._block:
                self.has_ended = True
                samples = np.concatenate([samples, np.zeros(self._block - samples.size, np.int16)])
            self._taken += self._block
            sounds.append(Sound(samples, float(self._taken), due_ns))
        return sounds


class FileSource:
    """A sound file as if a microphone heard it, in real time, followed by silence.

    Args:
        config: Which file and channel, and the length of a block.
        say: Called once with a sentence for the log when there is something to say.
        warn: Called with each thing that is wrong with the file when it is opened.
        clock, sleep: Machine time [ns] and waiting [s]; replaced in tests.
    """

    def __init__(
        self,
        config: CaptureConfig,
        say: Callable[[str], None],
        warn: Callable[[str], None],
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._config = config
        self._say, self._warn = say, warn
        self._clock, self._sleep = clock, sleep
        self._file: SoundFile | None = None
        self._paced: PacedFile | None = None
        self._has_said_end = False

    def open(self) -> str:
        """Open the file; it begins to play with the first `read`."""
        self._file = SoundFile(self._config.file, self._config.channel)
        for warning in self._file.warnings:
            self._warn(warning)
        return self._file.description()

    def read(self) -> list[Sound]:
        """Sleep until the next block is due and return it, with those missed meanwhile."""
        if self._file is None:
            raise OSError("the sound file is not open; call open() first")
        if self._paced is None:
            self._paced = PacedFile(self._file, self._config.block_samples, self._clock())
        self._sleep(max(0.0, (self._paced.next_due_ns - self._clock()) / NS_PER_S))
        sounds = self._paced.take(self._clock())
        if self._paced.has_ended and not self._has_said_end:
            self._has_said_end = True
            self._say(f"{self._file.path.name} ended after {self._file.duration_s:.2f} s; silence follows")
        return sounds

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        self._file = self._paced = None
