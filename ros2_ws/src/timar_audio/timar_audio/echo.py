"""Acoustic echo suppression: removes the head's own speech from the microphone's audio.

A block of the microphone waits for the agent's sound of the same place, for both are on one clock. Then a
linear filter subtracts the echo, and a gate closes on what may be left of it.
"""

from __future__ import annotations

import collections
import dataclasses
import math

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ, SAMPLES_PER_MS
from timar_common.config import check, number
from timar_common.diagnostics import Level, Report
from timar_common.pcm import FULL_SCALE, float_to_int16
from timar_common.stream import SampleStream

from timar_audio.blocks import AudioBlock
from timar_audio.echo_delay import DelayTracker
from timar_audio.echo_filter import EchoFilter, EchoFilterConfig
from timar_audio.levels import level_dbfs

_KEPT = 4 * SAMPLE_RATE_HZ


@dataclasses.dataclass(frozen=True)
class EchoGateConfig:
    """When what the filter left is taken for somebody's sound."""

    above_db: float = number(
        6.0, "It is so much stronger than what the echo leaves in most blocks.", 0.0, 60.0, "dB"
    )
    rise_share: float = number(
        0.2, "That is believed to be more by so much of the difference after a block with more.", 0.0, 1.0
    )
    fall_share: float = number(0.02, "And less after a block with less.", 0.0, 1.0)
    least_db: float = number(
        -50.0, "It is never believed to be less, against what the filter expects.", -90.0, 0.0, "dB"
    )
    hold_blocks: int = number(2, "So long the gate stays open.", 1, 100, "blocks")
    closed_gain: float = number(0.02, "What passes while it is closed.", 0.0, 1.0)
    noise_rise: float = number(
        1.02, "How fast the room's noise is believed to rise, by power and block.", 1.0, 2.0
    )

    def __post_init__(self) -> None:
        check(self)


class EchoSuppressor:
    """Subtract the echo, whose drift is followed, and let pass what is more than the echo that may be left.

    What is held back is replaced by noise of the room's level.

    Args:
        block: Samples in and out at once.
        tail_ms: Echo that is modelled, from the loudspeaker's buffer to the end of the room's answer [ms].
    """

    def __init__(self, block: int, tail_ms: int, config: EchoGateConfig | None = None) -> None:
        self._config = config or EchoGateConfig()
        partitions = max(1, math.ceil(tail_ms * SAMPLES_PER_MS / block))
        self._filter = EchoFilter(EchoFilterConfig(block=block, partitions=partitions))
        self._delay = DelayTracker(block)
        self._open_blocks = 0
        self._gain = 1.0
        self._most_db = 0.0
        self._noise_power: float | None = None
        self._random = np.random.default_rng(0)

    def process(self, near: npt.NDArray[np.int16], far: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Return `near` without the echo of `far`.

        Args:
            near: (block,) what the microphone heard.
            far: (block,) what the loudspeaker played at the same positions of the clock.
        """
        played = self._delay.delayed(far / FULL_SCALE)
        # A filter that diverges must not end the capture thread: what is not finite reads as silence.
        less = np.nan_to_num(self._filter.process(near / FULL_SCALE, played))
        self._delay.observe(self._filter)
        self._open_blocks = self._config.hold_blocks if self._is_more() else max(0, self._open_blocks - 1)
        before, self._gain = self._gain, 1.0 if self._open_blocks else self._config.closed_gain
        gain = np.linspace(before, self._gain, less.size)
        return float_to_int16(less * gain + self._noise(less) * (1.0 - gain))

    def _is_more(self) -> bool:
        """Tell whether more was left than echo, and learn what the echo leaves in most blocks.

        What the filter expects is about right in a hard room, 10 dB too much in an easy one, and far too much
        where there is no echo at all, as with headphones.
        """
        cfg, left, expected = self._config, self._filter.left, self._filter.expected
        if expected <= 0.0:
            return left > 0.0
        above_db = 10.0 * math.log10(max(left, 1e-20) / expected)
        if above_db > self._most_db + cfg.above_db:
            return True
        share = cfg.rise_share if above_db > self._most_db else cfg.fall_share
        self._most_db = min(0.0, max(cfg.least_db, self._most_db + share * (above_db - self._most_db)))
        return False

    def _noise(self, less: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return noise as quiet as the room: a voice detector would take silence for its background."""
        power = float((less**2).mean())
        before = power if self._noise_power is None else self._noise_power
        self._noise_power = min(power, before * self._config.noise_rise)
        return self._random.standard_normal(less.size) * math.sqrt(self._noise_power)


class EchoStage:
    """Bring both sounds together and suppress one in the other.

    Args:
        suppressor: What does it.
        wait_ms: So long a block waits for the agent's sound; then that counts as silence [ms].
        is_on: Whether anything is suppressed from the start.
    """

    def __init__(self, suppressor: EchoSuppressor, wait_ms: int, *, is_on: bool = True) -> None:
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
