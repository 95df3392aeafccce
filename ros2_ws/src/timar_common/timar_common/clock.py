"""The conversation's one clock: the microphone's sample counter, and its place in machine time.

Frame ``f`` of motion is the sound of samples ``[640 f, 640 f + 640)``. Everything in a conversation is
addressed by these counters; machine time enters only where something must happen at an instant.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

from timar_common.config import Positive, check

SAMPLE_RATE_HZ = 16_000
FRAMES_PER_SECOND = 25
SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // FRAMES_PER_SECOND
SAMPLES_PER_MS = SAMPLE_RATE_HZ // 1000

NS_PER_S = 1_000_000_000
NOMINAL_NS_PER_SAMPLE = NS_PER_S / SAMPLE_RATE_HZ


@dataclasses.dataclass(frozen=True)
class ClockConfig:
    """How the sample clock is tracked."""

    jitter_ms: Positive = 2.0
    """Standard deviation of one observation of the device's clock [ms]."""
    rate_tolerance_ppm: Positive = 300.0
    """By how much the device's true rate may differ from the nominal one, one standard deviation [ppm]."""
    rate_wander_ppm_per_sqrt_s: Positive = 0.5
    """Random walk of that difference, by temperature [ppm per square root of a second]."""
    jump_ms: Positive = 500.0
    """An observation further off than this is a new start of the device and not jitter [ms]."""

    def __post_init__(self) -> None:
        check(self)


class SampleClock:
    """Track sample index -> monotonic time through observations that jitter.

    A Kalman filter over (time of the newest sample, nanoseconds per sample): its gain starts high, so that
    the first second is usable, and settles as the rate becomes known.
    """

    def __init__(self, config: ClockConfig | None = None) -> None:
        self.config = config or ClockConfig()
        self.jumps = 0
        self._started = False
        self._sample = 0
        self._time_ns = 0.0
        self._ns_per_sample = NOMINAL_NS_PER_SAMPLE
        # Covariance of (time, rate).
        self._time_var = self._cross_var = self._rate_var = 0.0

    @property
    def is_started(self) -> bool:
        """Whether anything was observed yet."""
        return self._started

    @property
    def rate_error_ppm(self) -> float:
        """How much faster than nominal the device counts samples [ppm]."""
        return (NOMINAL_NS_PER_SAMPLE / self._ns_per_sample - 1.0) * 1e6

    def observe(self, sample: int, monotonic_ns: int) -> None:
        """Learn that the device's counter stood at `sample` at `monotonic_ns`.

        Args:
            sample: Index on the conversation clock; observations that go backwards are ignored.
            monotonic_ns: Machine time, CLOCK_MONOTONIC [ns].
        """
        cfg = self.config
        measurement_var = (cfg.jitter_ms * 1e6) ** 2
        if not self._started:
            self._start(sample, monotonic_ns, measurement_var)
            return
        step = sample - self._sample
        if step <= 0:
            return
        predicted_ns = self._time_ns + step * self._ns_per_sample
        innovation_ns = monotonic_ns - predicted_ns
        if abs(innovation_ns) > cfg.jump_ms * 1e6:
            self.jumps += 1
            self._start(sample, monotonic_ns, measurement_var)
            return
        wander = cfg.rate_wander_ppm_per_sqrt_s * 1e-6 * NOMINAL_NS_PER_SAMPLE
        time_var = self._time_var + 2 * step * self._cross_var + step * step * self._rate_var
        cross_var = self._cross_var + step * self._rate_var
        rate_var = self._rate_var + wander * wander * step / SAMPLE_RATE_HZ
        time_gain = time_var / (time_var + measurement_var)
        rate_gain = cross_var / (time_var + measurement_var)
        self._sample = sample
        self._time_ns = predicted_ns + time_gain * innovation_ns
        self._ns_per_sample += rate_gain * innovation_ns
        self._time_var = (1 - time_gain) * time_var
        self._cross_var = (1 - time_gain) * cross_var
        self._rate_var = rate_var - rate_gain * cross_var

    def monotonic_ns(self, sample: int | float) -> int:
        """Return the machine time of a sample, past or to come [ns].

        Raises:
            RuntimeError: Nothing was observed yet.
        """
        self._require_start()
        return round(self._time_ns + (sample - self._sample) * self._ns_per_sample)

    def sample_at(self, monotonic_ns: int) -> float:
        """Return the counter's (fractional) value at a machine time [samples].

        Raises:
            RuntimeError: Nothing was observed yet.
        """
        self._require_start()
        return self._sample + (monotonic_ns - self._time_ns) / self._ns_per_sample

    def _start(self, sample: int, monotonic_ns: int, time_var: float) -> None:
        self._started = True
        self._sample = sample
        self._time_ns = float(monotonic_ns)
        self._ns_per_sample = NOMINAL_NS_PER_SAMPLE
        self._time_var = time_var
        self._cross_var = 0.0
        self._rate_var = (self.config.rate_tolerance_ppm * 1e-6 * NOMINAL_NS_PER_SAMPLE) ** 2

    def _require_start(self) -> None:
        if not self._started:
            raise RuntimeError("the sample clock has no observation yet; call observe() with the first block")


