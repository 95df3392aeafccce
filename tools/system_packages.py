"""Find which system packages are missing by what they provide, and install them when that is allowed."""

from __future__ import annotations

import ctypes.util
import dataclasses
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path


class MissingPackagesError(RuntimeError):
    """System packages are missing and may not be installed from here; the message is one line to type."""


@dataclasses.dataclass(frozen=True)
class SystemPackage:
    """A package of Debian and Ubuntu, and how to see that what it provides is there."""

    name: str
    is_there: Callable[[str], bool]
    """Takes the interpreter of the virtual environment."""
    is_optional: bool = False
    """Some systems lack it; set-up then goes on, and the tests that need it say so."""


def _program(*names: str) -> Callable[[str], bool]:
    return lambda _python: any(shutil.which(name) for name in names)


def _library(name: str) -> Callable[[str], bool]:
    return lambda _python: ctypes.util.find_library(name) is not None


def _file(pattern: str) -> Callable[[str], bool]:
    return lambda _python: any(Path("/usr").glob(pattern))


def _python_says(code: str) -> Callable[[str], bool]:
    return lambda python: (
        subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0
    )


RUN: tuple[SystemPackage, ...] = (
    SystemPackage("cmake", _program("cmake")),
    SystemPackage("g++", _program("g++", "c++")),
    SystemPackage("make", _program("make")),
    SystemPackage("python3-venv", _python_says("import ensurepip, venv")),
    SystemPackage(
        "python3-dev",
        _python_says(
            "import os, sysconfig; os.stat(os.path.join(sysconfig.get_path('include'), 'Python.h'))"
        ),
    ),
    SystemPackage("libportaudio2", _library("portaudio")),
)
PERCEPTION: tuple[SystemPackage, ...] = (
    # MediaPipe is linked to both, though it computes on the processor.
    SystemPackage("libegl1", _library("EGL")),
    SystemPackage("libgles2", _library("GLESv2")),
)
TESTS: tuple[SystemPackage, ...] = (
    SystemPackage("pulseaudio", _program("pulseaudio")),
    SystemPackage("pulseaudio-utils", _program("paplay")),
    SystemPackage("libasound2-plugins", _file("lib/*/alsa-lib/libasound_module_pcm_pulse.so")),
    # On Ubuntu this is a snap, which does not run in containers.
    SystemPackage("chromium", _program("chromium", "chromium-browser", "google-chrome"), is_optional=True),
    # The voice of the talking-head example.
    SystemPackage("espeak-ng", _program("espeak-ng"), is_optional=True),
)


def needed(*, with_tests: bool, with_perception: bool) -> tuple[SystemPackage, ...]:
    """Return the packages the set-up needs."""
    return RUN + (PERCEPTION if with_perception else ()) + (TESTS if with_tests else ())


def missing(packages: Iterable[SystemPackage], python: str) -> list[SystemPackage]:
    """Return those whose provision is not there."""
    return [package for package in packages if not package.is_there(python)]


def install_missing(
    packages: Sequence[SystemPackage], python: str, say: Callable[[str], None]
) -> list[SystemPackage]:
    """Install what is missing, as root or by a sudo that asks nothing; return what cannot be had.

    Raises:
        MissingPackagesError: It may not be installed from here, or installing did not help.
    """
    absent = missing(packages, python)
    if not absent:
        return []
    names = [package.name for package in absent]
    say(f"system packages missing: {' '.join(names)}")
    prefix = _privilege()
    if prefix is None or shutil.which("apt-get") is None:
        if all(package.is_optional for package in absent):
            say(f"going on without {' '.join(names)}; the tests that need it will say so")
            return absent
        raise MissingPackagesError(line_to_type(names))
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = [*prefix, "apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
    subprocess.run([*apt, "update"], env=environment, stdin=subprocess.DEVNULL, check=False)
    for group in ([p for p in absent if not p.is_optional], *([p] for p in absent if p.is_optional)):
        if group:
            say(f"installing {' '.join(package.name for package in group)}")
            command = [*apt, "install", "-y", "--no-install-recommends", *(package.name for package in group)]
            subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False)
    still = missing(absent, python)
    for package in still:
        if package.is_optional:
            say(f"{package.name} cannot be had on this system; the tests that need it will say so")
    required = [package.name for package in still if not package.is_optional]
    if required:
        raise MissingPackagesError(line_to_type(required))
    return still


def line_to_type(names: Iterable[str]) -> str:
    """Return the one line a person types to get packages."""
    listed = " ".join(names)
    if shutil.which("apt-get") is None:
        return f"install these (Debian's names) with your system's installer, then call make again: {listed}"
    return (
        "system packages are missing and cannot be installed from here; type this, then call make again:\n"
        f"sudo apt-get update && sudo apt-get install -y {listed}"
    )


def _privilege() -> list[str] | None:
    if os.geteuid() == 0:
        return []
    if (
        shutil.which("sudo")
        and subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0
    ):
        return ["sudo", "-n"]
    return None
