"""What on this machine keeps engines back: said at the start, with what is used instead."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping

from timar_model.machine import cpu_flags, version_of

Version = tuple[int, int]
"""Major and minor."""

ONNXRUNTIMES = (
    "onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-rocm",
    "onnxruntime-training",
)  # fmt: skip
"""Packages that write into one folder `onnxruntime`: of two, files of both lie there."""
_TRIALS = {
    "onnxruntime": "import onnxruntime",
    "torch": "import torch; torch.ones(8, 8) @ torch.ones(8, 8)",
}


@dataclasses.dataclass(frozen=True)
class EnvironmentFacts:
    """What was found; a test gives others."""

    machine: str = "x86_64"
    cpu_flags: frozenset[str] = frozenset(("avx", "avx2"))
    packages: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Installed packages of onnxruntime, and their versions."""
    imported: str = ""
    """Version that `import onnxruntime` brings; empty: it brings none."""
    providers: tuple[str, ...] = ()
    """That it brings."""
    built_for: Mapping[str, Version] = dataclasses.field(default_factory=dict)
    """CUDA that installed packages were built for."""
    driver: Version | None = None
    """Newest CUDA that the NVIDIA driver runs; None: there is none."""

    @property
    def lacks_avx(self) -> bool:
        """Whether this is an x86 processor without AVX; one of which nothing is known has it."""
        is_x86 = self.machine in ("x86_64", "AMD64", "i686")
        return is_x86 and bool(self.cpu_flags) and "avx" not in self.cpu_flags


@functools.cache
def find_facts() -> EnvironmentFacts:
    """Look at this machine; the driver is asked, no engine is started."""
    packages = {name: version for name in ONNXRUNTIMES if (version := version_of(name))}
    built_for, imported, providers = {}, "", ()
    if packages:
        import onnxruntime

        imported, providers = onnxruntime.__version__, tuple(onnxruntime.get_available_providers())
        try:
            from onnxruntime.capi import build_and_package_info

            built_for["onnxruntime-gpu"] = _version(getattr(build_and_package_info, "cuda_version", ""))
        except ImportError:
            pass
    built_for["torch"] = _version_of_torch(version_of("torch"))
    found = {name: version for name, version in built_for.items() if version is not None}
    flags = frozenset(cpu_flags())
    return EnvironmentFacts(os.uname().machine, flags, packages, imported, providers, found, _driver())


def environment_troubles(facts: EnvironmentFacts | None = None) -> tuple[str, ...]:
    """Return what keeps engines back here, one sentence each: what, what is used instead, what helps."""
    facts = facts or find_facts()
    return tuple(filter(None, (_doubled(facts), *_driver_too_old(facts), _without_avx(facts))))


@functools.cache
def illegal_instruction(package: str) -> str:
    """Say that a package cannot run on this processor; empty when it can, or when the processor has AVX.

    A process of its own tries it: the illegal instruction ends whoever meets it.
    """
    if package not in _TRIALS or not find_facts().lacks_avx or not _dies(package):
        return ""
    return (
        f"{package} {version_of(package)} ends with an illegal instruction on this processor, which has no "
        "AVX; another engine is used where one is installed, or run inference on another host "
        "(inference_host, docs/published-model.md)"
    )


def newer_graph(path: str, reason: str, remedy: str) -> str:
    """Say that a graph was exported by newer software than reads it here; empty when that is not the reason.

    Args:
        path: The graph's file.
        reason: onnxruntime's message.
        remedy: The command that exports it again.
    """
    version = version_of("onnxruntime") or version_of("onnxruntime-gpu")
    found = re.search(r"IR version: (\d+), max supported IR version: (\d+)", reason)
    if found:
        what = f"ONNX IR version {found[1]}, onnxruntime {version} reads up to {found[2]}"
    elif found := re.search(r"Opset (\d+) is (?:under development|not)", reason, re.IGNORECASE):
        what = f"opset {found[1]}, which onnxruntime {version} does not know"
    else:
        return ""
    return (
        f"{path!r} was exported by a newer version ({what}): pip install --upgrade onnxruntime, or export it "
        f"again here: {remedy}; until then engine:=auto takes torch, where that is installed"
    )


def _doubled(facts: EnvironmentFacts) -> str:
    if len(facts.packages) < 2:
        return ""
    named = " and ".join(f"{name} {version}" for name, version in facts.packages.items())
    used = ", ".join(name.removesuffix("ExecutionProvider") for name in facts.providers) or "none"
    return (
        f"{named} are installed over each other, in one folder; import brings "
        f"{facts.imported or 'nothing'}, and what it computes on is used: {used}. Remove all, then "
        f"install one: pip uninstall -y {' '.join(facts.packages)}"
    )


def _driver_too_old(facts: EnvironmentFacts) -> list[str]:
    if facts.driver is None:
        return []
    driver = f"{facts.driver[0]}.{facts.driver[1]}"
    return [
        f"the NVIDIA driver runs CUDA up to {driver}, and {package} was built for {built[0]}.{built[1]}: the "
        f"CPU computes instead. Update the driver to one for CUDA {built[0]}, or install a {package} for "
        f"CUDA {facts.driver[0]}"
        for package, built in facts.built_for.items()
        # Minor versions of one major version run on each other's drivers.
        if built[0] > facts.driver[0]
    ]


def _without_avx(facts: EnvironmentFacts) -> str:
    if not facts.lacks_avx:
        return ""
    return (
        "this processor has no AVX: engines compute with narrower instructions, several times slower; "
        "engine:=auto measures which one holds real time, and inference can run on another host "
        "(inference_host, docs/published-model.md)"
    )


def _dies(package: str) -> bool:
    command = [sys.executable, "-c", _TRIALS[package]]
    try:
        status = subprocess.run(command, capture_output=True, timeout=60.0, check=False).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False
    return status == -signal.SIGILL


def _driver() -> Version | None:
    """Return the newest CUDA that the driver runs, as the driver itself says.

    Source: CUDA Driver API, cuDriverGetVersion: 1000 major + 10 minor; needs no device.
    """
    number = ctypes.c_int()
    try:
        status = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(number))
    except (OSError, AttributeError):
        return None
    return None if status or number.value < 1000 else (number.value // 1000, number.value % 1000 // 10)


def _version(text: str) -> Version | None:
    found = re.match(r"(\d+)\.(\d+)", text or "")
    return (int(found[1]), int(found[2])) if found else None


def _version_of_torch(version: str) -> Version | None:
    """Return the CUDA of a build of torch, as "2.13.0+cu126" names it."""
    found = re.search(r"\+cu(\d+)(\d)$", version)
    return (int(found[1]), int(found[2])) if found else None
