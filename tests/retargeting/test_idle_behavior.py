"""IdleBehavior is a function of time: seeded, repeatable in the middle of a blink, and at a human pace."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from timar_retargeting import idle_behavior
from timar_retargeting.idle_behavior import IDLE_SIGNALS, IdleBehavior, IdleConfig
from timar_retargeting.interpolation import TargetInterpolator
from timar_retargeting.robot import Eyes


def test_a_stretch_asked_for_again_is_the_same():
    life, whole = IdleBehavior(seed=3), IdleBehavior(seed=3)
    times = 100.0 + 0.02 * np.arange(3000)
    expected = whole.signals(times)
    for first in range(0, 2900, 10):
        part = life.signals(times[first : first + 100])
        for name in IDLE_SIGNALS:
            np.testing.assert_allclose(
                part[name], expected[name][first : first + 100], atol=1e-9, err_msg=name
            )


def test_people_blink_ten_to_twenty_five_times_a_minute():
    blink = IdleBehavior(seed=1).signals(0.01 * np.arange(60_000))["blink"]
    assert blink.min() == 0.0
    assert blink.max() == pytest.approx(1.0)
    count = np.sum(np.diff((blink > 0.5).astype(int)) == 1)
    assert 100 <= count <= 250


def test_gaze_is_still_between_small_quick_shifts():
    gaze = IdleBehavior(seed=2).signals(0.005 * np.arange(20_000))["gaze_yaw"]
    speed = np.abs(np.diff(gaze)) / 0.005
    assert np.mean(speed == 0.0) > 0.9
    assert 0.01 < np.std(gaze) < 0.1


def test_signals_stay_in_their_ranges():
    signals = IdleBehavior(seed=5).signals(0.02 * np.arange(30_000))
    assert (np.abs(signals["breath"]) <= 1.0).all()
    for name in ("blink", "brow_raise", "smile"):
        assert (signals[name] >= 0.0).all()
        assert (signals[name] <= 1.0).all()


def test_a_head_that_is_not_to_live_is_still():
    signals = IdleBehavior(IdleConfig(enabled=False)).signals(np.arange(10.0))
    assert set(signals) == set(IDLE_SIGNALS)
    assert all((values == 0.0).all() for values in signals.values())


def test_memory_stays_small_over_an_hour():
    life = IdleBehavior(seed=0)
    for second in range(3600):
        life.signals(second + np.array([0.0, 0.5]))
    assert len(life._gazes._times) < 100


def blinks_a_minute(life, minutes=20):
    blink = life.signals(0.02 * np.arange(minutes * 3000))["blink"]
    return np.sum(np.diff((blink > 0.5).astype(int)) == 1) / minutes


@pytest.mark.slow
def test_a_speaker_blinks_more_than_a_listener_as_people_do():
    """17 a minute at rest, 26 in conversation (Bentivoglio 1997)."""
    speaker = IdleBehavior(seed=1)
    speaker.take_floor(True, 0.0)
    assert blinks_a_minute(IdleBehavior(seed=1)) == pytest.approx(17, abs=3)
    assert blinks_a_minute(speaker) == pytest.approx(26, abs=4)


def test_no_blink_follows_another_within_the_refractory_time():
    blink = IdleBehavior(IdleConfig(blink_interval_s=0.5), seed=2).signals(0.01 * np.arange(60_000))["blink"]
    starts = np.flatnonzero(np.diff((blink > 0.5).astype(int)) == 1) * 0.01
    assert np.diff(starts).min() >= 0.8


def test_eyes_jump_to_a_point_and_the_neck_takes_its_share_over():
    config = IdleConfig(gaze_weight=0.0, sway_weight=0.0, look_head_share=0.5)
    life, times = IdleBehavior(config), 10.0 + 0.01 * np.arange(200)
    life.look_at(0.4, -0.2, 10.5)
    signals = life.signals(times)
    np.testing.assert_array_equal(signals["gaze_yaw"][:50], 0.0)
    assert signals["gaze_yaw"][58] > 0.35, "the eyes are there in 80 ms"
    assert signals["sway_yaw"][58] < 0.02, "the neck has hardly begun"
    np.testing.assert_allclose(signals["gaze_yaw"][-1], 0.2, atol=1e-9)
    np.testing.assert_allclose(signals["sway_yaw"][-1], 0.2, atol=1e-9)
    line = signals["gaze_pitch"] + signals["sway_pitch"]
    np.testing.assert_allclose(line[60:], -0.2, atol=1e-9)


def test_posture_shifts_when_the_floor_changes_and_not_else():
    config = IdleConfig(gaze_weight=0.0, sway_weight=0.0)
    life, times = IdleBehavior(config, seed=1), np.arange(0.0, 30.0, 0.05)
    life.take_floor(True, 5.0)
    life.take_floor(True, 10.0)
    life.take_floor(False, 20.0)
    pitch = life.signals(times)["sway_pitch"]
    moving = np.flatnonzero(np.abs(np.diff(pitch)) > 1e-9) * 0.05
    assert ((moving > 4.9) & (moving < 6.5) | (moving > 19.9) & (moving < 21.5)).all()
    assert pitch[-1] > pitch[200], "a listener leans in"
    assert np.abs(pitch).max() < 0.1


@pytest.mark.parametrize(
    ("weight", "signals"),
    [
        ("blink_weight", ("blink",)),
        ("gaze_weight", ("gaze_yaw", "gaze_pitch")),
        ("breath_weight", ("breath",)),
        ("sway_weight", ("sway_yaw", "sway_pitch", "sway_roll")),
        ("face_weight", ("brow_raise", "smile")),
    ],
)
def test_a_layer_of_weight_zero_is_still_and_changes_no_other(weight, signals):
    times = 0.02 * np.arange(2000)
    without, whole = IdleBehavior(IdleConfig(**{weight: 0.0})).signals(times), IdleBehavior().signals(times)
    for name in IDLE_SIGNALS:
        if name in signals:
            assert not without[name].any()
        else:
            np.testing.assert_array_equal(without[name], whole[name])


def test_a_targets_told_to_turn_back_on_its_way_does_not_jump():
    targets = TargetInterpolator(1, 1.0)
    targets.set_target(np.array([1.0]), 0.0)
    targets.set_target(np.array([-1.0]), 0.4)
    places = targets.at(np.arange(-0.5, 3.0, 0.01))[:, 0]
    assert np.abs(np.diff(places)).max() < 0.05
    assert places[0] == 0.0
    assert places[-1] == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("point", "yaw", "pitch"),
    [
        ((2.0, 0.0, 0.3), 0.0, 0.0),
        ((1.062, 1.0, 0.3), np.pi / 4, 0.0),
        ((1.062, 0.0, 1.3), 0.0, -np.pi / 4),
        ((-1.0, -0.1, 0.3), -1.2, 0.0),
    ],
)
def test_left_is_a_positive_yaw_up_a_negative_pitch_and_behind_is_as_far_as_it_goes(point, yaw, pitch):
    assert Eyes(origin_m=(0.062, 0.0, 0.3)).direction_to(point) == pytest.approx((yaw, pitch))


@pytest.mark.parametrize("point", [(np.nan, 0.0, 0.0), (np.inf, 0.0, 0.0), (0.07, 0.0, 0.3)])
def test_a_point_that_cannot_be_looked_at_is_refused(point):
    with pytest.raises(ValueError, match="from the eyes"):
        Eyes(origin_m=(0.062, 0.0, 0.3)).direction_to(point)


def gaze_of(life: IdleBehavior, times: np.ndarray) -> np.ndarray:
    """Return where eyes and neck look together, to the side [rad]."""
    signals = life.signals(times)
    return signals["gaze_yaw"] + signals["sway_yaw"]


POLICY = IdleConfig(
    gaze_weight=0.0, sway_weight=0.0, posture_weight=0.0, avert_probability=1.0, back_before_s=0.8
)


def averted_share(life: IdleBehavior, first_s: float, end_s: float) -> float:
    return float(np.mean(np.abs(gaze_of(life, np.arange(first_s, end_s, 0.02))) > 0.1))


def test_gaze_turns_aside_at_the_start_of_a_longer_turn_and_is_back_before_its_end():
    life = IdleBehavior(POLICY)
    life.intend("SPEAKING", 2.0, 10.0)
    for step in range(100):
        now_s = 10.0 + 0.05 * step
        life.let_pass(now_s)
        life.intend("SPEAKING", 14.0 - now_s, now_s)
    assert averted_share(life, 8.0, 10.0) == 0.0
    assert averted_share(life, 10.6, 11.5) == 1.0
    assert averted_share(life, 13.2, 15.0) == 0.0


def test_gaze_is_back_before_the_end_of_a_turn_that_is_shorter_than_it_looks_aside():
    life = IdleBehavior(POLICY)
    life.intend("SPEAKING", 1.8, 10.0)
    for step in range(60):
        life.let_pass(10.0 + 0.05 * step)
    assert averted_share(life, 10.3, 10.9) == 1.0
    assert averted_share(life, 11.8, 13.0) == 0.0


def test_gaze_stays_with_the_partner_for_a_short_turn_and_while_listening():
    life = IdleBehavior(POLICY)
    life.intend("SPEAKING", 0.8, 10.0)
    life.intend("LISTENING", 0.0, 10.8)
    assert averted_share(life, 9.0, 13.0) == 0.0


def test_gaze_turns_aside_as_often_and_for_as_long_as_annotated_people():
    fitted = yaml.safe_load((Path(idle_behavior.__file__).parent / "gaze_policy.yaml").read_text())
    turned, lengths = 0, []
    for seed in range(400):
        life = IdleBehavior(IdleConfig(gaze_weight=0.0, sway_weight=0.0, posture_weight=0.0), seed)
        life.intend("SPEAKING", 9.0, 10.0)
        for step in range(100):
            life.let_pass(10.0 + 0.05 * step)
        # To each side by the angle; half of it marks when it leaves and comes back.
        aside = np.abs(gaze_of(life, np.arange(9.0, 15.0, 0.02))) > 0.14
        turned += aside.any()
        lengths += [0.02 * aside.sum()] * bool(aside.any())
    assert turned / 400 == pytest.approx(fitted["avert_probability"], abs=0.06)
    assert np.median(lengths) == pytest.approx(fitted["avert_s"], abs=0.15)


def test_gaze_turns_aside_to_think_and_back_when_the_partner_speaks_again():
    life = IdleBehavior(POLICY)
    life.intend("THINKING", 0.0, 10.0)
    assert averted_share(life, 10.6, 11.0) == 1.0
    life.intend("LISTENING", 0.0, 11.0)
    assert averted_share(life, 11.6, 13.0) == 0.0


def test_the_head_breathes_in_to_think_and_looks_back_before_it_speaks():
    life, plain = IdleBehavior(POLICY), IdleBehavior(POLICY)
    for intent, speech_s, time_s in (
        ("THINKING", 0.0, 10.0),
        ("ABOUT_TO_SPEAK", 0.0, 11.0),
        ("SPEAKING", 4.0, 11.6),
    ):
        life.intend(intent, speech_s, time_s)
    assert averted_share(life, 10.6, 11.0) == 1.0
    assert averted_share(life, 11.6, 13.0) == 0.0, "it has looked aside for this turn already"
    times = np.arange(9.0, 16.0, 0.02)
    breath, usual = (one.signals(times)["breath"] for one in (life, plain))
    assert np.all(breath[(times > 10.8) & (times < 11.5)] > 0.95)
    np.testing.assert_allclose(breath[times > 13.5], usual[times > 13.5], atol=1e-3)
    assert np.abs(breath).max() <= 1.0 + 1e-9


def test_sway_and_posture_stand_still_for_a_gesture_and_go_on_from_there():
    config = IdleConfig(gaze_weight=0.0, sway_weight=2.0)
    life, plain = IdleBehavior(config, 3), IdleBehavior(config, 3)
    life.take_floor(True, 9.0)
    plain.take_floor(True, 9.0)
    life.give_way(10.0, 12.0)
    times = np.arange(8.0, 16.0, 0.01)
    moved = np.stack([life.signals(times)[f"sway_{axis}"] for axis in ("yaw", "pitch", "roll")], 1)
    usual = np.stack([plain.signals(times)[f"sway_{axis}"] for axis in ("yaw", "pitch", "roll")], 1)
    during = (times > 10.21) & (times < 11.99)
    assert np.ptp(moved[during], axis=0).max() < 1e-9
    assert np.ptp(usual[during], axis=0).max() > 1e-3
    np.testing.assert_allclose(moved[times < 10.0], usual[times < 10.0])
    assert np.abs(np.diff(moved, axis=0)).max() <= 1.3 * np.abs(np.diff(usual, axis=0)).max()
    after = times > 12.3
    np.testing.assert_allclose(moved[after][:300], usual[(times > 10.3)][:300], atol=1e-3)


def test_the_eyes_go_with_a_neck_that_looks_away_until_it_looks_back():
    life = IdleBehavior(POLICY)
    life.glance(0.3, 10.0, 30.0)
    assert np.all(life.signals(np.arange(10.2, 12.0, 0.02))["gaze_yaw"] == pytest.approx(0.3))
    life.glance(0.0, 12.0, 12.0)
    assert np.abs(life.signals(np.arange(12.2, 13.0, 0.02))["gaze_yaw"]).max() < 1e-9
