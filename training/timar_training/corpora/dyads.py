"""Recorded dyads on disk: pairs of voice (WAV) and motion (npz) in the DualTalk file format.

A clip ``NAME`` is up to four files: ``NAME_speaker1.wav`` and ``NAME_speaker2.wav``, and beside each, when
that side's motion is known, ``NAME_speakerN.npz`` (`timar_common.motion_file`). Speaker 1 is the user.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from timar_common import motion_file
from timar_common.clock import FRAMES_PER_SECOND, SAMPLE_RATE_HZ
from timar_common.motion_file import MotionTrack, write_motion
from timar_common.pcm import float_to_int16, int16_to_float
from timar_common.units import Frames, Samples, frames_of, samples_of
from timar_common.wav import read_wav, write_wav

from .motion_forms import rate_by_length

__all__ = ["Clip", "Dyad", "load_dyad", "read_motion", "read_voice", "write_motion", "write_voice"]

FloatArray = npt.NDArray[np.float32]

USER_SPEAKER = 1
AGENT_SPEAKER = 2
SPEAKERS = {"user": USER_SPEAKER, "agent": AGENT_SPEAKER}


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
        return self._path(speaker, "wav")

    def motion_path(self, speaker: int) -> Path:
        """Return the motion file of speaker 1 or 2, whether or not it exists."""
        return self._path(speaker, "npz")

    def _path(self, speaker: int, suffix: str) -> Path:
        in_files = USER_SPEAKER + AGENT_SPEAKER - speaker if self.is_swapped else speaker
        return self.folder / f"{self.name}_speaker{in_files}.{suffix}"


@dataclasses.dataclass(frozen=True)
class Dyad:
    """One clip in memory, both sides on one frame grid."""

    name: str
    user_voice: FloatArray
    """(640 T,) 16 kHz."""
    agent_voice: FloatArray
    """(640 T,)."""
    user_motion: MotionTrack
    """(T, 56); unseen frames are not valid."""
    agent_motion: MotionTrack | None
    """The ground truth; None where it was not recorded."""

    @property
    def frames(self) -> Frames:
        """T."""
        return frames_of(Samples(len(self.agent_voice)))

    def without_user_motion(self) -> Dyad:
        """Return it with the user unseen."""
        return dataclasses.replace(self, user_motion=MotionTrack.unseen(self.frames))


def load_dyad(clip: Clip, seconds: float | None = None) -> Dyad:
    """Read a clip, or its first seconds; the longer voice is cut.

    Raises:
        BadClipError: A file cannot be read.
    """
    user, agent = (read_voice(clip.voice_path(speaker)) for speaker in SPEAKERS.values())
    seen, truth = (
        _motion_beside(clip.motion_path(speaker), len(voice))
        for speaker, voice in zip(SPEAKERS.values(), (user, agent), strict=True)
    )
    frames = frames_of(Samples(min(len(user), len(agent))))
    if seconds is not None:
        frames = min(frames, frames_of(Samples(int(seconds * SAMPLE_RATE_HZ))))
    return Dyad(
        clip.name,
        user[: samples_of(frames)],
        agent[: samples_of(frames)],
        MotionTrack.unseen(frames) if seen is None else seen.fitted_to(frames),
        None if truth is None else truth.fitted_to(frames),
    )


def _motion_beside(path: Path, samples: int) -> MotionTrack | None:
    """Read the motion beside a voice of so many samples; None where there is none.

    Raises:
        BadClipError: It cannot be read, or by its length it has another rate than 25 frames a second.
    """
    if not path.is_file():
        return None
    track = read_motion(path)
    rate_hz = rate_by_length(len(track.vector), samples / SAMPLE_RATE_HZ)
    if rate_hz != FRAMES_PER_SECOND:
        raise BadClipError(
            f"{path} holds {len(track.vector)} frames for {samples / SAMPLE_RATE_HZ:.2f} s of sound, as if "
            f"there were {rate_hz:.5g} a second, expected {FRAMES_PER_SECOND}; "
            "`timar data check FOLDER --fix NEW` converts a folder"
        )
    return track


def require_folder(folder: Path) -> None:
    """Raise BadClipError when a folder of dyads does not exist."""
    if not folder.is_dir():
        raise BadClipError(
            f"{folder} is not a folder; give one that holds NAME_speaker1.wav and NAME_speaker2.wav"
        )


def find_clips(folder: Path) -> list[Clip]:
    """Return the clips of a folder that have both voices, sorted by name.

    Raises:
        BadClipError: The folder does not exist or holds no complete pair of voices.
    """
    require_folder(folder)
    ends = [f"_speaker{speaker}.wav" for speaker in SPEAKERS.values()]
    users, agents = ({path.name[: -len(end)] for path in folder.glob("*" + end)} for end in ends)
    if not users & agents:
        raise BadClipError(
            f"{folder} holds no pair NAME_speaker1.wav and NAME_speaker2.wav; run `timar data check`"
        )
    return [Clip(name, folder) for name in sorted(users & agents)]


def with_motion(clips: Sequence[Clip]) -> list[Clip]:
    """Return the clips whose agent has motion."""
    return [clip for clip in clips if clip.motion_path(AGENT_SPEAKER).is_file()]


def read_split(folder: Path, split: str) -> list[Clip]:
    """Return the clips a file list ``FOLDER/SPLIT.txt`` names, one clip name a line, in its order.

    Raises:
        BadClipError: There is no such list, it is empty, or it names a clip that is not there.
    """
    path = folder / f"{split}.txt"
    if not path.is_file():
        raise BadClipError(f"{path} does not exist; a split is a file list with one clip name a line")
    clips = [Clip(line.strip(), folder) for line in path.read_text("utf-8").splitlines() if line.strip()]
    if not clips:
        raise BadClipError(f"{path} names no clip; expected one clip name a line")
    for clip in clips:
        for voice in map(clip.voice_path, SPEAKERS.values()):
            if not voice.is_file():
                raise BadClipError(f"{path} names {clip.name}, but {voice} does not exist")
    return clips


def read_voice(path: Path) -> FloatArray:
    """Return a recording as (n,) float32 in [-1, 1), mono, 16 kHz, as the running head does.

    Raises:
        BadClipError: The file is no sound file, is empty, or holds a number that is not finite.
    """
    with bad_clip():
        return int16_to_float(read_wav(path))


def write_voice(path: Path, samples: FloatArray) -> None:
    """Write (n,) samples in [-1, 1] as 16 kHz, 16-bit WAV."""
    write_wav(path, float_to_int16(samples))


def read_motion(path: Path) -> MotionTrack:
    """Return a motion file as vectors in our order.

    Raises:
        BadClipError: A key is missing, a shape is wrong, or a number is not finite.
    """
    with bad_clip():
        return motion_file.read_motion(path)


@contextlib.contextmanager
def bad_clip() -> Iterator[None]:
    """Raise as BadClipError what a reader has against a file."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise BadClipError(str(error)) from error
