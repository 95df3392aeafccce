"""Makes bags from sound files and motion, as a perfect microphone and loudspeaker would record them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from timar_audio.floor import Kind, Speaker
from timar_common.clock import (
    FRAMES_PER_SECOND,
    NOMINAL_NS_PER_SAMPLE,
    SAMPLE_RATE_HZ,
    SAMPLES_PER_FRAME,
)
from timar_common.messages import Header, new
from timar_common.user_motion import user_motion_message

from timar_bag.out_bag import FRAME_IDS, OutBag, audio_chunk
from timar_bag.truth import TRUTH_EVENTS, TRUTH_MOTION

BEGIN_NS = 1_700_000_000_000_000_000
"""ROS time of sample 0; fixed, so that the same files make the same bag."""
BLOCK = 320
CHUNK = 3200
AHEAD_SAMPLES = 2 * SAMPLE_RATE_HZ
MOTION_FRAMES = 5
"""Motion comes in runs of so many frames."""
TRACKER_DELAY_FRAMES = 1
"""A face tracker tells of a frame so much after it was seen."""


class Voice(Protocol):
    """What a bag asks of a sound: the next samples, fewer at its end; `timar_common.wav.SoundFile` is one."""

    def read(self, samples: int) -> npt.NDArray[np.int16]:
        """Return the next samples at 16 kHz, none after the end."""


class Samples:
    """A voice that is known whole."""

    def __init__(self, samples: npt.NDArray[np.int16]) -> None:
        self._samples = samples

    def read(self, samples: int) -> npt.NDArray[np.int16]:
        """Return the next samples."""
        taken, self._samples = self._samples[:samples], self._samples[samples:]
        return taken


@dataclasses.dataclass(frozen=True)
class Track:
    """Motion of one person, frame by frame from the conversation's first."""

    motion: npt.NDArray[np.float32]
    """(T, 56) expression, jaw, neck."""
    valid: npt.NDArray[np.bool_]
    """(T, 3) whether expression, jaw and neck were seen."""


@dataclasses.dataclass(frozen=True)
class Label:
    """A stretch of speech, marked by hand."""

    speaker: Speaker
    begin_s: float
    end_s: float


def write_bag(
    path: Path,
    user: Voice,
    agent: Voice | None = None,
    *,
    user_motion: Track | None = None,
    agent_motion: Track | None = None,
    labels: Sequence[Label] = (),
    namespace: str = "",
) -> float:
    """Write a conversation that was never live as a bag: sound at its time, the agent's speech planned ahead.

    Args:
        path: The bag's folder; it must not exist yet.
        user: What the microphone heard; the bag ends with it.
        agent: What the head says; None: nothing.
        user_motion: What a face tracker saw of the user.
        agent_motion: How the agent's person really moved; the truth that scores are made against.
        labels: When somebody really spoke.
        namespace: The robot's.

    Returns:
        The conversation's length [s].

    Raises:
        ValueError: The folder exists, or the user's voice has no sample.
        OSError: The bag cannot be written.
    """
    out = OutBag(path, namespace).open()
    try:
        return _Conversation(out, user, agent, user_motion, agent_motion, labels).write()
    finally:
        out.close()


def read_labels(path: Path, user: str, agent: str) -> list[Label]:
    """Read the stretches of two speakers from an RTTM file.

    Args:
        path: The file: lines ``SPEAKER file channel start length <NA> <NA> name ...``.
        user: Name of the speaker who is the user.
        agent: Name of the speaker who is the agent.

    Raises:
        ValueError: A line cannot be read, or neither of the two speaks; the message names the line.
        OSError: The file cannot be read.
    """
    speakers = {user: Speaker.USER, agent: Speaker.AGENT}
    labels = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        words = line.split()
        if not words or words[0] != "SPEAKER":
            continue
        try:
            begin_s, length_s, name = float(words[3]), float(words[4]), words[7]
        except (IndexError, ValueError):
            raise ValueError(
                f"line {number} of {path} is {line!r}, expected SPEAKER FILE CHANNEL START LENGTH .. .. NAME"
            ) from None
        if name in speakers:
            labels.append(Label(speakers[name], begin_s, begin_s + length_s))
    if not labels:
        raise ValueError(f"{path} has no line of {user!r} or {agent!r}; name speakers that are in it")
    return sorted(labels, key=lambda label: label.begin_s)


