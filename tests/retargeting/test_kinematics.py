"""Heads on rods: forward undoes inverse, named poses move the motors the right way, reach is told."""

import numpy as np
import pytest
from timar_common.yaml_map import read_yaml_map
from timar_retargeting.kinematics import BUILT_IN, POSE, RodPlatform


def ring(radius_m, angles_deg, height_m):
    angles = np.radians(angles_deg)
    return np.stack([radius_m * np.cos(angles), radius_m * np.sin(angles), np.full(6, height_m)], axis=1)


BASE = ring(0.06, [-8, 8, 112, 128, 232, 248], -0.11)
PLATE = ring(0.045, [-50, 50, 70, 170, 190, 290], 0.0)
AZIMUTH = np.radians([-90, 90, 30, 210, 150, 330])
POSES = np.array([
    (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    (0.0, 0.0, 0.008, 0.0, 0.0, 0.0),
    (0.004, -0.003, 0.0, 0.2, -0.1, 0.05),
    (0.0, 0.0, 0.0, -0.3, 0.15, -0.12),
])  # fmt: skip


@pytest.fixture(params=["cranks", "linear"])
def hexapod(request):
    if request.param == "linear":
        return RodPlatform(POSE, BASE, PLATE)
    return RodPlatform(POSE, BASE, PLATE, np.full(6, 0.025), AZIMUTH)


@pytest.fixture
def neck():
    """Two servos behind the neck, cranks to the back, rods up to the plate."""
    base = np.array([[-0.03, 0.03, -0.08], [-0.03, -0.03, -0.08]])
    plate = np.array([[-0.05, 0.03, 0.0], [-0.05, -0.03, 0.0]])
    return RodPlatform(("pitch", "roll"), base, plate, np.full(2, 0.02), np.full(2, np.pi))


def test_the_neutral_pose_of_a_hexapod_is_zero_at_every_motor(hexapod):
    np.testing.assert_allclose(hexapod.inverse(POSES[:1]), 0.0, atol=1e-12)


def test_forward_undoes_inverse(hexapod):
    assert hexapod.reaches(POSES).all()
    np.testing.assert_allclose(hexapod.forward(hexapod.inverse(POSES)), POSES, atol=1e-7)


def test_forward_undoes_inverse_all_over_the_range_of_a_two_rod_neck(neck):
    rng = np.random.default_rng(0)
    poses = rng.uniform(-0.2, 0.2, (60, 2))
    assert neck.reaches(poses).all()
    np.testing.assert_allclose(neck.forward(neck.inverse(poses)), poses, atol=1e-7)


def test_every_rod_has_its_length_in_every_pose(neck):
    positions = neck.inverse(np.array([[0.2, -0.1]]))[0]
    tip = neck._base + 0.02 * np.stack([-np.cos(positions), np.zeros(2), np.sin(positions)], axis=1)
    plate = neck._plates(np.array([[0.2, -0.1]]))[0]
    np.testing.assert_allclose(np.linalg.norm(plate - tip, axis=1), neck._rod, atol=1e-12)


def test_a_nod_lifts_the_back_of_a_two_rod_plate_and_a_lean_to_the_right_its_left(neck):
    nod = neck.inverse(np.array([[0.2, 0.0]]))[0]
    assert (nod > 0.1).all()
    assert nod[0] == pytest.approx(nod[1])
    lean = neck.inverse(np.array([[0.0, 0.2]]))[0]
    assert lean[0] > 0.1
    assert lean[1] < -0.1


def test_rising_lengthens_every_linear_motor():
    lengths = RodPlatform(POSE, BASE, PLATE).inverse(POSES[1:2])[0]
    assert (lengths > 0.006).all()


def test_motors_move_without_a_jump_through_the_range(hexapod):
    sweep = np.zeros((400, 6))
    sweep[:, 4] = np.linspace(-0.25, 0.25, 400)
    assert np.abs(np.diff(hexapod.inverse(sweep), axis=0)).max() < 0.01


def test_a_pose_out_of_reach_is_told_and_gives_finite_positions(neck):
    poses = np.array([[1.5, 0.0], [0.0, -1.5]])
    assert not neck.reaches(poses).any()
    assert np.isfinite(neck.inverse(poses)).all()


def test_motor_positions_that_no_pose_makes_are_refused():
    with pytest.raises(ValueError, match="no pose fits"):
        RodPlatform(("pitch", "roll"), BASE[:2], PLATE[:2]).forward(np.array([[0.5, 0.5]]))


def test_a_geometry_is_read_and_one_that_cannot_be_is_named_by_its_file(tmp_path):
    path = tmp_path / "geometry.yaml"
    path.write_text("base_m: [[0, 0.03, -0.1], [0, -0.03, -0.1]]\nplate_m: [[0, 0.03, 0], [0, -0.03, 0]]\n")
    assert BUILT_IN["two_rod"](read_yaml_map(path)).axes == ("pitch", "roll")
    path.write_text(path.read_text() + "crank_m: 0.02\nazimuth_rad: [3.14, 3.14]\nrod_m: 0.3\n")
    with pytest.raises(ValueError, match=r"geometry\.yaml, line 1.*does not reach its crank"):
        BUILT_IN["two_rod"](read_yaml_map(path))
