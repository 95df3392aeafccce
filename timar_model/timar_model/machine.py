"""What was found out about this machine: measured once, kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from timar_common.atomic import write_json

_log = logging.getLogger(__name__)
_in_memory: dict[Path | str, Any] = {}
"""What was found out in this process, where no folder can keep it."""


def remembered(
    kind: str,
    key: dict[str, Any],
    find: Callable[[], Any],
    is_final: Callable[[Any], bool] = lambda found: True,
) -> Any:
    """Return what `find` finds out, which is asked once a machine for each key.

    Args:
        kind: What it is about, the beginning of the file's name.
        key: Everything it depends on besides this processor; JSON.
        find: Finds it out; what it returns is JSON.
        is_final: Whether what was found is kept; else it is found out again the next time.
    """
    text = json.dumps({"processor": processor(), **key}, sort_keys=True)
    name = f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"
    folder = cache_folder()
    path = name if folder is None else folder / name
    if path in _in_memory:
        return _in_memory[path]
    if isinstance(path, Path):
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["key"] == json.loads(text):
                return kept["found"]
        except (OSError, ValueError, KeyError, TypeError):
            # Not there, or half of it by whatever accident: it is found out again.
            pass
    found = find()
    if not is_final(found):
        return found
    if isinstance(path, Path):
        try:
            write_json(path, {"key": json.loads(text), "found": found})
            return found
        except OSError as error:
            _log.info("%s cannot be written (%s): what was measured is kept in memory", path, error)
    _in_memory[path] = found
    return found


def cache_folder() -> Path | None:
    """Return the folder that keeps what was measured: TIMAR_CACHE, else the user's; None where there is none.

    Source: XDG Base Directory Specification, which ignores a path that is not absolute.
    """
    if os.environ.get("TIMAR_CACHE"):
        return Path(os.environ["TIMAR_CACHE"])
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(chosen) if os.path.isabs(chosen) else Path.home() / ".cache") / "timar"
    except RuntimeError:
        return None


def processor() -> str:
    """Name this processor by its model and a digest of what it can do."""
    facts = _cpu_facts()
    flags = hashlib.sha256(" ".join(sorted(cpu_flags())).encode()).hexdigest()[:8]
    return f"{facts.get('model name', facts.get('CPU part', os.uname().machine))} ({flags})"


def cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def busy_s() -> float:
    """Return the time that all cores together have worked since the machine started [s]; 0 if not known.

    Source: proc(5), /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal [clock ticks].
    """
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()
    except OSError:
        return 0.0
    ticks = [int(value) for value in first[1:9]]
    return float(sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def cpu_flags() -> set[str]:
    """Return what the first processor can do, as Linux names it; empty where it does not."""
    facts = _cpu_facts()
    return set(facts.get("flags", facts.get("Features", "")).split())


def version_of(package: str) -> str:
    """Return the version of an installed package, "" where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _cpu_facts() -> dict[str, str]:
    """Return what Linux says of the first processor, by its own names."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return {}
    named = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in named}
