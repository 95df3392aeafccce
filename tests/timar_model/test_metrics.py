"""The published metrics give the published numbers, and the energy score is proper."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from timar_model.metrics import clip_metrics, energy_score, frechet_distance

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "timar_golden"


@pytest.fixture(scope="module")
def tracks() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "metrics_inputs.npz") as file:
        return {name: file[name] for name in ("prediction", "ground_truth", "user")}


def test_every_published_metric_has_its_published_value(tracks: dict[str, np.ndarray]):
    expected = json.loads((GOLDEN / "metrics_expected.json").read_text("utf-8"))
    found = clip_metrics(**tracks)
    assert set(found) == set(expected)
    assert found == pytest.approx(expected, rel=1e-5)


def test_motion_equal_to_the_truth_has_no_distance(tracks: dict[str, np.ndarray]):
    found = clip_metrics(tracks["ground_truth"], tracks["ground_truth"])
    for name in ("fid", "mse", "sts"):
        for group in ("exp", "jaw", "pose"):
            assert found[f"{name}_{group}"] == pytest.approx(0.0, abs=1e-9)


def test_frechet_distance_of_still_frames_is_that_of_their_means():
    still = np.zeros((50, 3))
    assert frechet_distance(still, still + np.array([3.0, 4.0, 0.0])) == pytest.approx(25.0)


def test_without_the_partner_only_what_needs_him_is_missing(tracks: dict[str, np.ndarray]):
    alone = clip_metrics(tracks["prediction"], tracks["ground_truth"])
    with_user = clip_metrics(**tracks)
    assert {name.rpartition("_")[0] for name in set(with_user) - set(alone)} == {"p_fid", "rpcc"}


def test_energy_score_prefers_the_spread_the_truth_was_drawn_with():
    rng = np.random.default_rng(3)
    truth = rng.standard_normal((400, 56))
    scores = {
        spread: energy_score([spread * rng.standard_normal((400, 56)) for _ in range(8)], truth)["energy_exp"]
        for spread in (0.2, 1.0, 3.0)
    }
    assert scores[1.0] < scores[0.2]
    assert scores[1.0] < scores[3.0]


def test_energy_score_of_one_sample_is_its_mean_distance():
    truth = np.zeros((10, 56))
    sample = np.zeros((10, 56))
    sample[:, 50] = 2.0
    assert energy_score([sample], truth) == {"energy_exp": 0.0, "energy_jaw": 2.0, "energy_pose": 0.0}


@pytest.mark.parametrize(("shape", "what"), [((5, 55), "shape"), ((7, 56), "frames"), ((1, 56), "2 or more")])
def test_motion_of_another_shape_is_refused_with_both(shape: tuple[int, int], what: str):
    with pytest.raises(ValueError, match=what):
        clip_metrics(np.zeros((5, 56)), np.zeros(shape))


def test_motion_that_is_not_finite_is_refused():
    bad = np.zeros((5, 56))
    bad[2, 3] = np.nan
    with pytest.raises(ValueError, match="prediction holds a value that is not finite"):
        clip_metrics(bad, np.zeros((5, 56)))
