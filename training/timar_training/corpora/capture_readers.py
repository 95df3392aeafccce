"""Readers of other people's motion files: each returns a person's motion at its own rate in our vector.

Our frame is FLAME's: x to the person's left, y up, z ahead, right-handed. So a positive first angle of the
neck looks down, a positive second one to the person's left, a positive third one leans to the right.

=========  ==================================  ==========================================================
format     file                                convention, and what is taken
=========  ==================================  ==========================================================
seamless   NAME.npz of Seamless Interaction    SMPL-H in FLAME's frame, 30 Hz; the neck is the rotation of
                                               the joints neck and head together. It has no jaw.
l2l        NAME.npy of Learning to Listen      DECA: 50 coefficients of FLAME, rotation of the head before
                                               that of the jaw, in FLAME's frame, 30 Hz
vico       NAME.mat of ViCo, 3DMM              coefficients of another model (expression is left out);
                                               angles x, y, z about fixed axes of FLAME's frame, 30 Hz
livelink   NAME.csv of Live Link Face          ARKit: jawOpen; HeadPitch, HeadYaw, HeadRoll in radians,
                                               taken as up, to the left and leaning right positive
bvh        NAME.bvh                            every joint from the first called neck to the head, by the
                                               file's own order of channels; y or z up by the offsets
=========  ==================================  ==========================================================

Sources: the READMEs of facebookresearch/seamless_interaction, evonneng/learning2listen and
dc3ea9f/vico_challenge_baseline. None of these files was at hand: the tests read small ones that were made up.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation
from timar_common.arkit import JAW_OPEN_RAD
from timar_common.motion_file import EXPRESSION, JAW, NECK, write_motion
from timar_common.suggest import refuse_unknown
from timar_common.units import Samples, frames_of
from timar_common.user_motion import MOTION_CHANNELS

from .dyads import SPEAKERS, Clip, read_voice, write_voice
from .motion_forms import Array, CapturedMotion

CAPTURE_RATE_HZ = 30.0
SMPL_NECK, SMPL_HEAD = 11, 14
"""Rows of body_pose, which begins after the pelvis."""
VICO_ANGLES = slice(224, 227)
VICO_WIDTH = 257
SEAMLESS_NAME = re.compile(r"(V\d+_S\w+_I\w+)_(P\w+)")
Z_UP_TO_Y_UP = Rotation.from_rotvec([-np.pi / 2, 0.0, 0.0])
"""From z up and -y ahead to y up and z ahead."""


def read_capture(path: Path, kind: str = "") -> CapturedMotion:
    """Read a motion file of another project.

    Args:
        path: The file.
        kind: One of READERS; empty: by its ending.

    Raises:
        ValueError: The kind is unknown, or the file is not what its format promises.
    """
    if kind:
        refuse_unknown("format", [kind], READERS)
    else:
        kind = KIND_OF_SUFFIX.get(path.suffix.lower(), "")
        if not kind:
            raise ValueError(
                f"{path} ends in {path.suffix or 'nothing'}, expected one of {sorted(KIND_OF_SUFFIX)}"
            )
    try:
        return READERS[kind](path)
    except FileNotFoundError:
        raise
    except Exception as error:  # Parsers raise anything over a damaged file.
        raise ValueError(f"{path} cannot be read as {kind}: {error or type(error).__name__}") from error


def convert_seamless(
    source: Path,
    target: Path,
    log: Callable[[str], None],
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the conversations of a local copy of Seamless Interaction as dyads.

    Args:
        source: Holds V.._S.._I.._P...wav and .npz in any folders.
        target: Folder of dyads; the participant whose name comes first is the user.
        log: Called with a sentence for each conversation that is left out.
        advance: Called with (done, total) after each conversation.

    Returns:
        How many were written.

    Raises:
        ValueError: The folder holds no such file.
    """
    sides: dict[str, dict[str, Path]] = {}
    for path in sorted(source.rglob("V*.wav")):
        if match := SEAMLESS_NAME.fullmatch(path.stem):
            sides.setdefault(match[1], {})[match[2]] = path
    if not sides:
        raise ValueError(f"{source} holds no V.._S.._I.._P...wav; give a local copy of Seamless Interaction")
    written = 0
    for done, (name, voices) in enumerate(sides.items(), start=1):
        try:
            _convert_conversation(Clip(name, target), list(voices.values()))
            written += 1
        except ValueError as error:
            log(f"{name} is left out: {error}")
        advance(done, len(sides))
    return written


