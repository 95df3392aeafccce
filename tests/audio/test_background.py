"""Speech stands out of its background, however loud and restless that is."""

from __future__ import annotations

import numpy as np
import pytest
from timar_audio.background import Background, BackgroundConfig
from timar_audio.turns_config import TurnsConfig

FRAME_S = 0.02


def heard(levels_dbfs: np.ndarray, sounds_like_speech: np.ndarray) -> np.ndarray:
    """What counts as speech, frame by frame."""
    background = Background(BackgroundConfig(), FRAME_S)
    pairs = zip(levels_dbfs.tolist(), sounds_like_speech.tolist(), strict=True)
    return np.array([background.stands_out(level, sounds) for level, sounds in pairs])


@pytest.mark.parametrize("level_dbfs", [-70.0, -45.0, -25.0])
@pytest.mark.parametrize("wander_db", [0.3, 3.0])
def test_what_a_detector_mistakes_in_any_background_is_hardly_ever_speech(level_dbfs, wander_db):
    levels = level_dbfs + wander_db * np.random.default_rng(0).standard_normal(3000)
    mistaken = np.arange(3000) % 3 == 0
    assert heard(levels, mistaken)[mistaken][200:].mean() < 0.2


@pytest.mark.parametrize(("wander_db", "above_db"), [(0.3, 3.0), (3.0, 12.0)])
def test_speech_stands_out_by_more_the_more_the_background_wanders(wander_db, above_db):
    levels = -50.0 + wander_db * np.random.default_rng(0).standard_normal(1500)
    is_speech = (np.arange(1500) >= 1000) & (np.arange(1500) < 1050)
    levels[is_speech] += above_db
    assert heard(levels, is_speech)[is_speech].mean() > 0.85


def test_a_louder_background_is_learned_and_a_long_speech_is_not():
    background = Background(BackgroundConfig(), FRAME_S)
    for _ in range(100):
        background.stands_out(-60.0, sounds_like_speech=False)
    for _ in range(100):
        background.stands_out(-40.0, sounds_like_speech=False)
    assert background.level_dbfs == pytest.approx(-40.0, abs=0.5)
    for _ in range(100):  # two seconds of speech
        background.stands_out(-20.0, sounds_like_speech=True)
    assert background.level_dbfs < -33.0


def test_without_a_background_the_decisions_are_webrtcs_own():
    rng = np.random.default_rng(0)
    frames = (rng.standard_normal((200, 320)) * rng.choice([30, 3000], (200, 1))).astype(np.int16)
    detectors = [
        TurnsConfig(above_background_db=db, above_background_spreads=spreads).make_detector()
        for db, spreads in ((0.0, 0.0), (60.0, 0.0))
    ]
    alone, never = ([detector.probability(frame) for frame in frames] for detector in detectors)
    assert 0 < sum(alone) < 200
    assert sum(never) == 0
