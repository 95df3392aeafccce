"""Checks Host and Origin of requests to a server here: which names are its own, which pages may ask it.

Any page that is open in a browser can send requests to 127.0.0.1. It cannot choose what stands in these two
headers. Who else may ask is decided by a token, which each server makes for itself.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


def request_refusal(headers: Mapping[str, str], listens_on: str) -> str:
    """Return why a request with these headers is refused, whatever its token; empty when it is not.

    A foreign Host is how a web page reaches this machine under a name of its own (DNS rebinding).

    Args:
        headers: Of the request.
        listens_on: The address that the server listens on.
    """
    host = headers.get("Host", "")
    if not _is_own_name(urlsplit(f"//{host}").hostname or "", listens_on):
        return f"the page is not served under the name {host[:80]!r}"
    origin = headers.get("Origin")
    if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
        return f"a page of {origin[:80]!r} may not reach the head"
    return ""


def _is_own_name(name: str, listens_on: str) -> bool:
    if name in LOOPBACK_NAMES or name == listens_on:
        return True
    if listens_on in LOOPBACK_NAMES:
        return False
    # Opened on purpose: by an address, which no foreign page can claim to be, or by the machine's name.
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    own = socket.gethostname()
    return name.lower() in (own.lower(), f"{own}.local".lower())
