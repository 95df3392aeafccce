"""Converts DualTalk's files to a bag and back: two voices (WAV) and two motions (npz)."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
from timar_common.clock import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from timar_common.motion_file import MotionTrack, read_motion, write_motion
from timar_common.stream import SampleStream
from timar_common.user_motion import MOTION_CHANNELS, PARTS, user_motion_from
from timar_common.wav import SoundFile, SoundWriter

from timar_bag.bag import BagReader
from timar_bag.ground_truth import GROUND_TRUTH_MOTION
from timar_bag.make_bag import write_bag
from timar_bag.shown import ShownMotion

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
    """Write a clip as a bag; the agent's motion, where there is any, becomes the ground truth.

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
        speaker: read_motion(clip.motion(speaker)) if clip.motion(speaker).is_file() else None
        for speaker in (user, agent)
    }
    with SoundFile(clip.voice(user)) as heard, SoundFile(clip.voice(agent)) as spoken:
        return write_bag(bag, heard, spoken, user_motion=tracks[user], agent_motion=tracks[agent])


def to_dualtalk(bag: Path, clip: DualTalkClip, user: int = 1, namespace: str | None = None) -> list[str]:
    """Write a recorded conversation as a clip that training reads.

    The agent's motion is the ground truth where the bag holds it, else what was shown. Both voices begin at
    sample 0 of the conversation clock; what is missing is silence, and frames nobody saw are marked in
    ``valid``.

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
    shown = ShownMotion()
    seen: dict[str, list[tuple[int, MotionTrack]]] = {"user/motion": [], GROUND_TRUTH_MOTION: []}
    with BagReader(bag, namespace) as reader, contextlib.ExitStack() as files:
        if not reader.has_messages("user/audio"):
            raise ValueError(f"{bag} holds no message of user/audio, so there is no clip in it")
        clip.folder.mkdir(parents=True, exist_ok=True)
        voices = {
            topic: _VoiceFile(clip.voice(speaker))
            for topic, speaker in (("user/audio", user), ("agent/audio", agent))
        }
        for voice in voices.values():
            files.callback(voice.close)
        for topic, receive_ns, message in reader.messages({*voices, *seen, "agent/motion"}):
            if topic in voices:
                voices[topic].append(int(message.first_sample), np.asarray(message.samples, np.int16))
            elif topic in seen:
                seen[topic].append((int(message.first_frame), MotionTrack(*user_motion_from(message))))
            else:
                with contextlib.suppress(ValueError):
                    shown.append(receive_ns, message)
        end = voices["user/audio"].stream.end_sample
        voices["agent/audio"].write_until(end)
        issues = list(reader.issues)
    for topic, voice in voices.items():
        if lost := voice.stream.counters.lost:
            issues.append(f"{lost} samples of {topic} are missing; silence stands there")
    frames = end // SAMPLES_PER_FRAME
    motion, is_shown = shown.track(frames)
    tracks = {user: _joined(seen["user/motion"], frames), agent: _joined(seen[GROUND_TRUTH_MOTION], frames)}
    if not seen[GROUND_TRUTH_MOTION]:
        tracks[agent] = MotionTrack(motion, np.repeat(is_shown[:, None], len(PARTS), axis=1))
    for speaker, track in tracks.items():
        if track.valid.any():
            write_motion(clip.motion(speaker), track)
        else:
            issues.append(
                f"the bag holds no motion of speaker {speaker}; {clip.motion(speaker).name} is not written"
            )
    return issues


class _VoiceFile:
    """A voice as it becomes known, written as a WAV file from sample 0 on."""

    def __init__(self, path: Path) -> None:
        self.stream = SampleStream(LONGEST_GAP + SAMPLE_RATE_HZ, LONGEST_GAP)
        self._file, self._written = SoundWriter(path), 0
        self.close = self._file.close

    def append(self, first_sample: int, samples: np.ndarray) -> None:
        self.stream.push(first_sample, samples)
        self.write_until(self.stream.end_sample)

    def write_until(self, end_sample: int) -> None:
        while self._written < end_sample:
            part = min(end_sample, self._written + SAMPLE_RATE_HZ)
            self._file.write(self.stream.read(self._written, part))
            self._written = part


def _joined(runs: list[tuple[int, MotionTrack]], frames: int) -> MotionTrack:
    motion, valid = np.zeros((frames, MOTION_CHANNELS), np.float32), np.zeros((frames, len(PARTS)), np.bool_)
    for first, run in runs:
        end = min(first + len(run.vector), frames)
        count = max(end - first, 0)
        motion[first:end], valid[first:end] = run.vector[:count], run.valid[:count]
    return MotionTrack(motion, valid)
