"""Write the tables of processes in docs/bringup.md from the code: who runs where, and what if it ends.

python tools/process_page.py            # write them
python tools/process_page.py --check    # fails when they are not what the code says
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from timar_bringup.graph import NODES, ROLES, VIEW_WITH_SOUND, Node, ProcessRole

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "bringup.md"
MADE = "<!-- {}: made by python tools/process_page.py -->"
END = "<!-- end -->"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    rule = "|---" * len(titles) + "|\n"
    head, *lines = (f"| {' | '.join(line)} |\n" for line in (titles, *rows))
    return head + rule + "".join(lines)


def with_condition(node: Node) -> str:
    """Return a node's name and under which launch argument it runs."""
    only = f"with `{node.only_if}:=`" if node.only_if else ""
    unless = f"not with `{node.not_if}:=`" if node.not_if else ""
    condition = ", ".join(filter(None, (only, unless)))
    return f"{node.name} ({condition})" if condition else node.name


def role_row(name: str, role: ProcessRole) -> tuple[str, str, str]:
    """Return a row of the second table."""
    return name, "essential" if role.is_essential else "optional", role.meanwhile


def tables() -> dict[str, str]:
    """Return the tables by their names in the page."""
    nodes = {
        process: ", ".join(with_condition(node) for node in NODES if node.process == process)
        for process in ROLES
    }
    roles = [role_row(name, role) for name, role in ROLES.items()]
    place = list(ROLES).index("view") + 1
    roles.insert(place, role_row("view, with `source:=browser` or `sink:=browser`", VIEW_WITH_SOUND))
    return {
        "processes": table(
            ("process", "nodes", "why alone"),
            ((name, nodes[name], role.alone) for name, role in ROLES.items()),
        ),
        "roles": table(("process", "role", "until it is back"), roles),
    }


def page(text: str) -> str:
    """Return the page with its tables as the code has them.

    Raises:
        ValueError: A table has no place in the page.
    """
    for name, made in tables().items():
        begin = MADE.format(name)
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(END)
        if not (found and ended):
            raise ValueError(
                f"{PAGE.relative_to(ROOT)} has no lines {begin!r} and, after it, {END!r}; add them"
            )
        text = f"{before}{begin}\n\n{made}\n{END}{after}"
    return text


def main(argv: list[str]) -> int:
    """Write or check the tables; return 1 when they are not what the code says."""
    text = PAGE.read_text(encoding="utf-8")
    made = page(text)
    if "--check" not in argv:
        PAGE.write_text(made, encoding="utf-8")
    elif made != text:
        sys.stderr.write(f"{PAGE.relative_to(ROOT)} is out of date; run python tools/process_page.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
