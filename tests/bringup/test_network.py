"""The Fast DDS profile that opens the graph to other machines, and only to them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from timar_bringup.files import PROFILE, shared_file
from timar_bringup.graph import UsageError
from timar_bringup.network import address_of, own_address, profile, who_reaches

NAMESPACE = "{http://www.eprosima.com}"


def addresses(text: str, element: str) -> list[str | None]:
    found = ET.fromstring(text).find(f".//{NAMESPACE}{element}")
    assert found is not None
    return [address.text for address in found.iter(f"{NAMESPACE}address")]


def test_a_profile_adds_addresses_to_the_shipped_one_and_keeps_the_rest():
    text = profile(["192.168.1.10"], ["192.168.1.20", "192.168.1.21"], {})
    assert addresses(text, "interfaceWhiteList") == ["127.0.0.1", "192.168.1.10"]
    assert addresses(text, "initialPeersList") == ["127.0.0.1", "192.168.1.20", "192.168.1.21"]
    shipped, opened = (
        {element.tag.removeprefix(NAMESPACE) for element in tree.iter()}
        for tree in (ET.parse(shared_file(PROFILE, {})).getroot(), ET.fromstring(text))
    )
    assert opened - shipped == {"non_blocking_send"}
    assert shipped <= opened


def test_a_machine_that_is_not_known_is_named():
    with pytest.raises(UsageError, match=r"the machine 'nowhere\.invalid' is not known"):
        address_of("nowhere.invalid")
    assert own_address("127.0.0.1") == "127.0.0.1"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "by default everybody on its network, .* ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}, "everybody"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, "only this machine"),
        ({"ROS_LOCALHOST_ONLY": "1"}, "only this machine"),
        (
            {"FASTDDS_DEFAULT_PROFILES_FILE": str(shared_file(PROFILE, {}))},
            "only this machine .*network:=HOST",
        ),
        ({"FASTDDS_DEFAULT_PROFILES_FILE": "/mine.xml"}, "unset FASTDDS_DEFAULT_PROFILES_FILE"),
    ],
)
def test_start_says_who_reaches_the_graph_and_how_to_close_it(environment, words):
    assert re.search(words, who_reaches(environment))
