from __future__ import annotations

import numpy as np
import pytest
from timar_common.clock import NS_PER_S, SAMPLE_RATE_HZ, ClockConfig, RosAnchor, SampleClock, SimClock


def observe_device(
    clock: SampleClock, *, ppm: float, seconds: float, jitter_ms: float, seed: int = 0
) -> list[float]:
    """Feed 20 ms blocks of a device whose rate is off, and return the error of each prediction [ms]."""
    generator = np.random.default_rng(seed)
    true_ns_per_sample = NS_PER_S / (SAMPLE_RATE_HZ * (1 + ppm * 1e-6))
    errors_ms = []
    for sample in range(320, int(seconds * SAMPLE_RATE_HZ), 320):
        true_ns = 10**12 + sample * true_ns_per_sample
        clock.observe(sample, round(true_ns + generator.normal(0, jitter_ms * 1e6)))
        errors_ms.append(abs(clock.monotonic_ns(sample) - true_ns) / 1e6)
    return errors_ms


@pytest.mark.parametrize("ppm", [-200.0, 0.0, 200.0])
def test_the_clock_follows_a_device_that_is_off_by_200_ppm(ppm: float) -> None:
    clock = SampleClock()
    errors_ms = observe_device(clock, ppm=ppm, seconds=60.0, jitter_ms=2.0)
    assert np.percentile(errors_ms[50:], 99) < 1.5
    assert clock.rate_error_ppm == pytest.approx(ppm, abs=20.0)


def test_one_late_wake_up_hardly_moves_a_settled_clock() -> None:
    clock = SampleClock()
    observe_device(clock, ppm=50.0, seconds=30.0, jitter_ms=0.5)
    sample = int(30.0 * SAMPLE_RATE_HZ)
    before_ns = clock.monotonic_ns(sample)
    clock.observe(sample, before_ns + 40_000_000)
    assert abs(clock.monotonic_ns(sample) - before_ns) < 2_000_000


def test_a_device_that_starts_anew_is_followed_at_once() -> None:
    clock = SampleClock()
    clock.observe(320, 1_000_000_000)
    clock.observe(640, 6_000_000_000)
    assert clock.jumps == 1
    assert clock.monotonic_ns(640) == 6_000_000_000


def test_observations_that_go_backwards_are_ignored() -> None:
    clock = SampleClock()
    clock.observe(640, 1_000_000_000)
    clock.observe(320, 9_000_000_000)
    assert clock.monotonic_ns(640) == 1_000_000_000


def test_sample_and_time_are_inverse() -> None:
    clock = SampleClock()
    observe_device(clock, ppm=120.0, seconds=5.0, jitter_ms=1.0)
    assert clock.sample_at(clock.monotonic_ns(123_456)) == pytest.approx(123_456, abs=1e-3)


def test_asking_before_the_first_observation_is_refused() -> None:
    with pytest.raises(RuntimeError, match="no observation yet"):
        SampleClock().monotonic_ns(0)


def test_a_clock_with_impossible_settings_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ClockConfig\.jitter_ms is 0"):
        ClockConfig(jitter_ms=0)


def test_a_step_of_the_ros_clock_is_noticed_and_moves_no_instant() -> None:
    anchor = RosAnchor()
    assert not anchor.update(1_000, 5_000_000_000)
    instant_ns = anchor.monotonic_ns(5_000_000_500)
    assert anchor.update(2_000, 9_000_000_000)
    assert anchor.steps == 1
    assert anchor.ros_ns(instant_ns) == 9_000_000_000 - 2_000 + instant_ns


def test_time_runs_on_between_messages_of_the_clock_and_late_ones_do_not_set_it_back() -> None:
    clock = SimClock()
    assert not clock.is_started
    for number in range(20):
        late_ns = 7_000_000 if number % 4 else 0
        clock.tick(1_000_000_000 + 25_000_000 * number + late_ns, 500_000_000_000 + 25_000_000 * number)
    assert clock.is_started
    assert clock.ros_ns(1_000_000_000 + 19 * 25_000_000 + 13_000_000) == 500_488_000_000


@pytest.mark.parametrize("jump_s", [-100.0, 3600.0])
def test_time_that_was_set_anew_counts_at_once(jump_s: float) -> None:
    clock = SimClock()
    clock.tick(1_000, 500_000_000_000)
    set_ns = 500_000_000_000 + round(jump_s * 1e9)
    clock.tick(2_000, set_ns)
    assert clock.ros_ns(2_500) == set_ns + 500


def test_clock_that_stands_is_followed_so_that_going_on_is_no_step() -> None:
    clock = SimClock()
    for number in range(200):
        clock.tick(number * 10_000_000, 5_000_000_000)
    assert 5_000_000_000 <= clock.ros_ns(199 * 10_000_000) <= 5_080_000_000


def test_time_that_goes_on_after_a_pause_does_not_run_ahead_and_then_back() -> None:
    """What was recorded just after a pause was stamped up to 80 ms late, and so lay behind what came next."""
    clock = SimClock()
    ros_ns = 5_000_000_000
    told = []
    for number in range(100):
        now_ns = 10_000_000 * number
        ros_ns += 0 if 30 <= number < 60 else 10_000_000
        clock.tick(now_ns, ros_ns)
        if number >= 60:
            assert clock.ros_ns(now_ns) == ros_ns
        told.append(clock.ros_ns(now_ns + 5_000_000))
    assert (np.diff(told) >= 0).all()
