"""A map the user fitted, read backwards, gives the numbers it was fitted to; a wrong one is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_arkit_map import expression_of, made_bs2exp, save_bs2exp
from timar_common.arkit import ORDERS
from timar_perception.expressions import read_expression_map
from timar_retargeting.expressions import yaml_of
from timar_retargeting.signals import ExpressionChannel


def test_what_fit_expressions_writes_is_read_backwards(tmp_path: Path):
    rng = np.random.default_rng(0)
    channels = {
        name: ExpressionChannel(rng.normal(0, 1, 50) / 7, offset)
        for name, offset in (("jawOpen", 0.1), ("browInnerUp", 0.2))
    }
    path = tmp_path / "map.yaml"
    path.write_text(yaml_of(channels))
    expressions = read_expression_map(path)
    wanted = {"jawOpen": 0.6, "browInnerUp": 0.4, "mouthPucker": 0.3}
    coefficients = expressions.coefficients(wanted)
    assert coefficients.shape == (50,)
    for name, channel in channels.items():
        assert coefficients @ channel.weights + channel.offset == pytest.approx(wanted[name], abs=0.02)


def test_the_users_matrix_gives_the_expression_of_a_smile_that_the_camera_saw(tmp_path: Path):
    expressions = read_expression_map(save_bs2exp(tmp_path))
    seen = dict.fromkeys(ORDERS["mediapipe"], 0.0) | {"mouthSmileLeft": 0.7, "jawOpen": 0.3}
    wanted = expression_of(made_bs2exp(), mouthSmileLeft=0.7, jawOpen=0.3)
    np.testing.assert_allclose(expressions.coefficients(seen), wanted, atol=1e-12)
    assert "rank 50" in expressions.summary
    # A robot's YAML that names the matrix will do as well.
    path = tmp_path / "robot.yaml"
    path.write_text("robot: mine\nexpression_map: {file: made_bs2exp.npy}\nexpressions: {}\n")
    np.testing.assert_allclose(read_expression_map(path).coefficients(seen), wanted, atol=1e-12)
    del seen["mouthSmileLeft"]
    assert expressions.coefficients(seen) is None


def test_a_channel_that_was_not_seen_leaves_expression_unseen(tmp_path: Path):
    path = tmp_path / "map.yaml"
    path.write_text("expressions:\n  smile: {0: 1.0}\n")
    assert read_expression_map(path).coefficients({"jawOpen": 0.5}) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("joints: {}\n", "'expressions' is missing"),
        ("expressions: {}\n", "there is no channel; timar robot fit-expressions writes them"),
        ("expressions:\n  smile: {50: 1.0}\n", r"line 2.*'smile' weighs '50', expected 0..49 or offset"),
        ("expressions:\n  smile: {0: high}\n", "'0' must be a finite number"),
    ],
)
def test_a_wrong_map_is_named_by_file_line_and_channel(tmp_path: Path, text: str, said: str):
    path = tmp_path / "map.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said) as error:
        read_expression_map(path)
    assert str(path) in str(error.value)
