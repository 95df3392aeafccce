"""Dyads of the user's own video recordings: faces by the perception package, voices by ffmpeg.

Either two files, one a person, which start at the same instant; or one file with the two people side by side,
as calls are recorded, with one voice in each of two channels. Speaker 1 is the first file, or the left half.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.motion_file import MotionTrack
from timar_common.pcm import int16_to_float
from timar_common.units import Samples, frames_of, samples_of
from timar_perception.config import PerceptionConfig
from timar_perception.landmarks import Landmarker
from timar_perception.video_motion import PersonInVideo, VideoMotion, track_video

from .dyads import SPEAKERS, Clip, write_motion, write_voice

FloatArray = npt.NDArray[np.float32]
Log = Callable[[str], None]

MOST_OF_SEVERAL = 0.05
"""More images than this share with several faces are of several people."""
FEW_SEEN = 0.5
SAME_VOICE_DB = -30.0
"""Channels whose difference is so much quieter than they are hold the same sound."""
LENGTHS_DIFFER_S = 0.5


@dataclasses.dataclass(frozen=True)
class _Side:
    """One person of a conversation."""

    track: MotionTrack
    voice: FloatArray


def convert_video(
    files: Sequence[Path],
    clip: Clip,
    config: PerceptionConfig | None = None,
    log: Log = lambda message: None,
    progress: Callable[[str], Callable[[int, int], None]] = lambda text: lambda done, total: None,
    make_landmarker: Callable[[], Landmarker] | None = None,
) -> float:
    """Write a conversation as a clip of dyads.

    Args:
        files: One video with two people side by side, or two with one person each.
        clip: Where to.
        config: Of face tracking.
        log: Called with what was noticed.
        progress: Called with the name of a file; returns what is called with (images done, all).
        make_landmarker: Makes what finds faces; MediaPipe unless given.

    Returns:
        Its length [s].

    Raises:
        FileExistsError: The clip exists.
        ValueError: The files are not what was expected; the message says which and what to do.
        RuntimeError: ffmpeg or MediaPipe is missing.
    """
    if len(files) not in (1, 2):
        raise ValueError(f"{len(files)} videos were given, expected one with both people or one a person")
    for path in (clip.voice_path(1), clip.voice_path(2), clip.motion_path(1), clip.motion_path(2)):
        if path.exists():
            raise FileExistsError(f"{path} exists already; give another --name or remove it")
    # Before the faces, for sound takes a moment and images take minutes.
    sounds = [_read_sound(path, channels=1 if len(files) == 2 else 2) for path in files]
    if len(files) == 1:
        _require_two_voices(files[0], sounds[0])
    sides: list[_Side] = []
    for path, sound in zip(files, sounds, strict=True):
        shown = track_video(path, sound.shape[1], config, make_landmarker, progress(path.name))
        _log_timing(path, shown, len(sound) / SAMPLE_RATE_HZ, log)
        where = ("its left half", "its right half") if len(files) == 1 else ("it",)
        for person, voice, part in zip(shown.people, sound.T, where, strict=True):
            _check_person(path, person, part, log)
            sides.append(_Side(person.track, voice))
    frames = frames_of(Samples(min(len(side.voice) for side in sides)))
    clip.folder.mkdir(parents=True, exist_ok=True)
    for speaker, side in zip(SPEAKERS.values(), sides, strict=True):
        write_voice(clip.voice_path(speaker), side.voice[: samples_of(frames)])
        write_motion(clip.motion_path(speaker), side.track.fitted_to(frames))
    return samples_of(frames) / SAMPLE_RATE_HZ


def _check_person(path: Path, person: PersonInVideo, part: str, log: Log) -> None:
    if person.several > MOST_OF_SEVERAL:
        raise ValueError(
            f"{path}: {part} shows up to {person.most_faces} faces at once, several in {person.several:.0%} "
            "of the images, expected one person; give one file a person, or one with a person in each half"
        )
    if person.seen == 0.0:
        raise ValueError(f"{path}: {part} shows no face that can be tracked; expected one, lit from ahead")
    if person.seen < FEW_SEEN:
        log(f"{path}: in {part} the head is seen in {person.seen:.0%} of the time alone")


def _log_timing(path: Path, shown: VideoMotion, sound_s: float, log: Log) -> None:
    if shown.has_variable_rate:
        usual, longest = shown.interval_ms
        log(
            f"{path} has a variable frame rate ({usual:.0f} ms from image to image, up to {longest:.0f}): "
            "each image counts at its own time"
        )
    if abs(sound_s - shown.seconds) > LENGTHS_DIFFER_S:
        log(f"{path} has {shown.seconds:.1f} s of images and {sound_s:.1f} s of sound; the shorter counts")


def _require_two_voices(path: Path, sound: FloatArray) -> None:
    loud = float(np.square(sound, dtype=np.float64).mean())
    apart = float(np.square(np.diff(sound, axis=1), dtype=np.float64).mean())
    if apart <= loud * 10 ** (SAME_VOICE_DB / 10):
        raise ValueError(
            f"{path} has the same sound in both channels, expected one voice in each; give one file a person"
        )


def _read_sound(path: Path, channels: int) -> FloatArray:
    """Return the sound (n, channels) of a video at 16 kHz, from the video's start.

    Raises:
        ValueError: It has none, or another number of channels than two where both voices are expected.
        RuntimeError: ffmpeg is not installed.
    """
    if shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None:
        raise RuntimeError("ffmpeg is not installed, which reads the sound of videos; apt install ffmpeg")
    if not path.is_file():
        raise FileNotFoundError(f"there is no video {path}")
    asked = ["-select_streams", "a", "-show_entries", "stream=channels", "-of", "json"]
    streams = json.loads(_run(["ffprobe", "-v", "error", *asked, f"file:{path}"], path)).get("streams", [])
    if not streams:
        raise ValueError(f"{path} has no sound, expected the voice of who is seen; record it with the images")
    found = int(streams[0].get("channels", 0))
    if channels == 2 and found != 2:
        raise ValueError(
            f"{path} has {found} channel(s) of sound, expected two with one voice in each; "
            "give one file a person"
        )
    # Sound that begins later than the images is preceded by silence.
    decode = ["-map", "0:a:0", "-af", "aresample=async=1:first_pts=0", "-ac", str(channels)]
    decode += ["-ar", str(SAMPLE_RATE_HZ), "-f", "s16le", "-"]
    raw = np.frombuffer(_run(["ffmpeg", "-v", "error", "-i", f"file:{path}", *decode], path), np.int16)
    if not raw.any():
        raise ValueError(f"{path} is silent throughout, expected the voice of who is seen")
    return int16_to_float(raw.reshape(-1, channels))


def _run(command: list[str], path: Path) -> bytes:
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise ValueError(
            f"{path} cannot be read as a video: {lines[-1] if lines else command[0] + ' failed'}"
        )
    return done.stdout
