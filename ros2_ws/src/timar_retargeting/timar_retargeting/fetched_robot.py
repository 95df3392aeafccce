"""Writes a robot's files from a URDF that came from a running graph, joint prefixes among it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from timar_common.yaml_map import read_yaml_map
from timar_description.find import find_joint_map
from timar_description.urdf import read_urdf

PREFIX_KEY = "joint_prefix"


def common_prefix(wanted: Sequence[str], driven: Sequence[str]) -> str:
    """Return what stands before every wanted joint's name among the driven ones; empty where nothing does.

    Raises:
        ValueError: No one prefix fits them all, or several do.
    """
    candidates = {name.removesuffix(wanted[0]) for name in driven if name.endswith(wanted[0])}
    fitting = sorted(p for p in candidates if all(p + name in driven for name in wanted))
    if len(fitting) != 1:
        found = f"the prefixes {', '.join(map(repr, fitting))} fit" if fitting else "no one prefix fits"
        raise ValueError(
            f"{found} the joints {', '.join(wanted)}; the URDF drives {', '.join(driven) or 'none'}"
        )
    return fitting[0]


def write_fetched(text: str, source: str, folder: Path, name: str, joint_map: str) -> str:
    """Write NAME.urdf and, for a joint map, NAME.yaml and NAME.hardware.yaml; return the joints' prefix.

    Args:
        text: The URDF.
        source: Where it came from, for messages.
        folder: Where to.
        name: Of the files.
        joint_map: A robot or the path of its YAML, whose joints these are; empty: the URDF alone is written.

    Raises:
        ValueError: It is no URDF, or its joints are not the map's; nothing is left in the folder.
        OSError: A file cannot be read or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    urdf = folder / f"{name}.urdf"
    written = [urdf]
    if urdf.exists():
        raise FileExistsError(f"{urdf} is there already; choose another --name or --out")
    try:
        urdf.write_text(text, encoding="utf-8")
        driven = [joint.name for joint in read_urdf(urdf).driven]
        if not joint_map:
            return ""
        source_map = find_joint_map(joint_map)
        prefix = common_prefix(read_yaml_map(source_map).child("joints").keys(), driven)
        for suffix in (".yaml", ".hardware.yaml"):
            given = source_map.with_suffix(suffix)
            if given.is_file():
                content = re.sub(r"(?m)^(urdf|joint_prefix):.*\n", "", given.read_text(encoding="utf-8"))
                head = f"{PREFIX_KEY}: {prefix!r}\n" if prefix else ""
                head += f"urdf: {urdf.name}\n" if suffix == ".yaml" else ""
                path = folder / (name + suffix)
                path.write_text(head + content, encoding="utf-8")
                written.append(path)
    except (ValueError, OSError) as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise ValueError(f"{source}: {error}") from error
    return prefix
