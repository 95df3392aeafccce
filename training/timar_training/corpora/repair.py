"""Copies of a folder of dyads in which everything that has one meaning is converted to our form."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.pcm import int16_to_float
from timar_common.units import Samples, frames_of
from timar_common.wav import SoundFile

from .check import holds_two_voices
from .dyads import (
    AGENT_SPEAKER,
    SPEAKERS,
    BadClipError,
    Clip,
    FloatArray,
    bad_clip,
    write_motion,
    write_voice,
)
from .motion_forms import inspect_motion
from .splits import RECORDINGS_FILE

MANIFEST_FILE = "manifest.json"


def repair_folder(
    folder: Path,
    target: Path,
    names: list[str],
    log: Callable[[str], None],
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write clips again: sound of 16 kHz with one voice a file, motion of 25 frames a second in radians.

    Args:
        folder: Holds NAME_speakerN.wav and .npz.
        target: Written to; must not exist or be empty.
        names: Of the clips.
        log: Called with a sentence for each clip that is left out.
        advance: Called with (done, total) after each clip.

    Returns:
        How many clips were written.

    Raises:
        BadClipError: The target holds something already.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BadClipError(f"{target} is not an empty folder; give one that does not exist yet")
    target.mkdir(parents=True, exist_ok=True)
    written = set()
    for done, name in enumerate(names, start=1):
        try:
            with bad_clip():
                _repair_clip(Clip(name, folder), Clip(name, target))
            written.add(name)
        except BadClipError as error:
            log(f"{name} is left out: {error}")
        advance(done, len(names))
    for path in sorted(folder.glob("*.txt")):
        kept = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip() in written]
        (target / path.name).write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    for name in (RECORDINGS_FILE, MANIFEST_FILE):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)
    return len(written)


def _repair_clip(clip: Clip, into: Clip) -> None:
    """Read all of a clip, then write it; the last file written is the voice without which it is no clip."""
    voices = {speaker: _one_voice(clip.voice_path(speaker), speaker) for speaker in SPEAKERS.values()}
    tracks = {}
    for speaker, voice in voices.items():
        path = clip.motion_path(speaker)
        if path.is_file():
            frames = frames_of(Samples(len(voice)))
            recorded, _ = inspect_motion(path, len(voice) / SAMPLE_RATE_HZ)
            tracks[speaker] = recorded.at_frame_rate().fitted_to(frames)
    for speaker, track in tracks.items():
        write_motion(into.motion_path(speaker), track)
    for speaker, voice in voices.items():
        write_voice(into.voice_path(speaker), voice)


def _one_voice(path: Path, speaker: int) -> FloatArray:
    """Read a voice; of a file with two, that of its speaker's side: the user's left, the agent's right."""
    if not path.is_file():
        raise BadClipError(f"{path.name} is missing")
    channel = (1 if speaker == AGENT_SPEAKER else 0) if holds_two_voices(path) else -1
    with SoundFile(path, channel) as file:
        return int16_to_float(file.read_all())
