"""An unknown name is refused with the nearest known one."""

import pytest
from timar_common.suggest import refuse_unknown, unknown_name

JOINTS = ("jaw", "neck_yaw", "neck_pitch")


def test_the_nearest_known_name_and_all_known_names_are_in_the_message():
    assert unknown_name("joint", "nek_yaw", JOINTS) == (
        "there is no joint 'nek_yaw'; did you mean 'neck_yaw'? The joints are: jaw, neck_yaw, neck_pitch"
    )


def test_a_name_that_is_near_to_none_gets_no_suggestion():
    assert unknown_name("joint", "tail", JOINTS) == (
        "there is no joint 'tail'; the joints are: jaw, neck_yaw, neck_pitch"
    )
    assert unknown_name("command", "x", ()) == "there is no command 'x'; the commands are: none"


def test_known_names_pass_and_the_first_unknown_one_is_refused():
    refuse_unknown("joint", ["jaw"], JOINTS)
    with pytest.raises(KeyError, match="no joint 'tail'"):
        refuse_unknown("joint", ["jaw", "tail", "wing"], JOINTS, error=KeyError)
