"""The user's motion: frames by number, each part seen or unseen, nothing impossible let in."""

import numpy as np
import pytest
from timar_common.user_motion import motion_from_rows
from timar_inference.user_motion import MotionTrack


def rows(frames: int, **changes):
    parts = {
        "frames": frames,
        "expression": np.full(frames * 50, 0.5, np.float32),
        "jaw": np.full(frames * 3, 0.1, np.float32),
        "neck": np.full(frames * 3, -0.2, np.float32),
        "expression_valid": [True] * frames,
        "jaw_valid": [True] * frames,
        "neck_valid": [True] * frames,
    }
    return parts | changes


def test_parts_stand_in_the_order_expression_jaw_neck():
    motion, valid = motion_from_rows(**rows(2))
    assert motion.shape == (2, 56)
    assert motion[1].tolist() == pytest.approx([0.5] * 50 + [0.1] * 3 + [-0.2] * 3)
    assert valid.tolist() == [[True] * 3] * 2


@pytest.mark.parametrize("part", ["expression", "jaw", "neck"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1e30])
def test_number_that_is_no_face_is_refused_where_it_is_marked_as_seen(part, wrong):
    message = rows(3)
    message[part][-1] = wrong
    with pytest.raises(ValueError, match=part):
        motion_from_rows(**message)


def test_whatever_stands_in_an_unseen_part_reads_as_zero():
    message = rows(2, jaw_valid=[True, False])
    message["jaw"][3:] = np.nan
    motion, valid = motion_from_rows(**message)
    assert motion[1, 50:53].tolist() == [0, 0, 0]
    assert valid.tolist() == [[True, True, True], [True, False, True]]


@pytest.mark.parametrize(
    "changes",
    [{"frames": 0}, {"frames": 251}, {"frames": 3}, {"jaw": np.zeros(5, np.float32)}, {"neck_valid": [True]}],
)
def test_lengths_that_disagree_are_refused(changes):
    with pytest.raises(ValueError, match="expected"):
        motion_from_rows(**(rows(2) | changes))


def test_user_never_seen_reads_as_none():
    track = MotionTrack()
    track.push(0, np.ones((4, 56), np.float32), np.zeros((4, 3), bool))
    assert track.read(0, 4) == (None, None)


def test_frames_that_did_not_come_are_zero_and_not_valid():
    track = MotionTrack()
    track.push(2, np.ones((1, 56), np.float32), np.array([[True, False, True]]))
    motion, valid = track.read(1, 4)
    assert motion.sum(axis=1).tolist() == [0, 56, 0]
    assert valid.tolist() == [[False] * 3, [True, False, True], [False] * 3]


def test_first_report_of_a_frame_stands():
    track = MotionTrack()
    for value in (1.0, 2.0):
        track.push(5, np.full((1, 56), value, np.float32), np.ones((1, 3), bool))
    assert track.read(5, 6)[0][0, 0] == 1.0


def test_frame_that_comes_after_it_was_needed_is_left_out_and_counted():
    track = MotionTrack()
    track.forget_before(10)
    track.push(8, np.ones((3, 56), np.float32), np.ones((3, 3), bool))
    assert track.late_frames == 2
    assert track.read(8, 10) == (None, None)
    assert track.read(10, 11)[0] is not None
