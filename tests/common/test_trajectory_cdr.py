"""A trajectory's bytes, made in few array operations, are those of the generic serializer."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from timar_common.messages import Header, decode, encode, new, standard_types, wire_header
from timar_common.trajectory_cdr import TYPE, TrajectoryPoints

STAMP_NS = 5 * 10**9 + 7


@pytest.mark.parametrize("frame_id", ["", "a", "ab", "abcd", "abcdefg"])
@pytest.mark.parametrize(("joints", "points"), [(1, 1), (2, 4), (5, 3), (12, 120)])
def test_the_bytes_are_those_of_the_generic_serializer(frame_id: str, joints: int, points: int) -> None:
    curve = np.random.default_rng(joints + points).normal(size=(3, points, joints))
    message = new(
        TYPE,
        header=Header(STAMP_NS, frame_id),
        joint_names=[f"joint{k}" * (1 + k % 3) for k in range(joints)],
        points=TrajectoryPoints(curve, 20_000_000, standard_types()),
    )
    assert isinstance(message.points, TrajectoryPoints)
    plain = dataclasses.replace(message, header=wire_header(STAMP_NS, frame_id), points=list(message.points))
    data = encode(message, lambda ns: ns)
    assert data == bytes(standard_types().serialize_cdr(plain, TYPE))
    read = decode(data, TYPE, lambda ns: ns).points
    np.testing.assert_array_equal([point.accelerations for point in read], curve[2])
    assert isinstance(message.header, Header)
