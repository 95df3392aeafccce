"""A few poses tell which blendshapes a joint follows, and the residual how well. All poses are made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from timar_common.arkit import ARKIT_NAMES
from timar_retargeting.face_poses import draw_poses, fit_poses, poses_text, poses_yaml
from timar_retargeting.robot_command import main

JOINTS = ("left_lip_corner", "brow", "jaw")
FACES: tuple[dict[str, float], ...] = (
    {},
    {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.88, "cheekSquintLeft": 0.4},
    {"browInnerUp": 0.8},
    {"browDownLeft": 0.7, "browDownRight": 0.7},
    {"mouthFrownLeft": 0.8, "mouthFrownRight": 0.8},
    {"jawOpen": 0.7, "mouthFunnel": 0.1},
    {"mouthSmileLeft": 0.5, "mouthSmileRight": 0.5, "browInnerUp": 0.4},
)


def seen(noise: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = np.array([[face.get(name, 0.0) for name in ARKIT_NAMES] for face in FACES])
    return np.clip(rows + rng.normal(0.0, noise, rows.shape), 0.0, 1.0)


def positions(shapes: np.ndarray) -> np.ndarray:
    def at(name: str) -> np.ndarray:
        return shapes[:, ARKIT_NAMES.index(name)]

    corner = 0.05 + 0.4 * at("mouthSmileLeft") - 0.3 * at("mouthFrownLeft")
    return np.column_stack(
        [corner, 0.15 * at("browInnerUp") - 0.1 * at("browDownLeft"), np.full(len(shapes), 0.03)]
    )


def test_poses_give_back_the_gains_and_the_joints_own_side_is_preferred() -> None:
    corner, brow, jaw = fit_poses(JOINTS, positions(seen()), seen())
    assert corner.gains == pytest.approx({"mouthSmileLeft": 0.4, "mouthFrownLeft": -0.3}, abs=0.02)
    assert corner.offset_rad == pytest.approx(0.05, abs=0.01)
    assert set(brow.gains) <= {"browInnerUp", "browDownLeft", "browDownRight"}
    assert brow.gains["browInnerUp"] == pytest.approx(0.15, abs=0.01)
    assert jaw.gains == {}
    assert max(corner.rms_rad, brow.rms_rad, jaw.rms_rad) < 0.005


def test_a_pose_that_was_set_wrong_is_the_one_with_the_residual(tmp_path: Path) -> None:
    wrong = positions(seen())
    wrong[6, 0] += 0.15
    corner, *others = fit_poses(JOINTS, wrong, seen(0.02))
    assert np.abs(corner.residuals_rad).argmax() in (1, 6), "it stands against the other smile"
    assert corner.rms_rad > 0.02
    text = poses_text([corner, *others])
    assert f"in pose {np.abs(corner.residuals_rad).argmax() + 1}; follows mouthSmileLeft" in text
    assert "was not moved by the poses" in text
    draw_poses([corner, *others], tmp_path / "poses.png", "made up")
    assert (tmp_path / "poses.png").stat().st_size > 5000


def test_the_yaml_holds_only_joints_that_follow_something() -> None:
    text = poses_yaml(fit_poses(JOINTS, positions(seen()), seen()))
    assert (
        "  left_lip_corner:\n    signals: {mouthSmileLeft: 0.4, mouthFrownLeft: -0.3}\n    offset_rad: 0.05"
        in text
    )
    assert "jaw:" not in text


@pytest.mark.parametrize(
    ("count", "change", "said"),
    [
        (2, None, "there are 2 poses, expected 3 to 12"),
        (5, "same", "the camera saw the same face in every pose"),
        (5, "nan", "a position or a blendshape is not finite"),
    ],
)
def test_poses_that_tell_nothing_are_refused(count: int, change: str | None, said: str) -> None:
    shapes = seen()[:count]
    joints = positions(shapes)
    if change == "same":
        shapes = 0.0 * shapes
    if change == "nan":
        joints[1, 1] = np.nan
    with pytest.raises(ValueError, match=said):
        fit_poses(JOINTS, joints, shapes)


def test_what_is_missing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit-expressions", "--expression", "clip.npz"]) == 1
    assert "--channels is missing" in capsys.readouterr().err
    assert main(["fit-expressions", "--poses"]) == 1
    assert "poses need your map from FLAME to ARKit's blendshapes" in capsys.readouterr().err