class _Conversation:
    """Write block after block in the order a recorder would have got the messages."""

    def __init__(
        self,
        out: OutBag,
        user: Voice,
        agent: Voice | None,
        user_motion: Track | None,
        agent_motion: Track | None,
        labels: Iterable[Label],
    ) -> None:
        self._out = out
        self._user, self._agent = user, agent
        self._tracks = [
            (topic, track, delay)
            for topic, track, delay in (
                ("user/motion", user_motion, TRACKER_DELAY_FRAMES),
                (TRUTH_MOTION, agent_motion, 0),
            )
            if track is not None
        ]
        self._events = sorted(_events(labels))
        self._planned: list[npt.NDArray[np.int16]] = []
        self._planned_end = 0
        self._heard_end = 0

    def write(self) -> float:
        """Write the whole conversation and return its length [s]."""
        sample = 0
        while (block := self._user.read(BLOCK)).size:
            end = sample + block.size
            self._plan(end + AHEAD_SAMPLES)
            self._write_block(sample, block)
            self._write_rest(end)
            sample = end
        if not sample:
            raise ValueError("the user's voice holds no sample, so there is no conversation to write")
        return sample / SAMPLE_RATE_HZ

    def _write_block(self, first: int, block: npt.NDArray[np.int16]) -> None:
        end_ns = ros_ns(first + block.size)
        message = audio_chunk(first, block, Header(ros_ns(first), FRAME_IDS[Speaker.USER]))
        self._out.write("user/audio_raw", end_ns, message)
        self._out.write("user/audio", end_ns, message)
        if self._agent is not None or self._planned:
            header = Header(ros_ns(first), FRAME_IDS[Speaker.AGENT])
            self._out.write("agent/audio", end_ns, audio_chunk(first, self._hear(block.size), header))

    def _plan(self, until_sample: int) -> None:
        while self._agent is not None and self._planned_end < until_sample:
            chunk = self._agent.read(CHUNK)
            at_ns = ros_ns(max(self._planned_end - AHEAD_SAMPLES, 0))
            if chunk.size:
                message = new(
                    "PlannedAudio",
                    header=Header(ros_ns(self._planned_end), FRAME_IDS[Speaker.AGENT]),
                    sample_rate=SAMPLE_RATE_HZ,
                    first_sample=self._planned_end,
                    samples=chunk,
                )
                self._out.write("agent/audio_planned", at_ns, message)
                self._planned.append(chunk)
            else:
                # From here on there is silence, which needs no plan.
                self._agent = None
                self._planned.append(np.zeros(0, np.int16))
            self._planned_end += chunk.size

    def _hear(self, samples: int) -> npt.NDArray[np.int16]:
        heard = np.zeros(samples, np.int16)
        place = 0
        while place < samples and self._planned and self._planned[0].size:
            part = self._planned[0][: samples - place]
            heard[place : place + part.size] = part
            place += part.size
            rest = self._planned[0][part.size :]
            self._planned = [rest, *self._planned[1:]] if rest.size else self._planned[1:]
        return heard

    def _write_rest(self, until_sample: int) -> None:
        """Write the motion that is over by now, and the labels."""
        for topic, track, delay in self._tracks:
            end_frame = until_sample // SAMPLES_PER_FRAME - delay
            before = (until_sample - BLOCK) // SAMPLES_PER_FRAME - delay
            if end_frame > before and end_frame % MOTION_FRAMES == 0:
                self._write_motion(topic, track, end_frame - MOTION_FRAMES, ros_ns(until_sample))
        while self._events and self._events[0][0] <= until_sample:
            sample, label, number, kind = self._events.pop(0)
            message = new(
                "TurnEvent",
                header=Header(ros_ns(sample), FRAME_IDS[Speaker(label[0])]),
                speaker=label[0],
                kind=kind,
                speech_turn=number,
                first_sample=label[1],
                end_sample=label[2] if kind == Kind.END else label[1],
            )
            self._out.write(TRUTH_EVENTS, ros_ns(until_sample), message)

    def _write_motion(self, topic: str, track: Track, first_frame: int, at_ns: int) -> None:
        part = slice(first_frame, first_frame + MOTION_FRAMES)
        motion, valid = track.motion[part], track.valid[part]
        if len(motion) and valid.any():
            stamp_ns = ros_ns(first_frame * SAMPLES_PER_FRAME)
            self._out.write(topic, at_ns, user_motion_message(first_frame, motion, valid, stamp_ns))


def ros_ns(sample: int) -> int:
    """Return the ROS time of a sample [ns]."""
    return BEGIN_NS + round(sample * NOMINAL_NS_PER_SAMPLE)


def frames_of(seconds: float) -> int:
    """Return how many whole frames a time has."""
    return int(seconds * FRAMES_PER_SECOND)


def _events(labels: Iterable[Label]) -> list[tuple[int, tuple[int, int, int], int, int]]:
    """Return (sample, label, number, kind) of starts and ends."""
    events = []
    counts = dict.fromkeys(Speaker, 0)
    for label in labels:
        first, end = round(label.begin_s * SAMPLE_RATE_HZ), round(label.end_s * SAMPLE_RATE_HZ)
        place = (int(label.speaker), first, end)
        number = counts[label.speaker]
        counts[label.speaker] += 1
        events += [(first, place, number, int(Kind.START)), (end, place, number, int(Kind.END))]
    return events
