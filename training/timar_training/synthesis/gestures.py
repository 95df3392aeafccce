"""Motion of synthetic people: neck and jaw by stated rules, with amplitudes of a genuine DualTalk recording.

The rules are simple on purpose and written down in docs/training.md. Everything is computed on a grid of
100 Hz, band-limited, and read off at the instants the frames are shown.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal
from timar_common.clock import FRAMES_PER_SECOND, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from timar_common.config import NonNegative, Positive, Probability, check
from timar_common.motion_file import JAW, NECK
from timar_common.user_motion import MOTION_CHANNELS

from ..corpora.levels import FINE_RATE_HZ, active_level_db, fine_level_db, is_speaking, runs
from .conversation import SyntheticConversation
from .posture import posture

Float64Array = npt.NDArray[np.float64]
Rng = np.random.Generator

PITCH, YAW, ROLL = 0, 1, 2
_SMOOTH = signal.butter(2, 5.0, fs=FINE_RATE_HZ, output="sos")


@dataclasses.dataclass(frozen=True)
class GestureConfig:
    """Sizes and times of the rules; in FLAME axes pitch > 0 nods down and yaw > 0 turns to the own left."""

    jaw_open_rad: NonNegative = 0.115
    """Opening at the loudest vowels [rad]."""
    jaw_range_db: Positive = 34.0
    """The voice opens the jaw from this far below its loud level on [dB]."""
    jaw_lead_ms: float = 10.0
    """The jaw moves this much before the sound [ms]."""
    beat_rad: NonNegative = 0.05
    """Depth of a beat on stress [rad]."""
    beat_half_width_s: Positive = 0.17
    """Half of a beat's length [s]."""
    beat_spacing_s: Positive = 0.5
    """Least time between two beats [s]."""
    nod_rad: NonNegative = 0.085
    """Depth of a nod's first stroke [rad]."""
    nod_rate_hz: Positive = 2.1
    """Strokes per second [Hz]."""
    nod_delay_s: NonNegative = 0.42
    """From the end of the partner's phrase to the nod's start [s]."""
    nod_jitter_s: NonNegative = 0.03
    """Standard deviation of that time [s]."""
    nod_after_own_turn: Probability = 0.5
    """Factor on the probability of a nod where one spoke last oneself before the partner's phrase: a phrase
    that answers is nodded at less than one that goes on."""
    listening_pitch_rad: float = -0.035
    """The head is lifted this much while the partner speaks [rad]."""
    listening_roll_rad: float = 0.04
    """The head is tilted this much while the partner speaks [rad]."""
    away_yaw_rad: float = 0.11
    """The head turns away this much at the start of the own turn [rad]."""
    away_s: Positive = 1.1
    """How long [s]."""
    shift_rad: NonNegative = 0.018
    """Spread of posture shifts [rad]."""
    shift_every_s: Positive = 6.0
    """Mean time between posture shifts [s]."""
    noise_rad: NonNegative = 0.004
    """Spread of small slow movement [rad]."""
    noise_hz: Positive = 0.8
    """Its bandwidth [Hz]."""
    stress_rad: NonNegative = 0.012
    """Depth of a beat in a motion without gestures: too small to be taken for one [rad]."""

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True)
class MotionStyle:
    """What stays hidden in a person: how much they move and how much they care."""

    vigour: NonNegative
    """Scales every gesture; 1 is average."""
    jaw: NonNegative
    """Scales the jaw; 1 is average."""
    engagement: Probability
    """Probability that a pause of the partner is answered by a nod."""
    expressiveness: Probability
    """Probability that a stress carries a beat."""
    habit: float
    """+1 or -1: the side one turns to."""
    rest: tuple[float, float, float]
    """Neck at rest: pitch, yaw, roll [rad]."""

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def draw(cls, rng: Rng, rest_spread: float, *, is_unusual: bool = False) -> MotionStyle:
        """Draw a person.

        Args:
            rng: Source of chance.
            rest_spread: Spread of the neck at rest [rad]; a camera that stands aside adds to it.
            is_unusual: Draw from outside the ordinary range (for out-of-distribution conversations).
        """
        vigour = rng.uniform(1.4, 1.8) if is_unusual else np.exp(rng.normal(0.0, 0.18))
        values = {
            "vigour": np.clip(vigour, 0.6, 1.8),
            "jaw": np.clip(np.exp(rng.normal(0.0, 0.12)), 0.7, 1.4),
            "engagement": rng.uniform(0.2, 0.5) if is_unusual else rng.uniform(0.7, 0.98),
            "expressiveness": rng.uniform(0.3, 0.5) if is_unusual else rng.uniform(0.7, 0.95),
            "habit": rng.choice([-1.0, 1.0], p=[0.25, 0.75]),
        }
        pitch, yaw, roll = (rng.normal(0.0, rest_spread, 3) * (1.0, 1.0, 0.4)).tolist()
        return cls(**{name: float(value) for name, value in values.items()}, rest=(pitch, yaw, roll))


