"""The user's motion: frames by number, each part seen or unseen, nothing impossible let in."""

import numpy as np
from timar_inference.user_motion_track import UserMotionTrack


def test_user_never_seen_reads_as_none():
    track = UserMotionTrack()
    track.push(0, np.ones((4, 56), np.float32), np.zeros((4, 3), bool))
    assert track.read(0, 4) == (None, None)


def test_frames_that_did_not_come_are_zero_and_not_valid():
    track = UserMotionTrack()
    track.push(2, np.ones((1, 56), np.float32), np.array([[True, False, True]]))
    motion, valid = track.read(1, 4)
    assert motion.sum(axis=1).tolist() == [0, 56, 0]
    assert valid.tolist() == [[False] * 3, [True, False, True], [False] * 3]


def test_first_report_of_a_frame_stands():
    track = UserMotionTrack()
    for value in (1.0, 2.0):
        track.push(5, np.full((1, 56), value, np.float32), np.ones((1, 3), bool))
    assert track.read(5, 6)[0][0, 0] == 1.0


def test_frame_that_comes_after_it_was_needed_is_left_out_and_counted():
    track = UserMotionTrack()
    track.forget_before(10)
    track.push(8, np.ones((3, 56), np.float32), np.ones((3, 3), bool))
    assert track.late_frames == 2
    assert track.read(8, 10) == (None, None)
    assert track.read(10, 11)[0] is not None
