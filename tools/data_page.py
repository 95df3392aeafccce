"""List the data shapes that travel between packages, with fields, units, makers and readers: docs/data.md.

    python tools/data_page.py            # write the page
    python tools/data_page.py --check    # fails when the page is not what the code says

A data shape is a dataclass or NamedTuple that one package of this project defines and another imports.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "data.md"
MAX_SHAPES = 10
MESSAGES = {"timar_common.messages.Header", "timar_common.topics.Topic"}
"""What belongs to the messages of topics, which docs/topics.md describes."""
OBJECTS = {"timar_inference.runtime.Runtime", "timar_common.joint_trajectory.Trajectory"}
"""Dataclasses that are no data: they hold a running session, or are a function of time."""
EXTENDS = {"timar_training.networks": "timar_model.architecture"}
"""Modules that derive from those of another package and share what these pass among themselves."""
INTRODUCTION = f"""# Data that travels between packages

Made by `python tools/data_page.py`; a test holds that it is current and that there are at most {MAX_SHAPES}.

Packages talk by the messages of topics and actions ([topics.md](topics.md)). Besides these, the shapes below
are defined in one package and used in another: dataclasses and NamedTuples. What stands in a shape's fields,
and its subclasses, are its parts and listed with it. Not listed: settings (`…Config`), enums, what holds a
running session (`Runtime`) or is a function of time (`Trajectory`), and what the networks of training share
with those of the model that they extend.
"""


@dataclasses.dataclass(frozen=True)
class DataClass:
    """A dataclass or NamedTuple of the project."""

    module: str
    node: ast.ClassDef

    @property
    def name(self) -> str:
        """Name of the class."""
        return self.node.name

    @property
    def full_name(self) -> str:
        """Module and name."""
        return f"{self.module}.{self.name}"

    def fields(self) -> Iterator[tuple[str, str, str]]:
        """Yield name, type and the docstring below each field."""
        for statement, after in zip(self.node.body, [*self.node.body[1:], None], strict=True):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                kind = ast.unparse(statement.annotation)
                if not kind.startswith("ClassVar"):
                    yield statement.target.id, kind, _docstring(after)


class Workspace:
    """The project's modules, parsed."""

    def __init__(self) -> None:
        command = ["git", "ls-files", "-co", "--exclude-standard", "timar_model", "training", "ros2_ws/src"]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        self.trees: dict[str, ast.Module] = {}
        for path in map(Path, listed.splitlines()):
            inside = path.parts[3:] if path.parts[0] == "ros2_ws" else path.parts[1:]
            if path.suffix == ".py" and inside[0].startswith("timar_") and (ROOT / path).is_file():
                module = ".".join(inside).removesuffix(".py").removesuffix(".__init__")
                self.trees[module] = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        self.classes = {
            f"{module}.{node.name}": DataClass(module, node)
            for module, tree in self.trees.items()
            for node in tree.body
            if isinstance(node, ast.ClassDef) and _is_data(node)
        }
        self.imports = {module: self._imports(module) for module in self.trees}
        """The data classes that each module imports, by the name it uses."""
        self.called = {
            module: {
                ast.unparse(one.func).partition(".")[0] for one in ast.walk(tree) if isinstance(one, ast.Call)
            }
            for module, tree in self.trees.items()
        }
        """The names that each module calls, or methods of which it calls."""

    @functools.cached_property
    def travelling(self) -> dict[str, DataClass]:
        """The data classes that another package than theirs imports, by full name."""
        return {
            found.full_name: found
            for module, imports in self.imports.items()
            for found in imports.values()
            if _package(found.module) != _package(module)
            and not found.name.endswith("Config")
            and found.full_name not in MESSAGES | OBJECTS
            and not found.module.startswith(EXTENDS.get(module.rpartition(".")[0], "-"))
        }

    def shapes(self) -> dict[DataClass, list[DataClass]]:
        """Return the classes that travel and are part of no other, each with those that are its parts."""
        parts = {name: self._parts(one) for name, one in self.travelling.items()}
        inner = {part for name, found in parts.items() for part in found if name not in parts[part]}
        roots = sorted(parts.keys() - inner, key=lambda name: name.rpartition(".")[2])
        return {
            self.travelling[root]: [self.travelling[part] for part in sorted(parts[root])] for root in roots
        }

    def makers_and_readers(self, data_class: DataClass) -> tuple[list[str], list[str]]:
        """Return the modules that call a class or a method of it, and those that only import it."""
        makers, readers = [], []
        for module in self.trees:
            names = {name for name, found in self.imports[module].items() if found == data_class}
            names |= {data_class.name} if module == data_class.module else set()
            if names & self.called[module]:
                makers.append(module)
            elif names and module != data_class.module:
                readers.append(module)
        return sorted(makers), sorted(readers)

    def _imports(self, module: str) -> dict[str, DataClass]:
        found = {}
        for node in ast.walk(self.trees[module]):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    data_class = self._resolve(node.module, alias.name)
                    if data_class is not None:
                        found[alias.asname or alias.name] = data_class
        return found

    @functools.cache  # noqa: B019 - one workspace, for one page
    def _resolve(self, module: str, name: str, depth: int = 3) -> DataClass | None:
        """Return the data class that a module offers under a name, also one that it imports itself."""
        if f"{module}.{name}" in self.classes:
            return self.classes[f"{module}.{name}"]
        for node in self.trees[module].body if module in self.trees and depth else ():
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return self._resolve(node.module, alias.name, depth - 1)
        return None

    def _parts(self, owner: DataClass) -> set[str]:
        """Return the travelling classes in the fields of a class, in their fields, and its subclasses."""
        found: dict[str, DataClass] = {}
        waiting = [owner]
        while waiting:
            one = waiting.pop()
            mentioned = {word for _, kind, _ in one.fields() for word in re.findall(r"\w+", kind)}
            for node in self.trees[one.module].body:
                # A name for a union of classes stands for them: Output = Publish | Log.
                if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in mentioned:
                    mentioned |= set(re.findall(r"\w+", ast.unparse(node.value)))
            inner = [self._resolve(one.module, name) for name in sorted(mentioned)]
            inner += [
                other
                for other in self.classes.values()
                if any(self._resolve(other.module, ast.unparse(base)) == one for base in other.node.bases)
            ]
            new = {part.full_name: part for part in inner if part is not None and part.full_name not in found}
            found |= new
            waiting += new.values()
        return (found.keys() & self.travelling.keys()) - {owner.full_name}