def _convert_conversation(clip: Clip, voices: list[Path]) -> None:
    if len(voices) != len(SPEAKERS):
        raise ValueError(f"it has {len(voices)} voices, expected the two of a conversation")
    read = {}
    for speaker, path in zip(SPEAKERS.values(), voices, strict=True):
        motion = path.with_suffix(".npz")
        track = read_capture(motion, "seamless").at_frame_rate() if motion.is_file() else None
        read[speaker] = read_voice(path), track
    for speaker, (voice, track) in read.items():
        if track is not None:
            write_motion(clip.motion_path(speaker), track.fitted_to(frames_of(Samples(len(voice)))))
        write_voice(clip.voice_path(speaker), voice)


def _recorded(
    rate_hz: float, neck: Array | None, jaw: Array | None = None, expression: Array | None = None
) -> CapturedMotion:
    """Join parts (T, 3), (T, 3) and (T, 50); what is None, and frames that are not finite, are unseen."""
    parts = ((EXPRESSION, expression), (JAW, jaw), (NECK, neck))
    frames = next(len(part) for _, part in parts if part is not None)
    vector = np.zeros((frames, MOTION_CHANNELS))
    valid = np.zeros((frames, 3), np.bool_)
    for number, (columns, part) in enumerate(parts):
        if part is not None:
            valid[:, number] = np.isfinite(part).all(axis=1)
            vector[valid[:, number], columns] = part[valid[:, number]]
    if not frames:
        raise ValueError("it holds no frame")
    return CapturedMotion(rate_hz, vector, valid)


def _read_seamless(path: Path) -> CapturedMotion:
    with np.load(path, allow_pickle=False) as file:
        pose = _real(file["smplh:body_pose"])
        is_valid = np.asarray(file["smplh:is_valid"] if "smplh:is_valid" in file else np.ones(len(pose)))
    joints = pose.reshape(len(pose), -1, 3)
    if joints.shape[1] != 21:
        raise ValueError(f"smplh:body_pose has the shape {pose.shape}, expected (T, 63) or (T, 21, 3)")
    neck = Rotation.from_rotvec(joints[:, SMPL_NECK]) * Rotation.from_rotvec(joints[:, SMPL_HEAD])
    angles = neck.as_rotvec()
    angles[~np.all(is_valid.reshape(len(pose), -1).astype(bool), axis=1)] = np.nan
    return _recorded(CAPTURE_RATE_HZ, angles)


def _read_l2l(path: Path) -> CapturedMotion:
    array = np.load(path, allow_pickle=False)
    if array.ndim != 3 or array.shape[0] != 1 or array.shape[2] not in (56, 184):
        raise ValueError(
            f"it has the shape {array.shape}, expected (1, T, 56) or (1, T, 184), expression before pose; "
            "sequences of 64 frames that were cut for training are no recording"
        )
    values = _real(array[0])
    return _recorded(CAPTURE_RATE_HZ, values[:, 50:53], values[:, 53:56], values[:, :50])


def _read_vico(path: Path) -> CapturedMotion:
    values = _real(_load_mat(path, "coeff"))
    if values.ndim != 2 or values.shape[1] != VICO_WIDTH:
        raise ValueError(f"coeff has the shape {values.shape}, expected (T, {VICO_WIDTH})")
    return _recorded(CAPTURE_RATE_HZ, Rotation.from_euler("xyz", values[:, VICO_ANGLES]).as_rotvec())


def _real(array: npt.NDArray[np.generic]) -> Array:
    """Return an array as float64; refuse complex numbers, times and texts, which NumPy would convert."""
    if array.dtype.kind not in "fiu":
        raise ValueError(f"it holds {array.dtype}, expected real numbers")
    return array.astype(np.float64)


