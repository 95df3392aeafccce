"""List the packages that set-up installs, with the licence that each names: docs/licences.md.

    python tools/licences_page.py            # write the page
    python tools/licences_page.py --check    # fails where a licence is unknown or bars us, and lists why

The source is what is installed: a distribution's metadata, or the package.xml of a ROS 2 package.
"""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree
from email.message import Message
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import cast

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "licences.md"
APART = {
    "piper-tts": "GPL; `timar_dialogue` starts it as a program of its own and talks to it by pipes",
}
"""Copyleft packages that never share a process with ours, and how."""
INSIDE = {
    "av": "BSD, but its wheels bring FFmpeg with x264 and x265, which are GPL-2.0-or-later; faster-whisper "
    "imports it, in the process of the dialogue. Who passes on an image of all this passes these on as well",
    "soxr": "LGPL; a library of its own that can be replaced, as its licence asks",
}
"""What a name of a licence does not tell."""
BY_FILE = {
    "embreex": "BSD-2-Clause",
    "ros-fastcdr": "Apache-2.0",
    "ros-fastdds": "Apache-2.0",
    "setuptools": "MIT",
    "vhacdx": "MIT",
    "xacro": "BSD-3-Clause",
}
"""Licences that stand in a file of the package, or of its sources, and not in its metadata."""
OUR_OWN = "timar"
COPYLEFT = re.compile(r"\bA?GPL|General Public", re.IGNORECASE)
WEAK = re.compile(r"LGPL|Lesser|MPL|Mozilla", re.IGNORECASE)
SHORT = {
    "Apache Software License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "3-Clause BSD License": "BSD-3-Clause",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "BSD License": "BSD",
    "MIT License": "MIT",
    "Python Software Foundation License": "PSF-2.0",
    "ISC License (ISCL)": "ISC",
}


def licence(metadata: Message) -> str:
    """Return what a distribution says of its licence, by the most exact field that it has; empty: nothing."""
    if expression := metadata.get("License-Expression"):
        return expression
    classes = [text.split("::")[-1].strip() for text in metadata.get_all("Classifier") or ()]
    given = [
        name
        for name, text in zip(classes, metadata.get_all("Classifier") or (), strict=True)
        if text.startswith("License ::") and name != "OSI Approved"
    ]
    if given:
        return " or ".join(SHORT.get(name, name) for name in given)
    line = (metadata.get("License") or "").strip().partition("\n")[0]
    return SHORT.get(line, line[:60])


def ros_licence(distribution: Distribution, share: Path) -> str:
    """Return the licence in the package.xml of a ROS 2 package that came as a wheel; empty: it is none."""
    plain = re.sub(r"^ros-(kilted-|jazzy-)?", "", distribution.name).replace("-", "_")
    path = share / plain / "package.xml"
    if not path.is_file():
        return ""
    found = ElementTree.parse(path).getroot().findall("license")
    names = [(element.text or "").strip() for element in found]
    return " and ".join(SHORT.get(name, name) for name in names)


def installed() -> dict[str, tuple[str, str]]:
    """Return version and licence of each installed distribution that is not ours, by name."""
    share, found = Path(sys.prefix, "share"), {}
    for distribution in distributions():
        name = distribution.name.lower().replace("_", "-")
        if not name.startswith(OUR_OWN):
            stated = (
                BY_FILE.get(name)
                or ros_licence(distribution, share)
                or licence(cast(Message, distribution.metadata))
            )
            found[name] = distribution.version, stated
    return dict(sorted(found.items()))


def troubles(found: dict[str, tuple[str, str]]) -> list[str]:
    """Return what bars passing this project on: licences that are unknown, or copyleft in our processes."""
    lines = [f"{name} {version} names no licence" for name, (version, stated) in found.items() if not stated]
    for name, (version, stated) in found.items():
        if is_copyleft(stated) and name not in APART:
            lines.append(f"{name} {version} is {stated}; run it in a process of its own and say so in APART")
    return lines


def is_copyleft(stated: str) -> bool:
    """Tell whether every licence to choose from would reach the program that imports it."""
    choices = re.split(r"\s+or\s+|;", stated, flags=re.IGNORECASE)
    return all(COPYLEFT.search(WEAK.sub("", choice)) and not WEAK.search(choice) for choice in choices)


def page(found: dict[str, tuple[str, str]]) -> str:
    """Return the page: packages by licence."""
    groups: dict[str, list[str]] = {}
    for name, (_, stated) in found.items():
        groups.setdefault(stated or "not named", []).append(name)
    rows = [
        f"| {stated} | {len(names)} | {', '.join(names)} |"
        for stated, names in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    ]
    notes = [f"- `{name}`: {how}." for name, how in (APART | INSIDE).items() if name in found]
    return "\n".join(
        [
            "# Licences of what is installed",
            "",
            "Made by `python tools/licences_page.py` from what `make setup-all-tests` installed beside this "
            f"project (Python {sys.version_info.major}.{sys.version_info.minor}, x86-64): {len(found)} "
            "packages, by what they say of themselves; nobody has read all of their files. `--check` fails "
            "where one names no licence, or would bring copyleft into a process of ours. Versions are in "
            "`uv.lock`; data and weights in [DATA.md](../DATA.md).",
            "",
            *notes,
            "",
            "| licence | packages | |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def main(arguments: list[str]) -> int:
    """Write the page, or with ``--check`` say what bars passing the project on; return the exit status."""
    found = installed()
    if arguments == ["--check"]:
        lines = troubles(found)
        sys.stderr.write("".join(f"{line}\n" for line in lines))
        return int(bool(lines))
    PAGE.write_text(page(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
