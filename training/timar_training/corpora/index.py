"""Know a folder of dyads without loading it: lengths from headers, contents by fingerprint, no leaks."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import tempfile
import threading
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from timar_common.clock import FRAMES_PER_SECOND

from .dyads import AGENT_SPEAKER, USER_SPEAKER, BadClipError, Clip, find_clips, read_split

SPLITS = ("train", "validation", "test", "ood")
CACHE_FOLDER = ".prepared"
"""Beside the clips: the index and prepared arrays."""
INDEX_FILE = "index.json"
FORMAT = 1
PIECE_BYTES = 32_768
RECORDINGS_FILE = "recordings.csv"
_PARSING = threading.Lock()
"""numpy reads a header by Python's own parser, and that of CPython 3.11 can take the recursion of one thread
for another's (SystemError: AST constructor recursion depth mismatch): one in thousands of files failed."""


@dataclasses.dataclass(frozen=True)
class Side:
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
    user: Side
    agent: Side

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
    stats = {entry.name: entry.stat() for entry in os.scandir(folder)} if folder.is_dir() else {}
    clips = find_clips(folder)
    with ThreadPoolExecutor(threads) as pool:
        rows = list(pool.map(lambda clip: _facts(clip, stats, known.get(clip.name)), clips))
    if path is not None:
        text = json.dumps({"format": FORMAT, "clips": {row["name"]: row for row in rows}})
        write_whole(path, text)
    return CorpusIndex(folder, {row["name"]: _from_row(row) for row in rows})


def check_splits(folder: Path, splits: Iterable[str] = SPLITS) -> dict[str, list[Clip]]:
    """Return the clips of each file list that is there, and refuse lists that leak into each other.

    Refused are a clip, a recording (``recordings.csv``: clip, recording, user_voice, agent_voice), a voice's
    content and, unless the corpus says that its voices are shared (``voices_are_shared`` in manifest.json),
    a pair of voices that two lists have in common. The out-of-distribution list never shares a pair.

    Args:
        folder: Of the dyads.
        splits: Names of lists that may be there.

    Raises:
        BadClipError: Two lists leak; the message names both clips.
    """
    present = {split: read_split(folder, split) for split in splits if (folder / f"{split}.txt").is_file()}
    origins = _origins(folder)
    manifest = _manifest(folder)
    owners: dict[tuple[str, str], tuple[str, str]] = {}

    def claim(kind: str, what: str, split: str, clip: Clip) -> tuple[str, str] | None:
        """Note who has something; return an earlier owner in another list."""
        owner = owners.setdefault((kind, what), (split, clip.name))
        return owner if owner[0] != split else None

    for split, clips in present.items():
        for clip in clips:
            if owner := claim("clip", clip.name, split, clip):
                raise BadClipError(
                    f"{clip.name} stands in {owner[0]}.txt and {split}.txt; a clip has one split"
                )
            origin = origins.get(clip.name, {})
            recording = origin.get("recording", "")
            if recording and (owner := claim("recording", recording, split, clip)):
                raise BadClipError(
                    f"{clip.name} in {split}.txt and {owner[1]} in {owner[0]}.txt are of the same recording "
                    f"{recording!r}; a recording has one split"
                )
            pair = "+".join(sorted(filter(None, (origin.get("user_voice"), origin.get("agent_voice")))))
            owner = claim("voices", pair, split, clip) if pair else None
            if owner and ("ood" in (owner[0], split) or not manifest.get("voices_are_shared")):
                raise BadClipError(
                    f"{clip.name} in {split}.txt and {owner[1]} in {owner[0]}.txt have the same voices "
                    f"{pair!r}; give a pair one split, or say voices_are_shared in manifest.json"
                )
    _refuse_copies(present)
    return present


def _refuse_copies(present: dict[str, list[Clip]]) -> None:
    """Refuse a voice that two lists hold under other names; a shared fingerprint is settled by all bytes."""
    seen: dict[str, tuple[str, Path]] = {}
    for split, clips in present.items():
        for clip in clips:
            for speaker in (USER_SPEAKER, AGENT_SPEAKER):
                path = clip.voice_path(speaker)
                other_split, other = seen.setdefault(fingerprint(path), (split, path))
                if other_split != split and _sha256(path) == _sha256(other):
                    raise BadClipError(
                        f"{path.name} in {split}.txt has the same sound as {other.name} in "
                        f"{other_split}.txt; a recording has one split"
                    )


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
                shape = read[version](member)[0]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BadClipError(f"{path} cannot be read as npz with an array pose ({error})") from error
    return int(shape[0])


def _facts(clip: Clip, stats: dict[str, os.stat_result], known: dict[str, Any] | None) -> dict[str, Any]:
    paths = [
        path
        for speaker in (USER_SPEAKER, AGENT_SPEAKER)
        for path in (clip.voice_path(speaker), clip.motion_path(speaker))
    ]
    found = (stats.get(path.name) for path in paths)
    state = [[stat.st_size, stat.st_mtime_ns] if stat else None for stat in found]
    if known is not None and known["state"] == state:
        return known
    sides = {}
    for side, speaker in (("user", USER_SPEAKER), ("agent", AGENT_SPEAKER)):
        voice, motion = clip.voice_path(speaker), clip.motion_path(speaker)
        try:
            header = soundfile.info(str(voice))
        except (OSError, RuntimeError) as error:
            raise BadClipError(f"{voice} cannot be read as WAV ({error}); run `timar data check`") from error
        frames = motion_frames(motion) if motion.name in stats else 0
        sides[side] = [header.frames / header.samplerate, header.samplerate, frames, fingerprint(voice)]
    return {"name": clip.name, "state": state, **sides}


def _from_row(row: dict[str, Any]) -> ClipFacts:
    return ClipFacts(row["name"], Side(*row["user"]), Side(*row["agent"]))


def _origins(folder: Path) -> dict[str, dict[str, str]]:
    """Return recording and voices by clip, from recordings.csv or from a synthetic corpus's manifest."""
    path = folder / RECORDINGS_FILE
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if rows and "clip" not in rows[0]:
            raise BadClipError(f"{path} has the columns {sorted(rows[0])}, expected clip, recording, ...")
        return {row["clip"]: {key: value or "" for key, value in row.items() if key} for row in rows}
    result = {}
    for record in _manifest(folder).get("clips", []):
        voices = record.get("voices", ["", ""])
        result[record["name"]] = {"user_voice": voices[0], "agent_voice": voices[1]}
    return result


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def write_whole(path: Path, text: str) -> None:
    """Write a file beside its place and move it there, so that a kill leaves no half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=".new.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(scratch, path)
