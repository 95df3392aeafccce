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
from timar_common.config import check, number
from timar_common.diagnostics import Level, Report
from timar_common.pcm import FULL_SCALE, float_to_int16
from timar_common.stream import SampleStream

from timar_audio.blocks import AudioBlock
from timar_audio.echo_filter import EchoFilter, EchoFilterConfig
from timar_audio.levels import SILENCE_DBFS, level_dbfs

FRAME = SAMPLE_RATE_HZ // 100
"""WebRTC works on 10 ms [samples]."""
_KEPT = 4 * SAMPLE_RATE_HZ


@dataclasses.dataclass(frozen=True)
class ResidualGateConfig:
    """What is let pass of that which echo cancellation leaves."""

    below_echo_db: float = number(
        18.0, "What is so far below the echo that was taken out is the rest of it.", 0.0, 60.0, "dB"
    )
    decay_db_s: float = number(
        60.0,
        "How fast the echo is believed to die away: 60 dB/s is a reverberation of 1 s.",
        1.0,
        1e3,
        "dB/s",
    )
    hold_s: float = number(0.2, "What follows something louder passes for so long.", 0.0, 5.0, "s")
    learn_s: float = number(
        2.0,
        "Nothing passes beside the head's first so many seconds of speech: the room is learned.",
        0.0,
        60.0,
        "s",
    )
    far_dbfs: float = number(-60.0, "From this level on the head speaks.", -120.0, 0.0, "dBFS")

    def __post_init__(self) -> None:
        check(self)


class ResidualGate:
    """Take down to the room's noise, block by block, what is only the rest of the echo.

    Args:
        block_s: Length of a block [s].
    """

    def __init__(self, block_s: float, config: ResidualGateConfig | None = None) -> None:
        self.config = config or ResidualGateConfig()
        self._block_s = block_s
        self._echo_dbfs = self._far_dbfs = SILENCE_DBFS
        self._learned_s = self._open_s = 0.0
        self._noise_dbfs = SILENCE_DBFS

    def gain(self, left_dbfs: float, echo_dbfs: float, far_dbfs: float) -> float:
        """Take a block's levels in and return its gain, 0..1.

        Args:
            left_dbfs: Of what cancellation left.
            echo_dbfs: Of the echo that the linear filter took out.
            far_dbfs: Of what the loudspeaker played.
        """
        cfg = self.config
        decay_db = cfg.decay_db_s * self._block_s
        self._echo_dbfs = max(self._echo_dbfs - decay_db, echo_dbfs)
        self._far_dbfs = max(self._far_dbfs - decay_db, far_dbfs)
        if self._far_dbfs < cfg.far_dbfs:  # nobody is heard but the room and who is in it
            rise = 0.02 if left_dbfs > self._noise_dbfs else 0.5
            self._noise_dbfs += rise * (left_dbfs - self._noise_dbfs)
            self._open_s = 0.0
            return 1.0
        is_learning = self._learned_s < cfg.learn_s
        self._learned_s += self._block_s * (far_dbfs >= cfg.far_dbfs)
        if not is_learning and left_dbfs > self._echo_dbfs - cfg.below_echo_db:
            self._open_s = cfg.hold_s
        else:
            self._open_s -= self._block_s
        return 1.0 if self._open_s > 0.0 else 10.0 ** (min(0.0, self._noise_dbfs - left_dbfs) / 20.0)


class WebRtcSuppressor:
    """A linear filter, then WebRTC's echo canceller (AEC3), then a gate on what is left.

    AEC3 alone took a user 10 dB below the head's own voice away with the echo (see docs/audio.md).

    Args:
        block: Samples in and out at once, a multiple of 10 ms.
        tail_ms: Echo that is modelled, from the loudspeaker's buffer to the end of the room's answer [ms].

    Raises:
        OSError: The package is not installed.
        ValueError: The block is no multiple of 10 ms.
    """

    def __init__(self, block: int = 2 * FRAME, tail_ms: int = 500) -> None:
        if block % FRAME:
            raise ValueError(
                f"a block has {block} samples, expected a multiple of {FRAME} (10 ms) for webrtc"
            )
        partitions = max(1, math.ceil(tail_ms * SAMPLES_PER_MS / block))
        self._filter = EchoFilter(EchoFilterConfig(block=block, partitions=partitions))
        self._gate = ResidualGate(block / SAMPLE_RATE_HZ)
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
        echo = (near.astype(np.int32) - less).clip(-32_768, 32_767).astype(np.int16)
        out = [
            self._processor.process(less[i : i + FRAME], far[i : i + FRAME])
            for i in range(0, near.size, FRAME)
        ]
        left = np.concatenate(out)
        gain = self._gate.gain(level_dbfs(left), level_dbfs(echo), level_dbfs(far))
        return left if gain == 1.0 else np.rint(left * gain).astype(np.int16)


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