def move_head(
    talk: SyntheticConversation,
    side: int,
    style: MotionStyle,
    config: GestureConfig,
    rng: Rng,
    *,
    has_gestures: bool = True,
) -> npt.NDArray[np.float32]:
    """Return the motion of one side of a conversation.

    Args:
        talk: Clean voices and what was said.
        side: 0 the user, 1 the agent.
        style: Who moves.
        config: The rules' numbers.
        rng: Source of chance.
        has_gestures: Whether nods, beats and looks away are made. Without them the head listens, moves a
            little with its own stresses, and keeps a stationary posture: what lies under drawn gestures.

    Returns:
        (frames, 56) expression 0, jaw and neck [rad]; frame f is the instant of sample 640 f.
    """
    own = talk.voices[side]
    head = _Neck(talk, side, style, config, rng)
    neck = head.move() if has_gestures else head.rest()
    frames = np.arange(len(own) // SAMPLES_PER_FRAME) * (FINE_RATE_HZ // FRAMES_PER_SECOND)
    motion = np.zeros((len(frames), MOTION_CHANNELS), np.float32)
    motion[:, NECK] = neck[np.minimum(frames, len(neck) - 1)]
    lead = config.jaw_lead_ms * 1e-3 * FINE_RATE_HZ
    opening = np.interp(frames + lead, np.arange(len(neck)), jaw_opening(own, config))
    motion[:, JAW.start] = config.jaw_open_rad * style.jaw * opening
    return motion


def jaw_opening(voice: npt.NDArray[np.float32], config: GestureConfig) -> Float64Array:
    """Return how far a clean voice opens the jaw, 0..1 on the 100 Hz grid, without delay."""
    loud_db = active_level_db(voice) + 3.0
    level_db = fine_level_db(voice, is_voiced_band=True)
    if float(np.abs(voice).max(initial=0.0)) < 1e-3:  # Then nothing is loud by comparison.
        return np.zeros_like(level_db)
    opening = np.clip((level_db - loud_db) / config.jaw_range_db + 1.0, 0.0, 1.1) ** 2
    return ndimage.gaussian_filter1d(opening, 0.028 * FINE_RATE_HZ)


def stresses(voice: npt.NDArray[np.float32], spacing_s: float) -> npt.NDArray[np.intp]:
    """Return the instants of prominent syllables [hundredths of a second]."""
    level_db = fine_level_db(voice, is_voiced_band=True)
    energy = ndimage.gaussian_filter1d(10 ** (level_db / 20), 0.06 * FINE_RATE_HZ)
    active = energy[energy > 0.1 * energy.max(initial=0.0)]
    if active.size == 0 or energy.max() <= 1e-3:
        return np.zeros(0, np.intp)
    distance = max(1, round(spacing_s * FINE_RATE_HZ))
    return signal.find_peaks(energy, height=np.percentile(active, 70), distance=distance)[0]


class _Neck:
    """The neck of one side on the 100 Hz grid; each rule adds its movement."""

    def __init__(
        self, talk: SyntheticConversation, side: int, style: MotionStyle, config: GestureConfig, rng: Rng
    ) -> None:
        self._talk, self._side = talk, side
        self._style, self._config, self._rng = style, config, rng
        self._own, self._other = is_speaking(talk.voices[side]), is_speaking(talk.voices[1 - side])
        # (steps, 3) pitch, yaw, roll [rad]
        self._angles = np.zeros((len(talk.voices[side]) // (SAMPLE_RATE_HZ // FINE_RATE_HZ), 3))

    def move(self) -> Float64Array:
        """Return (steps, 3) [rad]. The order of the rules is the order in which chance is drawn."""
        self._listen()
        self._beat(self._config.beat_rad)
        self._nod()
        self._look_away()
        self._shift_posture()
        noise = _slow_noise(self._angles.shape, self._config.noise_hz, self._rng)
        self._angles += self._config.noise_rad * self._style.vigour * noise
        return signal.sosfiltfilt(_SMOOTH, self._angles, axis=0) + np.array(self._style.rest)

    def rest(self) -> Float64Array:
        """Return (steps, 3) [rad] without gestures, as `move`."""
        self._listen()
        self._beat(self._config.stress_rad)
        self._angles += posture(len(self._angles), self._rng)
        return signal.sosfiltfilt(_SMOOTH, self._angles, axis=0) + np.array(self._style.rest)

    def _listen(self) -> None:
        """Lift and tilt the head while the partner has the floor; the reaction takes a third of a second."""
        listening = np.pad(self._other & ~self._own, (round(0.33 * FINE_RATE_HZ), 0))[: len(self._own)]
        weight = ndimage.gaussian_filter1d(listening.astype(float), 0.22 * FINE_RATE_HZ)
        self._angles[:, PITCH] += self._config.listening_pitch_rad * self._style.vigour * weight
        self._angles[:, ROLL] += self._config.listening_roll_rad * self._style.vigour * weight

    def _beat(self, depth_rad: float) -> None:
        """Dip on the stress of one's own speech."""
        config, style, rng = self._config, self._style, self._rng
        for peak in stresses(self._talk.voices[self._side], config.beat_spacing_s):
            if self._own[min(peak, len(self._own) - 1)] and rng.random() < style.expressiveness:
                depth = depth_rad * style.vigour * rng.uniform(0.8, 1.2)
                self._bump(PITCH, peak / FINE_RATE_HZ, config.beat_half_width_s, depth)
                aside = -0.3 * depth * style.habit
                self._bump(YAW, peak / FINE_RATE_HZ, 1.4 * config.beat_half_width_s, aside)

    def _nod(self) -> None:
        """Nod at the partner's pauses, and with one's own back-channels."""
        config, style, rng = self._config, self._style, self._rng
        starts = []
        for begin, end in runs(self._other):
            factor = config.nod_after_own_turn if self._spoke_last(begin) else 1.0
            if end - begin > 30 and rng.random() < style.engagement * factor:
                starts.append(end / FINE_RATE_HZ + config.nod_delay_s + rng.normal(0, config.nod_jitter_s))
        starts = [start for start in starts if not self._speaks_at(start + 0.3)]
        said = self._talk.utterances[self._side]
        starts += [word.first_sample / SAMPLE_RATE_HZ for word in said if word.is_backchannel]
        last = -1.0
        for start in sorted(starts):
            if start - last < 0.8:
                continue
            last = start
            strokes = int(rng.choice([1, 2, 2, 3]))
            time_s = np.arange(round(strokes / config.nod_rate_hz * FINE_RATE_HZ)) / FINE_RATE_HZ
            fading = np.exp(-0.45 * config.nod_rate_hz * time_s)
            stroke = np.sin(np.pi * config.nod_rate_hz * time_s) ** 2 * fading
            depth = config.nod_rad * style.vigour * rng.uniform(0.85, 1.15)
            self._add(PITCH, round(start * FINE_RATE_HZ), depth * stroke)

    def _look_away(self) -> None:
        """Look away when one's own turn begins, and back again."""
        config, style = self._config, self._style
        for word in self._talk.utterances[self._side]:
            if word.starts_turn and word.end_sample - word.first_sample > SAMPLE_RATE_HZ:
                centre_s = word.first_sample / SAMPLE_RATE_HZ + 0.4 * config.away_s
                yaw_rad = config.away_yaw_rad * style.vigour * self._rng.uniform(0.7, 1.2) * style.habit
                self._bump(YAW, centre_s, config.away_s / 2, yaw_rad)
                self._bump(PITCH, centre_s, config.away_s / 2, -0.25 * abs(yaw_rad))

    def _shift_posture(self) -> None:
        """Take a new posture now and then, more often where a turn of either side begins."""
        config, rng, said = self._config, self._rng, self._talk.utterances
        duration_s = len(self._angles) / FINE_RATE_HZ
        count = int(3 * duration_s / config.shift_every_s) + 3
        times = list(np.cumsum(rng.exponential(config.shift_every_s, count)))
        starts = [word.first_sample / SAMPLE_RATE_HZ for side in said for word in side if word.starts_turn]
        times += [start for start in starts if rng.random() < 0.3]
        posture = np.zeros(3)
        for start in sorted(time for time in times if time < duration_s):
            target = rng.normal(0.0, config.shift_rad * self._style.vigour, 3)
            length = round(rng.uniform(0.7, 1.2) * FINE_RATE_HZ)
            phase = np.clip((np.arange(len(self._angles)) - start * FINE_RATE_HZ) / length, 0.0, 1.0)
            # Minimum-jerk course between two postures.
            self._angles += (10 * phase**3 - 15 * phase**4 + 6 * phase**5)[:, None] * (target - posture)
            posture = target

    def _bump(self, axis: int, centre_s: float, half_width_s: float, height: float) -> None:
        half = max(2, round(half_width_s * FINE_RATE_HZ))
        self._add(axis, round(centre_s * FINE_RATE_HZ) - half, height * np.hanning(2 * half + 1))

    def _add(self, axis: int, first: int, shape: Float64Array) -> None:
        low, high = max(0, first), min(len(self._angles), first + len(shape))
        if high > low:
            self._angles[low:high, axis] += shape[low - first : high - first]

    def _spoke_last(self, step: int) -> bool:
        """Return whether one oneself, and not the partner, was the last to speak before a step."""
        own, other = (np.flatnonzero(flags[:step]) for flags in (self._own, self._other))
        return bool(own.size) and (not other.size or own[-1] > other[-1])

    def _speaks_at(self, time_s: float) -> bool:
        step = round(time_s * FINE_RATE_HZ)
        return bool(0 <= step < len(self._own) and self._own[step])


def _slow_noise(shape: tuple[int, ...], bandwidth_hz: float, rng: Rng) -> Float64Array:
    """Return noise of standard deviation 1 in each column, low-passed."""
    sigma = FINE_RATE_HZ / (2 * np.pi * bandwidth_hz)
    smooth = ndimage.gaussian_filter1d(rng.standard_normal(shape), sigma, axis=0)
    return smooth / np.maximum(smooth.std(axis=0), 1e-9)
