"""A certificate that this machine makes for itself, so that a phone may send its microphone here.

Browsers let a page use the microphone only by https or from 127.0.0.1. Nobody vouches for this certificate,
so a browser warns once; whoever compares its fingerprint with the log's knows that it is this machine's.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from timar_common.atomic import replacing_file

UTC = datetime.timezone.utc
VALID_FOR = datetime.timedelta(days=365)
RENEWED_BEFORE = datetime.timedelta(days=30)


def certificate_file() -> Path:
    """Return where this user's certificate and its key are kept: under XDG_DATA_HOME."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "timar" / "view" / "certificate.pem"


def own_addresses() -> list[str]:
    """Return the addresses by which the network reaches this machine, the one of its default route first."""
    found: list[str] = []
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # Of the addresses for documentation; nothing is sent.
        found.append(probe.getsockname()[0])
    with contextlib.suppress(OSError):
        found += [str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    return [name for name in dict.fromkeys(found) if not name.startswith("127.")]


def ensure_certificate(path: Path, addresses: Iterable[str]) -> str:
    """Make the certificate unless there is one for these addresses, and return its SHA-256 fingerprint.

    Args:
        path: File of key and certificate, readable by this user alone.
        addresses: By which the machine is reached; its names come by themselves.

    Raises:
        OSError: It cannot be written.
    """
    wanted = set(addresses)
    with contextlib.suppress(OSError, ValueError):
        pem = path.read_bytes()
        serialization.load_pem_private_key(pem, None)
        found = x509.load_pem_x509_certificate(pem)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        known = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
        # Its second name is that of versions before 42, as distributions have them.
        ends = getattr(found, "not_valid_after_utc", None) or found.not_valid_after.replace(tzinfo=UTC)
        if wanted <= known and ends > _now() + RENEWED_BEFORE:
            return _fingerprint(found)
        wanted |= known  # So that a machine that moves between networks is not warned about each time.
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _made(key, wanted)
    with replacing_file(path, is_private=True) as scratch:
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        scratch.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return _fingerprint(certificate)


def server_context(path: Path) -> ssl.SSLContext:
    """Return what a server needs to speak TLS with the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def _made(key: ec.EllipticCurvePrivateKey, addresses: Iterable[str]) -> x509.Certificate:
    host = socket.gethostname()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"TIMAR head on {host}"[:64])])
    names: list[x509.GeneralName] = [x509.DNSName(one) for one in ("localhost", host, f"{host}.local")]
    names += [x509.IPAddress(ipaddress.ip_address(one)) for one in sorted({"127.0.0.1", *addresses})]
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - datetime.timedelta(days=1))
        .not_valid_after(_now() + VALID_FOR)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def _now() -> datetime.datetime:
    return datetime.datetime.now(UTC)
