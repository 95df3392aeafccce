"""Idle behavior: blinks, gaze, breath, sway and posture, added to motion and all there is without it.

Every signal is a seeded function of time.

Facts behind the defaults. People blink about 17 times a minute at rest and 26 times in conversation (A. R.
Bentivoglio et al., "Analysis of blink rate patterns in normal subjects", Movement Disorders 12, 1997). The
lid closes in a tenth of a second and opens in about twice that (C. Evinger, K. Manning, P. Sibony, "Eyelid
movements: mechanisms and normal data", Investigative Ophthalmology & Visual Science 32, 1991), and intervals
are skewed, with few below a second. Adults breathe 12 to 20 times a minute at rest. A gaze shift beyond some
15 degrees is shared by the head, which starts with the eyes and takes several times as long (E. G. Freedman,
"Coordination of the eyes and head during visual orienting", Experimental Brain Research 190, 2008). When gaze
turns away from a partner and back is fitted to annotated meetings (`gaze_policy.yaml`).
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml
from timar_common.config import check, number, option

from timar_retargeting.interpolation import TargetInterpolator, smooth_step

Array = npt.NDArray[np.float64]

IDLE_SIGNALS = (
    "blink", "gaze_yaw", "gaze_pitch", "breath", "sway_yaw", "sway_pitch", "sway_roll", "brow_raise", "smile",
)  # fmt: skip
"""blink 0 open .. 1 closed; gaze and sway [rad], signs as in the neck; breath -1..1; the others 0..1."""


GAZE_POLICY_FILE = Path(__file__).parent / "gaze_policy.yaml"
GAZE_POLICY: dict[str, float] = yaml.safe_load(GAZE_POLICY_FILE.read_text("utf-8"))
"""As `timar data gaze` fitted it."""


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
    avert_weight: float = number(
        1.0, "How far gaze turns away from the partner to think and at the start of a longer turn.", 0.0, 1.0
    )
    avert_probability: float = number(
        GAZE_POLICY["avert_probability"], "How often it does so when there is reason to.", 0.0, 1.0
    )
    avert_yaw_rad: float = number(0.28, "How far gaze turns aside then.", 0.0, 0.6, "rad")
    avert_s: float = number(
        GAZE_POLICY["avert_s"], "How long it stays aside at the start of a turn.", 0.2, 10.0, "s"
    )
    long_turn_s: float = number(
        GAZE_POLICY["long_turn_s"],
        "Gaze turns aside at the start of a turn of which at least this much is planned.",
        0.5,
        30.0,
        "s",
    )
    back_before_s: float = number(
        GAZE_POLICY["back_before_s"],
        "Gaze is back at the partner so long before the end of a turn.",
        0.0,
        5.0,
        "s",
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
TURN_START_S = 1.0
"""So long after a turn began gaze may still turn aside, for its plan may come bit by bit [s]."""
THINK_S = 2.5
"""Gaze that turned aside to think comes back after so long at the latest [s]."""
INHALE_S = 0.6
"""How long it takes to breathe in to speak [s]."""
GIVE_WAY_S = 0.2
"""Sway and posture come to a stand in this time, and go on as gently [s]."""
GAPS_KEPT = 16
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
        self._averts = np.random.default_rng([seed, 5])
        self._avert_line, self._avert_head = (
            TargetInterpolator(2, SACCADE_S),
            TargetInterpolator(2, LOOK_HEAD_S),
        )
        self._intent, self._may_avert_until_s = "LISTENING", -np.inf
        self._has_thought = False
        """Whether it has looked aside for the turn that is to come."""
        self._inhaled = TargetInterpolator(1, INHALE_S)
        """0: breath as it comes .. 1: breathed in, to speak."""
        self._back_at_s: float | None = None
        """When averted gaze comes back; None: it is not averted."""
        self._stay_until_s = 0.0
        """When it would come back if the turn went on."""
        self._gaps: list[tuple[float, float]] = []
        """[first, end) in which sway and posture stand still for a gesture [s]."""
        self._stood_s = 0.0
        """How long they stood still in gaps that are forgotten [s]."""
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
        calm = self._calm_times(times)
        waves = np.sin(calm[:, None] * self._angular_hz + self._phases)  # (K, 11)
        # Two sines that never meet again: between -1 and 1.
        slow = 0.5 * (waves[:, 1:6] + waves[:, 6:])  # (K, 5)
        rows[:, _COLUMN["breath"]] = cfg.breath_weight * waves[:, 0]
        if not self._inhaled.is_unused:
            inhaled = self._inhaled.at(times)[:, 0]
            rows[:, _COLUMN["breath"]] += cfg.breath_weight * inhaled * (1.0 - waves[:, 0])
        rows[:, SWAY] = cfg.sway_weight * cfg.sway_rad * SWAY_SHAPE * slow[:, :3]
        rows[:, _COLUMN["brow_raise"]] = cfg.face_weight * (0.5 + 0.5 * slow[:, 3])
        rows[:, _COLUMN["smile"]] = cfg.face_weight * (0.35 + 0.25 * slow[:, 4])
        if cfg.blink_weight:
            rows[:, _COLUMN["blink"]] = cfg.blink_weight * self._blink(times)
        if cfg.gaze_weight:
            rows[:, GAZE] = cfg.gaze_weight * self._gaze(times)
        if not self._posture.is_unused:
            rows[:, SWAY] += cfg.posture_weight * self._posture.at(calm)
        if not self._avert_line.is_unused:
            head = self._avert_head.at(times)
            rows[:, GAZE] += cfg.avert_weight * (self._avert_line.at(times) - head)
            rows[:, SWAY][:, :2] += cfg.avert_weight * head
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

    def give_way(self, first_s: float, end_s: float) -> None:
        """Let sway and posture stand still while a gesture moves the neck.

        Args:
            first_s: When it begins; not before an earlier gesture is over, or this counts from there [s].
            end_s: When it is over [s].
        """
        first_s = max(first_s, self._gaps[-1][1]) if self._gaps else first_s
        if end_s > first_s:
            self._gaps.append((first_s, end_s))
        while len(self._gaps) > GAPS_KEPT:
            low, high = self._gaps.pop(0)
            self._stood_s += high - low

    def glance(self, yaw_rad: float, first_s: float, end_s: float) -> None:
        """Let the eyes go with a neck that looks away and comes back; an end before the start looks back.

        Args:
            yaw_rad: To its left; the eyes go as far again as the neck [rad].
            first_s: When the neck begins to turn [s].
            end_s: When it is back [s].
        """
        if end_s <= first_s:
            self._look_back(first_s)
            return
        self._avert_line.set_target(np.array([min(max(yaw_rad, -0.3), 0.3), 0.0]), first_s)
        self._back_at_s = self._stay_until_s = end_s - LOOK_HEAD_S

    def intend(self, intent: str, speech_s: float, time_s: float) -> None:
        """Turn gaze aside and breathe in to think, look back before speaking, and before a longer turn's end.

        Gaze turns aside at the start of a longer turn, too, unless it did so just before, to think.

        Args:
            intent: LISTENING, THINKING, ABOUT_TO_SPEAK or SPEAKING.
            speech_s: How long the speech still lasts, as far as it is known [s].
            time_s: Not before an earlier call [s].
        """
        cfg, was = self.config, self._intent
        self._intent = intent
        if intent == "SPEAKING":
            if was != "SPEAKING":
                self._may_avert_until_s = time_s + TURN_START_S
            may_avert = time_s <= self._may_avert_until_s and not self._has_thought
            if may_avert and speech_s >= cfg.long_turn_s:
                self._may_avert_until_s = -np.inf
                self._avert(time_s, cfg.avert_s)
            if self._back_at_s is not None:
                self._back_at_s = min(self._stay_until_s, time_s + max(0.0, speech_s - cfg.back_before_s))
        elif intent == "THINKING" and was != "THINKING":
            self._avert(time_s, THINK_S)
            self._has_thought = True
        elif intent in ("LISTENING", "ABOUT_TO_SPEAK") and was != intent:
            self._look_back(time_s)
        if intent == "LISTENING":
            self._has_thought = False
        self._breathe_in(float(intent in ("THINKING", "ABOUT_TO_SPEAK")), was != intent, time_s)

    def _breathe_in(self, share: float, is_new: bool, time_s: float) -> None:
        if is_new and not (share == 0.0 and self._inhaled.is_unused):
            self._inhaled.set_target(np.array([share]), time_s)

    def let_pass(self, time_s: float) -> None:
        """Let gaze come back when it is time to; call it some twenty times a second."""
        if self._back_at_s is not None and time_s >= self._back_at_s:
            self._look_back(time_s)

    def _avert(self, time_s: float, length_s: float) -> None:
        cfg, chance, side, tilt = self.config, *self._averts.random(3)
        is_in_gesture = any(low <= time_s < high for low, high in self._gaps)
        if not cfg.enabled or is_in_gesture or chance >= cfg.avert_probability:
            return
        yaw = cfg.avert_yaw_rad * (1.0 if side < 0.5 else -1.0)
        line = np.array([yaw, 0.4 * cfg.avert_yaw_rad * (tilt - 0.4)])
        self._avert_line.set_target(line, time_s)
        self._avert_head.set_target(cfg.look_head_share * line, time_s)
        self._back_at_s = self._stay_until_s = time_s + length_s

    def _look_back(self, time_s: float) -> None:
        if self._back_at_s is not None:
            self._avert_line.set_target(np.zeros(2), time_s)
            self._avert_head.set_target(np.zeros(2), time_s)
            self._back_at_s = None

    def _calm_times(self, times: Array) -> Array:
        """Return times less how long sway and posture stood still before them; it grows smoothly."""
        stood = np.full(len(times), self._stood_s)
        for first_s, end_s in self._gaps:
            stood += _elapsed(times - first_s) - _elapsed(times - end_s)
        return times - stood

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
        target = size * (lean + np.clip(self._postures.normal(0.0, spread), -2.0, 2.0))
        self._posture.set_target(target, float(self._calm_times(np.array([time_s]))[0]))

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


def _elapsed(since_s: Array) -> Array:
    """Return the time that passed since an instant, of which the first moments count only a little."""
    share = np.minimum(np.maximum(since_s / GIVE_WAY_S, 0.0), 1.0)
    late: Array = np.maximum(since_s - GIVE_WAY_S, 0.0)
    elapsed: Array = GIVE_WAY_S * (share**3 - 0.5 * share**4) + late
    return elapsed


def _interval(rng: np.random.Generator, median_s: float) -> float:
    """People's intervals are skewed: many short ones, few long."""
    return float(np.clip(rng.lognormal(np.log(median_s), 0.45), 0.2 * median_s, 4.0 * median_s))
