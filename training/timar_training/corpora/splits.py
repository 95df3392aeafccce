"""File lists of a corpus (train, validation, test, ood), and the check that none leaks into another."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .dyads import SPEAKERS, BadClipError, Clip, read_split
from .index import fingerprint

SPLITS = ("train", "validation", "test", "ood")
RECORDINGS_FILE = "recordings.csv"


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
    are_voices_shared = corpus_manifest(folder).get("voices_are_shared")
    owners: dict[tuple[str, str], tuple[str, str]] = {}

    def claim(kind: str, what: str, split: str, clip: Clip) -> tuple[str, str] | None:
        """Note who has something; return an earlier owner in another list."""
        owner = owners.setdefault((kind, what), (split, clip.name)) if what else (split, "")
        return owner if owner[0] != split else None

    for split, clips in present.items():
        for clip in clips:
            if owner := claim("clip", clip.name, split, clip):
                raise BadClipError(
                    f"{clip.name} stands in {owner[0]}.txt and {split}.txt; a clip has one split"
                )
            origin = origins.get(clip.name, {})
            if owner := claim("recording", recording := origin.get("recording", ""), split, clip):
                raise BadClipError(
                    f"{clip.name} in {split}.txt and {owner[1]} in {owner[0]}.txt are of the same recording "
                    f"{recording!r}; a recording has one split"
                )
            pair = "+".join(sorted(filter(None, (origin.get("user_voice"), origin.get("agent_voice")))))
            owner = claim("voices", pair, split, clip)
            if owner and ("ood" in (owner[0], split) or not are_voices_shared):
                raise BadClipError(
                    f"{clip.name} in {split}.txt and {owner[1]} in {owner[0]}.txt have the same voices "
                    f"{pair!r}; give a pair one split, or say voices_are_shared in manifest.json"
                )
    _refuse_copies(present)
    return present


def corpus_manifest(folder: Path) -> dict[str, Any]:
    """Return manifest.json of a folder of dyads; empty where there is none."""
    path = folder / "manifest.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def data_kind(folder: Path) -> str:
    """Return what a folder of dyads calls itself: SYNTHETIC by its manifest, else recorded."""
    return str(corpus_manifest(folder).get("kind", "recorded"))


def _refuse_copies(present: dict[str, list[Clip]]) -> None:
    """Refuse a voice that two lists hold under other names; a shared fingerprint is settled by all bytes."""
    seen: dict[str, tuple[str, Path]] = {}
    for split, clips in present.items():
        for path in (clip.voice_path(speaker) for clip in clips for speaker in SPEAKERS.values()):
            other_split, other = seen.setdefault(fingerprint(path), (split, path))
            if other_split != split and _sha256(path) == _sha256(other):
                raise BadClipError(
                    f"{path.name} in {split}.txt has the same sound as {other.name} in "
                    f"{other_split}.txt; a recording has one split"
                )


def _origins(folder: Path) -> dict[str, dict[str, str]]:
    """Return recording and voices by clip, from recordings.csv or from a synthetic corpus's manifest."""
    path = folder / RECORDINGS_FILE
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        if rows and "clip" not in rows[0]:
            raise BadClipError(f"{path} has the columns {sorted(rows[0])}, expected clip, recording, ...")
        return {row["clip"]: {key: value or "" for key, value in row.items() if key} for row in rows}
    records = corpus_manifest(folder).get("clips", [])
    names = ("user_voice", "agent_voice")
    voices = {record["name"]: record.get("voices", ["", ""]) for record in records}
    return {clip: dict(zip(names, pair, strict=True)) for clip, pair in voices.items()}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
