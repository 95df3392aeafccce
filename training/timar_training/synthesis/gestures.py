"""How synthetic people move: neck and jaw by stated rules, with amplitudes of a genuine DualTalk recording.

The rules are simple on purpose and written down in docs/training.md. Everything is computed on a grid of
100 Hz, band-limited, and read off at the instants the frames are shown.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
from scipy import ndimage, signal
from timar_common.clock import FRAMES_PER_SECOND, SAMPLE_RATE_HZ

from ..corpora.dyads import JAW, MOTION_SIZE, NECK
from ..corpora.levels import FINE_RATE_HZ, active_level_db, fine_level_db, is_speaking, runs
from .conversation import Conversation, Utterance

Float64Array = npt.NDArray[np.float64]

PITCH, YAW, ROLL = 0, 1, 2
_SMOOTH = signal.butter(2, 5.0, fs=FINE_RATE_HZ, output="sos")


@dataclasses.dataclass(frozen=True)
class GestureConfig:
    """Sizes and times of the rules; in FLAME axes pitch > 0 nods down and yaw > 0 turns to the own left."""

    jaw_open_rad: float = 0.115
    """Opening at the loudest vowels [rad]."""
    jaw_range_db: float = 34.0
    """The voice opens the jaw from this far below its loud level on [dB]."""
    jaw_lead_ms: float = 10.0
    """The jaw moves this much before the sound [ms]."""
    beat_rad: float = 0.05
    """Depth of a beat on stress [rad]."""
    beat_half_width_s: float = 0.17
    """Half of a beat's length [s]."""
    beat_spacing_s: float = 0.5
    """Least time between two beats [s]."""
    nod_rad: float = 0.085
    """Depth of a nod's first stroke [rad]."""
    nod_rate_hz: float = 2.1
    """Strokes per second [Hz]."""
    nod_delay_s: float = 0.42
    """From the end of the partner's phrase to the nod's start [s]."""
    nod_jitter_s: float = 0.03
    """Standard deviation of that time [s]."""
    nod_after_own_turn: float = 0.5
    """Factor on the probability of a nod where one spoke last oneself before the partner's phrase: a phrase
    that answers is nodded at less than one that goes on."""
    listening_pitch_rad: float = -0.035
    """The head is lifted this much while the partner speaks [rad]."""
    listening_roll_rad: float = 0.04
    """The head is tilted this much while the partner speaks [rad]."""
    away_yaw_rad: float = 0.11
    """The head turns away this much at the start of the own turn [rad]."""
    away_s: float = 1.1
    """How long [s]."""
    shift_rad: float = 0.018
    """Spread of posture shifts [rad]."""
    shift_every_s: float = 6.0
    """Mean time between posture shifts [s]."""
    noise_rad: float = 0.004
    """Spread of small slow movement [rad]."""
    noise_hz: float = 0.8
    """Its bandwidth [Hz]."""


@dataclasses.dataclass(frozen=True)
class Style:
    """What stays hidden in a person: how much they move and how much they care."""

    vigour: float
    """Scales every gesture; 1 is average."""
    jaw: float
    """Scales the jaw; 1 is average."""
    engagement: float
    """Probability that a pause of the partner is answered by a nod."""
    expressiveness: float
    """Probability that a stress carries a beat."""
    habit: float
    """+1 or -1: the side one turns to."""
    rest: tuple[float, float, float]
    """Neck at rest: pitch, yaw, roll [rad]."""

    @classmethod
    def draw(cls, rng: np.random.Generator, rest_spread: float, *, is_unusual: bool = False) -> Style:
        """Draw a person.

        Args:
            rng: Source of chance.
            rest_spread: Spread of the neck at rest [rad]; a camera that stands aside adds to it.
            is_unusual: Draw from outside the ordinary range (for out-of-distribution conversations).
        """
        vigour = rng.uniform(1.4, 1.8) if is_unusual else np.exp(rng.normal(0.0, 0.18))
        return cls(
            vigour=float(np.clip(vigour, 0.6, 1.8)),
            jaw=float(np.clip(np.exp(rng.normal(0.0, 0.12)), 0.7, 1.4)),
            engagement=float(rng.uniform(0.2, 0.5) if is_unusual else rng.uniform(0.7, 0.98)),
            expressiveness=float(rng.uniform(0.3, 0.5) if is_unusual else rng.uniform(0.7, 0.95)),
            habit=float(rng.choice([-1.0, 1.0], p=[0.25, 0.75])),
            rest=tuple(rng.normal(0.0, rest_spread, 3) * (1.0, 1.0, 0.4)),
        )


