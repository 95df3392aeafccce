"""The table of the canonical face is MediaPipe's own, as its model bundle carries it."""

from __future__ import annotations

import numpy as np
from portrait import read_canonical_mesh
from timar_perception.canonical_face import (
    INNER_LOWER_LIP,
    INNER_UPPER_LIP,
    LIPS_M,
    RIGID_LANDMARKS,
    RIGID_POINTS_M,
)
from timar_perception.landmarks import find_model


def test_the_table_is_the_one_in_the_model_bundle():
    mesh = read_canonical_mesh(find_model(""))
    np.testing.assert_allclose(RIGID_POINTS_M, mesh[list(RIGID_LANDMARKS)], atol=6e-6)
    np.testing.assert_allclose(LIPS_M, mesh[[INNER_UPPER_LIP, INNER_LOWER_LIP]].mean(0), atol=1e-4)


def test_left_and_right_are_mirrored_so_that_no_yaw_is_built_in():
    sides = RIGID_POINTS_M[np.abs(RIGID_POINTS_M[:, 0]) > 1e-6]
    mirrored = sides * [-1.0, 1.0, 1.0]
    distance = np.linalg.norm(sides[:, None] - mirrored[None], axis=2).min(1)
    assert distance.max() < 1e-4
