"""A user's matrix between ARKit and FLAME: checked, both ways round, and refused where it is ambiguous."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_arkit_map import expression_of, made_bs2exp
from timar_common.arkit import ARKIT_NAMES, ORDERS, ArkitMap, damped_inverse, read_arkit_map


def shapes_from(arkit: ArkitMap, expression: np.ndarray, jaw_rad: float = 0.0) -> dict[str, float]:
    values = expression @ arkit.arkit_from_flame + jaw_rad * arkit.arkit_from_jaw
    return dict(zip(ARKIT_NAMES, values, strict=True))


def write_yaml(folder: Path, matrix: np.ndarray, **keys: str) -> Path:
    np.save(folder / "matrix.npy", matrix)
    words = "".join(f", {key}: {value}" for key, value in keys.items())
    path = folder / "map.yaml"
    path.write_text(f"expression_map: {{file: matrix.npy{words}}}\n")
    return path


def test_there_are_52_names_and_mediapipe_has_a_neutral_one_in_place_of_the_tongue() -> None:
    assert len(set(ARKIT_NAMES)) == 52
    assert {"jawOpen", "mouthSmileLeft", "browInnerUp", "tongueOut"} <= set(ARKIT_NAMES)
    assert set(ORDERS["mediapipe"]) - set(ARKIT_NAMES) == {"_neutral"}
    assert ORDERS["mediapipe"][44:46] == ("mouthSmileLeft", "mouthSmileRight")


@pytest.mark.parametrize("columns", [50, 100])
def test_the_public_format_is_inverted_and_gives_back_the_smile(tmp_path: Path, columns: int) -> None:
    matrix = made_bs2exp(columns)
    np.save(tmp_path / "bs2exp.npy", matrix)
    arkit = read_arkit_map(tmp_path / "bs2exp.npy")
    wanted = {"mouthSmileLeft": 0.8, "browInnerUp": 0.4, "eyeBlinkRight": 1.0}
    found = shapes_from(arkit, expression_of(matrix, **wanted))
    least = 0.95 if columns == 50 else 0.4  # Half of the 100 are not in the motion, so less is told.
    for name, value in wanted.items():
        assert found[name] >= least * value
    others = [abs(value) for name, value in found.items() if name not in wanted]
    assert max(others) < (0.06 if columns == 50 else 0.45)
    assert f"shape (52, {columns}), arkit to flame, rank 50, condition " in arkit.summary
    assert "tongueOut" in arkit.untold


def test_jaw_open_comes_from_the_jaw_and_its_part_of_the_expression_is_nobody_elses() -> None:
    matrix = made_bs2exp()
    arkit = ArkitMap(matrix, "made", jaw_open_rad=0.5)
    found = shapes_from(arkit, expression_of(matrix, jawOpen=0.6, mouthSmileLeft=0.5), jaw_rad=0.3)
    assert found.pop("jawOpen") == pytest.approx(0.6)
    assert found.pop("mouthSmileLeft") == pytest.approx(0.5, abs=0.02)
    assert max(map(abs, found.values())) < 0.03


def test_the_transpose_says_nothing_of_its_direction_and_the_user_does(tmp_path: Path) -> None:
    matrix = made_bs2exp()
    with pytest.raises(ValueError, match=r"may go either way; say which in a YAML: expression_map: \{file"):
        ArkitMap(matrix.T, "bs2exp.npy")
    plain = ArkitMap(matrix, "bs2exp.npy")
    turned = read_arkit_map(write_yaml(tmp_path, matrix.T, direction="arkit_to_flame"))
    np.testing.assert_array_equal(turned.arkit_from_flame, plain.arkit_from_flame)
    # The same face by a matrix that goes the other way.
    backward = damped_inverse(matrix).T  # (52, 50): shapes = this @ expression
    other = read_arkit_map(write_yaml(tmp_path, backward.T, direction="flame_to_arkit"))
    np.testing.assert_allclose(other.flame_from_arkit, plain.flame_from_arkit, atol=0.01)
    smile = expression_of(matrix, mouthSmileLeft=0.7)
    assert shapes_from(other, smile)["mouthSmileLeft"] == pytest.approx(0.7, abs=0.02)


def test_a_matrix_whose_numbers_go_the_other_way_is_not_taken_for_bs2exp() -> None:
    with pytest.raises(
        ValueError, match=r"moves the expression by 0\.3.*direction: arkit_to_flame or flame_to"
    ):
        ArkitMap(np.linalg.pinv(made_bs2exp()).T, "flame2arkit.npy")


def test_51_blendshapes_in_another_order_are_taken_by_their_names(tmp_path: Path) -> None:
    matrix = made_bs2exp()
    plain = ArkitMap(matrix, "made")
    without_neutral = read_arkit_map(write_yaml(tmp_path, matrix[1:]))
    np.testing.assert_array_equal(without_neutral.flame_from_arkit, plain.flame_from_arkit)
    names = list(reversed(ORDERS["mediapipe"]))
    named = read_arkit_map(write_yaml(tmp_path, matrix[::-1], names=f"[{', '.join(names)}]"))
    np.testing.assert_array_equal(named.flame_from_arkit, plain.flame_from_arkit)


def test_a_weak_direction_is_held_back_and_noise_in_it_is_not_blown_up() -> None:
    matrix = made_bs2exp()
    left, singular, right = np.linalg.svd(matrix, full_matrices=False)
    singular[-1] = 1e-4 * singular[0]
    weak = left @ np.diag(singular) @ right
    arkit = ArkitMap(weak, "made")
    assert "condition 1e+04" in arkit.summary
    assert "with 1 of 50 directions held back as too weak" in arkit.summary
    noise = 0.1 * right[-1]
    assert np.abs(noise @ arkit.arkit_from_flame).max() < 0.1
    assert np.abs(noise @ np.linalg.pinv(weak)).max() > 10.0


def test_blendshapes_that_a_poor_matrix_cannot_tell_apart_are_named() -> None:
    matrix = np.zeros((52, 50))
    matrix[1:6] = made_bs2exp()[1:6]
    arkit = ArkitMap(matrix, "made")
    assert arkit.told == (*ORDERS["mediapipe"][1:6], "jawOpen")
    assert "rank 5, " in arkit.summary
    assert "6 of 52 blendshapes can be told" in arkit.summary


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m[:, :49], r"has shape \(52, 49\), expected numbers \(52, 50\)"),
        (lambda m: m.ravel(), r"float64 of shape \(2600,\)"),
        (lambda m: m.astype(str), r"holds <U.* of shape"),
        (lambda m: np.where(m == m[3, 7], np.nan, m), r"is nan in row 3, column 7; expected finite"),
        (lambda m: 0.0 * m, "is all zeros"),
    ],
)
def test_a_matrix_that_cannot_be_one_is_refused_in_a_sentence(tmp_path: Path, change, said: str) -> None:
    np.save(tmp_path / "m.npy", change(made_bs2exp()))
    with pytest.raises(ValueError, match=said) as error:
        read_arkit_map(tmp_path / "m.npy")
    assert "m.npy" in str(error.value)


def test_a_pickle_and_a_torn_file_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "pickle.npy", np.array([{"code": 1}], dtype=object), allow_pickle=True)
    whole = tmp_path / "whole.npy"
    np.save(whole, made_bs2exp())
    (tmp_path / "torn.npy").write_bytes(whole.read_bytes()[:5000])
    (tmp_path / "text.npy").write_text("a,b\n1,2\n")
    for name in ("pickle.npy", "torn.npy", "text.npy"):
        with pytest.raises(ValueError, match=f"{name} is no .npy of numbers"):
            read_arkit_map(tmp_path / name)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"direction": "up"}, "line 1, expression_map: 'direction' is 'up', expected one of arkit_to_flame"),
        ({"names": "[jawOpne, " + ", ".join(ORDERS["mediapipe"][1:]) + "]"}, "did you mean 'jawOpen'"),
        ({"transpose": "true"}, "line 1, expression_map: unknown key 'transpose'"),
        ({"jaw_open_rad": "0"}, "'jaw_open_rad' is 0, expected 0.05 to 1.5"),
    ],
)
def test_a_mistake_in_the_yaml_is_named_by_its_line(tmp_path: Path, keys: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_arkit_map(write_yaml(tmp_path, made_bs2exp(), **keys))
