"""Reading and writing of WAV files: any rate, sample format and number of channels, as 16 kHz mono int16.

`soundfile` (libsndfile) parses the files: it is in the run-time lock already and reads µ-law, A-law and
24-bit samples, which scipy or the standard library refuse.
"""

from __future__ import annotations

import pathlib
import struct
from types import TracebackType

import numpy as np
import numpy.typing as npt
import soundfile

from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.resample import MIX, ToConversationRate, pick_channel

_STREAMED_SIZES = (0, 0xFFFFFFFF)
"""What programs that write into a pipe leave in the header for 'unknown'."""


class SoundFile:
    """A sound file, open from the start to its end, read forward in 16 kHz samples.

    Args:
        path: A WAV file, or any other that libsndfile reads.
        channel: Which channel, counted from 0; -1 mixes all.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is empty, holds no sound, is not a sound file, or lacks the channel.
    """

    def __init__(self, path: str | pathlib.Path, channel: int = MIX) -> None:
        self.path = pathlib.Path(path)
        self.warnings: list[str] = []
        self.samples_not_finite = 0
        """How many samples read so far were not finite numbers; they are silence."""
        self._require_bytes()
        try:
            self._file = soundfile.SoundFile(str(self.path))
        except soundfile.LibsndfileError as error:
            raise ValueError(
                f"{self.path} is not a sound file that can be read ({error.error_string.strip()}); "
                "expected a WAV file, for example 16-bit PCM"
            ) from error
        try:
            self._check(channel)
        except ValueError:
            self._file.close()
            raise
        self._channel = channel
        self._resampler = ToConversationRate(self._file.samplerate)
        self._ready: npt.NDArray[np.int16] = np.zeros(0, np.int16)
        self._is_drained = False

    def __enter__(self) -> SoundFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def rate_hz(self) -> int:
        """The file's own rate [Hz]."""
        return int(self._file.samplerate)

    @property
    def duration_s(self) -> float:
        """How long the file plays [s]."""
        return self._file.frames / self._file.samplerate

    @property
    def samples(self) -> int:
        """About how many 16 kHz samples it holds, exact to one [samples]."""
        return round(self.duration_s * SAMPLE_RATE_HZ)

    def description(self) -> str:
        """Return name, length, rate, channels and depth as one line for the log."""
        file = self._file
        return (
            f"{self.path.name}: {self.duration_s:.2f} s, {file.samplerate} Hz, "
            f"{file.channels} channel{'s' if file.channels > 1 else ''}, {file.subtype}"
        )

    def read(self, samples: int) -> npt.NDArray[np.int16]:
        """Return the next samples, fewer at the end of the file and none after it.

        Args:
            samples: How many are wanted, > 0.
        """
        while self._ready.size < samples and not self._is_drained:
            # A second at once: small reads would cost more than all other work of a file.
            data = self._file.read(self._file.samplerate, dtype="float32", always_2d=True)
            self._is_drained = len(data) < self._file.samplerate
            self.samples_not_finite += int((~np.isfinite(data)).sum())
            mono = pick_channel(data, self._channel)
            self._ready = np.concatenate([self._ready, self._resampler.push(mono, is_last=self._is_drained)])
        taken, self._ready = self._ready[:samples], self._ready[samples:]
        return taken

    def read_all(self) -> npt.NDArray[np.int16]:
        """Return the rest of the file.

        Raises:
            ValueError: It holds a sample that is not a finite number.
        """
        pieces = []
        while (piece := self.read(SAMPLE_RATE_HZ)).size:
            pieces.append(piece)
        if self.samples_not_finite:
            raise ValueError(
                f"{self.path} holds {self.samples_not_finite} samples that are not finite numbers, expected "
                "numbers from -1 to 1; export it again"
            )
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int16)

    def skip(self, samples: int) -> None:
        """Move forward without keeping what lies between [samples]."""
        while samples > 0:
            skipped = self.read(min(samples, SAMPLE_RATE_HZ)).size
            if not skipped:
                return
            samples -= skipped

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _require_bytes(self) -> None:
        if not self.path.exists():
            raise FileNotFoundError(f"there is no sound file {self.path}; give the path of a WAV file")
        if not self.path.is_file():
            raise ValueError(f"{self.path} is not a file; give the path of a WAV file")
        if self.path.stat().st_size == 0:
            raise ValueError(f"{self.path} is empty (0 bytes); expected a WAV file with sound in it")

    def _check(self, channel: int) -> None:
        if self._file.frames == 0:
            raise ValueError(f"{self.path} holds no sound (0 samples); expected a WAV file with sound in it")
        if channel >= self._file.channels:
            pick_channel(np.zeros((1, self._file.channels), np.float32), channel)
        promised, there = self._promised_bytes(), self.path.stat().st_size
        if promised is not None and there < promised:
            self.warnings.append(
                f"{self.path} is cut short: its header promises {promised} bytes and {there} are there; "
                f"the {self.duration_s:.2f} s that are there will be used"
            )

    def _promised_bytes(self) -> int | None:
        """Return the size a RIFF header gives for the whole file, None when it gives none."""
        with self.path.open("rb") as file:
            head = file.read(12)
        if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return None
        size: int = struct.unpack("<I", head[4:8])[0]
        return None if size in _STREAMED_SIZES else size + 8


class SoundWriter:
    """A 16 kHz WAV file that grows; it reads at any time, also when the writer was killed.

    Raises:
        OSError: It cannot be written there.
    """

    def __init__(self, path: str | pathlib.Path) -> None:
        try:
            self._file = soundfile.SoundFile(str(path), "w", SAMPLE_RATE_HZ, 1, "PCM_16", format="WAV")
        except soundfile.LibsndfileError as error:
            raise OSError(
                f"{path} cannot be written ({error.error_string.strip()}); give a path in an existing folder"
            ) from error
        self._unsaved = 0

    def write(self, samples: npt.NDArray[np.int16]) -> None:
        """Add samples at the end."""
        self._file.write(samples)
        self._unsaved += samples.size
        if self._unsaved >= SAMPLE_RATE_HZ:
            self._file.flush()
            self._unsaved = 0

    def close(self) -> None:
        """Write the rest and close the file."""
        self._file.close()


def read_wav(path: str | pathlib.Path) -> npt.NDArray[np.int16]:
    """Return a whole sound file as (n,) int16, 16 kHz mono.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: As of `SoundFile`, or a sample is not a finite number.
    """
    with SoundFile(path) as file:
        return file.read_all()


def write_wav(path: str | pathlib.Path, samples: npt.NDArray[np.int16]) -> None:
    """Write (n,) int16 samples as a 16 kHz mono WAV file.

    Raises:
        OSError: It cannot be written there.
    """
    file = SoundWriter(path)
    file.write(samples)
    file.close()
