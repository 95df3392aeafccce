"""The UserMotion message: written and read by one pair of functions, nothing impossible let in."""

import numpy as np
import pytest
from timar_common.messages import decode, encode, new
from timar_common.user_motion import user_motion_from, user_motion_message


def message(count: int, **changes):
    parts = {
        "fps": 25.0,
        "frames": count,
        "expression": np.full(count * 50, 0.5, np.float32),
        "jaw": np.full(count * 3, 0.1, np.float32),
        "neck": np.full(count * 3, -0.2, np.float32),
        "expression_valid": [True] * count,
        "jaw_valid": [True] * count,
        "neck_valid": [True] * count,
    }
    return new("UserMotion", **(parts | changes))


def test_parts_stand_in_the_order_expression_jaw_neck():
    motion, valid = user_motion_from(message(2))
    assert motion.shape == (2, 56)
    assert motion[1].tolist() == pytest.approx([0.5] * 50 + [0.1] * 3 + [-0.2] * 3)
    assert valid.tolist() == [[True] * 3] * 2


def test_motion_comes_back_from_the_wire_as_it_was_written():
    rng = np.random.default_rng(3)
    motion = rng.normal(0.0, 0.3, (7, 56)).astype(np.float32)
    valid = rng.random((7, 3)) < 0.5
    written = user_motion_message(40, motion, valid, 10**9)
    data = encode(written, lambda ns: ns + 5)
    read = decode(data, "timar_msgs/msg/UserMotion", lambda ns: ns - 5)
    assert (read.first_frame, read.header.stamp, read.header.frame_id) == (40, 10**9, "user_head")
    motion_read, valid_read = user_motion_from(read)
    np.testing.assert_array_equal(valid_read, valid)
    np.testing.assert_array_equal(motion_read, np.where(np.repeat(valid, (50, 3, 3), axis=1), motion, 0))


@pytest.mark.parametrize("part", ["expression", "jaw", "neck"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1e30])
def test_number_that_is_no_face_is_refused_where_it_is_marked_as_seen(part, wrong):
    seen = message(3)
    getattr(seen, part)[-1] = wrong
    with pytest.raises(ValueError, match=part):
        user_motion_from(seen)


def test_whatever_stands_in_an_unseen_part_reads_as_zero():
    seen = message(2, jaw_valid=[True, False])
    seen.jaw[3:] = np.nan
    motion, valid = user_motion_from(seen)
    assert motion[1, 50:53].tolist() == [0, 0, 0]
    assert valid.tolist() == [[True, True, True], [True, False, True]]


@pytest.mark.parametrize(
    "changes",
    [{"frames": 0}, {"frames": 251}, {"frames": 3}, {"jaw": np.zeros(5, np.float32)}, {"neck_valid": [True]}],
)
def test_lengths_that_disagree_are_refused(changes):
    with pytest.raises(ValueError, match="expected"):
        user_motion_from(message(2, **changes))


@pytest.mark.parametrize(("changes", "word"), [({"first_frame": -1}, "-1"), ({"fps": 30.0}, "30")])
def test_motion_of_another_rate_or_before_the_first_frame_is_refused(changes, word):
    with pytest.raises(ValueError, match=word):
        user_motion_from(message(2, **changes))
