"""Idle behavior: blinks, gaze, breath, sway and posture, added to motion and all there is without it.

Every signal is a seeded function of time.

Facts behind the defaults. People blink about 17 times a minute at rest and 26 times in conversation (A. R.
Bentivoglio et al., "Analysis of blink rate patterns in normal subjects", Movement Disorders 12, 1997). The
lid closes in a tenth of a second and opens in about twice that (C. Evinger, K. Manning, P. Sibony, "Eyelid
movements: mechanisms and normal data", Investigative Ophthalmology & Visual Science 32, 1991), and intervals
are skewed, with few below a second. Adults breathe 12 to 20 times a minute at rest. A gaze shift beyond some
15 degrees is shared by the head, which starts with the eyes and takes several times as long (E. G. Freedman,
"Coordination of the eyes and head during visual orienting", Experimental Brain Research 190, 2008).
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from timar_common.config import check, number, option

from timar_retargeting.interpolation import TargetInterpolator, smooth_step

Array = npt.NDArray[np.float64]

IDLE_SIGNALS = (
    "blink", "gaze_yaw", "gaze_pitch", "breath", "sway_yaw", "sway_pitch", "sway_roll", "brow_raise", "smile",
)  # fmt: skip
"""blink 0 open .. 1 closed; gaze and sway [rad], signs as in the neck; breath -1..1; the others 0..1."""


@dataclasses.dataclass(frozen=True)
class IdleLayersConfig:
    """How much a head moves by itself; every layer has its weight."""

    blink_weight: float = number(1.0, "How far blinks close the lids; 0: no blinks.", 0.0, 1.0)
    gaze_weight: float = number(1.0, "Size of small gaze shifts.", 0.0, 2.0)
    look_weight: float = number(1.0, "How far the head follows a point it is told to look at.", 0.0, 1.0)
    breath_weight: float = number(1.0, "Size of breathing.", 0.0, 2.0)
    sway_weight: float = number(1.0, "Size of the neck's slow sway.", 0.0, 2.0)
    posture_weight: float = number(1.0, "Size of the shift of posture when the floor changes.", 0.0, 2.0)
    face_weight: float = number(1.0, "Size of the slow movement of brows and lip corners.", 0.0, 1.0)
    blink_interval_s: float = number(
        2.5,
        "Median time between two blinks of a listener, beyond 0.8 s that are always kept.",
        0.5,
        60.0,
        "s",
    )
    blink_interval_speaking_s: float = number(1.4, "The same while the head speaks.", 0.5, 60.0, "s")
    gaze_interval_s: float = number(1.8, "Median time between two small gaze shifts.", 0.2, 60.0, "s")
    gaze_yaw_rad: float = number(0.05, "Standard deviation of gaze to the sides.", 0.0, 0.3, "rad")
    gaze_pitch_rad: float = number(0.025, "Standard deviation of gaze up and down.", 0.0, 0.2, "rad")
    look_head_share: float = number(
        0.5, "The neck's part of looking at a point; the eyes do the rest.", 0.0, 1.0
    )
    breath_hz: float = number(0.24, "Breaths a second.", 0.05, 1.0, "Hz")
    sway_rad: float = number(0.012, "Amplitude of the neck's slow sway.", 0.0, 0.1, "rad")
    posture_rad: float = number(0.025, "Standard deviation of a posture from upright.", 0.0, 0.15, "rad")

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True)
class IdleConfig(IdleLayersConfig):
    """The layers, and whether there are any."""

    enabled: bool = option(True, "Whether the head blinks, breathes and looks about by itself.")


BLINK_CLOSE_S = 0.09
BLINK_HOLD_S = 0.04
BLINK_OPEN_S = 0.19
BLINK_REFRACTORY_S = 0.8
SACCADE_S = 0.06
LOOK_HEAD_S = 0.5
POSTURE_S = 1.4
SLOW_HZ = np.array([
    (0.071, 0.113), (0.083, 0.131), (0.059, 0.097), (0.09, 0.17), (0.043, 0.067),
]).T.ravel()  # fmt: skip
"""Two frequencies, of no common multiple, for each of three sways, brows and smile [Hz]."""
_COLUMN = {name: column for column, name in enumerate(IDLE_SIGNALS)}


class IdleBehavior:
    """Idle signals at any time; the same seed and the same calls give the same signals.

    The events (blinks, gaze shifts) are drawn once, in order, as time is asked for; a stretch that is asked
    for again gives the same values, so that a plan may be made again in the middle of a blink.

    Args:
        config: Which layers, how large, how often.
        seed: Of blinks, gaze, postures and phases.
    """

    def __init__(self, config: IdleConfig | None = None, seed: int = 0) -> None:
        self.config = config or IdleConfig()
        phases, blinks, gazes, postures = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(4))
        cfg = self.config
        self._phases = phases.uniform(0.0, 2 * np.pi, 1 + len(SLOW_HZ))
        self._angular_hz = 2 * np.pi * np.concatenate([[cfg.breath_hz], SLOW_HZ])
        self._is_speaking = False
        self._blinks = _Events(blinks, self._blink_interval_s, BLINK_REFRACTORY_S)
        self._gazes = _Events(
            gazes,
            lambda r: _interval(r, cfg.gaze_interval_s),
            SACCADE_S,
            lambda r: np.clip(r.normal(0.0, [cfg.gaze_yaw_rad, cfg.gaze_pitch_rad]), -0.4, 0.4),
        )
        self._postures = postures
        self._posture = TargetInterpolator(3, POSTURE_S)
        self._look_line, self._look_head = (
            TargetInterpolator(2, SACCADE_S),
            TargetInterpolator(2, LOOK_HEAD_S),
        )

    def signals(self, times_s: npt.ArrayLike) -> dict[str, Array]:
        """Return every signal of IDLE_SIGNALS, each (K,), as `rows` does."""
        return dict(zip(IDLE_SIGNALS, self.rows(np.asarray(times_s, np.float64)).T, strict=True))

    def rows(self, times: Array) -> Array:
        """Return the idle signals at instants.

        Args:
            times: (K,) rising instants on one clock, not before those asked for about a minute ago [s].

        Returns:
            (K, S) in the order of IDLE_SIGNALS.
        """
        rows = np.zeros((times.size, len(IDLE_SIGNALS)))
        cfg = self.config
        if not cfg.enabled or not times.size:
            return rows
        waves = np.sin(times[:, None] * self._angular_hz + self._phases)  # (K, 11)
        # Two sines that never meet again: between -1 and 1.
        slow = 0.5 * (waves[:, 1:6] + waves[:, 6:])  # (K, 5)
        rows[:, _COLUMN["breath"]] = cfg.breath_weight * waves[:, 0]
        rows[:, SWAY] = cfg.sway_weight * cfg.sway_rad * SWAY_SHAPE * slow[:, :3]
        rows[:, _COLUMN["brow_raise"]] = cfg.face_weight * (0.5 + 0.5 * slow[:, 3])
        rows[:, _COLUMN["smile"]] = cfg.face_weight * (0.35 + 0.25 * slow[:, 4])
        if cfg.blink_weight:
            rows[:, _COLUMN["blink"]] = cfg.blink_weight * self._blink(times)
        if cfg.gaze_weight:
            rows[:, GAZE] = cfg.gaze_weight * self._gaze(times)
        if not self._posture.is_unused:
            rows[:, SWAY] += cfg.posture_weight * self._posture.at(times)
        if not self._look_line.is_unused:
            head = self._look_head.at(times)
            rows[:, GAZE] += cfg.look_weight * (self._look_line.at(times) - head)
            rows[:, SWAY][:, :2] += cfg.look_weight * head
        return rows

    def look_at(self, yaw_rad: float, pitch_rad: float, time_s: float) -> None:
        """Turn eyes and neck into a direction from an instant on; (0, 0) is straight ahead.

        Args:
            yaw_rad: To its left [rad].
            pitch_rad: Down [rad].
            time_s: Not before an earlier call [s].
        """
        line = np.array([yaw_rad, pitch_rad])
        self._look_line.set_target(line, time_s)
        self._look_head.set_target(self.config.look_head_share * line, time_s)

    def take_floor(self, is_speaking: bool, time_s: float) -> None:
        """Shift posture when the floor changes, and blink at the pace of a speaker or a listener.

        Args:
            is_speaking: Whether the head speaks now, or else listens.
            time_s: Not before an earlier call [s].
        """
        if is_speaking == self._is_speaking and not self._posture.is_unused:
            return
        self._is_speaking = is_speaking
        # A listener leans in a little and keeps its head at a slant; a speaker comes upright.
        lean = np.array([0.0, -0.4, 0.0]) if is_speaking else np.array([0.0, 0.6, 0.0])
        spread = np.array([0.6, 0.5, 0.5 if is_speaking else 1.2])
        size = self.config.posture_rad
        self._posture.set_target(
            size * (lean + np.clip(self._postures.normal(0.0, spread), -2.0, 2.0)), time_s
        )

    def _blink_interval_s(self, rng: np.random.Generator) -> float:
        cfg = self.config
        return _interval(rng, cfg.blink_interval_speaking_s if self._is_speaking else cfg.blink_interval_s)

    def _blink(self, times: Array) -> Array:
        lids = np.zeros_like(times)
        length_s = BLINK_CLOSE_S + BLINK_HOLD_S + BLINK_OPEN_S
        for start_s, _ in self._blinks.between(times[0] - length_s, times[-1]):
            since = times - start_s
            closing = smooth_step(since / BLINK_CLOSE_S)
            opening = smooth_step((since - BLINK_CLOSE_S - BLINK_HOLD_S) / BLINK_OPEN_S)
            lids = np.maximum(lids, closing - opening)
        return lids

    def _gaze(self, times: Array) -> Array:
        gaze = np.empty((times.size, 2))
        gaze[:] = self._gazes.last_before(times[0])
        for start_s, target in self._gazes.between(times[0] - SACCADE_S, times[-1]):
            before = self._gazes.last_before(start_s)
            step = smooth_step((times - start_s) / SACCADE_S)[:, None]
            gaze = np.where(times[:, None] >= start_s, before + step * (target - before), gaze)
        return gaze


GAZE = slice(_COLUMN["gaze_yaw"], _COLUMN["gaze_pitch"] + 1)
SWAY = slice(_COLUMN["sway_yaw"], _COLUMN["sway_roll"] + 1)
SWAY_SHAPE = np.array([1.0, 0.5, 0.7])


class _Events:
    """A random sequence of instants with values, drawn in order and kept for about a minute."""

    KEPT_S = 60.0

    def __init__(
        self,
        rng: np.random.Generator,
        interval_s: Callable[[np.random.Generator], float],
        refractory_s: float,
        draw: Callable[[np.random.Generator], Array] | None = None,
    ) -> None:
        self._rng, self._interval_s, self._refractory_s = rng, interval_s, refractory_s
        self._draw = draw or (lambda _: np.zeros(0))
        self._times: list[float] = []
        self._values: list[Array] = []
        self._zero = np.zeros_like(self._draw(np.random.default_rng(0)))

    def between(self, first_s: float, last_s: float) -> list[tuple[float, Array]]:
        """Return the events in (first_s, last_s]."""
        self._reach(first_s, last_s)
        low, high = bisect.bisect_right(self._times, first_s), bisect.bisect_right(self._times, last_s)
        return list(zip(self._times[low:high], self._values[low:high], strict=True))

    def last_before(self, time_s: float) -> Array:
        """Return the value of the last event before an instant; zero when there was none."""
        index = bisect.bisect_left(self._times, time_s)
        return self._values[index - 1] if index else self._zero

    def _reach(self, first_s: float, last_s: float) -> None:
        if not self._times or first_s - self._times[-1] > self.KEPT_S:
            # A new start, or time has jumped: nothing between is worth drawing.
            self._times, self._values = [first_s + self._interval_s(self._rng)], [self._draw(self._rng)]
        while self._times[-1] <= last_s:
            self._times.append(self._times[-1] + self._refractory_s + self._interval_s(self._rng))
            self._values.append(self._draw(self._rng))
        stale = bisect.bisect_left(self._times, first_s - self.KEPT_S) - 1
        if stale > 0:
            del self._times[:stale], self._values[:stale]


def _interval(rng: np.random.Generator, median_s: float) -> float:
    """People's intervals are skewed: many short ones, few long."""
    return float(np.clip(rng.lognormal(np.log(median_s), 0.45), 0.2 * median_s, 4.0 * median_s))
