"""Check of a folder of dyads: what is wrong with it, what it holds, and statistics of its motion."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from timar_common.clock import FRAMES_PER_SECOND, SAMPLE_RATE_HZ
from timar_common.motion_file import JAW, NECK, MotionTrack
from timar_common.pcm import int16_to_float
from timar_common.wav import SoundFile

from .dyads import SPEAKERS, BadClipError, Clip, bad_clip, read_motion, require_folder
from .levels import active_level_db
from .splits import SPLITS, check_splits

MAX_LENGTH_DIFFERENCE_S = 0.2
FLAT_LEVEL_DB = -60.0
SIGNALS = {"jaw_opening": JAW.start, "neck_pitch": NECK.start, "neck_yaw": NECK.start + 1, "neck_roll": 55}
"""Columns of the motion vector of which statistics are given."""


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
        default_factory=lambda: dict.fromkeys(SPEAKERS.values(), 0.0)
    )
    """Per speaker."""
    statistics: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    """Per signal (jaw opening, neck pitch, yaw, roll): mean, std, speed_std, in rad and rad/s."""
    findings: list[Finding] = dataclasses.field(default_factory=list)

    @property
    def has_errors(self) -> bool:
        """Whether a clip cannot be used."""
        return any(finding.severity == "error" for finding in self.findings)

    def error(self, clip: str, message: str) -> None:
        """Add an error."""
        self.findings.append(Finding("error", clip, message))

    def warn(self, clip: str, message: str) -> None:
        """Add a warning."""
        self.findings.append(Finding("warning", clip, message))


def check_folder(
    folder: Path, advance: Callable[[int, int], None] = lambda done, total: None
) -> FolderReport:
    """Read every file of a folder and report.

    Args:
        folder: Holds NAME_speakerN.wav and .npz.
        advance: Called with (done, total) after each clip.

    Raises:
        BadClipError: The folder does not exist or holds no voice at all.
    """
    require_folder(folder)
    ends = tuple(f"_speaker{speaker}{suffix}" for speaker in SPEAKERS.values() for suffix in (".wav", ".npz"))
    names = sorted({path.name[: -len(ends[0])] for path in folder.iterdir() if path.name.endswith(ends)})
    if not names:
        raise BadClipError(f"{folder} holds no NAME_speaker1.wav or NAME_speaker2.wav; see docs/training.md")
    report = FolderReport(clips=len(names))
    motion: list[np.ndarray] = []
    seen_sounds: dict[str, str] = {}
    for done, name in enumerate(names, start=1):
        motion += _check_clip(Clip(name, folder), report, seen_sounds)
        advance(done, len(names))
    _check_lists(folder, set(names), report)
    report.statistics = _statistics([vector for vector in motion if len(vector) > 1])
    return report


def _check_clip(clip: Clip, report: FolderReport, seen_sounds: dict[str, str]) -> list[np.ndarray]:
    """Check a clip's four files and return the motion of its sides, known frames alone."""
    found, lengths_s = [], []
    for speaker in SPEAKERS.values():
        duration_s = _check_voice(clip, speaker, report, seen_sounds)
        lengths_s += [] if duration_s is None else [duration_s]
        motion = _check_motion(clip, speaker, duration_s, report)
        if motion is not None:
            report.hours_of_motion[speaker] += len(motion.vector) / FRAMES_PER_SECOND / 3600
            found.append(motion.vector[motion.valid[:, 1:].all(axis=1)])
    if len(lengths_s) == 2:
        first, second = lengths_s
        report.hours += min(first, second) / 3600
        if abs(first - second) > MAX_LENGTH_DIFFERENCE_S:
            message = f"speaker 1 lasts {first:.2f} s and speaker 2 {second:.2f} s; the longer one is cut"
            report.warn(clip.name, message)
    if not any(clip.motion_path(speaker).is_file() for speaker in SPEAKERS.values()):
        report.error(clip.name, "no side has motion; there is nothing to learn from it")
    return found


def _check_voice(clip: Clip, speaker: int, report: FolderReport, seen_sounds: dict[str, str]) -> float | None:
    """Check a voice and return how long it lasts [s]; None where it cannot be read."""
    path = clip.voice_path(speaker)
    if not path.is_file():
        report.error(clip.name, f"{path.name} is missing; both voices are needed")
        return None
    try:
        with bad_clip(), SoundFile(path) as file:
            rate_hz, duration_s, warnings = file.rate_hz, file.duration_s, file.warnings
            samples = int16_to_float(file.read_all())
    except BadClipError as error:
        report.error(clip.name, str(error))
        return None
    for warning in warnings:
        report.warn(clip.name, warning)
    if rate_hz != SAMPLE_RATE_HZ:
        message = f"{path.name} has {rate_hz} Hz and is resampled to {SAMPLE_RATE_HZ} Hz at every reading"
        report.warn(clip.name, message)
    level_db = active_level_db(samples)
    if level_db < FLAT_LEVEL_DB:
        report.warn(clip.name, f"{path.name} is flat: its loudest parts reach {level_db:.0f} dBFS")
    digest = hashlib.sha256(samples.tobytes()).hexdigest()
    if digest in seen_sounds and level_db >= FLAT_LEVEL_DB:
        report.error(clip.name, f"{path.name} is a duplicate of {seen_sounds[digest]}")
    seen_sounds.setdefault(digest, path.name)
    return duration_s


def _check_motion(
    clip: Clip, speaker: int, duration_s: float | None, report: FolderReport
) -> MotionTrack | None:
    """Check a side's motion and return it; None where there is none that can be used."""
    path = clip.motion_path(speaker)
    if not path.is_file():
        return None
    try:
        motion = read_motion(path)
    except BadClipError as error:
        report.error(clip.name, str(error))
        return None
    length_s = len(motion.vector) / FRAMES_PER_SECOND
    if duration_s is not None and abs(length_s - duration_s) > MAX_LENGTH_DIFFERENCE_S:
        message = f"{path.name} holds {length_s:.2f} s of motion, its voice {duration_s:.2f} s; not 25 fps?"
        report.warn(clip.name, message)
    largest = np.abs(motion.vector[:, JAW.start :]).max(initial=0.0)
    if largest > np.pi:
        report.error(clip.name, f"{path.name} holds an angle of {largest:.1f}, expected radians within ±pi")
    return motion


def _check_lists(folder: Path, names: set[str], report: FolderReport) -> None:
    """Report a clip that stands in two file lists, or that a list names in vain, and lists that leak."""
    owner: dict[str, str] = {}
    for path in sorted(folder.glob("*.txt")):
        for name in path.read_text(encoding="utf-8").split():
            if name not in names:
                report.error(name, f"{path.name} names it, but it is not in the folder")
            if owner.setdefault(name, path.name) != path.name:
                message = f"it stands in {owner[name]} and in {path.name}; a clip belongs to one split"
                report.error(name, message)
    if any((folder / f"{split}.txt").is_file() for split in SPLITS) and not report.has_errors:
        try:
            check_splits(folder)
        except BadClipError as error:
            report.error("lists", str(error))


def _statistics(motion: list[np.ndarray]) -> dict[str, dict[str, float]]:
    result = {}
    for name, column in SIGNALS.items() if motion else ():
        tracks = [vector[:, column] for vector in motion]
        speeds = np.concatenate([np.diff(track) for track in tracks]) * FRAMES_PER_SECOND
        result[name] = {
            "mean_rad": float(np.mean(np.concatenate(tracks))),
            "std_rad": float(np.sqrt(np.mean([track.var() for track in tracks]))),
            "speed_std_rad_s": float(speeds.std()),
        }
    return result
