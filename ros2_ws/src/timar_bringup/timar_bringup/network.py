"""Fast DDS profile of the graph's processes: on which addresses they listen, and whom they look for.

The shipped profile keeps a graph to this machine. What is written here lets it reach further, address by
address; everything else of the shipped profile stays.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from pathlib import Path

from timar_common.atomic import write_text
from timar_common.middleware import PROFILE_VARIABLES

from timar_bringup.files import PROFILE, shared_file
from timar_bringup.graph import UsageError

ENCLAVE = "/timar"
"""Name under which the graph's processes have their keys."""
LOOPBACK = "127.0.0.1"
_NAMESPACE = "http://www.eprosima.com"


def profile(listen: Iterable[str], ask: Iterable[str], base: Mapping[str, str] | None = None) -> str:
    """Return the shipped profile, as XML, opened to other machines.

    Args:
        listen: IPv4 addresses of this machine at which it may be reached, beside the loopback device. Whoever
            can send to one of them reaches the graph.
        ask: IPv4 addresses of other machines that are looked for. It is enough when one of two machines looks
            for the other.
        base: Environment that says where the shipped profile is; default: this process's.
    """
    ET.register_namespace("", _NAMESPACE)
    root = ET.parse(shared_file(PROFILE, base)).getroot()
    transport = _found(root, "transport_descriptor")
    interfaces = _found(root, "interfaceWhiteList")
    for address in listen:
        _add(interfaces, "address").text = address
    # A radio link that is full must not hold up who sends; what is lost is sent again.
    _add(transport, "non_blocking_send").text = "true"
    peers = _found(root, "initialPeersList")
    for address in ask:
        _add(_add(_add(peers, "locator"), "udpv4"), "address").text = address
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def opened_profile(hosts: Iterable[str], ask: bool, base: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return a profile as XML that lets some machines in, and this machine's addresses at which it listens.

    Args:
        hosts: Names or IPv4 addresses of the other machines.
        ask: Whether to look for them; else they look for this one.
        base: Environment that says where the shipped profile is.

    Raises:
        UsageError: A machine's name is not known, or there is no way to it.
    """
    addresses = {address_of(host) for host in hosts} - {LOOPBACK}
    own = sorted({own_address(address) for address in addresses} - {LOOPBACK})
    return profile(own, sorted(addresses) if ask else [], base), own


def kept_profile(text: str, environment: Mapping[str, str]) -> Path:
    """Write a profile beside ROS 2's log, once for each content, and return its path.

    Fast DDS resolves the path: it cannot read a file without a name ("realpath failed"), and then goes
    without any profile.

    Raises:
        UsageError: It cannot be written.
    """
    home = environment.get("ROS_HOME") or Path(environment.get("HOME") or "/", ".ros")
    folder = Path(environment.get("ROS_LOG_DIR") or Path(home, "log"))
    path = folder / f"timar-network-{hashlib.sha256(text.encode()).hexdigest()[:12]}.xml"
    try:
        write_text(path, text)
    except OSError as error:
        raise UsageError(
            f"the network profile {path} cannot be written ({error.strerror}); "
            "set ROS_LOG_DIR to a folder of yours"
        ) from error
    return path


def who_reaches(environment: Mapping[str, str]) -> str:
    """Say who can reach a graph with this environment, and how to close or open it."""
    name = next((name for name in PROFILE_VARIABLES if environment.get(name)), "")
    if name:
        try:
            is_shipped = os.path.samefile(environment[name], shared_file(PROFILE, environment))
        except FileNotFoundError:
            is_shipped = False
        if is_shipped:
            return "only this machine reaches the graph; network:=HOST lets another in"
        return f"who reaches the graph is as {name} says; to close it: unset {name}"
    reach = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "")
    if reach in ("LOCALHOST", "OFF"):
        return f"only this machine reaches the graph, for ROS_AUTOMATIC_DISCOVERY_RANGE is {reach}"
    if not reach and environment.get("ROS_LOCALHOST_ONLY") == "1":
        return "only this machine reaches the graph, for ROS_LOCALHOST_ONLY is 1"
    return (
        "who reaches this graph is as this machine's ROS 2 settings say, by default everybody on its "
        "network, who hears the microphone and can move the head; to close it: export "
        "ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST"
    )


def security(keystore: Path) -> dict[str, str]:
    """Return the variables that let only holders of keys speak with the graph; ROS 2 enforces it.

    Raises:
        UsageError: The keystore has no keys for the graph.
    """
    folder = keystore.expanduser().absolute()
    if not (folder / "enclaves" / ENCLAVE.strip("/") / "key.pem").is_file():
        raise UsageError(
            f"the keystore {keystore} holds no keys for {ENCLAVE}; make them by `timar keys {keystore}`"
        )
    return {
        "ROS_SECURITY_KEYSTORE": str(folder),
        "ROS_SECURITY_ENABLE": "true",
        "ROS_SECURITY_STRATEGY": "Enforce",
    }


def keys(argv: list[str]) -> int:
    """Make the keys of a head that several machines reach, by ROS 2's own tool (SROS2)."""
    parser = argparse.ArgumentParser(prog="timar keys", description=keys.__doc__)
    parser.add_argument("folder", type=Path, help="keystore to make, or to add the head's keys to")
    folder = parser.parse_args(argv).folder
    commands = [["create_enclave", str(folder), ENCLAVE]]
    if not folder.exists():
        commands.insert(0, ["create_keystore", str(folder)])
    for command in commands:
        try:
            subprocess.run(["ros2", "security", *command], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            sys.stderr.write(
                f"timar keys: ros2 security {command[0]} did not work ({error}); it comes with a ROS 2 "
                "distribution (apt install ros-$ROS_DISTRO-sros2), not with the wheels\n"
            )
            return 1
    sys.stdout.write(
        f"copy {folder} to every machine of the head by a way that nobody reads, and start each with "
        f"network:=OTHER keystore:={folder}\n"
    )
    return 0


def address_of(host: str) -> str:
    """Return the IPv4 address of a machine.

    Raises:
        UsageError: The name is not known.
    """
    try:
        return str(socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_DGRAM)[0][4][0])
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"the machine {host!r} is not known ({getattr(error, 'strerror', error)}); give its IPv4 address"
        ) from error


def own_address(other: str) -> str:
    """Return the address by which this machine speaks with another; nothing is sent.

    Raises:
        UsageError: There is no way to it.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((other, 9))
        except OSError as error:
            raise UsageError(
                f"there is no way from here to {other} ({error.strerror}); is the network up?"
            ) from error
        return str(probe.getsockname()[0])


def _found(root: ET.Element, name: str) -> ET.Element:
    element = root.find(f".//{{{_NAMESPACE}}}{name}")
    if element is None:
        raise RuntimeError(f"{PROFILE} has no element {name}")
    return element


def _add(parent: ET.Element, name: str) -> ET.Element:
    return ET.SubElement(parent, f"{{{_NAMESPACE}}}{name}")
