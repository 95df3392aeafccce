"""Acoustic echo suppression: removes the head's own speech from the microphone's audio.

A block of the microphone waits for the agent's sound of the same place, for both are on one clock. Then a
linear filter subtracts the echo, and WebRTC's canceller suppresses what is left.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ, SAMPLES_PER_MS
from timar_common.diagnostics import Level, Report
from timar_common.pcm import FULL_SCALE, float_to_int16
from timar_common.stream import SampleStream

from timar_audio.blocks import AudioBlock
from timar_audio.echo_filter import EchoFilter, EchoFilterConfig
from timar_audio.levels import level_dbfs

FRAME = SAMPLE_RATE_HZ // 100
"""WebRTC works on 10 ms [samples]."""
_KEPT = 4 * SAMPLE_RATE_HZ


class WebRtcSuppressor:
    """A linear filter, then WebRTC's echo canceller (AEC3).

    AEC3 alone took a user 10 dB below the head's own voice away with the echo (see docs/audio.md).

    Args:
        block: Samples in and out at once, a multiple of 10 ms.
        tail_ms: Echo that is modelled, from the loudspeaker's buffer to the end of the room's answer [ms].

    Raises:
        OSError: The package is not installed.
        ValueError: The block is no multiple of 10 ms.
    """

    def __init__(self, block: int = 2 * FRAME, tail_ms: int = 320) -> None:
        if block % FRAME:
            raise ValueError(
                f"a block has {block} samples, expected a multiple of {FRAME} (10 ms) for webrtc"
            )
        partitions = max(1, math.ceil(tail_ms * SAMPLES_PER_MS / block))
        self._filter = EchoFilter(EchoFilterConfig(block=block, partitions=partitions))
        try:
            from pywebrtc_audio import AudioProcessor
        except ImportError as error:
            raise OSError(
                f"echo_suppression is 'webrtc' and cannot be used: {error}; pip install pywebrtc-audio"
            ) from error
        self._processor: Any = AudioProcessor(
            sample_rate=SAMPLE_RATE_HZ, echo_cancellation=True, high_pass_filter=True
        )

    def process(self, near: npt.NDArray[np.int16], far: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Return `near` without the echo of `far`.

        Args:
            near: (block,) what the microphone heard.
            far: (block,) what the loudspeaker played at the same positions of the clock.
        """
        # A filter that diverges must not end the capture thread: what is not finite reads as silence.
        less = float_to_int16(np.nan_to_num(self._filter.process(near / FULL_SCALE, far / FULL_SCALE)))
        out = [
            self._processor.process(less[i : i + FRAME], far[i : i + FRAME])
            for i in range(0, near.size, FRAME)
        ]
        return np.concatenate(out)


class EchoStage:
    """Bring both sounds together and suppress one in the other.

    Args:
        suppressor: What does it.
        wait_ms: So long a block waits for the agent's sound; then that counts as silence [ms].
        is_on: Whether anything is suppressed from the start.
    """

    def __init__(self, suppressor: WebRtcSuppressor, wait_ms: int, *, is_on: bool = True) -> None:
        self.is_on = is_on
        """Whether there is an echo to suppress; blocks pass as they are until then."""
        self.unmatched_blocks = 0
        """Blocks that went on without the agent's sound of their place."""
        self._suppressor = suppressor
        self._wait_ns = wait_ms * 1_000_000
        self._agent = SampleStream(capacity=_KEPT)
        self._waiting: collections.deque[tuple[AudioBlock, int]] = collections.deque()
        """Blocks that wait for the agent's audio, and since when [ns]."""
        self._raw_dbfs = self._clean_dbfs = -120.0

    def push_user(self, block: AudioBlock, monotonic_ns: int) -> list[AudioBlock]:
        """Take a block of the microphone in, and return those that are ready."""
        self._waiting.append((block, monotonic_ns))
        return self.ready(monotonic_ns)

    def push_agent(
        self, first_sample: int, samples: npt.NDArray[np.int16], monotonic_ns: int
    ) -> list[AudioBlock]:
        """Take what left the loudspeaker, and return the blocks that waited for it.

        Raises:
            ValueError: The block cannot be placed; see `SampleStream.push`.
        """
        self._agent.push(first_sample, samples)
        return self.ready(monotonic_ns)

    def restart(self) -> None:
        """Forget the agent's sound: its counter restarted."""
        self._agent = SampleStream(capacity=_KEPT)

    def ready(self, monotonic_ns: int) -> list[AudioBlock]:
        """Return the blocks whose echo is known by now, and those that waited long enough."""
        blocks = []
        while self._waiting:
            block, since_ns = self._waiting[0]
            end = block.first_sample + block.samples.size
            is_matched = self._agent.end_sample >= end
            if (
                self.is_on
                and self._agent.is_started
                and not is_matched
                and monotonic_ns - since_ns < self._wait_ns
            ):
                break
            self._waiting.popleft()
            self.unmatched_blocks += self.is_on and self._agent.is_started and not is_matched
            blocks.append(self._suppress(block) if self.is_on else block)
        return blocks

    def report(self) -> Report:
        """Say how much was suppressed in the newest block, and how often the agent's sound was missing."""
        report = Report(
            values={
                "echo_suppression_is_on": self.is_on,
                "echo_unmatched_blocks": self.unmatched_blocks,
                "echo_suppressed_db": self._raw_dbfs - self._clean_dbfs,
            }
        )
        if self.is_on and not self._agent.is_started:
            report.worsen(Level.WARN, "echo suppression receives no agent/audio; is playback running?")
        return report

    def _suppress(self, block: AudioBlock) -> AudioBlock:
        first = block.first_sample
        oldest = self._agent.end_sample - _KEPT
        far = (
            self._agent.read(first, first + block.samples.size)
            if first >= oldest
            else np.zeros(block.samples.size, np.int16)
        )
        clean = self._suppressor.process(block.samples, far)
        self._raw_dbfs, self._clean_dbfs = level_dbfs(block.samples), level_dbfs(clean)
        return dataclasses.replace(block, samples=clean)
