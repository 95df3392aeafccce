"""Recorded dyads on disk: pairs of voice (WAV) and motion (npz) in the DualTalk file format.

A clip ``NAME`` is up to four files: ``NAME_speaker1.wav`` and ``NAME_speaker2.wav``, and beside each, when
that side's motion is known, ``NAME_speakerN.npz`` with

=========  ========  =====================================================================================
``exp``    (T, 50)   FLAME expression coefficients
``pose``   (T, 6)    axis-angle [rad]; **neck in [0:3], jaw in [3:6]**: the other way round than in our vector
``valid``  (T, 3)    optional, ours: which of expression, jaw and neck were seen; absent means all of them
=========  ========  =====================================================================================
"""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr
from scipy.io import wavfile
from timar_common.clock import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

EXPRESSION = slice(0, 50)
JAW = slice(50, 53)
NECK = slice(53, 56)
MOTION_SIZE = 56

USER_SPEAKER = 1
AGENT_SPEAKER = 2

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


class BadClipError(ValueError):
    """A clip on disk is not what the format promises; the message names file and remedy."""


@dataclasses.dataclass(frozen=True)
class Clip:
    """Where one dyad lies on disk."""

    name: str
    folder: Path
    is_swapped: bool = False
    """Whether the file's speaker 2 is taken for speaker 1, the user, and the other way round."""

    def swapped(self) -> Clip:
        """Return the same conversation with the roles swapped."""
        return dataclasses.replace(self, is_swapped=not self.is_swapped)

    def voice_path(self, speaker: int) -> Path:
        """Return the WAV file of speaker 1 or 2."""
        return self.folder / f"{self.name}_speaker{self._in_files(speaker)}.wav"

    def motion_path(self, speaker: int) -> Path:
        """Return the motion file of speaker 1 or 2, whether or not it exists."""
        return self.folder / f"{self.name}_speaker{self._in_files(speaker)}.npz"

    def _in_files(self, speaker: int) -> int:
        return USER_SPEAKER + AGENT_SPEAKER - speaker if self.is_swapped else speaker


@dataclasses.dataclass(frozen=True)
class Motion:
    """One side's motion."""

    vector: FloatArray
    """(T, 56) expression, jaw, neck; 0 where it is not valid."""
    valid: BoolArray
    """(T, 3) whether expression, jaw and neck of the frame were seen."""

    @classmethod
    def unseen(cls, frames: int) -> Motion:
        """Return the motion of a side nobody saw."""
        return cls(np.zeros((frames, MOTION_SIZE), np.float32), np.zeros((frames, 3), np.bool_))

    def fitted_to(self, frames: int) -> Motion:
        """Return it cut, or continued as unseen, to a number of frames."""
        if len(self.vector) >= frames:
            return Motion(self.vector[:frames], self.valid[:frames])
        rest = Motion.unseen(frames - len(self.vector))
        return Motion(np.concatenate([self.vector, rest.vector]), np.concatenate([self.valid, rest.valid]))


def find_clips(folder: Path) -> list[Clip]:
    """Return the clips of a folder that have both voices, sorted by name.

    Raises:
        BadClipError: The folder does not exist or holds no complete pair of voices.
    """
    if not folder.is_dir():
        raise BadClipError(
            f"{folder} is not a folder; give one that holds NAME_speaker1.wav and NAME_speaker2.wav"
        )
    ends = {speaker: f"_speaker{speaker}.wav" for speaker in (USER_SPEAKER, AGENT_SPEAKER)}
    names = [
        {path.name[: -len(end)] for path in folder.glob("*" + end)}
        for end in (ends[USER_SPEAKER], ends[AGENT_SPEAKER])
    ]
    both = sorted(names[0] & names[1])
    if not both:
        raise BadClipError(
            f"{folder} holds no pair NAME_speaker1.wav and NAME_speaker2.wav; run `timar data check`"
        )
    return [Clip(name, folder) for name in both]


def read_split(folder: Path, split: str) -> list[Clip]:
    """Return the clips a file list ``FOLDER/SPLIT.txt`` names, one clip name a line, in its order.

    Raises:
        BadClipError: There is no such list, it is empty, or it names a clip that is not there.
    """
    path = folder / f"{split}.txt"
    if not path.is_file():
        raise BadClipError(f"{path} does not exist; a split is a file list with one clip name a line")
    names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not names:
        raise BadClipError(f"{path} names no clip; expected one clip name a line")
    clips = [Clip(name, folder) for name in names]
    for clip in clips:
        for speaker in (USER_SPEAKER, AGENT_SPEAKER):
            if not clip.voice_path(speaker).is_file():
                raise BadClipError(f"{path} names {clip.name}, but {clip.voice_path(speaker)} does not exist")
    return clips