def move(
    talk: Conversation, side: int, style: Style, config: GestureConfig, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Return the motion of one side of a conversation.

    Args:
        talk: Clean voices and what was said.
        side: 0 the user, 1 the agent.
        style: Who moves.
        config: The rules' numbers.
        rng: Source of chance.

    Returns:
        (frames, 56) expression 0, jaw and neck [rad]; frame f is the instant of sample 640 f.
    """
    own, other = talk.voices[side], talk.voices[1 - side]
    steps = len(own) // (SAMPLE_RATE_HZ // FINE_RATE_HZ)
    own_active, other_active = is_speaking(own), is_speaking(other)
    neck = np.zeros((steps, 3))
    _add_listening(neck, own_active, other_active, style, config)
    _add_beats(neck, own, own_active, style, config, rng)
    _add_nods(neck, talk.utterances[side], own_active, other_active, style, config, rng)
    _add_gaze_aversion(neck, talk.utterances[side], style, config, rng)
    _add_shifts(neck, talk.utterances, style, config, rng)
    neck += config.noise_rad * style.vigour * _slow_noise((steps, 3), config.noise_hz, rng)
    neck = signal.sosfiltfilt(_SMOOTH, neck, axis=0) + np.array(style.rest)

    frames = np.arange(len(own) // (SAMPLE_RATE_HZ // FRAMES_PER_SECOND)) * (
        FINE_RATE_HZ // FRAMES_PER_SECOND
    )
    motion = np.zeros((len(frames), MOTION_SIZE), np.float32)
    motion[:, NECK] = neck[np.minimum(frames, steps - 1)]
    lead = config.jaw_lead_ms * 1e-3 * FINE_RATE_HZ
    opening = np.interp(frames + lead, np.arange(steps), jaw_opening(own, config))
    motion[:, JAW.start] = config.jaw_open_rad * style.jaw * opening
    return motion


def jaw_opening(voice: npt.NDArray[np.float32], config: GestureConfig) -> Float64Array:
    """Return how far a clean voice opens the jaw, 0..1 on the 100 Hz grid, without delay."""
    loud_db = active_level_db(voice) + 3.0
    level_db = fine_level_db(voice, is_voiced_band=True)
    opening = np.clip((level_db - loud_db) / config.jaw_range_db + 1.0, 0.0, 1.1) ** 2
    return ndimage.gaussian_filter1d(opening, 0.028 * FINE_RATE_HZ)


def stresses(voice: npt.NDArray[np.float32], spacing_s: float) -> npt.NDArray[np.intp]:
    """Return the instants of prominent syllables [hundredths of a second]."""
    level_db = fine_level_db(voice, is_voiced_band=True)
    energy = ndimage.gaussian_filter1d(10 ** (level_db / 20), 0.06 * FINE_RATE_HZ)
    active = energy[energy > 0.1 * energy.max(initial=0.0)]
    if active.size == 0 or energy.max() <= 1e-3:
        return np.zeros(0, np.intp)
    peaks, _ = signal.find_peaks(
        energy, height=np.percentile(active, 70), distance=max(1, round(spacing_s * FINE_RATE_HZ))
    )
    return peaks


def _add_listening(
    neck: Float64Array,
    own: npt.NDArray[np.bool_],
    other: npt.NDArray[np.bool_],
    style: Style,
    config: GestureConfig,
) -> None:
    """Lift and tilt the head while the partner holds the floor; the reaction takes a third of a second."""
    listening = _delayed(other & ~own, 0.33)
    weight = ndimage.gaussian_filter1d(listening.astype(float), 0.22 * FINE_RATE_HZ)
    neck[:, PITCH] += config.listening_pitch_rad * style.vigour * weight
    neck[:, ROLL] += config.listening_roll_rad * style.vigour * weight


def _add_beats(
    neck: Float64Array,
    voice: npt.NDArray[np.float32],
    active: npt.NDArray[np.bool_],
    style: Style,
    config: GestureConfig,
    rng: np.random.Generator,
) -> None:
    """Dip on the stress of one's own speech."""
    for peak in stresses(voice, config.beat_spacing_s):
        if active[min(peak, len(active) - 1)] and rng.random() < style.expressiveness:
            depth = config.beat_rad * style.vigour * rng.uniform(0.8, 1.2)
            _add_bump(neck[:, PITCH], peak / FINE_RATE_HZ, config.beat_half_width_s, depth)
            _add_bump(
                neck[:, YAW], peak / FINE_RATE_HZ, 1.4 * config.beat_half_width_s, -0.3 * depth * style.habit
            )


def _add_nods(
    neck: Float64Array,
    said: list[Utterance],
    own: npt.NDArray[np.bool_],
    other: npt.NDArray[np.bool_],
    style: Style,
    config: GestureConfig,
    rng: np.random.Generator,
) -> None:
    """Nod at the partner's pauses, and with one's own back-channels."""
    starts = []
    for begin, end in runs(other):
        probability = style.engagement * (
            config.nod_after_own_turn if _spoke_last(own, other, begin) else 1.0
        )
        if end - begin > 30 and rng.random() < probability:
            starts.append(end / FINE_RATE_HZ + config.nod_delay_s + rng.normal(0, config.nod_jitter_s))
    starts = [start for start in starts if not _is_active(own, start + 0.3)]
    starts += [word.first_sample / SAMPLE_RATE_HZ for word in said if word.is_backchannel]
    last = -1.0
    for start in sorted(starts):
        if start - last < 0.8:
            continue
        last = start
        strokes = int(rng.choice([1, 2, 2, 3]))
        time_s = np.arange(round(strokes / config.nod_rate_hz * FINE_RATE_HZ)) / FINE_RATE_HZ
        stroke = np.sin(np.pi * config.nod_rate_hz * time_s) ** 2 * np.exp(
            -0.45 * config.nod_rate_hz * time_s
        )
        depth = config.nod_rad * style.vigour * rng.uniform(0.85, 1.15)
        _add_at(neck[:, PITCH], round(start * FINE_RATE_HZ), depth * stroke)


def _add_gaze_aversion(
    neck: Float64Array, said: list[Utterance], style: Style, config: GestureConfig, rng: np.random.Generator
) -> None:
    """Look away when one's own turn begins, and back again."""
    for word in said:
        if word.starts_turn and word.end_sample - word.first_sample > SAMPLE_RATE_HZ:
            centre_s = word.first_sample / SAMPLE_RATE_HZ + 0.4 * config.away_s
            turn = config.away_yaw_rad * style.vigour * rng.uniform(0.7, 1.2) * style.habit
            _add_bump(neck[:, YAW], centre_s, config.away_s / 2, turn)
            _add_bump(neck[:, PITCH], centre_s, config.away_s / 2, -0.25 * abs(turn))


def _add_shifts(
    neck: Float64Array,
    said: tuple[list[Utterance], list[Utterance]],
    style: Style,
    config: GestureConfig,
    rng: np.random.Generator,
) -> None:
    """Take a new posture now and then, more often where a turn of either side begins."""
    duration_s = len(neck) / FINE_RATE_HZ
    times = list(
        np.cumsum(rng.exponential(config.shift_every_s, int(3 * duration_s / config.shift_every_s) + 3))
    )
    starts = [word.first_sample / SAMPLE_RATE_HZ for side in said for word in side if word.starts_turn]
    times += [start for start in starts if rng.random() < 0.3]
    posture = np.zeros(3)
    for start in sorted(time for time in times if time < duration_s):
        target = rng.normal(0.0, config.shift_rad * style.vigour, 3)
        length = round(rng.uniform(0.7, 1.2) * FINE_RATE_HZ)
        phase = np.clip((np.arange(len(neck)) - start * FINE_RATE_HZ) / length, 0.0, 1.0)
        # Minimum-jerk course between two postures.
        neck += (10 * phase**3 - 15 * phase**4 + 6 * phase**5)[:, None] * (target - posture)
        posture = target


def _slow_noise(shape: tuple[int, int], bandwidth_hz: float, rng: np.random.Generator) -> Float64Array:
    smooth = ndimage.gaussian_filter1d(
        rng.standard_normal(shape), FINE_RATE_HZ / (2 * np.pi * bandwidth_hz), axis=0
    )
    return smooth / np.maximum(smooth.std(axis=0), 1e-9)


def _add_bump(track: Float64Array, centre_s: float, half_width_s: float, height: float) -> None:
    half = max(2, round(half_width_s * FINE_RATE_HZ))
    _add_at(track, round(centre_s * FINE_RATE_HZ) - half, height * np.hanning(2 * half + 1))


def _add_at(track: Float64Array, first: int, shape: Float64Array) -> None:
    low, high = max(0, first), min(len(track), first + len(shape))
    if high > low:
        track[low:high] += shape[low - first : high - first]


def _delayed(flags: npt.NDArray[np.bool_], delay_s: float) -> npt.NDArray[np.bool_]:
    steps = round(delay_s * FINE_RATE_HZ)
    return np.concatenate([np.zeros(steps, np.bool_), flags])[: len(flags)]


def _spoke_last(own: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_], step: int) -> bool:
    """Tell whether one oneself, and not the partner, was the last to speak before a step."""
    own_steps, other_steps = np.flatnonzero(own[:step]), np.flatnonzero(other[:step])
    return bool(own_steps.size) and (not other_steps.size or own_steps[-1] > other_steps[-1])


def _is_active(flags: npt.NDArray[np.bool_], time_s: float) -> bool:
    step = round(time_s * FINE_RATE_HZ)
    return bool(0 <= step < len(flags) and flags[step])
