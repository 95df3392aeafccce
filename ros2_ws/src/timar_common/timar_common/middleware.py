"""What the environment tells ROS 2's middleware, and by which variables processes miss each other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

LARGEST_DOMAIN_ID = 101
"""Above it ports may collide with those that Linux hands out to programs by itself."""
DOMAIN_IDS = 232
"""The largest domain id whose ports exist."""
FOUND_PARTICIPANTS = 32
"""So many participants of one domain of one machine find each other by unicast (maxInitialPeersRange)."""
OUR_RMW = "rmw_fastrtps_cpp"
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
_FIRST_PORT, _PORTS_PER_DOMAIN, _FIRST_UNICAST = 7400, 250, 10
_RANGES = ("SUBNET", "LOCALHOST", "SYSTEM_DEFAULT")


class Suspicion(NamedTuple):
    """A setting by which processes may miss each other."""

    text: str
    remedy: str
    is_certain: bool = False
    """Whether nothing can work with it."""


def domain_id(environment: Mapping[str, str]) -> str:
    """Return the domain id as it is set."""
    return environment.get("ROS_DOMAIN_ID") or "0"


def suspicions(environment: Mapping[str, str]) -> Iterator[Suspicion]:
    """Yield what is set so that processes with other settings are missed."""
    domain = domain_id(environment)
    if not domain.isdigit() or int(domain) > DOMAIN_IDS:
        yield Suspicion(f"ROS_DOMAIN_ID is {domain!r}", f"expected 0 to {LARGEST_DOMAIN_ID}", True)
    elif int(domain) > LARGEST_DOMAIN_ID:
        yield Suspicion(f"ROS_DOMAIN_ID is {domain}", "above 101 ports may be taken by other programs")
    rmw = environment.get("RMW_IMPLEMENTATION") or OUR_RMW
    if rmw != OUR_RMW and not _is_installed(rmw, environment):
        yield Suspicion(
            f"RMW_IMPLEMENTATION is {rmw}, which is not installed", "unset it, or install it", True
        )
    elif rmw != OUR_RMW:
        yield Suspicion(f"RMW_IMPLEMENTATION is {rmw}", "it must be the same in every process of the graph")
    for name in ("ROS_LOCALHOST_ONLY", "ROS_DISCOVERY_SERVER", "ROS_STATIC_PEERS"):
        if environment.get(name, "0") not in ("", "0"):
            yield Suspicion(
                f"{name} is {environment[name]!r}",
                f"every process must have it, or none does; try: unset {name}"
                + (", or see that the server runs" if name == "ROS_DISCOVERY_SERVER" else ""),
            )
    reach = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "")
    if reach and reach not in _RANGES:
        yield Suspicion(
            f"ROS_AUTOMATIC_DISCOVERY_RANGE is {reach!r}",
            f"nodes find nobody by it; expected one of {', '.join(_RANGES)}",
        )
    for name in PROFILE_VARIABLES:
        if environment.get(name) and not Path(environment[name]).is_file():
            yield Suspicion(f"the Fast DDS profile of {name} does not exist", f"unset {name}", True)
    if domain.isdigit() and (count := participants(int(domain))) > FOUND_PARTICIPANTS:
        yield Suspicion(
            f"{count} processes of this machine use domain {domain}",
            f"more than {FOUND_PARTICIPANTS} do not all find each other: end some, or set another "
            "ROS_DOMAIN_ID",
        )


def _is_installed(rmw: str, environment: Mapping[str, str]) -> bool:
    prefixes = [prefix for prefix in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    return not prefixes or any(Path(prefix, "lib", f"lib{rmw}.so").exists() for prefix in prefixes)


def participants(domain: int, net: Path = Path("/proc/net/udp")) -> int:
    """Return how many participants of a domain have a socket on this machine, by DDS's port numbers.

    Args:
        domain: Domain id.
        net: The kernel's list of UDP sockets.

    Source: DDSI-RTPS 2.5, 9.6.2.3 (PB 7400, DG 250, PG 2, d1 10).
    """
    try:
        lines = net.read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return 0
    ports = {int(line.split()[1].rpartition(":")[2], 16) for line in lines}
    first = _FIRST_PORT + _PORTS_PER_DOMAIN * domain + _FIRST_UNICAST
    return len(ports & set(range(first, first + _PORTS_PER_DOMAIN - _FIRST_UNICAST, 2)))


def settings(environment: Mapping[str, str]) -> str:
    """Return what is set, as words for a sentence."""
    domain = domain_id(environment)
    said = [environment.get("RMW_IMPLEMENTATION") or OUR_RMW, f"domain {domain}"]
    if reach := environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE"):
        said.append(f"discovery range {reach}")
    profiles = [Path(environment[name]).name for name in PROFILE_VARIABLES if environment.get(name)]
    said += [f"profile {name}" for name in profiles]
    if domain.isdigit():
        said.append(f"{participants(int(domain))} processes of this domain on this machine")
    return ", ".join(said)
