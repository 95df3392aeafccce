"""Features and loudness of a voice: causal, and the same however the sound is cut."""

from __future__ import annotations

import numpy as np
import pytest
from timar_model.architecture.config import SAMPLES_PER_FRAME
from timar_model.architecture.inputs import LogMelFeatures, LoudnessNormaliser, mel_matrix
from timar_model.architecture.sequences import clip_features

CUTS = [[1] * 60, [5] * 12, [1, 2, 3, 4, 25, 25], [59, 1], [60]]


def voice(frames=60, level=0.05, seed=1):
    random = np.random.default_rng(seed)
    envelope = np.repeat(random.uniform(0.3, 1.0, frames), SAMPLES_PER_FRAME)
    return (
        (level * envelope * random.standard_normal(frames * SAMPLES_PER_FRAME)).clip(-1, 1).astype(np.float32)
    )


def in_pieces(compute, state, samples, cut):
    pieces, start = [], 0
    for frames in cut:
        end = start + frames * SAMPLES_PER_FRAME
        piece, state = compute(samples[start:end], state)
        pieces.append(piece)
        start = end
    return np.concatenate(pieces)


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: f"{len(cut)} pieces")
@pytest.mark.parametrize("loudness", ["causal", "none"])
def test_features_in_pieces_equal_the_whole(cut, loudness):
    features, sound = LogMelFeatures(40, loudness), voice()
    whole = clip_features(features, sound)
    np.testing.assert_allclose(
        in_pieces(features.compute, features.initial(), sound, cut), whole, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: f"{len(cut)} pieces")
def test_loudness_in_pieces_equals_the_whole(cut):
    normaliser, sound = LoudnessNormaliser(), voice()
    whole, _ = normaliser.apply(sound, normaliser.initial())
    np.testing.assert_array_equal(in_pieces(normaliser.apply, normaliser.initial(), sound, cut), whole)


@pytest.mark.parametrize("frame", [0, 1, 17, 58])
def test_features_of_a_frame_read_no_sample_after_it(frame):
    features, sound = LogMelFeatures(), voice()
    end = (frame + 1) * SAMPLES_PER_FRAME
    later = sound.copy()
    later[end:] = voice(seed=9)[end:]
    before, after = clip_features(features, sound), clip_features(features, later)
    np.testing.assert_array_equal(before[: frame + 1], after[: frame + 1])
    assert np.abs(before[frame + 1] - after[frame + 1]).max() > 1e-3


def test_last_samples_of_a_frame_are_heard_by_it():
    features = LogMelFeatures(loudness="none")
    sound = np.zeros(3 * SAMPLES_PER_FRAME, np.float32)
    sound[2 * SAMPLES_PER_FRAME - 40] = 1.0
    rows = clip_features(features, sound)
    assert rows[0].max() == pytest.approx(-2.0)
    assert rows[1].max() > -1.9


def test_silence_before_the_start_changes_no_feature():
    features, sound = LogMelFeatures(), voice()
    np.testing.assert_array_equal(clip_features(features, sound, lead=7)[7:], clip_features(features, sound))


def talking(level, pauses=0.0005, frames=500, seed=1):
    """Return speech in bursts of a second with pauses of a half, over a steady background."""
    random = np.random.default_rng(seed)
    loud = np.where(np.arange(frames) % 37 < 25, random.uniform(0.3, 1.0, frames), 0.0)
    noise = random.standard_normal((2, frames * SAMPLES_PER_FRAME))
    return (
        (level * np.repeat(loud, SAMPLES_PER_FRAME) * noise[0] + pauses * noise[1])
        .clip(-1, 1)
        .astype(np.float32)
    )


def speech_level_dbfs(samples):
    power = np.mean(samples.reshape(-1, SAMPLES_PER_FRAME) ** 2, axis=1)
    return 10 * np.log10(power[np.arange(power.size) % 37 < 25][-100:]).mean()


@pytest.mark.parametrize("level", [0.008, 0.02, 0.1, 0.4])
def test_quiet_and_loud_voices_end_at_one_loudness(level):
    normaliser = LoudnessNormaliser()
    out, _ = normaliser.apply(talking(level), normaliser.initial())
    assert speech_level_dbfs(out) == pytest.approx(normaliser.config.target_dbfs, abs=2.5)


def test_voice_much_quieter_than_the_one_before_is_found_again():
    normaliser = LoudnessNormaliser()
    sound = np.concatenate([talking(0.5), talking(0.03, frames=2000)])
    out, _ = normaliser.apply(sound, normaliser.initial())
    assert speech_level_dbfs(out[500 * SAMPLES_PER_FRAME :]) == pytest.approx(
        normaliser.config.target_dbfs, abs=2.5
    )


def test_steady_background_is_not_taken_for_a_quiet_voice():
    normaliser = LoudnessNormaliser()
    _, state = normaliser.apply(talking(0.0, pauses=0.004, frames=1500), normaliser.initial())
    assert state.gain_db == pytest.approx(0.0, abs=1.0)


def test_silence_keeps_what_is_known_of_a_voice():
    normaliser = LoudnessNormaliser()
    _, state = normaliser.apply(voice(), normaliser.initial())
    out, after = normaliser.apply(np.zeros(500 * SAMPLES_PER_FRAME, np.float32), state)
    assert after == state
    assert not out.any()


def test_every_band_and_no_band_twice_hears_a_tone():
    weights = mel_matrix(40)
    assert weights.max(axis=0).min() > 0.5
    assert weights.min() >= 0.0
    assert np.all(np.diff(weights.argmax(axis=0)) >= 0)


@pytest.mark.parametrize("shape", [(0,), (639,), (1, 640)])
def test_sound_that_is_not_whole_frames_is_refused(shape):
    features = LogMelFeatures()
    with pytest.raises(ValueError, match="expected one row of whole frames of 640 samples"):
        features.compute(np.zeros(shape, np.float32), features.initial())
