"""Messages without ROS: made from their definitions, stamped in monotonic time, the same bytes both ways."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from timar_common.messages import Header, constants, converted, decode, encode, new, prepare
from timar_common.topics import TOPICS

AHEAD_NS = 7


def ros_ns(monotonic_ns: int) -> int:
    return monotonic_ns + AHEAD_NS


def monotonic_ns(ros_time_ns: int) -> int:
    return ros_time_ns - AHEAD_NS


def motion(**fields: Any) -> Any:
    return new("HeadMotion", header=Header(5_000_000_000, "head"), frames=1, jaw=[1, 2, 3], **fields)


def test_fields_that_are_not_given_are_empty_and_sequences_get_the_fields_type() -> None:
    message = motion()
    assert (message.conversation_id, message.is_preview, message.expression.size) == ("", False, 0)
    assert message.jaw.dtype == np.float32
    with pytest.raises(TypeError, match="no field 'wrist'"):
        motion(wrist=1)


def test_a_message_comes_back_as_it_was_with_its_stamp_in_monotonic_time() -> None:
    back = decode(encode(motion(), ros_ns), "timar_msgs/msg/HeadMotion", monotonic_ns)
    assert (back.header.stamp, back.header.wire_ns, back.header.frame_id) == (
        5 * 10**9,
        5 * 10**9 + 7,
        "head",
    )
    assert back.jaw.tolist() == [1, 2, 3]


def test_a_header_from_the_wire_goes_out_as_it_came_whatever_the_clocks_do() -> None:
    data = encode(motion(), ros_ns)
    back = decode(data, "timar_msgs/msg/HeadMotion", monotonic_ns)
    assert encode(back, lambda ns: ns + 10**9) == data


def test_a_stamp_of_zero_means_none_and_stays_none() -> None:
    data = encode(new("sensor_msgs/msg/JointState"), ros_ns)
    assert decode(data, "sensor_msgs/msg/JointState", monotonic_ns).header.stamp == 0


def test_bytes_that_are_no_such_message_are_rejected_by_name() -> None:
    with pytest.raises(ValueError, match="3 bytes are no timar_msgs/msg/HeadMotion"):
        decode(b"abc", "timar_msgs/msg/HeadMotion", monotonic_ns)


def test_a_message_of_another_definition_becomes_one_of_ours() -> None:
    class Older:
        frames = 2
        jaw = np.zeros(6, np.float32)

    ours = converted(Older(), "timar_msgs/msg/HeadMotion")
    assert (ours.frames, ours.jaw.size, ours.revision) == (2, 6, 0)


def test_former_names_of_constants_stand_beside_the_new_ones() -> None:
    log = constants("TurnLog")
    assert log["TAKE_BACK"] == log["ROLLBACK"]
    assert log["COMMIT_UNSAMPLED"] == log["COMMIT_SKIPPED"]


def test_prepared_types_cost_no_compiling_with_the_first_message() -> None:
    """The first turn of a live head came late while its messages' classes were still being made."""
    program = f"""
import builtins
from timar_common.messages import Header, decode, encode, new, prepare
prepare({sorted({topic.type_name for topic in TOPICS.values()})!r})
builtins.compile = None
log = new("TurnLog", header=Header(5), inputs=[new("InputCursor", topic="user/audio")])
assert decode(encode(log, int), "timar_msgs/msg/TurnLog", int).inputs[0].topic == "user/audio"
"""
    path = "import sys; sys.path[:0] = " + repr(sys.path)
    subprocess.run([sys.executable, "-c", path + program], check=True)
    prepare(["timar_msgs/msg/TurnLog"])
