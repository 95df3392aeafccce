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

from .dyads import SPEAKERS, BadClipError, Clip, FloatArray, bad_clip, require_folder
from .levels import active_level_db, frame_level_db
from .motion_forms import inspect_motion
from .splits import SPLITS, check_splits

MAX_LENGTH_DIFFERENCE_S = 0.2
FLAT_LEVEL_DB = -60.0
SAME_VOICE_CORRELATION = 0.3
"""Two channels that hold one voice correlate more than this."""
FOLLOWS_VOICE = 0.45
"""What follows the loudness of a voice correlates more than this with it."""
LEAST_FRAMES_OF_SPEECH = 5 * FRAMES_PER_SECOND
SIGNALS = {"jaw_opening": JAW.start, "neck_pitch": NECK.start, "neck_yaw": NECK.start + 1, "neck_roll": 55}
"""Columns of the motion vector of which statistics are given."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    severity: str
    """"error": the clip cannot be used; "warning": it can, but look at it."""
    clip: str
    message: str
    is_fixable: bool = False
    """Whether `timar data check --fix` converts it."""


@dataclasses.dataclass
class FolderReport:
    """What a folder holds and what is wrong with it."""

    clips: list[str] = dataclasses.field(default_factory=list)
    """Names."""
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

    @property
    def exit_status(self) -> int:
        """0 for nothing worse than a remark, 1 where a clip cannot be used, 3 for warnings alone."""
        return 1 if self.has_errors else 3 if self.findings else 0

    def error(self, clip: str, message: str, *, is_fixable: bool = False) -> None:
        """Add an error."""
        self.findings.append(Finding("error", clip, message, is_fixable))

    def warn(self, clip: str, message: str, *, is_fixable: bool = False) -> None:
        """Add a warning."""
        self.findings.append(Finding("warning", clip, message, is_fixable))

    def to_json(self) -> dict[str, object]:
        """Return everything as plain data."""
        return {**dataclasses.asdict(self), "exit_status": self.exit_status}


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
    report = FolderReport(clips=names)
    statistics = _Statistics()
    seen_sounds: dict[str, str] = {}
    for done, name in enumerate(names, start=1):
        _check_clip(Clip(name, folder), report, seen_sounds, statistics)
        advance(done, len(names))
    _check_lists(folder, set(names), report)
    report.statistics = statistics.summary()
    return report


def _check_clip(
    clip: Clip, report: FolderReport, seen_sounds: dict[str, str], statistics: _Statistics
) -> None:
    lengths_s = []
    for speaker in SPEAKERS.values():
        samples = _check_voice(clip, speaker, report, seen_sounds)
        lengths_s += [] if samples is None else [len(samples) / SAMPLE_RATE_HZ]
        motion = _check_motion(clip, speaker, samples, report)
        if motion is not None:
            report.hours_of_motion[speaker] += len(motion.vector) / FRAMES_PER_SECOND / 3600
            statistics.add(motion.vector[motion.valid[:, 1:].all(axis=1)])
    if len(lengths_s) == 2:
        first, second = lengths_s
        report.hours += min(first, second) / 3600
        if abs(first - second) > MAX_LENGTH_DIFFERENCE_S:
            message = f"speaker 1 lasts {first:.2f} s and speaker 2 {second:.2f} s; the longer one is cut"
            report.warn(clip.name, message)
    if not any(clip.motion_path(speaker).is_file() for speaker in SPEAKERS.values()):
        report.error(clip.name, "no side has motion; there is nothing to learn from it")


def _check_voice(
    clip: Clip, speaker: int, report: FolderReport, seen_sounds: dict[str, str]
) -> FloatArray | None:
    """Check a voice and return its samples at 16 kHz; None where it cannot be read."""
    path = clip.voice_path(speaker)
    if not path.is_file():
        kind = "is a link that leads nowhere" if path.is_symlink() else "is missing"
        report.error(clip.name, f"{path.name} {kind}; both voices are needed")
        return None
    try:
        with bad_clip(), SoundFile(path) as file:
            rate_hz, warnings = file.rate_hz, file.warnings
            samples = int16_to_float(file.read_all())
            has_two = file.channels == 2 and holds_two_voices(path)
    except BadClipError as error:
        report.error(clip.name, str(error))
        return None
    for warning in warnings:
        report.warn(clip.name, warning)
    if has_two:
        message = f"{path.name} holds two voices, one a side, which would be mixed; expected one voice a file"
        report.error(clip.name, message, is_fixable=True)
    if rate_hz != SAMPLE_RATE_HZ:
        message = f"{path.name} has {rate_hz} Hz and is resampled to {SAMPLE_RATE_HZ} Hz at every reading"
        report.warn(clip.name, message, is_fixable=True)
    level_db = active_level_db(samples)
    if level_db < FLAT_LEVEL_DB:
        report.warn(clip.name, f"{path.name} is flat: its loudest parts reach {level_db:.0f} dBFS")
    digest = hashlib.sha256(samples.tobytes()).hexdigest()
    if digest in seen_sounds and level_db >= FLAT_LEVEL_DB:
        report.error(clip.name, f"{path.name} is a duplicate of {seen_sounds[digest]}")
    seen_sounds.setdefault(digest, path.name)
    return samples


def holds_two_voices(path: Path) -> bool:
    """Return whether a sound file has two channels in which different people speak."""
    with SoundFile(path, is_judged=False) as file:
        if file.channels != 2:
            return False
    sides = []
    for channel in (0, 1):
        with SoundFile(path, channel) as file:
            sides.append(int16_to_float(file.read_all()))
    if min(map(active_level_db, sides)) < FLAT_LEVEL_DB:
        return False
    return abs(_correlation(*sides)) < SAME_VOICE_CORRELATION


def _check_motion(
    clip: Clip, speaker: int, samples: FloatArray | None, report: FolderReport
) -> MotionTrack | None:
    """Check a side's motion and return it; None where there is none that can be used."""
    path = clip.motion_path(speaker)
    if not path.is_file():
        if path.exists() or path.is_symlink():
            report.error(clip.name, f"{path.name} is no file but a folder or a link that leads nowhere")
        return None
    try:
        recorded, remarks = inspect_motion(path, None if samples is None else len(samples) / SAMPLE_RATE_HZ)
    except ValueError as error:
        report.error(clip.name, str(error))
        return None
    for remark in remarks:
        report.findings.append(Finding(remark.severity, clip.name, remark.message, remark.is_fixable))
    track = recorded.at_frame_rate()
    if samples is not None and (message := _jaw_oddity(track, samples)):
        report.warn(clip.name, f"{path.name}: {message}")
    return track