class RosClock(Protocol):
    """ROS time where this machine's own clock does not give it."""

    @property
    def is_started(self) -> bool:
        """Whether the time is known."""

    def ros_ns(self, monotonic_ns: int) -> int:
        """Return the ROS time of an instant of CLOCK_MONOTONIC [ns]."""


class SimClock:
    """ROS time between the messages of /clock, where a player or a simulator gives the time.

    Read as it is, such a time stands still from one message to the next (25 ms with `ros2 bag play`), and two
    nodes read the same instant as different ones. A message may come late and never early: of the newest ones
    the one that is furthest ahead of this machine is the most punctual, and time runs on from it. A time that
    is published again is paused: what was punctual before says nothing of the time after.

    Args:
        kept: So many messages are compared.
        step_ms: A time further off than this was set again [ms].
    """

    def __init__(self, kept: int = 8, step_ms: float = 500.0) -> None:
        self._kept = kept
        self._step_ns = step_ms * 1e6
        self._offsets_ns: tuple[int, ...] = ()
        self._newest_ns: int | None = None
        self._is_standing = False

    @property
    def is_started(self) -> bool:
        """Whether any message came yet."""
        return bool(self._offsets_ns)

    def tick(self, monotonic_ns: int, ros_ns: int) -> None:
        """Take a message of /clock that came now."""
        offset_ns = ros_ns - monotonic_ns
        before = self._offsets_ns
        was_standing, self._is_standing = self._is_standing, ros_ns == self._newest_ns
        is_leap = bool(before) and abs(offset_ns - before[-1]) > self._step_ns
        if was_standing or self._is_standing or is_leap:
            before = ()
        self._newest_ns = ros_ns
        # Replaced as a whole, for other threads read it.
        self._offsets_ns = (*before, offset_ns)[-self._kept :]

    def ros_ns(self, monotonic_ns: int) -> int:
        """Return ROS time now [ns]; before the first message it is the monotonic one."""
        return monotonic_ns + max(self._offsets_ns, default=0)


class RosAnchor:
    """Hold the offset between ROS time and monotonic time, and notice when the ROS clock steps.

    Instants are kept in monotonic time inside every core, so a step of the ROS clock (NTP, a bag that loops)
    changes how they are written in messages and never when they happen.
    """

    def __init__(self, step_threshold_ms: float = 50.0) -> None:
        self.steps = 0
        self._threshold_ns = step_threshold_ms * 1e6
        self._offset_ns: int | None = None

    def update(self, monotonic_ns: int, ros_ns: int) -> bool:
        """Take both clocks, read at the same instant, and tell whether the ROS clock stepped since."""
        offset_ns = ros_ns - monotonic_ns
        stepped = self._offset_ns is not None and abs(offset_ns - self._offset_ns) > self._threshold_ns
        self.steps += stepped
        self._offset_ns = offset_ns
        return stepped

    def ros_ns(self, monotonic_ns: int) -> int:
        """Write a monotonic instant as ROS time [ns]."""
        return monotonic_ns + self._offset()

    def monotonic_ns(self, ros_ns: int) -> int:
        """Read a ROS time as a monotonic instant [ns]."""
        return ros_ns - self._offset()

    def _offset(self) -> int:
        if self._offset_ns is None:
            raise RuntimeError("the ROS anchor was never updated; call update() before converting")
        return self._offset_ns
