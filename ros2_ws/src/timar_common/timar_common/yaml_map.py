"""Read a YAML mapping so that every complaint names file, line and path."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from timar_common.config import describe
from timar_common.suggest import nearest

_Config = TypeVar("_Config")
_LARGEST_BYTES = 1 << 22
_MOST_NODES = 100_000
"""Each alias counted as what it stands for: ten lines of aliases can mean billions of values."""
_MOST_LEVELS = 50


class YamlMap:
    """One mapping of a YAML file; what was asked for is ticked off, the rest can be refused."""

    def __init__(self, node: yaml.MappingNode | None, path: Path, place: str, line: int) -> None:
        self._node, self._path, self._place, self._line = node, path, place, line
        self._entries: dict[str, yaml.Node] = {}
        self._lines: dict[str, int] = {}
        self._asked: set[str] = set()
        self.is_absent = node is None
        for key_node, value_node in () if node is None else node.value:
            key, key_line = str(key_node.value), key_node.start_mark.line + 1
            if key in self._entries:
                raise self.error(f"{key!r} is said twice, first in line {self._lines[key]}", line=key_line)
            self._entries[key], self._lines[key] = value_node, key_line

    @property
    def line(self) -> int:
        """Line in the file at which the mapping stands."""
        return self._line

    def is_mapping(self, key: str) -> bool:
        """Tell whether what a key holds is a mapping itself."""
        return isinstance(self._entries[key], yaml.MappingNode)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def keys(self) -> list[str]:
        """Return all keys in the order of the file."""
        return list(self._entries)

    def error(self, rule: str, key: str = "", line: int | None = None) -> ValueError:
        """Return an error that names file, line, place in the file and the rule that is broken."""
        at = self._lines.get(key, self._line) if line is None else line
        return ValueError(f"{self._path}, line {at}, {self._place or 'top level'}: {rule}")

    def child(self, key: str, *, optional: bool = False) -> YamlMap:
        """Return the mapping under a key; an absent one is empty when it is optional."""
        node = self._take(key, optional=optional)
        place = f"{self._place}.{key}" if self._place else key
        if node is None:
            return YamlMap(None, self._path, place, self._line)
        if not isinstance(node, yaml.MappingNode):
            raise self.error(f"{key!r} must be a mapping (key: value lines or braces)", key)
        return YamlMap(node, self._path, place, self._lines[key])

    def text(self, key: str, default: str | None = None, choices: Sequence[str] = ()) -> str:
        """Return a string; a default makes the key optional.

        Raises:
            ValueError: It is missing, empty, or none of the choices.
        """
        node = self._take(key, optional=default is not None)
        if node is None:
            return default or ""
        if not isinstance(node, yaml.ScalarNode) or not node.value:
            raise self.error(f"{key!r} must be a word", key)
        value = str(node.value)
        if choices and value not in choices:
            raise self.error(f"{key!r} is {value!r}, expected one of {', '.join(choices)}", key)
        return value

    def integer(
        self, key: str, default: int | None = None, *, minimum: float = -math.inf, maximum: float = math.inf
    ) -> int:
        """Return a whole number within bounds; a default makes the key optional."""
        value = self.number(
            key, None if default is None else float(default), minimum=minimum, maximum=maximum
        )
        if value != int(value):
            raise self.error(f"{key!r} is {value:g}, expected a whole number", key)
        return int(value)

    def number(
        self,
        key: str,
        default: float | None = None,
        *,
        minimum: float = -math.inf,
        maximum: float = math.inf,
    ) -> float:
        """Return a finite number within bounds; a default makes the key optional."""
        node = self._take(key, optional=default is not None)
        if node is None:
            return float(default or 0.0)
        value = self._number(node, key)
        if not minimum <= value <= maximum:
            raise self.error(f"{key!r} is {value:g}, expected {minimum:g} to {maximum:g}", key)
        return value

    def numbers(self, key: str, count: int, default: Sequence[float] | None = None) -> tuple[float, ...]:
        """Return a list of `count` finite numbers; a default makes the key optional."""
        node = self._take(key, optional=default is not None)
        if node is None:
            return tuple(default or ())
        if not isinstance(node, yaml.SequenceNode) or len(node.value) != count:
            raise self.error(f"{key!r} must be a list of {count} numbers", key)
        return tuple(self._number(item, key) for item in node.value)

    def rows(self, key: str, count: int, width: int) -> list[tuple[float, ...]]:
        """Return a list of `count` lists of `width` finite numbers."""
        node = self._take(key)
        rows = node.value if isinstance(node, yaml.SequenceNode) else []
        if len(rows) != count or not all(
            isinstance(row, yaml.SequenceNode) and len(row.value) == width for row in rows
        ):
            raise self.error(f"{key!r} must be a list of {count} lists of {width} numbers", key)
        return [tuple(self._number(item, key) for item in row.value) for row in rows]

    def words(self, key: str) -> tuple[str, ...]:
        """Return a list of different words."""
        node = self._take(key)
        items = node.value if isinstance(node, yaml.SequenceNode) else []
        words = tuple(str(item.value) for item in items if isinstance(item, yaml.ScalarNode))
        if not words or len(set(words)) != len(items):
            raise self.error(f"{key!r} must be a list of words, each said once", key)
        return words

    def has(self, key: str) -> bool:
        """Tell whether a key is there; it counts as known."""
        self._asked.add(key)
        return key in self._entries

    def config(self, config_type: type[_Config]) -> _Config:
        """Return a configuration dataclass from its fields' names as keys, all optional, and refuse the rest.

        Args:
            config_type: A frozen dataclass of `timar_common.config.option` fields.

        Raises:
            ValueError: A value is not what its field takes; the message names its line.
        """
        default = config_type()
        values: dict[str, Any] = {}
        for name, description in describe(config_type).items():
            value = getattr(default, name)
            if isinstance(value, str):
                values[name] = self.text(name, value, description.choices)
                continue
            read = self.integer if isinstance(value, int) else self.number
            low = -math.inf if description.minimum is None else description.minimum
            high = math.inf if description.maximum is None else description.maximum
            values[name] = read(name, value, minimum=low, maximum=high)
        self.refuse_rest()
        with self.blamed():
            return config_type(**values)

    @contextlib.contextmanager
    def blamed(self, key: str = "") -> Iterator[None]:
        """Let a ValueError of what is done with the mapping name file and line.

        Args:
            key: The entry to blame; empty: the mapping.
        """
        try:
            yield
        except ValueError as error:
            raise self.error(str(error), key) from error

    def number_by_key(self) -> dict[str, float]:
        """Return every entry as a finite number."""
        self._asked.update(self._entries)
        return {key: self._number(node, key) for key, node in self._entries.items()}

    def values(self) -> dict[str, Any]:
        """Return all entries as the Python values that YAML means by them; every key counts as known.

        Raises:
            ValueError: One is no plain value: an object, a date that does not exist, a number without end.
        """
        self._asked.update(self._entries)
        try:
            values: dict[str, Any] = {} if self._node is None else _Values("").construct_document(self._node)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            reason = " ".join(str(getattr(error, "problem", None) or error).split())
            raise self.error(f"a value here cannot be read ({reason})") from error
        return {str(key): value for key, value in values.items()}

    def refuse_unknown(self, known: Iterable[str]) -> None:
        """Refuse a key that is not one of the known ones.

        Raises:
            ValueError: There is such a key.
        """
        self._asked.update(known)
        self.refuse_rest()

    def refuse_rest(self) -> None:
        """Refuse every key nobody asked for: a misspelt one must not pass in silence.

        Raises:
            ValueError: There is such a key.
        """
        for key in self._entries:
            if key not in self._asked:
                near = nearest(key, self._asked)
                hint = f"; did you mean {near!r}? Known here: " if near else "; known here: "
                raise self.error(f"unknown key {key!r}{hint}{', '.join(sorted(self._asked))}", key)

    def _take(self, key: str, *, optional: bool = False) -> yaml.Node | None:
        self._asked.add(key)
        if key not in self._entries and not optional:
            raise self.error(f"{key!r} is missing")
        return self._entries.get(key)

    def _number(self, node: yaml.Node, key: str) -> float:
        try:
            value = float(node.value) if isinstance(node, yaml.ScalarNode) else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(f"{key!r} must be a finite number", key)
        return value


class _Values(yaml.SafeLoader):
    """Makes Python values of nodes; a mapping may not say a key twice, at any depth."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [str(key.value) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise ValueError(f"line {node.start_mark.line + 1}: {twice!r} is said twice")
        return super().construct_mapping(node, deep)


