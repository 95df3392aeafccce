"""Tell what is wrong with a folder of dyads, and what it holds."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from timar_common.clock import FRAMES_PER_SECOND, SAMPLE_RATE_HZ

from . import dyads
from .dyads import JAW, NECK, BadClipError, Clip
from .index import SPLITS, check_splits
from .levels import active_level_db

MAX_LENGTH_DIFFERENCE_S = 0.2
FLAT_LEVEL_DB = -60.0
CLIPPED_SHARE = 0.001
SPEAKERS = (dyads.USER_SPEAKER, dyads.AGENT_SPEAKER)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    severity: str
    """"error": the clip cannot be used; "warning": it can, but look at it."""
    clip: str
    message: str


@dataclasses.dataclass
class FolderReport:
    """What a folder holds and what is wrong with it."""

    clips: int = 0
    hours: float = 0.0
    hours_of_motion: dict[int, float] = dataclasses.field(
        default_factory=lambda: dict.fromkeys(SPEAKERS, 0.0)
    )
    """Per speaker."""
    statistics: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    """Per signal (jaw opening, neck pitch, yaw, roll): mean, std, speed_std, in rad and rad/s."""
    findings: list[Finding] = dataclasses.field(default_factory=list)

    @property
    def has_errors(self) -> bool:
        """Whether a clip cannot be used."""
        return any(finding.severity == "error" for finding in self.findings)


def check_folder(
    folder: Path, advance: Callable[[int, int], None] = lambda done, total: None
) -> FolderReport:
    """Read every file of a folder and report.

    Args:
        folder: Holds NAME_speakerN.wav and .npz.
        advance: Told (done, total) after each clip.

    Raises:
        BadClipError: The folder does not exist or holds no voice at all.
    """
    names = _clip_names(folder)
    report = FolderReport(clips=len(names))
    motion: list[np.ndarray] = []
    seen_sounds: dict[str, str] = {}
    for done, name in enumerate(names, start=1):
        _check_clip(Clip(name, folder), report, motion, seen_sounds)
        advance(done, len(names))
    _check_lists(folder, set(names), report)
    report.statistics = _statistics(motion)
    return report


def _clip_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise BadClipError(
            f"{folder} is not a folder; give one that holds NAME_speaker1.wav and NAME_speaker2.wav"
        )
    names = {path.stem[: -len("_speakerN")] for path in folder.iterdir() if _is_part(path)}
    if not names:
        raise BadClipError(f"{folder} holds no NAME_speaker1.wav or NAME_speaker2.wav; see docs/training.md")
    return sorted(names)


def _is_part(path: Path) -> bool:
    return path.suffix in (".wav", ".npz") and path.stem.endswith(
        tuple(f"_speaker{number}" for number in SPEAKERS)
    )


def _check_clip(
    clip: Clip, report: FolderReport, motion: list[np.ndarray], seen_sounds: dict[str, str]
) -> None:
    lengths_s: dict[int, float] = {}
    for speaker in SPEAKERS:

        def find(severity: str, message: str) -> None:
            report.findings.append(Finding(severity, clip.name, message))

        duration_s = _check_voice(clip, speaker, find, seen_sounds)
        if duration_s is not None:
            lengths_s[speaker] = duration_s
        vector = _check_motion(clip, speaker, duration_s, find)
        if vector is not None:
            report.hours_of_motion[speaker] += len(vector) / FRAMES_PER_SECOND / 3600
            motion.append(vector)
    if len(lengths_s) == 2:
        first, second = lengths_s.values()
        report.hours += min(first, second) / 3600
        if abs(first - second) > MAX_LENGTH_DIFFERENCE_S:
            message = f"speaker 1 lasts {first:.2f} s and speaker 2 {second:.2f} s; the longer one is cut"
            report.findings.append(Finding("warning", clip.name, message))
    if not any(clip.motion_path(speaker).is_file() for speaker in SPEAKERS):
        report.findings.append(
            Finding("error", clip.name, "no side has motion; there is nothing to learn from it")
        )


def _check_voice(
    clip: Clip, speaker: int, find: Callable[[str, str], None], seen_sounds: dict[str, str]
) -> float | None:
    path = clip.voice_path(speaker)
    if not path.is_file():
        find("error", f"{path.name} is missing; both voices are needed")
        return None
    try:
        rate_hz, samples = dyads.read_wav(path)
    except BadClipError as error:
        find("error", str(error))
        return None
    if rate_hz != SAMPLE_RATE_HZ:
        find(
            "warning",
            f"{path.name} has {rate_hz} Hz and is resampled to {SAMPLE_RATE_HZ} Hz at every reading",
        )
    level_db = active_level_db(samples)
    if level_db < FLAT_LEVEL_DB:
        find("warning", f"{path.name} is flat: its loudest parts reach {level_db:.0f} dBFS")
    if np.mean(np.abs(samples) > 0.999) > CLIPPED_SHARE:
        find("warning", f"{path.name} is clipped in more than {CLIPPED_SHARE:.1%} of its samples")
    digest = hashlib.sha256(samples.tobytes()).hexdigest()
    if digest in seen_sounds and level_db >= FLAT_LEVEL_DB:
        find("error", f"{path.name} is a duplicate of {seen_sounds[digest]}")
    seen_sounds.setdefault(digest, path.name)
    return len(samples) / rate_hz


def _check_motion(
    clip: Clip, speaker: int, duration_s: float | None, find: Callable[[str, str], None]
) -> np.ndarray | None:
    path = clip.motion_path(speaker)
    if not path.is_file():
        return None
    try:
        motion = dyads.read_motion(path)
    except BadClipError as error:
        find("error", str(error))
        return None
    length_s = len(motion.vector) / FRAMES_PER_SECOND
    if duration_s is not None and abs(length_s - duration_s) > MAX_LENGTH_DIFFERENCE_S:
        find(
            "warning",
            f"{path.name} holds {length_s:.2f} s of motion, its voice {duration_s:.2f} s; not 25 fps?",
        )
    pose = motion.vector[:, JAW.start :]
    if np.abs(pose).max(initial=0.0) > np.pi:
        find("error", f"{path.name} holds an angle of {np.abs(pose).max():.1f}, expected radians within ±pi")
    return motion.vector[motion.valid[:, 1:].all(axis=1)]


def _check_lists(folder: Path, names: set[str], report: FolderReport) -> None:
    """Refuse a clip that stands in two file lists, or that a list names in vain."""
    owner: dict[str, str] = {}
    for path in sorted(folder.glob("*.txt")):
        for name in path.read_text(encoding="utf-8").split():
            if name not in names:
                report.findings.append(
                    Finding("error", name, f"{path.name} names it, but it is not in the folder")
                )
            if name in owner and owner[name] != path.name:
                message = f"it stands in {owner[name]} and in {path.name}; a clip belongs to one split"
                report.findings.append(Finding("error", name, message))
            owner.setdefault(name, path.name)
    if not any((folder / f"{split}.txt").is_file() for split in SPLITS) or report.has_errors:
        return
    try:
        check_splits(folder)
    except BadClipError as error:
        report.findings.append(Finding("error", "lists", str(error)))


def _statistics(motion: list[np.ndarray]) -> dict[str, dict[str, float]]:
    motion = [vector for vector in motion if len(vector) > 1]
    if not motion:
        return {}
    columns = {
        "jaw_opening": JAW.start,
        "neck_pitch": NECK.start,
        "neck_yaw": NECK.start + 1,
        "neck_roll": NECK.stop - 1,
    }
    result = {}
    for name, column in columns.items():
        tracks = [vector[:, column] for vector in motion]
        speeds = np.concatenate([np.diff(track) for track in tracks]) * FRAMES_PER_SECOND
        result[name] = {
            "mean_rad": float(np.mean(np.concatenate(tracks))),
            "std_rad": float(np.sqrt(np.mean([track.var() for track in tracks]))),
            "speed_std_rad_s": float(speeds.std()),
        }
    return result
