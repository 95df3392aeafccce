"""Which of several publishers of a topic is obeyed, and what is said of the environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from timar_common.clock import NS_PER_S
from timar_common.middleware import participants, settings, suspicions
from timar_common.sole_publisher import PublisherEndpoint, SolePublisher, located, processes_of, started_ticks

OWN_PID = os.getpid()


def gid(pid: int, host: bytes = b"\x78\xfd", number: int = 1) -> bytes:
    """Return a gid as Fast DDS makes it."""
    return b"\x01\x0f" + host + (pid & 0xFFFF).to_bytes(2, "little") + bytes(9) + bytes([number])


OWN = gid(OWN_PID, number=9)
ALIVE, ALSO = gid(OWN_PID, number=1), gid(os.getppid(), number=2)
REMOTE, REMOTE_AGAIN = (gid(7, host=b"\x11\x22", number=number) for number in (3, 4))


def dead() -> bytes:
    """Return the gid of a process that does not exist."""
    running = {int(path.name) & 0xFFFF for path in Path("/proc").iterdir() if path.name.isdigit()}
    return gid(next(pid for pid in range(2, 0xFFFF) if pid not in running), number=5)


class Graph:
    """Publishers as they are seen, and a topic on which they speak."""

    def __init__(self, *gids: bytes, is_latched: bool = False) -> None:
        self.gids = list(gids)
        self.topic = SolePublisher(self.endpoints, lambda: OWN, is_latched)

    def endpoints(self) -> list[PublisherEndpoint]:
        return [PublisherEndpoint(each, f"/node{each[-1]}") for each in self.gids]

    def counts(self, who: bytes, at_s: float) -> bool:
        return self.topic.admits(who, round((100 + at_s) * NS_PER_S))


def test_the_first_stays_in_charge_while_it_lives_however_long_it_is_silent():
    graph = Graph(ALIVE, ALSO)
    assert graph.counts(ALIVE, 0.0)
    assert not any(graph.counts(ALSO, at_s) for at_s in (0.1, 1.0, 60.0))
    assert graph.counts(ALIVE, 61.0)
    assert graph.topic.refused == {ALSO: 3}
    assert [end.gid for end in graph.topic.others()] == [ALSO]


def test_a_process_that_was_started_again_takes_over_at_once_from_one_that_was_killed():
    killed = dead()
    graph = Graph(killed, ALIVE)  # DDS shows a killed process for 20 s.
    assert graph.counts(killed, 0.0)
    assert not graph.counts(ALIVE, 0.5)  # What the killed one said last may still be on its way.
    assert graph.topic.refused == {}
    assert graph.counts(ALIVE, 1.1)


def test_who_was_refused_waits_until_the_first_had_time_to_start_again():
    graph = Graph(ALIVE, ALSO)
    assert graph.counts(ALIVE, 0.0)
    assert not graph.counts(ALSO, 0.1)
    graph.gids = [ALSO]
    assert not graph.counts(ALSO, 1.0)
    assert not graph.counts(ALSO, 10.5)
    assert graph.counts(ALSO, 11.5)
    restarted = Graph(ALIVE, ALSO)
    assert restarted.counts(ALIVE, 0.0)
    assert not restarted.counts(ALSO, 0.1)
    restarted.gids = [ALSO, REMOTE]
    assert not restarted.counts(ALSO, 1.0)
    assert restarted.counts(REMOTE, 5.0)
    assert not restarted.counts(ALSO, 30.0) or restarted.topic.in_charge == ALSO


def test_a_publisher_of_another_machine_counts_as_gone_after_3_s_unless_its_topic_is_latched():
    graph, latched = Graph(REMOTE, REMOTE_AGAIN), Graph(REMOTE, REMOTE_AGAIN, is_latched=True)
    assert graph.counts(REMOTE, 0.0)
    assert latched.counts(REMOTE, 0.0)
    assert graph.counts(REMOTE_AGAIN, 4.0)
    assert not latched.counts(REMOTE_AGAIN, 4.0)


def test_without_gids_nothing_counts_while_there_are_two():
    graph = Graph(ALIVE)
    graph.topic.look(0)
    assert graph.counts(b"", 0.0)
    graph.gids.append(ALSO)
    graph.topic.look(1)
    assert not graph.counts(b"", 0.1)


def test_a_publisher_is_named_with_node_process_and_machine():
    assert str(OWN_PID) in located(PublisherEndpoint(ALIVE, "/driver"), OWN)
    assert "another machine, Fast DDS host 1122" in located(PublisherEndpoint(REMOTE, "/driver"), OWN)
    assert "has ended" in located(PublisherEndpoint(dead(), "/driver"), OWN)
    assert processes_of(b"\x01\x10" + bytes(14), OWN) is None  # Of another vendor.


@pytest.mark.parametrize(
    ("variables", "words", "is_certain"),
    [
        ({"ROS_DOMAIN_ID": "300"}, "expected 0 to 101", True),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"}, "nodes find nobody", False),
        ({"RMW_IMPLEMENTATION": "rmw_other_cpp", "AMENT_PREFIX_PATH": "/nowhere"}, "unset it", True),
        ({"RMW_IMPLEMENTATION": "rmw_other_cpp"}, "the same in every process", False),
        ({"ROS_STATIC_PEERS": "10.0.0.9"}, "unset ROS_STATIC_PEERS", False),
        ({"ROS_DISCOVERY_SERVER": "10.0.0.9:11811"}, "see that the server runs", False),
    ],
)
def test_a_setting_that_hides_others_is_named_with_what_to_do(variables, words, is_certain):
    (found,) = suspicions(variables)
    assert words in found.remedy
    assert found.is_certain is is_certain
    assert not list(suspicions({}))
    assert "domain" in settings(variables)


def test_participants_are_counted_by_their_ports(tmp_path: Path):
    ports = [7400 + 250 * 3 + 10 + 2 * number for number in range(40)]  # Metatraffic, and one for data each.
    lines = [f"  1: 0100007F:{port:04X} 00000000:0000 07" for port in [*ports, *(p + 1 for p in ports), 7410]]
    table = tmp_path / "udp"
    table.write_text("\n".join(["  sl  local_address rem_address st", *lines]))
    assert participants(3, table) == 40
    assert participants(4, table) == 0
    assert participants(0, tmp_path / "none") == 0


def test_a_process_knows_which_of_two_was_started_first():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    try:
        assert 0 < started_ticks(os.getpid()) < started_ticks(child.pid)
    finally:
        child.kill()
        child.wait()
    assert started_ticks(child.pid) == 0