def read_voice(path: Path) -> FloatArray:
    """Return a recording as (n,) float32 in [-1, 1], mono, 16 kHz.

    Raises:
        BadClipError: The file is no WAV, is empty, or holds a number that is not finite.
    """
    rate_hz, samples = read_wav(path)
    if rate_hz != SAMPLE_RATE_HZ:
        samples = soxr.resample(samples, rate_hz, SAMPLE_RATE_HZ).astype(np.float32)
    return np.clip(samples, -1.0, 1.0)


def read_wav(path: Path) -> tuple[int, FloatArray]:
    """Return rate [Hz] and (n,) float32 samples of a WAV file, channels averaged, not resampled.

    Raises:
        BadClipError: As for `read_voice`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            rate_hz, raw = wavfile.read(path)
    except (ValueError, OSError, EOFError) as error:
        raise BadClipError(
            f"{path} cannot be read as WAV ({error}); expected PCM or float samples"
        ) from error
    if raw.size == 0:
        raise BadClipError(f"{path} holds no samples; record it again or leave the clip out")
    samples = _to_unit_range(raw)
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    if not np.isfinite(samples).all():
        raise BadClipError(f"{path} holds a sample that is not a finite number; export it again")
    return int(rate_hz), samples.astype(np.float32)


def _to_unit_range(raw: npt.NDArray) -> npt.NDArray[np.floating]:
    if raw.dtype == np.uint8:
        return (raw.astype(np.float32) - 128.0) / 128.0
    if np.issubdtype(raw.dtype, np.integer):
        return raw.astype(np.float32) / float(-np.iinfo(raw.dtype).min)
    return raw.astype(np.float32)


def write_voice(path: Path, samples: FloatArray) -> None:
    """Write (n,) samples in [-1, 1] as 16 kHz, 16-bit WAV."""
    wavfile.write(path, SAMPLE_RATE_HZ, np.round(np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16))


def read_motion(path: Path) -> Motion:
    """Return a motion file as vectors in our order.

    Raises:
        BadClipError: A key is missing, a shape is wrong, or a number is not finite.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (ValueError, OSError, EOFError) as error:
        raise BadClipError(f"{path} cannot be read as npz ({error}); expected arrays exp and pose") from error
    for key, width in (("exp", 50), ("pose", 6)):
        if key not in arrays:
            raise BadClipError(
                f"{path} has no array {key!r}, only {sorted(arrays)}; expected exp (T, 50), pose (T, 6)"
            )
        if arrays[key].ndim != 2 or arrays[key].shape[1] != width:
            raise BadClipError(f"{path}: {key} has the shape {arrays[key].shape}, expected (T, {width})")
        if not np.isfinite(arrays[key]).all():
            raise BadClipError(
                f"{path}: {key} holds a number that is not finite; mark the frames in `valid` instead"
            )
    expression, pose = arrays["exp"], arrays["pose"]
    if len(expression) != len(pose):
        raise BadClipError(
            f"{path}: exp has {len(expression)} frames but pose has {len(pose)}, expected the same"
        )
    valid = np.asarray(arrays.get("valid", np.ones((len(pose), 3))), np.bool_)
    if valid.shape != (len(pose), 3):
        raise BadClipError(f"{path}: valid has the shape {valid.shape}, expected ({len(pose)}, 3)")
    vector = np.concatenate([expression, pose[:, 3:6], pose[:, 0:3]], axis=1).astype(np.float32)
    vector[~valid[:, 0], EXPRESSION] = 0.0
    vector[~valid[:, 1], JAW] = 0.0
    vector[~valid[:, 2], NECK] = 0.0
    return Motion(vector, valid)


def write_motion(path: Path, motion: Motion) -> None:
    """Write motion in the DualTalk order, with our `valid` array."""
    pose = np.concatenate([motion.vector[:, NECK], motion.vector[:, JAW]], axis=1)
    np.savez_compressed(path, exp=motion.vector[:, EXPRESSION], pose=pose, valid=motion.valid)


def frames_of(samples: npt.NDArray) -> int:
    """Return how many whole frames a 16 kHz recording has."""
    return len(samples) // SAMPLES_PER_FRAME