def _jaw_oddity(track: MotionTrack, samples: FloatArray) -> str:
    """Return what a jaw does that no jaw does while its voice speaks; empty where nothing is odd."""
    level_db = frame_level_db(samples)
    frames = min(len(level_db), len(track.vector))
    is_seen = track.valid[:frames, 1:].all(axis=1)
    if is_seen.sum() < LEAST_FRAMES_OF_SPEECH or level_db[:frames].max(initial=-80.0) < FLAT_LEVEL_DB:
        return ""
    loud = level_db[:frames][is_seen]
    jaw, neck = (_correlation(track.vector[:frames, part.start][is_seen], loud) for part in (JAW, NECK))
    if jaw < -FOLLOWS_VOICE:
        return f"the jaw closes when the voice is loud (r = {jaw:.2f}); is its angle of the other sign?"
    if neck > FOLLOWS_VOICE and abs(jaw) < FOLLOWS_VOICE / 3:
        return f"the neck opens with the voice (r = {neck:.2f}) and not the jaw; are they exchanged in pose?"
    return ""


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    spread = float(a.std() * b.std())
    return float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread > 0 else 0.0


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


class _Statistics:
    """Mean, spread within a clip and speed of some signals, clip after clip."""

    def __init__(self) -> None:
        # Per signal: frames, sum, clips, sum of variances, steps, sum and squared sum of speeds.
        self._sums = {name: np.zeros(7) for name in SIGNALS}

    def add(self, vector: np.ndarray) -> None:
        """Take (T, 56) known frames of a side."""
        if len(vector) < 2:
            return
        for name, column in SIGNALS.items():
            track = vector[:, column].astype(np.float64)
            speed = np.diff(track) * FRAMES_PER_SECOND
            self._sums[name] += (
                len(track), track.sum(), 1, track.var(), len(speed), speed.sum(), (speed**2).sum()
            )  # fmt: skip

    def summary(self) -> dict[str, dict[str, float]]:
        """Return the figures by signal; empty where there was no motion."""
        found = {}
        for name, (frames, total, clips, variances, steps, speeds, squares) in self._sums.items():
            if clips:
                found[name] = {
                    "mean_rad": float(total / frames),
                    "std_rad": float(np.sqrt(variances / clips)),
                    "speed_std_rad_s": float(np.sqrt(max(0.0, squares / steps - (speeds / steps) ** 2))),
                }
        return found
