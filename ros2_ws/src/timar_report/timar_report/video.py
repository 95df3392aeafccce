"""Renders a recorded conversation as a video: the head as its joints stood, and both voices."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from timar_bag.bag import BagReader
from timar_bag.conversation import read_conversation
from timar_bag.voice import SILENCE_DBFS, decibels
from timar_common.atomic import replacing_file
from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.pcm import FULL_SCALE

from timar_report.head_picture import BACKGROUND_RGB, HeadPainter

RATE_HZ = 25
SIZE_PX = (480, 520)
LEVELS_PX = 24
"""Height of both voices' levels, below the head [px]."""
BLUE_RGB, ORANGE_RGB = (0, 114, 178), (230, 159, 0)
"""Of the user's level and the head's, as in the pictures of a report."""
FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".webm": "webm"}
"""ffmpeg's formats by the file's ending."""
OTHER_SIDE = 0.5
"""How loud each voice is on the other's side: the user is heard more on the left, the head on the right."""


def check_video(path: Path) -> None:
    """Refuse a file that no video could be written to.

    Raises:
        ValueError: Its ending is none of `FORMATS`.
        FileNotFoundError: ffmpeg is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path} ends in {path.suffix!r}, expected one of {', '.join(FORMATS)}")
    if shutil.which("ffmpeg") is None:
        raise FileNotFoundError("ffmpeg is not installed, which writes videos; sudo apt-get install ffmpeg")


def save_video(bag: Path, urdf: Path, path: Path, size_px: tuple[int, int] = SIZE_PX) -> float:
    """Write a bag's conversation as a video, whole or not at all; return its length [s].

    Args:
        bag: A bag with user/audio_raw (or user/audio), agent/audio and joint_states.
        urdf: The robot.
        path: The file; its ending says the format (`FORMATS`).
        size_px: Width and height, even numbers [px].

    Raises:
        FileNotFoundError: There is no bag, no robot, or no ffmpeg.
        ValueError: The bag has no voice or no joints, or the format is unknown.
        RuntimeError: ffmpeg failed.
    """
    check_video(path)
    conversation = read_conversation(bag)
    clock, joints = conversation.raw_user_voice, conversation.states.joints
    if clock is None or not joints:
        raise ValueError(f"{bag} has no {'voice' if clock is None else 'joint positions'}, expected a talk")
    first, end = int(clock.block_first_sample[0]), clock.end_sample
    user_topic = "user/audio_raw" if "user/audio_raw" in conversation.voices else "user/audio"
    user, head = _sounds(bag, (user_topic, "agent/audio"), first, end)
    places = np.arange(0, end - first, SAMPLE_RATE_HZ // RATE_HZ)
    times_ns = clock.time_ns(first + places)
    # Doubles cannot hold nanoseconds since 1970 exactly, so everything is relative to the first picture.
    tracks = {
        name: np.interp(times_ns - times_ns[0], curve.time_ns - times_ns[0], curve.position_rad)
        for name, curve in joints.items()
    }
    painter = HeadPainter(urdf, (size_px[0], size_px[1] - LEVELS_PX))

    def pictures() -> Iterator[bytes]:
        for index, place in enumerate(places):
            picture = Image.new("RGB", size_px, BACKGROUND_RGB)
            picture.paste(painter.image({name: float(track[index]) for name, track in tracks.items()}))
            _draw_levels(picture, [voice[place : place + places[1]] for voice in (user, head)])
            yield picture.tobytes()

    with replacing_file(path, is_private=True) as scratch, tempfile.TemporaryDirectory() as folder:
        sound = Path(folder, "voices.wav")
        _write_sound(sound, user, head)
        command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"]
        command += ["-s", f"{size_px[0]}x{size_px[1]}", "-r", str(RATE_HZ), "-i", "-", "-i", str(sound)]
        _feed([*command, "-pix_fmt", "yuv420p", "-f", FORMATS[path.suffix.lower()], str(scratch)], pictures())
    return (end - first) / SAMPLE_RATE_HZ


def _sounds(bag: Path, topics: Sequence[str], first: int, end: int) -> list[npt.NDArray[np.int16]]:
    """Return the samples [first, end) of each voice; silence where there is none."""
    sounds = {topic: np.zeros(end - first, np.int16) for topic in topics}
    with BagReader(bag) as reader:
        for topic, _, message in reader.messages(topics):
            begin = int(message.first_sample) - first
            samples = np.asarray(message.samples, np.int16)[max(0, -begin) :]
            room = sounds[topic][max(0, begin) :][: samples.size]
            room[:] = samples[: room.size]
    return list(sounds.values())


def _write_sound(path: Path, user: npt.NDArray[np.int16], head: npt.NDArray[np.int16]) -> None:
    """Write both voices as stereo."""
    left, right = (near + OTHER_SIDE * far for near, far in ((user, head), (head, user)))
    stereo = np.stack([left, right], 1) / (1.0 + OTHER_SIDE)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(stereo.astype("<i2").tobytes())


def _draw_levels(picture: Image.Image, voices: Sequence[npt.NDArray[np.int16]]) -> None:
    """Draw a bar for each voice at the bottom of a picture."""
    draw, (width, height) = ImageDraw.Draw(picture), picture.size
    for row, (voice, color) in enumerate(zip(voices, (BLUE_RGB, ORANGE_RGB), strict=True)):
        power = float(np.mean(np.square(voice / FULL_SCALE))) if voice.size else 0.0
        share = 1.0 - float(decibels(np.array([power]))[0]) / SILENCE_DBFS
        top = height - LEVELS_PX + row * LEVELS_PX // 2
        draw.rectangle((0, top, round(share * width), top + LEVELS_PX // 2 - 2), fill=color)


def _feed(command: Sequence[str], parts: Iterable[bytes]) -> None:
    """Run a program, fed with bytes.

    Raises:
        RuntimeError: It failed.
    """
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said) as program:
            assert program.stdin is not None
            # A program that has ended says why.
            with contextlib.suppress(BrokenPipeError):
                for part in parts:
                    program.stdin.write(part)
                program.stdin.close()
        if program.returncode:
            said.seek(0)
            raise RuntimeError(f"{command[0]} failed: {said.read().decode(errors='replace').strip()}")
