"""Who reaches the graph by the profile that its processes are given: this machine, and no other.

Another machine of the same network is played by a network namespace with a cable to this one. A node there
asks this machine for its participants, as anyone on the network could. It once heard the microphone: the
sockets listened on every interface.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from timar_bringup.files import middleware_environment
from timar_bringup.network import profile
from two_machines import ADDRESSES, TwoMachines

pytestmark = pytest.mark.ros

OTHER_NETWORK = "10.231.76.1"
HERE, THERE, NAMESPACE = "10.231.77.1", "10.231.77.2", "timar_stranger"

SPEAKER = """
import rclpy
from std_msgs.msg import String
rclpy.init()
node = rclpy.create_node("speaker")
publisher = node.create_publisher(String, "/secret", 10)
print("up", flush=True)
node.create_timer(0.05, lambda: publisher.publish(String(data="heard")))
rclpy.spin(node)
"""
LISTENER = """
import sys, time
import rclpy
from std_msgs.msg import String
rclpy.init()
node, heard = rclpy.create_node("listener"), []
node.create_subscription(String, "/secret", heard.append, 10)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end and len(heard) < 10:
    rclpy.spin_once(node, timeout_sec=0.1)
print(len(heard))
"""


@pytest.fixture
def stranger() -> Iterator[list[str]]:
    """A second machine on a cable: the command that starts something there."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network namespace needs root and iproute2")
    ip("netns", "del", NAMESPACE, check=False)
    try:
        ip("netns", "add", NAMESPACE)
        ip("link", "add", "timar_here", "type", "veth", "peer", "name", "timar_there", "netns", NAMESPACE)
    except subprocess.CalledProcessError as error:
        ip("netns", "del", NAMESPACE, check=False)
        pytest.skip(f"this machine makes no network namespaces: {error.stderr.strip()}")
    try:
        ip("addr", "add", f"{HERE}/24", "dev", "timar_here")
        ip("link", "set", "timar_here", "up")
        ip("-n", NAMESPACE, "addr", "add", f"{THERE}/24", "dev", "timar_there")
        ip("-n", NAMESPACE, "link", "set", "timar_there", "up")
        ip("-n", NAMESPACE, "link", "set", "lo", "up")
        yield ["ip", "netns", "exec", NAMESPACE]
    finally:
        ip("link", "del", "timar_here", check=False)
        ip("netns", "del", NAMESPACE, check=False)


@pytest.fixture
def domain() -> dict[str, str]:
    """The environment in which the graph's processes run, in a domain of its own."""
    base = {
        name: value for name, value in os.environ.items() if not re.match("ROS_AUTO|FAST.*PROFILES", name)
    }
    base["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
    return base | middleware_environment(base)


def ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True)


def heard(seconds: float, environment: Mapping[str, str], prefix: list[str] | None = None) -> int:
    """Return how many messages of the speaker a listener gets; it stops at ten."""
    command = [*(prefix or []), sys.executable, "-c", LISTENER, str(seconds)]
    return int(subprocess.check_output(command, env=dict(environment), text=True, timeout=300))


@contextlib.contextmanager
def speaking(environment: Mapping[str, str], prefix: Sequence[str] = ()) -> Iterator[None]:
    """Let a node speak, up before the block begins and still up when it ends: else it is at fault."""
    command = [*prefix, sys.executable, "-c", SPEAKER]
    process = subprocess.Popen(command, env=dict(environment), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield
        assert process.poll() is None, "the speaker ended by itself"
    finally:
        process.kill()
        process.wait()


def profile_of(environment: Mapping[str, str], path: Path, *, asks: str, is_open: bool) -> dict[str, str]:
    """Return the environment with a changed profile: asks another address; open: on all interfaces."""
    text = Path(environment["FASTDDS_DEFAULT_PROFILES_FILE"]).read_text(encoding="utf-8")
    if is_open:
        text = re.sub("<interfaceWhiteList>.*</interfaceWhiteList>", "", text, flags=re.DOTALL)
    peers = re.compile("(<udpv4>\\s*<address>)127.0.0.1")
    assert peers.search(text)
    path.write_text(peers.sub(rf"\g<1>{asks}", text), encoding="utf-8")
    return {**environment, "FASTDDS_DEFAULT_PROFILES_FILE": str(path)}


@pytest.mark.parametrize("is_open", [False, True], ids=["as the graph speaks", "on all interfaces"])
def test_a_node_on_another_machine_of_the_network_hears_nothing(
    stranger: list[str], domain: dict[str, str], tmp_path: Path, is_open: bool
) -> None:
    # On all interfaces it is heard: so the silence is the profile's doing and not the test's.
    spying = profile_of(domain, tmp_path / "spy.xml", asks=HERE, is_open=True)
    graph = profile_of(domain, tmp_path / "graph.xml", asks="127.0.0.1", is_open=is_open)
    with speaking(graph):
        # Who hears stops at ten messages; silence takes all of its time.
        count = heard(30.0 if is_open else 6.0, spying, stranger)
        assert (count > 0) is is_open, count


def test_a_graph_that_is_open_to_one_network_is_silent_on_another(
    stranger: list[str], domain: dict[str, str], tmp_path: Path
) -> None:
    # An address of the machine that is not on the stranger's cable: where network:=HOST would have it listen.
    ip("addr", "add", f"{OTHER_NETWORK}/32", "dev", "lo")
    try:
        graph = tmp_path / "graph.xml"
        graph.write_text(profile([OTHER_NETWORK], []), encoding="utf-8")
        spying = profile_of(domain, tmp_path / "spy.xml", asks=HERE, is_open=True)
        with speaking({**domain, "FASTDDS_DEFAULT_PROFILES_FILE": str(graph)}):
            assert heard(6.0, spying, stranger) == 0
    finally:
        ip("addr", "del", f"{OTHER_NETWORK}/32", "dev", "lo", check=False)


@pytest.mark.parametrize("discovery", ["", "LOCALHOST"], ids=["ROS 2's defaults", "LOCALHOST"])
def test_a_users_own_node_on_this_machine_hears_the_graph_without_our_profile(
    domain: dict[str, str], discovery: str
) -> None:
    own = {name: value for name, value in domain.items() if not re.match("ROS_AUTO|FAST.*PROFILES", name)}
    if discovery:
        own["ROS_AUTOMATIC_DISCOVERY_RANGE"] = discovery
    with speaking(domain):
        assert heard(30.0, own) > 0


def test_a_machine_that_looks_for_the_graph_hears_it_where_it_listens(
    domain: dict[str, str], tmp_path: Path
) -> None:
    graph, box = tmp_path / "graph.xml", tmp_path / "box.xml"
    graph.write_text(profile([ADDRESSES["head"]], []), encoding="utf-8")
    box.write_text(profile([ADDRESSES["box"]], [ADDRESSES["head"]]), encoding="utf-8")
    with TwoMachines().connected() as two:
        asking = {**domain, "FASTDDS_DEFAULT_PROFILES_FILE": str(box)}
        with speaking({**domain, "FASTDDS_DEFAULT_PROFILES_FILE": str(graph)}, two.command("head")):
            assert heard(30.0, asking, two.command("box")) == 10