def read_yaml_map(path: Path, *, may_be_empty: bool = False) -> YamlMap:
    """Read a YAML file whose top is a mapping; nothing in it is executed.

    Raises:
        ValueError: It is not YAML, its top is not a mapping, a value holds itself, or it is too large or
            nested too deeply, also by aliases.
        OSError: It cannot be read.
    """
    if (size := path.stat().st_size) > _LARGEST_BYTES:
        raise ValueError(f"{path} has {size} bytes, expected a YAML file of at most {_LARGEST_BYTES}")
    try:
        node = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply to be read") from error
    if node is None and may_be_empty:
        return YamlMap(None, path, "", 1)
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(f"{path}, line 1: the file must be a mapping (key: value lines)")
    nodes, levels = _expanded_size(node, path, {})
    if levels > _MOST_LEVELS:
        raise ValueError(f"{path} is nested too deeply to be read: {levels} levels, at most {_MOST_LEVELS}")
    if nodes > _MOST_NODES:
        raise ValueError(
            f"{path} means {nodes} values once its aliases (*name) are written out, expected at most "
            f"{_MOST_NODES}; write out what is needed"
        )
    return YamlMap(node, path, "", 1)


def _expanded_size(node: yaml.Node, path: Path, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Return how many nodes a node means with its aliases written out, and how many levels they have."""
    if id(node) in known:
        if (size := known[id(node)]) is None:
            line = node.start_mark.line + 1
            raise ValueError(f"{path}, line {line}: a value holds itself by an alias (&name and *name)")
        return size
    known[id(node)] = None  # While its children are counted.
    children = [] if isinstance(node, yaml.ScalarNode) else node.value
    if isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    sizes = [_expanded_size(child, path, known) for child in children]
    nodes, levels = 1 + sum(nodes for nodes, _ in sizes), 1 + max((levels for _, levels in sizes), default=0)
    known[id(node)] = nodes, levels
    return nodes, levels
