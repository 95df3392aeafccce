"""Gestures: what may be asked for, and the neck motion that shows it."""

from __future__ import annotations

import numpy as np
import pytest
from timar_model.gestures.gesture import Gesture, GestureKind
from timar_model.gestures.rendering import MAIN_AXIS, StrokeShape, render, waveform

KINDS = [kind for kind in GestureKind if kind is not GestureKind.LOOK_BACK]


def gesture_of(kind: GestureKind, **fields: object) -> Gesture:
    count = 3 if kind in (GestureKind.NOD, GestureKind.SHAKE) else 1
    hold_s = 0.0 if count > 1 else 0.6
    return Gesture(**{"kind": kind, "first_frame": 10, "count": count, "hold_s": hold_s, **fields})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [1, -1])
def test_a_gesture_has_its_size_on_its_axis_and_ends_where_it_began(kind: GestureKind, side: int) -> None:
    for variation in range(20):
        gesture = gesture_of(kind, size_rad=0.1, side=side, variation=variation)
        wave = waveform(gesture)
        times_s = np.linspace(-0.2, gesture.duration_s + 0.2, 2001)
        motion = wave(times_s)
        assert np.abs(motion[:, MAIN_AXIS[kind]]).max() == pytest.approx(0.1, abs=1e-3)
        assert np.sign(motion[np.abs(motion[:, MAIN_AXIS[kind]]).argmax(), MAIN_AXIS[kind]]) in (side, -side)
        first = motion[(times_s > 0) & (times_s < 0.1 / gesture.speed_hz), MAIN_AXIS[kind]]
        assert np.all(np.sign(first) == side)
        assert np.all(motion[(times_s < 0) | (times_s > gesture.duration_s)] == 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_gesture_has_no_jump_in_position_velocity_or_acceleration(kind: GestureKind) -> None:
    gesture = gesture_of(kind, size_rad=0.1, speed_hz=2.0, variation=3)
    step_s = 1e-4
    motion = waveform(gesture)(np.arange(-0.1, gesture.duration_s + 0.1, step_s))
    speed = np.diff(motion, axis=0) / step_s
    acceleration = np.diff(speed, axis=0) / step_s
    assert np.abs(np.diff(speed, axis=0)).max() < 0.01
    assert np.abs(np.diff(acceleration, axis=0)).max() < 3.0  # A jump would be about 40 rad/s^2.


def test_a_nod_has_as_many_strokes_as_asked_for_and_they_differ() -> None:
    motion = render(gesture_of(GestureKind.NOD, count=4, speed_hz=2.0, variation=1))[:, 0]
    peaks = np.flatnonzero((motion[1:-1] > motion[:-2]) & (motion[1:-1] >= motion[2:])) + 1
    sizes = motion[peaks]
    assert len(peaks) == 4
    assert len(set(sizes.round(4))) == 4
    assert not np.array_equal(motion, render(gesture_of(GestureKind.NOD, count=4, variation=2))[:, 0])
    assert np.array_equal(motion, render(gesture_of(GestureKind.NOD, count=4, variation=1))[:, 0])


def test_a_gesture_that_cannot_be_is_refused_with_value_and_range() -> None:
    with pytest.raises(ValueError, match=r"size is 0.9, expected 0.01 to 0.5 rad"):
        gesture_of(GestureKind.NOD, size_rad=0.9)
    with pytest.raises(ValueError, match=r"speed is nan, expected 0.2 to 5 strokes/s"):
        gesture_of(GestureKind.NOD, speed_hz=float("nan"))
    with pytest.raises(ValueError, match=r"count is 2, expected 1 to 1 of a tilt"):
        gesture_of(GestureKind.TILT, count=2)
    with pytest.raises(ValueError, match=r"needs 8.0 rad/s, more than 4; make it smaller or slower"):
        gesture_of(GestureKind.SHAKE, size_rad=0.4, speed_hz=5.0)


def test_strokes_of_a_gesture_differ_in_time_and_size_as_captured_ones_do() -> None:
    captured, periods, sizes = StrokeShape.captured(GestureKind.NOD), [], []
    for variation in range(400):
        wave = waveform(gesture_of(GestureKind.NOD, count=2, speed_hz=1.5, variation=variation))
        begins, depths = wave.times_s[::2], np.abs(wave.points[1::2, 0])
        periods.append(np.diff(np.log(np.diff(begins)))[0])
        sizes.append(np.diff(np.log(depths))[0])
        assert np.diff(begins).min() >= 1 / captured.fastest_hz - 1e-9
    # Of two strokes the logarithms differ by the spread times the root of two; the largest draws are cut.
    assert 0.7 < np.std(periods) / (np.sqrt(2) * captured.period_spread) < 1.1
    assert 0.7 < np.std(sizes) / (np.sqrt(2) * captured.size_spread) < 1.1


@pytest.mark.parametrize(("kind", "fastest_hz"), [(GestureKind.NOD, 4.0), (GestureKind.SHAKE, 3.0)])
def test_no_stroke_is_quicker_than_people_unless_it_was_asked_for(
    kind: GestureKind, fastest_hz: float
) -> None:
    for speed_hz, limit_hz in ((0.9 * fastest_hz, fastest_hz), (1.2 * fastest_hz, 1.2 * fastest_hz)):
        for variation in range(50):
            wave = waveform(gesture_of(kind, count=4, size_rad=0.05, speed_hz=speed_hz, variation=variation))
            begins = wave.times_s[::2] if kind is GestureKind.NOD else wave.times_s[1:-1:2]
            assert np.diff(begins).min() > 0.99 / limit_hz
            assert np.abs(wave.points[:, MAIN_AXIS[kind]]).max() == pytest.approx(0.05)
