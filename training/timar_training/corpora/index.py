"""Index of a folder of dyads without loading it: lengths from headers, contents by fingerprint."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from timar_common.atomic import write_json
from timar_common.clock import FRAMES_PER_SECOND
from timar_common.wav import SoundFile

from .dyads import SPEAKERS, BadClipError, Clip, bad_clip, find_clips

CACHE_FOLDER = ".prepared"
"""Beside the clips: the index and prepared arrays."""
INDEX_FILE = "index.json"
FORMAT = 1
PIECE_BYTES = 32_768
_PARSING = threading.Lock()
"""numpy reads a header by Python's own parser, and that of CPython 3.11 can take the recursion of one thread
for another's (SystemError: AST constructor recursion depth mismatch): one in thousands of files failed."""


@dataclasses.dataclass(frozen=True)
class SideFacts:
    """One speaker of a clip, by headers alone."""

    duration_s: float
    """Of the voice [s]."""
    rate_hz: int
    """Of the voice's file."""
    motion_frames: int
    """Frames of motion at 25 a second; 0 where there is none."""
    fingerprint: str
    """Of the voice's content: size and three pieces of it; equal for copies, whatever they are called."""


@dataclasses.dataclass(frozen=True)
class ClipFacts:
    """One clip, by headers alone."""

    name: str
    user: SideFacts
    agent: SideFacts

    @property
    def frames(self) -> int:
        """Frames both voices cover."""
        return int(min(self.user.duration_s, self.agent.duration_s) * FRAMES_PER_SECOND)


@dataclasses.dataclass(frozen=True)
class CorpusIndex:
    """All clips of a folder."""

    folder: Path
    clips: dict[str, ClipFacts]

    @property
    def hours(self) -> float:
        """Length of all dyads [h]."""
        return sum(clip.frames for clip in self.clips.values()) / FRAMES_PER_SECOND / 3600


def index_corpus(folder: Path, cache: Path | None = None, threads: int = 8) -> CorpusIndex:
    """Index every clip of a folder from headers; a hundred hours take seconds, and the second time less.

    Args:
        folder: Holds NAME_speakerN.wav and .npz.
        cache: Folder of an earlier index, of which unchanged files are taken over; None: none is kept.
        threads: That read headers at once.

    Raises:
        BadClipError: The folder holds no pair of voices, or a header cannot be read.
    """
    known: dict[str, Any] = {}
    path = None if cache is None else cache / INDEX_FILE
    if path is not None and path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        known = found["clips"] if found.get("format") == FORMAT else {}
    clips = find_clips(folder)
    stats = {entry.name: entry.stat() for entry in os.scandir(folder)}
    with ThreadPoolExecutor(threads) as pool:
        rows = list(pool.map(lambda clip: _facts(clip, stats, known.get(clip.name)), clips))
    if path is not None:
        write_json(path, {"format": FORMAT, "clips": {row["name"]: row for row in rows}}, indent=None)
    sides = {row["name"]: [SideFacts(*row[side]) for side in SPEAKERS] for row in rows}
    return CorpusIndex(folder, {name: ClipFacts(name, *both) for name, both in sides.items()})


def fingerprint(path: Path) -> str:
    """Name a file by its size and its first, middle and last pieces."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for start in {0, max(0, (size - PIECE_BYTES) // 2), max(0, size - PIECE_BYTES)}:
            file.seek(start)
            digest.update(file.read(PIECE_BYTES))
    return digest.hexdigest()[:32]


def motion_frames(path: Path) -> int:
    """Return the frames of a motion file from the header of its array `pose`.

    Raises:
        BadClipError: It is no npz, or holds no such array.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open("pose.npy") as member:
            version = np.lib.format.read_magic(member)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            with _PARSING:
                return int(read[version](member)[0][0])
    except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
        raise BadClipError(f"{path} cannot be read as npz with an array pose ({error})") from error


def file_states(clip: Clip, stats: dict[str, os.stat_result] | None = None) -> list[list[int] | None]:
    """Return size and time of change of a clip's four files; None for one that is not there.

    Args:
        clip: The clip.
        stats: Of the folder's files by name, where they are known already.
    """
    of_speaker = (clip.voice_path, clip.motion_path)
    paths = [path_of(speaker) for speaker in SPEAKERS.values() for path_of in of_speaker]
    if stats is None:
        stats = {path.name: path.stat() for path in paths if path.is_file()}
    found = [stats.get(path.name) for path in paths]
    return [[stat.st_size, stat.st_mtime_ns] if stat else None for stat in found]


def _facts(clip: Clip, stats: dict[str, os.stat_result], known: dict[str, Any] | None) -> dict[str, Any]:
    state = file_states(clip, stats)
    if known is not None and known["state"] == state:
        return known
    row: dict[str, Any] = {"name": clip.name, "state": state}
    for side, speaker in SPEAKERS.items():
        voice, motion = clip.voice_path(speaker), clip.motion_path(speaker)
        with bad_clip(), SoundFile(voice, is_judged=False) as file:
            header = [file.duration_s, file.rate_hz]
        row[side] = [*header, motion_frames(motion) if motion.name in stats else 0, fingerprint(voice)]
    return row
