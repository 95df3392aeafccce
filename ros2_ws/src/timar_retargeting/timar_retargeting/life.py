"""Life when nobody tells the face what to do: blinks, small gaze shifts, breath, sway; functions of time."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from timar_common.config import check, option

Array = npt.NDArray[np.float64]

LIFE_SIGNALS = (
    "blink", "gaze_yaw", "gaze_pitch", "breath", "sway_yaw", "sway_pitch", "sway_roll", "brow_raise", "smile",
)  # fmt: skip
"""blink 0 open .. 1 closed; gaze and sway [rad], signs as in the neck; breath -1..1; the others 0..1."""


@dataclasses.dataclass(frozen=True)
class LifeConfig:
    """How lively a head is by itself."""

    enabled: bool = option(True, "Whether the head blinks, breathes and looks about by itself.")
    blink_interval_s: float = option(
        2.8, "Median time between two blinks.", unit="s", minimum=0.5, maximum=60.0
    )
    gaze_interval_s: float = option(
        1.8, "Median time between two small gaze shifts.", unit="s", minimum=0.2, maximum=60.0
    )
    gaze_yaw_rad: float = option(
        0.05, "Standard deviation of gaze to the sides.", unit="rad", minimum=0.0, maximum=0.3
    )
    gaze_pitch_rad: float = option(
        0.025, "Standard deviation of gaze up and down.", unit="rad", minimum=0.0, maximum=0.2
    )
    breath_hz: float = option(0.24, "Breaths a second.", unit="Hz", minimum=0.05, maximum=1.0)
    sway_rad: float = option(
        0.012, "Amplitude of the neck's slow sway.", unit="rad", minimum=0.0, maximum=0.1
    )

    def __post_init__(self) -> None:
        check(self)


BLINK_CLOSE_S = 0.09
BLINK_HOLD_S = 0.04
BLINK_OPEN_S = 0.19
BLINK_REFRACTORY_S = 0.8
SACCADE_S = 0.06


class Life:
    """Signals of life at any time; the same seed gives the same life.

    The events (blinks, gaze shifts) are drawn once, in order, as time is asked for; a stretch that is asked
    for again gives the same values, so that a plan may be made anew in the middle of a blink.

    Args:
        config: How lively.
        seed: Of blinks, gaze and phases.
    """

    def __init__(self, config: LifeConfig | None = None, seed: int = 0) -> None:
        self.config = config or LifeConfig()
        phases, blinks, gazes = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(3))
        self._phases = phases.uniform(0.0, 2 * np.pi, 8)
        cfg = self.config
        self._blinks = _Events(blinks, lambda r: _interval(r, cfg.blink_interval_s), BLINK_REFRACTORY_S)
        self._gazes = _Events(
            gazes,
            lambda r: _interval(r, cfg.gaze_interval_s),
            SACCADE_S,
            lambda r: np.clip(r.normal(0.0, [cfg.gaze_yaw_rad, cfg.gaze_pitch_rad]), -0.4, 0.4),
        )

    def signals(self, times_s: npt.ArrayLike) -> dict[str, Array]:
        """Return every signal of LIFE_SIGNALS.

        Args:
            times_s: (K,) rising instants on one clock, not before those asked for about a minute ago [s].

        Returns:
            (K,) for each signal.
        """
        times = np.asarray(times_s, np.float64)
        if not self.config.enabled or not times.size:
            return {name: np.zeros_like(times) for name in LIFE_SIGNALS}
        gaze = self._gaze(times)
        sway = self.config.sway_rad
        return {
            "blink": self._blink(times),
            "gaze_yaw": gaze[:, 0],
            "gaze_pitch": gaze[:, 1],
            "breath": np.sin(2 * np.pi * self.config.breath_hz * times + self._phases[0]),
            "sway_yaw": sway * self._slow(times, 0.071, 0.113, 1),
            "sway_pitch": 0.5 * sway * self._slow(times, 0.083, 0.131, 2),
            "sway_roll": 0.7 * sway * self._slow(times, 0.059, 0.097, 3),
            "brow_raise": 0.5 + 0.5 * self._slow(times, 0.09, 0.17, 4),
            "smile": 0.35 + 0.25 * self._slow(times, 0.043, 0.067, 5),
        }

    def _slow(self, times: Array, first_hz: float, second_hz: float, phase: int) -> Array:
        """Two sines that never meet again: between -1 and 1."""
        first = np.sin(2 * np.pi * first_hz * times + self._phases[phase])
        return 0.5 * (first + np.sin(2 * np.pi * second_hz * times + self._phases[-phase]))

    def _blink(self, times: Array) -> Array:
        lids = np.zeros_like(times)
        length_s = BLINK_CLOSE_S + BLINK_HOLD_S + BLINK_OPEN_S
        for start_s, _ in self._blinks.between(times[0] - length_s, times[-1]):
            since = times - start_s
            closing = _smooth_step(since / BLINK_CLOSE_S)
            opening = _smooth_step((since - BLINK_CLOSE_S - BLINK_HOLD_S) / BLINK_OPEN_S)
            lids = np.maximum(lids, closing - opening)
        return lids

    def _gaze(self, times: Array) -> Array:
        first = self._gazes.last_before(times[0])
        gaze = np.broadcast_to(first, (times.size, 2)).copy()
        previous = first
        for start_s, place in self._gazes.between(times[0] - SACCADE_S, times[-1]):
            if start_s <= times[0] - SACCADE_S:
                continue
            before = self._gazes.last_before(start_s)
            previous = before
            step = _smooth_step((times - start_s) / SACCADE_S)[:, None]
            gaze = np.where(times[:, None] >= start_s, previous + step * (place - previous), gaze)
        return gaze


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
        place = bisect.bisect_left(self._times, time_s)
        return self._values[place - 1] if place else self._zero

    def _reach(self, first_s: float, last_s: float) -> None:
        if not self._times or first_s - self._times[-1] > self.KEPT_S:
            # A new start, or time has leapt: nothing between is worth drawing.
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


def _smooth_step(phase: Array) -> Array:
    """From 0 to 1 with no velocity or acceleration at either end."""
    s = np.clip(phase, 0.0, 1.0)
    return s * s * s * (10.0 + s * (6.0 * s - 15.0))
