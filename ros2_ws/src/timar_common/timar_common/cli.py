"""The command `timar`: each room brings its subcommands by an entry point of the group `timar.commands`.

An entry point names a function ``main(argv: list[str]) -> int``; the first line of its docstring is its help.
"""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points

GROUP = "timar.commands"


def commands() -> dict[str, EntryPoint]:
    """Return every installed subcommand by name."""
    return {entry.name: entry for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand and return its exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    known = commands()
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(_help(known))
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in known:
        sys.stderr.write(
            f"timar: there is no command {name!r}; the commands are: {', '.join(known) or 'none'}\n"
        )
        return 2
    return int(known[name].load()(rest) or 0)


def _help(known: dict[str, EntryPoint]) -> str:
    lines = ["usage: timar COMMAND [ARGUMENTS]", "", "commands (each has its own --help):"]
    for name, entry in known.items():
        doc = (entry.load().__doc__ or "").strip().splitlines()
        lines.append(f"  {name:<12} {doc[0] if doc else ''}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
