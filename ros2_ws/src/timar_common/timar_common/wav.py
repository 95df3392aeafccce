"""Reading and writing of sound files: any rate, sample format and number of channels, as 16 kHz mono int16.

A file is judged as a whole when it is opened: what is wrong with its header, scale, channels or level is said
before an hour of work is spent on it, and nothing that cannot be meant is read as something else in silence.

`soundfile` (libsndfile) parses the files: it is in the run-time lock already and reads µ-law, A-law and
24-bit samples, which scipy or the standard library refuse.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from types import TracebackType

import numpy as np
import numpy.typing as npt
import soundfile

from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.resample import MIX, ToConversationRate, pick_channel
from timar_common.wav_header import WavHeader

RATES_HZ = (4_000, 384_000)
"""Sampling rates that sound has; a header that says another is damaged [Hz]."""
INTEGER_SCALES = (2.0**15, 2.0**23, 2.0**31)
"""Full scale of float samples that somebody wrote without dividing by it."""
_TOO_LARGE = 4.0
"""Float samples above this (12 dB over full scale) are in an integer's scale."""
_LOST_IN_MIX = 0.1
"""Channels whose mean is so much quieter than the loudest of them cancel each other."""
_CLIPPED_SHARE, _OFFSET, _QUIET = 1e-3, 0.05, 1e-3
_BLOCK = 1 << 18


