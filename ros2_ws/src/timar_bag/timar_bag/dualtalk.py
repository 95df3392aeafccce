"""DualTalk's files to a bag and back: two voices (WAV) and two motions (npz)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
from timar_common.clock import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from timar_common.stream import SampleStream
from timar_common.user_motion import user_motion_from
from timar_common.wav import SoundFile

from timar_bag.bag import BagReader
from timar_bag.make_bag import Track, write_bag
from timar_bag.shown import ShownMotion
from timar_bag.truth import TRUTH_MOTION

MOTION_SIZE = 56
LONGEST_GAP = 60 * SAMPLE_RATE_HZ


@dataclasses.dataclass(frozen=True)
class DualTalkClip:
    """The four files of a clip: ``NAME_speaker1.wav``, ``NAME_speaker1.npz`` and those of speaker 2."""

    folder: Path
    name: str

    @classmethod
    def at(cls, path: Path) -> DualTalkClip:
        """Return the clip of a path ``FOLDER/NAME``, or of one of its files."""
        stem = path.name
        for speaker in (1, 2):
            for end in (".wav", ".npz"):
                stem = stem.removesuffix(f"_speaker{speaker}{end}")
        return cls(path.parent, stem)

    def voice(self, speaker: int) -> Path:
        """Return the WAV file of speaker 1 or 2."""
        return self.folder / f"{self.name}_speaker{speaker}.wav"

    def motion(self, speaker: int) -> Path:
        """Return the motion file of speaker 1 or 2; it need not exist."""
        return self.folder / f"{self.name}_speaker{speaker}.npz"


def from_dualtalk(clip: DualTalkClip, bag: Path, user: int = 1) -> float:
    """Write a clip as a bag; the agent's motion, where there is any, becomes the truth.

    Args:
        clip: Its files.
        bag: The bag's folder; it must not exist yet.
        user: Which speaker is the user, 1 or 2; the other one is the agent.

    Returns:
        The conversation's length [s].

    Raises:
        FileNotFoundError: A voice is missing.
        ValueError: A file is not what the format says; the message names it.
    """
    if user not in (1, 2):
        raise ValueError(f"the user is speaker {user}, expected 1 or 2")
    agent = 3 - user
    tracks = {
        speaker: read_track(clip.motion(speaker)) if clip.motion(speaker).is_file() else None
        for speaker in (user, agent)
    }
    voices = [SoundFile(clip.voice(speaker)) for speaker in (user, agent)]
    try:
        return write_bag(bag, *voices, user_motion=tracks[user], agent_motion=tracks[agent])
    finally:
        for voice in voices:
            voice.close()


def to_dualtalk(bag: Path, clip: DualTalkClip, user: int = 1, namespace: str | None = None) -> list[str]:
    """Write a recorded conversation as a clip that training reads.

    The agent's motion is the truth where the bag holds it, else what was shown. Both voices begin at sample 0
    of the conversation clock; what is missing is silence, and frames nobody saw are marked in ``valid``.

    Returns:
        One sentence for each thing that was missing.

    Raises:
        FileNotFoundError: There is no bag.
        FileExistsError: A file of the clip exists already.
        ValueError: The bag holds no sound of the user.
    """
    agent = 3 - user
    for speaker in (1, 2):
        for path in (clip.voice(speaker), clip.motion(speaker)):
            if path.exists():
                raise FileExistsError(f"{path} exists already; choose another name or remove it")
    voices = {
        topic: SampleStream(LONGEST_GAP + SAMPLE_RATE_HZ, LONGEST_GAP)
        for topic in ("user/audio", "agent/audio")
    }
    clip.folder.mkdir(parents=True, exist_ok=True)
    seen: dict[str, list[tuple[int, npt.NDArray[np.float32], npt.NDArray[np.bool_]]]] = {
        "user/motion": [],
        TRUTH_MOTION: [],
    }
    shown = ShownMotion()
    writers = {topic: _open(clip.voice(user if topic == "user/audio" else agent)) for topic in voices}
    written = dict.fromkeys(voices, 0)
    with BagReader(bag, namespace) as reader:
        if not reader.has_messages("user/audio"):
            raise ValueError(f"{bag} holds no message of user/audio, so there is no clip in it")
        for entry in reader.messages({*voices, *seen, "agent/motion"}):
            if entry.topic in voices:
                stream = voices[entry.topic]
                stream.push(int(entry.message.first_sample), np.asarray(entry.message.samples, np.int16))
                _write_until(writers[entry.topic], stream, written, entry.topic, stream.end_sample)
            elif entry.topic in seen:
                motion, valid = user_motion_from(entry.message)
                seen[entry.topic].append((int(entry.message.first_frame), motion, valid))
            else:
                shown.take(entry.receive_ns, entry.message)
        losses = list(reader.losses)
    end = voices["user/audio"].end_sample
    for topic, stream in voices.items():
        _write_until(writers[topic], stream, written, topic, end)
        writers[topic].close()
        if stream.counters.lost:
            losses.append(f"{stream.counters.lost} samples of {topic} are missing; silence stands there")
    frames = end // SAMPLES_PER_FRAME
    tracks = {user: _joined(seen["user/motion"], frames)}
    tracks[agent] = _joined(seen[TRUTH_MOTION], frames) if seen[TRUTH_MOTION] else _shown(shown, frames)
    for speaker, track in tracks.items():
        if track.valid.any():
            write_track(clip.motion(speaker), track)
        else:
            losses.append(
                f"the bag holds no motion of speaker {speaker}; {clip.motion(speaker).name} is not written"
            )
    return losses


def read_track(path: Path) -> Track:
    """Read a motion file: ``exp`` (T, 50), ``pose`` (T, 6) with the neck first, and our own ``valid`` (T, 3).

    Raises:
        ValueError: It is no such file; the message says what is wrong.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as npz ({error}); expected arrays exp and pose") from error
    expression, pose = arrays.get("exp"), arrays.get("pose")
    if expression is None or pose is None or expression.shape[1:] != (50,) or pose.shape[1:] != (6,):
        found = {name: array.shape for name, array in arrays.items()}
        raise ValueError(f"{path} holds {found}, expected exp (T, 50) and pose (T, 6)")
    if len(expression) != len(pose):
        raise ValueError(f"{path}: exp has {len(expression)} frames and pose {len(pose)}, expected the same")
    motion = np.concatenate([expression, pose[:, 3:6], pose[:, 0:3]], axis=1).astype(np.float32)
    valid = np.asarray(arrays.get("valid", np.ones((len(motion), 3))), np.bool_)
    if valid.shape != (len(motion), 3):
        raise ValueError(f"{path}: valid has shape {valid.shape}, expected ({len(motion)}, 3)")
    if not np.isfinite(motion).all():
        raise ValueError(f"{path} holds a number that is not finite; mark such frames in `valid` and write 0")
    return Track(motion, valid)


