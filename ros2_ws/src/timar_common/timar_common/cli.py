"""The command `timar`: each room brings its subcommands by an entry point of the group `timar.commands`.

An entry point names a function ``main(argv: list[str]) -> int``; the first line of its docstring is its help.
Help reads that line from the source without importing it: what a command needs may take seconds to load, or
be missing.
"""

from __future__ import annotations

import ast
import importlib.util
import signal
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from timar_common.processes import stop_signals
from timar_common.suggest import unknown_name

GROUP = "timar.commands"
OF_TRAINING = ("accelerate", "huggingface_hub", "onnx", "tensorboard", "torch", "transformers")
"""What the group training of pyproject.toml and torch bring, and running the head does not need."""
OF_PERCEPTION = ("cv2", "mediapipe")
"""What the group perception of pyproject.toml brings."""


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
        sys.stderr.write(f"timar: {unknown_name('command', name, known)}\n")
        return 2
    try:
        with stop_signals(_interrupt):
            return int(known[name].load()(rest) or 0)
    except _Interrupted as stopped:
        sys.stderr.write(f"timar {name}: stopped by {stopped.number.name}\n")
        return 128 + stopped.number
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing.startswith("timar_"):
            raise
        sys.stderr.write(f"timar {name}: the package {missing!r} is not installed; {_remedy(missing)}\n")
        return 1


class _Interrupted(KeyboardInterrupt):
    """A stop signal; commands that clean up after Ctrl-C do so after each of them."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self.number = number


def _interrupt(number: signal.Signals) -> None:
    raise _Interrupted(number)


def _remedy(package: str) -> str:
    if package in OF_TRAINING:
        return "it comes with training: make setup-training"
    if package in OF_PERCEPTION:
        return "it comes with face tracking: make setup-perception"
    return "make setup brings what the head needs, make setup-training what training needs"


def _help(known: dict[str, EntryPoint]) -> str:
    lines = ["usage: timar COMMAND [ARGUMENTS]", "", "commands (each has its own --help):"]
    width = max((len(name) for name in known), default=0)
    lines += [f"  {name:<{max(width, 12)}} {first_line(entry)}" for name, entry in known.items()]
    return "\n".join(lines) + "\n"


def first_line(entry: EntryPoint) -> str:
    """Return the first line of the docstring of an entry point's function; empty when there is none."""
    path = _source_file(entry.module)
    if path is None:
        return ""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == entry.attr:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def _source_file(module: str) -> Path | None:
    """Return a module's source file without importing its package."""
    package, *inner = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None:
        return None
    if not inner:
        return Path(spec.origin) if spec.origin else None
    for folder in spec.submodule_search_locations or ():
        path = Path(folder, *inner).with_suffix(".py")
        if path.is_file():
            return path
    return None


if __name__ == "__main__":
    sys.exit(main())