class SoundFile:
    """A sound file, open from the start to its end, read forward in 16 kHz samples.

    Args:
        path: A WAV file, or any other that libsndfile reads.
        channel: Which channel, counted from 0; -1 mixes all.
        is_judged: Look at all samples (half a second for an hour); without, only rate and length are right.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is empty, holds no sound, is not a sound file, or lacks the channel.
    """

    def __init__(self, path: str | pathlib.Path, channel: int = MIX, *, is_judged: bool = True) -> None:
        self.path = pathlib.Path(path)
        self.warnings: list[str] = []
        self.samples_not_finite = 0
        """How many samples read so far were not finite numbers; they are silence."""
        self._require_bytes()
        header = WavHeader(self.path)
        self._file = self._open(header)
        self._frames: int = self._file.frames
        self._scale, self._channel = 1.0, channel
        try:
            self._check(channel, header)
            if is_judged:
                self._scale, self._channel = self._judge(channel)
        except ValueError:
            self._file.close()
            raise
        if is_judged:
            self._file.close()
            self._file = self._open(header)  # Not every kind of file can be wound back.
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
    def channels(self) -> int:
        """How many channels the file has."""
        return int(self._file.channels)

    @property
    def duration_s(self) -> float:
        """How long the file plays [s]."""
        return self._frames / self._file.samplerate

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
            if (wrong := ~np.isfinite(data)).any():
                self.samples_not_finite += int(wrong.sum())
                data[wrong] = 0.0
            mono = pick_channel(data if self._scale == 1.0 else data / self._scale, self._channel)
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

    def _cut_short(self, promised: str, there: str, frames: int) -> None:
        self._frames = frames
        self.warnings.append(
            f"{self.path} is cut short: its header promises {promised} and {there} are there; "
            f"the {self.duration_s:.2f} s that are there will be used"
        )

    def _open(self, header: WavHeader) -> soundfile.SoundFile:
        source = str(self.path) if header.data_bytes is None else header.open(self.path)
        try:
            return soundfile.SoundFile(source)
        except (soundfile.LibsndfileError, TypeError) as error:
            # TypeError: by its name the file is headerless sound.
            reason = getattr(error, "error_string", "headerless sound, of unknown rate and format").strip()
            raise ValueError(
                f"{self.path} is not a sound file that can be read ({reason}); expected a WAV file, for "
                "example 16-bit PCM"
            ) from error

    def _check(self, channel: int, header: WavHeader) -> None:
        if self._file.frames == 0:
            raise ValueError(f"{self.path} holds no sound (0 samples); expected a WAV file with sound in it")
        if not RATES_HZ[0] <= self._file.samplerate <= RATES_HZ[1]:
            raise ValueError(
                f"{self.path} says that it has {self._file.samplerate} samples a second, expected "
                f"{RATES_HZ[0]} to {RATES_HZ[1]}; its header is damaged"
            )
        if channel >= self._file.channels:
            pick_channel(np.zeros((1, self._file.channels), np.float32), channel)
        promised, there = header.promised_bytes, self.path.stat().st_size
        if promised is not None and there < promised:
            self._cut_short(f"{promised} bytes", f"{there}", self._file.frames)
        if header.warning:
            self.warnings.append(header.warning)

    def _judge(self, channel: int) -> tuple[float, int]:
        """Look at all samples; return what to divide them by, and which channel to take.

        Raises:
            ValueError: They lie in no scale that sound has.
        """
        channels = self._file.channels
        frames, peak, not_finite, at_full_scale = 0, 0.0, 0, 0
        power, total, mix_power = np.zeros(channels), np.zeros(channels), 0.0
        for data in self._blocks():
            frames += len(data)
            if not np.isfinite(data).all():
                not_finite += int((~np.isfinite(data)).sum())
                data = np.nan_to_num(data, nan=0.0, posinf=0.0, neginf=0.0)
            peak = max(peak, float(np.abs(data).max(initial=0.0)))
            at_full_scale += int((np.abs(data) >= 1.0 - 2.0**-14).sum())
            power += np.square(data, dtype=np.float64).sum(axis=0)
            total += data.sum(axis=0, dtype=np.float64)
            mix_power += float(np.square(data.mean(axis=1, dtype=np.float64)).sum())
        if frames < self._file.frames:
            self._cut_short(f"{self._file.frames} samples", f"{frames}", frames)
        samples = frames * channels
        if not_finite:
            self.warnings.append(
                f"{self.path} holds {not_finite} samples that are not finite numbers, of {samples}; they are "
                "silence"
            )
        scale = 1.0
        if peak > _TOO_LARGE:
            scale = next((full for full in INTEGER_SCALES if peak <= full), 0.0)
            if not scale:
                raise ValueError(
                    f"{self.path} holds samples up to {peak:.3g}, expected numbers from -1 to 1; export it "
                    "again"
                )
            self.warnings.append(
                f"{self.path} holds float samples up to {peak:.6g}; full scale is taken to be {scale:.0f}"
            )
        elif at_full_scale > _CLIPPED_SHARE * samples:
            share = 100 * at_full_scale / samples
            self.warnings.append(f"{self.path} is clipped: {share:.1f} % of its samples are at full scale")
        if channel == MIX and mix_power < _LOST_IN_MIX**2 * power.max():
            channel = int(power.argmax())
            self.warnings.append(
                f"{self.path} has {channels} channels that cancel each other when mixed; channel {channel} "
                "is taken"
            )
        self._warn_of_level(
            np.sqrt(power.max() / frames) / scale,
            np.abs(total).max() / frames / scale,
        )
        return scale, channel

    def _blocks(self) -> Iterator[npt.NDArray[np.float32]]:
        try:
            while len(data := self._file.read(_BLOCK, dtype="float32", always_2d=True)):
                yield data
        except soundfile.LibsndfileError as error:
            raise ValueError(
                f"{self.path} is damaged ({error.error_string.strip()}); export it again"
            ) from error

    def _warn_of_level(self, rms: float, offset: float) -> None:
        if rms == 0.0:
            self.warnings.append(f"{self.path} holds nothing but silence")
        elif rms < _QUIET:
            self.warnings.append(f"{self.path} is very quiet: {20 * np.log10(rms):.0f} dB below full scale")
        if offset > _OFFSET:
            self.warnings.append(f"{self.path} has an offset of {offset:.2f} of full scale beside its sound")


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
