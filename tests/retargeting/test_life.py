"""Life is a function of time: seeded, repeatable in the middle of a blink, and at a human pace."""

import numpy as np
import pytest
from timar_retargeting.life import LIFE_SIGNALS, Life, LifeConfig


def test_a_stretch_asked_for_again_is_the_same():
    life, whole = Life(seed=3), Life(seed=3)
    times = 100.0 + 0.02 * np.arange(3000)
    expected = whole.signals(times)
    for first in range(0, 2900, 10):
        part = life.signals(times[first : first + 100])
        for name in LIFE_SIGNALS:
            np.testing.assert_allclose(
                part[name], expected[name][first : first + 100], atol=1e-9, err_msg=name
            )


def test_people_blink_ten_to_twenty_five_times_a_minute():
    blink = Life(seed=1).signals(0.01 * np.arange(60_000))["blink"]
    assert blink.min() == 0.0
    assert blink.max() == pytest.approx(1.0)
    count = np.sum(np.diff((blink > 0.5).astype(int)) == 1)
    assert 100 <= count <= 250


def test_gaze_is_still_between_small_quick_shifts():
    gaze = Life(seed=2).signals(0.005 * np.arange(20_000))["gaze_yaw"]
    speed = np.abs(np.diff(gaze)) / 0.005
    assert np.mean(speed == 0.0) > 0.9
    assert 0.01 < np.std(gaze) < 0.1


def test_signals_stay_in_their_ranges():
    signals = Life(seed=5).signals(0.02 * np.arange(30_000))
    assert (np.abs(signals["breath"]) <= 1.0).all()
    for name in ("blink", "brow_raise", "smile"):
        assert (signals[name] >= 0.0).all()
        assert (signals[name] <= 1.0).all()


def test_a_head_that_is_not_to_live_is_still():
    signals = Life(LifeConfig(enabled=False)).signals(np.arange(10.0))
    assert set(signals) == set(LIFE_SIGNALS)
    assert all((values == 0.0).all() for values in signals.values())


def test_memory_stays_small_over_an_hour():
    life = Life(seed=0)
    for second in range(3600):
        life.signals(second + np.array([0.0, 0.5]))
    assert len(life._gazes._times) < 100