def write_track(path: Path, track: Track) -> None:
    """Write a motion file in DualTalk's order, with our own ``valid`` beside it."""
    pose = np.concatenate([track.motion[:, 53:56], track.motion[:, 50:53]], axis=1)
    with path.open("xb") as file:
        np.savez_compressed(file, exp=track.motion[:, :50], pose=pose, valid=track.valid)


def _open(path: Path) -> soundfile.SoundFile:
    return soundfile.SoundFile(path, "w", SAMPLE_RATE_HZ, 1, "PCM_16")


def _write_until(
    file: soundfile.SoundFile, stream: SampleStream, written: dict[str, int], topic: str, end: int
) -> None:
    while written[topic] < end:
        part = min(end, written[topic] + SAMPLE_RATE_HZ)
        file.write(stream.read(written[topic], part))
        written[topic] = part


def _joined(runs: list[tuple[int, npt.NDArray[np.float32], npt.NDArray[np.bool_]]], frames: int) -> Track:
    track = Track(np.zeros((frames, MOTION_SIZE), np.float32), np.zeros((frames, 3), np.bool_))
    for first, motion, valid in runs:
        end = min(first + len(motion), frames)
        if first < end:
            track.motion[first:end], track.valid[first:end] = motion[: end - first], valid[: end - first]
    return track


def _shown(shown: ShownMotion, frames: int) -> Track:
    motion, is_shown = shown.track(frames)
    return Track(motion, np.repeat(is_shown[:, None], 3, axis=1))
