"""What the certificate stands on: control points hold curves, blends keep limits, fits keep their ends."""

import numpy as np
import pytest
from timar_retargeting.limits import Limits, bezier_control_points, blend, max_blend, overshoots, soft_clip
from timar_retargeting.spline_fit import SplineFit
from timar_retargeting.trajectory_planner import lead_in
from timar_retargeting.transitions import move_positions, stop_positions

H = 0.02


def limits(joints, position=1.0, velocity=3.0, acceleration=40.0):
    values = (np.full(joints, value) for value in (-position, position, velocity, acceleration))
    return Limits(*values, np.zeros((2, joints), bool))


def integrate(start, jerks, h):
    """The curve that jerks per step (n, J) make from a state, step by step; it ends at rest by force."""
    p, v, a = ([row] for row in start)
    for jerk in jerks:
        p.append(p[-1] + h * v[-1] + h**2 / 2 * a[-1] + h**3 / 6 * jerk)
        v.append(v[-1] + h * a[-1] + h**2 / 2 * jerk)
        a.append(a[-1] + h * jerk)
    v[-1] = a[-1] = 0 * a[-1]
    return np.array([p, v, a])


def random_curve(rng, joints=6, steps=30, scale=2000.0):
    start = np.array([rng.normal(0, size, joints) for size in (0.3, 0.5, 5.0)])
    return integrate(start, rng.normal(0, scale, (steps, joints)), H)


def densely(curve):
    p, v, a = curve[:, :-1]
    jerk = np.diff(curve[2], axis=0) / H
    for t in np.linspace(0, H, 21)[:-1]:
        yield p + t * (v + t * (a / 2 + t * jerk / 6)), v + t * (a + t * jerk / 2)


def test_the_control_points_hold_the_whole_curve():
    rng = np.random.default_rng(0)
    # The last step is left out: there the state is written to rest.
    curve = random_curve(rng)[:, :-1]
    positions, velocities, _ = bezier_control_points(curve, H)
    first = curve[:2, 0]
    for p, v in densely(curve):
        assert (p <= np.maximum(positions.max(0), first[0]) + 1e-12).all()
        assert (p >= np.minimum(positions.min(0), first[0]) - 1e-12).all()
        assert (v <= np.maximum(velocities.max(0), first[1]) + 1e-12).all()
        assert (v >= np.minimum(velocities.min(0), first[1]) - 1e-12).all()


def test_the_largest_blend_just_keeps_the_limits():
    rng = np.random.default_rng(1)
    bounds = limits(6)
    safe = np.zeros((3, 31, 6))
    for _ in range(50):
        candidate = integrate(safe[:, 0], rng.normal(0, 10 ** rng.uniform(1, 5), (30, 6)), H)
        share = max_blend(candidate, safe, bounds, H)
        assert (overshoots(blend(candidate, safe, share), bounds, H).max(0) <= 1e-12).all()
        is_scaled = share < 1
        more = overshoots(blend(candidate, safe, np.minimum(share * 1.001, 1.0)), bounds, H).max(0)
        assert (more[is_scaled] > 0).all(), "no more would be allowed"
        assert (share[overshoots(candidate, bounds, H).max(0) <= 0] == 1.0).all()


def test_softening_leaves_the_middle_alone_and_never_reaches_a_limit():
    bounds = limits(1)
    wanted = np.concatenate([np.linspace(-3, 3, 2001), [-1e30, 1e30]])[:, None]
    bent = soft_clip(wanted, bounds)
    inside = np.abs(wanted) <= 0.88
    np.testing.assert_array_equal(bent[inside], wanted[inside])
    assert (np.abs(bent) < 1.0).all()
    assert (np.diff(bent[:2001, 0]) >= 0).all()
    slope = np.diff(bent[:2001, 0]) / 0.003
    assert np.abs(np.diff(slope)).max() < 0.05, "a corner would be 1"


@pytest.mark.parametrize("steps", [10, 40, 200])
def test_a_fit_starts_in_its_state_ends_at_rest_and_meets_what_is_smooth(steps):
    rng = np.random.default_rng(steps)
    fit = SplineFit(steps, H)
    t = H * np.arange(1, steps + 1)[:, None]
    t = np.minimum(t, t[-1] - 0.1)
    wanted = 0.2 * np.sin(2 * np.pi * t + rng.uniform(0, 6, 4))
    start = np.stack([wanted[0], np.zeros(4), np.zeros(4)])
    curve = fit.solve(*fit.prepare(start, wanted), np.full(4, 10.0))
    pieces = integrate(start, np.diff(curve[2], axis=0) / H, H)
    np.testing.assert_allclose(curve[0], pieces[0], atol=1e-12)
    np.testing.assert_allclose(curve[1], pieces[1], atol=1e-10)
    np.testing.assert_array_equal(curve[0][0], start[0])
    np.testing.assert_allclose(curve[0][-1], curve[0][-2], atol=1e-2)
    middle = slice(steps // 4, -12)
    np.testing.assert_allclose(curve[0][1:][middle], wanted[middle], atol=3e-3)


def test_a_fit_begins_in_its_state_to_the_last_bit_and_ends_at_rest_before_that_is_written():
    rng = np.random.default_rng(5)
    fit = SplineFit(60, H)
    start = rng.normal(0, 1, (3, 4))
    settling, coefficients = fit.prepare(start, rng.normal(0, 0.1, (60, 4)))
    s = fit._singular[:, None]
    raw = (settling + fit._expand @ (s / (s * s + 1e-9) * coefficients)).reshape(3, 61, 4)
    np.testing.assert_array_equal(raw[:, 0], start)
    np.testing.assert_allclose(raw[1:, -1], 0.0, atol=1e-8)


def test_a_lead_in_starts_in_the_state_and_dies_away():
    rng = np.random.default_rng(2)
    t = H * np.arange(-1, 80)[:, None]
    wanted = 0.1 * np.sin(3 * t + np.zeros(3))
    start = np.stack([np.array([0.3, -0.2, 0.0]), rng.normal(0, 0.5, 3), rng.normal(0, 2, 3)])
    led = lead_in(wanted, start, limits(3), H)
    first = start[0] + H * start[1] + H * H / 2 * start[2]
    np.testing.assert_allclose(led[0], first, atol=2e-3)
    np.testing.assert_allclose(led[-5:], wanted[-5:], atol=1e-12)


def test_transitions_end_at_rest_where_they_should():
    bounds = limits(3)
    start = np.array([[0.5, -0.5, 0.0], [1.0, -2.0, 0.0], [0.0, 0.0, 0.0]])
    stop = stop_positions(start, bounds, 0.8, H, 60)
    np.testing.assert_allclose(stop[-1], stop[-1].clip(-1, 1))
    expected = 0.5 * start[1] * np.abs(start[1]) / (0.8 * 40.0)
    np.testing.assert_allclose(stop[-1] - start[0], expected, atol=0.05)
    move = move_positions(start, np.zeros(3), bounds, 0.5, 0.6, H, 250)
    np.testing.assert_allclose(move[-1], 0.0, atol=1e-9)
    assert len(move) * H >= 0.6
