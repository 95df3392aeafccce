"""Motion files: what is not motion of this project's form is refused by file, array and finding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from timar_common.motion_file import MotionTrack, read_motion, write_motion

FRAMES = 20


def arrays(**changed: Any) -> dict[str, np.ndarray]:
    return {"exp": np.zeros((FRAMES, 50)), "pose": np.zeros((FRAMES, 6)), **changed}


def with_number(value: float) -> np.ndarray:
    pose = np.zeros((FRAMES, 6))
    pose[7, 2] = value
    return pose


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (arrays(fps=np.array(30.0)), "says 30.0 frames a second, expected 25"),
        (arrays(fps=np.array("fast")), "says fast frames a second, expected 25"),
        ({"exp": np.zeros((FRAMES, 50))}, "has no array 'pose', only .'exp'."),
        (arrays(exp=np.zeros((FRAMES, 100))), r"exp has the shape \(20, 100\) of float64"),
        (arrays(pose=np.zeros((6, FRAMES))), r"pose has the shape \(6, 20\)"),
        (arrays(pose=np.zeros((FRAMES, 6), complex)), "of complex128, expected numbers"),
        (arrays(pose=with_number(np.nan)), "pose holds a number that is not finite"),
        (arrays(pose=with_number(np.inf)), "pose holds a number that is not finite"),
        (arrays(pose=np.zeros((FRAMES - 1, 6))), "exp has 20 frames but pose has 19"),
        (arrays(valid=np.ones(FRAMES, bool)), r"valid has the shape \(20,\)"),
        (arrays(pose=np.array([{}] * FRAMES)), "cannot be read as npz"),
    ],
)
def test_what_is_no_motion_is_refused_with_file_and_finding(
    content: dict[str, np.ndarray], said: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(ValueError, match=rf"a\.npz.*{said}"):
        read_motion(tmp_path / "a.npz")


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    track = MotionTrack(random.normal(0, 0.1, (FRAMES, 56)).astype(np.float32), np.ones((FRAMES, 3), bool))
    write_motion(tmp_path / "a.npz", track)
    np.testing.assert_array_equal(read_motion(tmp_path / "a.npz").vector, track.vector)
    whole = (tmp_path / "a.npz").read_bytes()
    for size in range(0, len(whole) - 1, 97):
        (tmp_path / "b.npz").write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"b\.npz cannot be read as npz"):
            read_motion(tmp_path / "b.npz")