def _load_mat(path: Path, name: str) -> npt.NDArray[np.generic]:
    """Read an array of a MATLAB file in a process of its own: scipy 1.17 crashes over some damaged ones."""
    code = (
        "import sys, numpy, scipy.io; "
        "numpy.save(sys.stdout.buffer, scipy.io.loadmat(sys.argv[1])[sys.argv[2]], allow_pickle=False)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), name], capture_output=True, check=False, timeout=60
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").split("\n")
        reason = next((line for line in reversed(lines) if line.strip()), "")
        raise ValueError(reason if done.returncode > 0 else "it is damaged")
    return np.load(io.BytesIO(done.stdout), allow_pickle=False)


def _read_livelink(path: Path) -> CapturedMotion:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError("it holds no row below its header")
    missing = {"Timecode", "JawOpen", "HeadYaw", "HeadPitch", "HeadRoll"} - {*rows[0]}
    if missing:
        raise ValueError(f"it lacks the columns {', '.join(sorted(missing))} of Live Link Face")
    pitch, yaw, roll, jaw_open = (
        np.array([float(row[name] or "nan") for row in rows])
        for name in ("HeadPitch", "HeadYaw", "HeadRoll", "JawOpen")
    )
    neck = Rotation.from_euler("YXZ", np.stack([yaw, -pitch, roll], axis=1)).as_rotvec()
    jaw = np.stack([jaw_open * JAW_OPEN_RAD, 0 * jaw_open, 0 * jaw_open], axis=1)
    return _recorded(_rate_of_timecodes([row["Timecode"] for row in rows]), neck, jaw)


def _rate_of_timecodes(codes: list[str]) -> float:
    """Return the frames a second of HH:MM:SS:FF.fff, by rows from the first to the last whole second."""
    seconds = []
    for code in codes:
        hours, minutes, second, _ = code.replace(";", ":").split(":")
        seconds.append(int(hours) * 3600 + int(minutes) * 60 + int(second))
    starts = [row for row in range(1, len(seconds)) if seconds[row] != seconds[row - 1]]
    if len(starts) < 2:
        raise ValueError("it is shorter than two seconds, too short to tell its rate by the timecodes")
    elapsed_s = seconds[starts[-1]] - seconds[starts[0]]
    if elapsed_s <= 0:
        raise ValueError("its timecodes run backwards")
    return (starts[-1] - starts[0]) / elapsed_s


def _read_bvh(path: Path) -> CapturedMotion:
    words = iter(path.read_text(encoding="utf-8", errors="replace").split())
    joints: list[_Joint] = []
    column = 0
    for word in words:
        if word == "MOTION":
            break
        if word in ("ROOT", "JOINT"):
            joints.append(_Joint(next(words)))
        elif word == "End":
            # Its offset is no joint's.
            joints.append(_Joint(""))
        elif word == "OFFSET":
            joints[-1].offset = np.array([float(next(words)) for _ in range(3)])
        elif word == "CHANNELS":
            channels = [next(words) for _ in range(int(next(words)))]
            for number, channel in enumerate(channels):
                axis, what = channel[0].upper(), channel[1:].lower()
                if what not in ("rotation", "position") or axis not in "XYZ":
                    raise ValueError(f"joint {joints[-1].name} has the unknown channel {channel!r}")
                if what == "rotation":
                    joints[-1].axes += axis
                    joints[-1].columns.append(column + number)
            column += len(channels)
    if [next(words, ""), next(words, "")][0] != "Frames:":
        raise ValueError("it has no line Frames: after MOTION")
    if [next(words, ""), next(words, "")] != ["Frame", "Time:"]:
        raise ValueError("it has no line Frame Time:")
    frame_s = float(next(words))
    if not 1e-3 <= frame_s <= 1.0:
        raise ValueError(f"its frames last {frame_s} s, expected 0.001 to 1")
    numbers = np.array([float(word) for word in words])
    if not column or not len(numbers) or len(numbers) % column:
        raise ValueError(f"its {len(numbers)} numbers are not whole frames of {column} channels")
    frames = numbers.reshape(-1, column)
    chain = _neck_to_head([joint for joint in joints if joint.name])
    neck = Rotation.identity(len(frames))
    for joint in chain:
        neck = neck * Rotation.from_euler(joint.axes, frames[:, joint.columns], degrees=True)
    if np.abs(chain[-1].offset).argmax() == 2:
        neck = Z_UP_TO_Y_UP * neck * Z_UP_TO_Y_UP.inv()
    return _recorded(1.0 / frame_s, neck.as_rotvec())


@dataclasses.dataclass
class _Joint:
    """A joint of a BVH file."""

    name: str
    offset: Array = dataclasses.field(default_factory=lambda: np.zeros(3))
    axes: str = ""
    """Of its rotations, in the order in which they are applied."""
    columns: list[int] = dataclasses.field(default_factory=list)
    """Of its rotations in a frame."""


def _neck_to_head(joints: list[_Joint]) -> list[_Joint]:
    """Return the joints from the first called neck to the first called head."""
    names = [joint.name.lower() for joint in joints]
    head = next((number for number, name in enumerate(names) if "head" in name), None)
    if head is None:
        raise ValueError(f"none of its joints is called head: {[joint.name for joint in joints]}")
    first = next((number for number, name in enumerate(names[:head]) if "neck" in name), head)
    chain = [joint for joint in joints[first : head + 1] if joint.columns]
    if not chain or any(len(joint.columns) != 3 for joint in chain):
        raise ValueError("its neck and head have no three rotations each")
    return chain


READERS: dict[str, Callable[[Path], CapturedMotion]] = {
    "seamless": _read_seamless,
    "l2l": _read_l2l,
    "vico": _read_vico,
    "livelink": _read_livelink,
    "bvh": _read_bvh,
}
KIND_OF_SUFFIX = {".npz": "seamless", ".npy": "l2l", ".mat": "vico", ".csv": "livelink", ".bvh": "bvh"}
