"""Makes bags from sound files and motion, as a perfect microphone and loudspeaker would record them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from timar_audio.floor import Kind, Speaker
from timar_common.clock import NOMINAL_NS_PER_SAMPLE, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from timar_common.messages import Header, Message, new
from timar_common.motion_file import MotionTrack
from timar_common.user_motion import user_motion_message

from timar_bag.bag_writer import FRAME_IDS, TopicBagWriter, audio_chunk
from timar_bag.ground_truth import GROUND_TRUTH_LABELS, GROUND_TRUTH_MOTION

BEGIN_NS = 1_700_000_000_000_000_000
"""ROS time of sample 0; fixed, so that the same files make the same bag."""
BLOCK = 320
CHUNK = 3200
AHEAD_SAMPLES = 2 * SAMPLE_RATE_HZ
MOTION_FRAMES = 5
"""Motion comes in runs of so many frames."""
TRACKER_DELAY_FRAMES = 1
"""A face tracker publishes a frame so much after it was seen."""


class SampleReader(Protocol):
    """What a bag asks of a sound: the next samples, fewer at its end; `timar_common.wav.SoundFile` is one."""

    def read(self, samples: int) -> npt.NDArray[np.int16]:
        """Return the next samples at 16 kHz, none after the end."""


class WholeSound:
    """A sound that is known whole, read forward."""

    def __init__(self, samples: npt.NDArray[np.int16]) -> None:
        self._samples = samples

    def read(self, samples: int) -> npt.NDArray[np.int16]:
        """Return the next samples."""
        taken, self._samples = self._samples[:samples], self._samples[samples:]
        return taken


class SpeechLabel(NamedTuple):
    """A stretch of speech, marked by hand."""

    speaker: Speaker
    begin_s: float
    end_s: float


def write_bag(
    path: Path,
    user: SampleReader,
    agent: SampleReader | None = None,
    *,
    user_motion: MotionTrack | None = None,
    agent_motion: MotionTrack | None = None,
    labels: Sequence[SpeechLabel] = (),
    namespace: str = "",
) -> float:
    """Write a conversation that was never live as a bag: sound at its time, the agent's speech planned ahead.

    Args:
        path: The bag's folder; it must not exist yet.
        user: What the microphone heard; the bag ends with it.
        agent: What the head says; None: nothing.
        user_motion: What a face tracker saw of the user.
        agent_motion: How the agent's person really moved; the ground truth of scores.
        labels: When somebody really spoke.
        namespace: The robot's.

    Returns:
        The conversation's length [s].

    Raises:
        ValueError: The folder exists, or the user's voice has no sample.
        OSError: The bag cannot be written.
    """
    out = TopicBagWriter(path, namespace).open()
    tracks = [("user/motion", user_motion, TRACKER_DELAY_FRAMES), (GROUND_TRUTH_MOTION, agent_motion, 0)]
    try:
        conversation = _ConversationWriter(out, user, agent, _label_events(labels))
        conversation.tracks += [(topic, track, delay) for topic, track, delay in tracks if track is not None]
        return conversation.write()
    finally:
        out.close()


def read_labels(path: Path, user: str, agent: str) -> list[SpeechLabel]:
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
            labels.append(SpeechLabel(speakers[name], begin_s, begin_s + length_s))
    if not labels:
        raise ValueError(f"{path} has no line of {user!r} or {agent!r}; name speakers that are in it")
    return sorted(labels, key=lambda label: label.begin_s)


class _ConversationWriter:
    """Write block after block in the order a recorder would have got the messages."""

    def __init__(
        self,
        out: TopicBagWriter,
        user: SampleReader,
        agent: SampleReader | None,
        label_events: list[tuple[int, Message]],
    ) -> None:
        self.tracks: list[tuple[str, MotionTrack, int]] = []
        """Topic, motion, and how many frames later it is published."""
        self._out, self._user, self._agent = out, user, agent
        self._has_agent = agent is not None
        self._label_events = label_events
        self._planned = np.zeros(0, np.int16)
        """What is planned and not heard yet."""
        self._planned_end = 0

    def write(self) -> float:
        """Write the whole conversation and return its length [s]."""
        sample = 0
        while (block := self._user.read(BLOCK)).size:
            end = sample + block.size
            self._plan(end + AHEAD_SAMPLES)
            self._write_block(sample, block)
            self._write_motion_and_labels(end)
            sample = end
        if not sample:
            raise ValueError("the user's voice holds no sample, so there is no conversation to write")
        return sample / SAMPLE_RATE_HZ

    def _write_block(self, first: int, block: npt.NDArray[np.int16]) -> None:
        end_ns = ros_ns(first + block.size)
        message = audio_chunk(first, block, Header(ros_ns(first), FRAME_IDS[Speaker.USER]))
        self._out.write("user/audio_raw", end_ns, message)
        self._out.write("user/audio", end_ns, message)
        if self._has_agent:
            heard, self._planned = self._planned[: block.size], self._planned[block.size :]
            heard = np.pad(heard, (0, block.size - heard.size))
            message = audio_chunk(first, heard, Header(ros_ns(first), FRAME_IDS[Speaker.AGENT]))
            self._out.write("agent/audio", end_ns, message)

    def _plan(self, until_sample: int) -> None:
        while self._agent is not None and self._planned_end < until_sample:
            chunk = self._agent.read(CHUNK)
            if not chunk.size:
                # From here on there is silence, which needs no plan.
                self._agent = None
                return
            header = Header(ros_ns(self._planned_end), FRAME_IDS[Speaker.AGENT])
            fields = {"sample_rate": SAMPLE_RATE_HZ, "first_sample": self._planned_end, "samples": chunk}
            at_ns = ros_ns(max(self._planned_end - AHEAD_SAMPLES, 0))
            self._out.write("agent/audio_planned", at_ns, new("PlannedAudio", header=header, **fields))
            self._planned = np.concatenate([self._planned, chunk])
            self._planned_end += chunk.size

    def _write_motion_and_labels(self, until_sample: int) -> None:
        """Write the motion that is over by now, and the labels."""
        at_ns = ros_ns(until_sample)
        for topic, track, delay in self.tracks:
            end_frame = until_sample // SAMPLES_PER_FRAME - delay
            before = (until_sample - BLOCK) // SAMPLES_PER_FRAME - delay
            part = slice(end_frame - MOTION_FRAMES, end_frame)
            if end_frame > max(before, 0) and end_frame % MOTION_FRAMES == 0 and track.valid[part].any():
                stamp_ns = ros_ns(part.start * SAMPLES_PER_FRAME)
                motion = user_motion_message(part.start, track.vector[part], track.valid[part], stamp_ns)
                self._out.write(topic, at_ns, motion)
        while self._label_events and self._label_events[0][0] <= until_sample:
            self._out.write(GROUND_TRUTH_LABELS, at_ns, self._label_events.pop(0)[1])


def ros_ns(sample: int) -> int:
    """Return the ROS time of a sample [ns]."""
    return BEGIN_NS + round(sample * NOMINAL_NS_PER_SAMPLE)


def _label_events(labels: Sequence[SpeechLabel]) -> list[tuple[int, Message]]:
    """Return (sample, TurnEvent) of each label's start and end, in order of time."""
    events, counts = [], Counter[Speaker]()
    for label in labels:
        first, end = round(label.begin_s * SAMPLE_RATE_HZ), round(label.end_s * SAMPLE_RATE_HZ)
        for sample, kind in ((first, Kind.START), (end, Kind.END)):
            header = Header(ros_ns(sample), FRAME_IDS[label.speaker])
            fields = {"speaker": int(label.speaker), "kind": int(kind), "speech_turn": counts[label.speaker]}
            event = new("TurnEvent", header=header, first_sample=first, end_sample=sample, **fields)
            events.append((sample, event))
        counts[label.speaker] += 1
    return sorted(events, key=lambda event: event[0])