def page(workspace: Workspace) -> str:
    """Return the page."""
    lines = [INTRODUCTION]
    for shape, parts in workspace.shapes().items():
        for data_class in (shape, *parts):
            makers, readers = workspace.makers_and_readers(data_class)
            summary = (ast.get_docstring(data_class.node) or "").partition("\n")[0]
            rows = [
                f"| `{name}` | `{kind.replace('|', chr(92) + '|')}` | {text} |"
                for name, kind, text in data_class.fields()
            ]
            lines += [f"{'##' if data_class is shape else '###'} {data_class.name}", ""]
            lines += [f"{summary} In `{data_class.module}`.", ""]
            lines += ["| field | type | meaning |", "|---|---|---|", *rows, ""]
            lines += [f"Made by {_names(makers)}; read by {_names(readers)}.", ""]
    return "\n".join(lines).rstrip() + "\n"


def _names(modules: list[str]) -> str:
    return ", ".join(f"`{module}`" for module in modules) or "nobody"


def _package(module: str) -> str:
    return module.partition(".")[0]


def _is_data(node: ast.ClassDef) -> bool:
    marks = [ast.unparse(one).partition("(")[0] for one in (*node.decorator_list, *node.bases)]
    return any(mark.rpartition(".")[2] in ("dataclass", "NamedTuple") for mark in marks)


def _docstring(statement: ast.stmt | None) -> str:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return " ".join(str(statement.value.value).split())
    return ""


def main(argv: list[str]) -> int:
    """Write or check the page; return 1 when it is not what the code says."""
    workspace = Workspace()
    text = page(workspace)
    names = [shape.full_name for shape in workspace.shapes()]
    sys.stdout.write(f"{len(names)} shapes: {', '.join(names)}\n")
    if "--check" not in argv:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
        sys.stderr.write(f"{PAGE.relative_to(ROOT)} is out of date; run python tools/data_page.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
