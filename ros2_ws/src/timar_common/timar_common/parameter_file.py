"""ROS 2 parameters files: which section is for which node, and values as the parameters' own types.

Follows rcl's rules (rcl_yaml_param_parser: nested namespaces and names, wildcards, the later section wins)
where it takes a value, and says what is wrong where rcl drops one in silence.
"""

from __future__ import annotations

import itertools
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from timar_common.config import current_name, describe
from timar_common.suggest import nearest, unknown_name
from timar_common.yaml_map import YamlMap, read_yaml_map

KEY = "ros__parameters"
OF_EVERY_NODE = ("autostart", "use_sim_time")
"""Parameters that a node has beside its configuration."""
OF_ROS = ("qos_overrides.",)
"""Beginnings of names that ROS itself reads."""
_TRUE, _FALSE = ("true", "yes", "on", "y"), ("false", "no", "off", "n")


class ParameterSection(NamedTuple):
    """The parameters that a file gives to the nodes of a pattern."""

    pattern: str
    """Full name of a node, with ``*`` for any one part of it and ``**`` for any number of parts."""
    values: dict[str, Any]
    where: str
    """File and line."""

    def is_for(self, node: str) -> bool:
        """Tell whether the section is for a node of a full name such as ``/head1/turns``."""
        return re.fullmatch(_expression(self.pattern), node) is not None

    @property
    def node(self) -> str:
        """The node's own name; empty when the section is for nodes of any name."""
        name = self.pattern.rpartition("/")[2]
        return "" if "*" in name else name


def read_parameters(path: Path) -> list[ParameterSection]:
    """Read a ROS 2 parameters file; an empty file has no section.

    Raises:
        ValueError: It is no YAML mapping, says a key twice, has a section without ``ros__parameters`` or a
            value that is none, or refers to itself.
        OSError: It cannot be read.
    """
    return list(_sections(read_yaml_map(path, may_be_empty=True), "", str(path)))


def _sections(document: YamlMap, prefix: str, path: str) -> Iterator[ParameterSection]:
    for name in document:
        # "/ns/node", "ns/node" and the nested "ns: node:" are the same; without a namespace it is the root's.
        pattern = f"{prefix}/{name.strip('/')}"
        inner = document.child(name)
        where = f"{path}, line {inner.line}"
        if inner.has(KEY):
            yield ParameterSection(pattern, dict(_flat(inner.child(KEY).values(), "")), where)
            inner.refuse_rest()
        elif (near := nearest(KEY, inner)) or not (list(inner) and all(map(inner.is_mapping, inner))):
            hint = f"; {near!r} is not it" if near else ""
            raise document.error(f"section {name!r} has no mapping {KEY!r}{hint}", name)
        else:
            yield from _sections(inner, pattern, path)


def names_for_every_node(arguments: Sequence[str]) -> set[str]:
    """Return the parameters that files named after ``--params-file`` give to nodes of any name.

    Args:
        arguments: A command line.
    """
    paths = [path for word, path in itertools.pairwise(arguments) if word == "--params-file"]
    sections = [section for path in paths for section in read_parameters(Path(path))]
    return {name for section in sections if not section.node for name in section.values}


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Write nested names with dots, as ROS does."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _expression(pattern: str) -> str:
    """Return the regular expression of a pattern."""
    parts = {"**": r"(/\w+)*", "*": r"/\w+"}
    return "".join(parts.get(part, f"/{re.escape(part)}") for part in pattern.strip("/").split("/"))


def parameters_for(
    path: Path, node: str, config_type: type, *, is_anywhere: bool = False
) -> dict[str, tuple[Any, str]]:
    """Return what a file gives to one node, as the types of its parameters.

    A name that a section for nodes of any name has, and this node has not, is another node's.

    Args:
        path: The file; of its sections the later wins.
        node: Full name.
        config_type: Its configuration.
        is_anywhere: Sections for the node in any namespace count.

    Returns:
        Value, and the file and line that it comes from, by parameter; names of an earlier release stay.

    Raises:
        ValueError: It is no parameters file, a parameter is unknown, or a value does not fit it; the message
            names file and line.
        OSError: It cannot be read.
    """
    found: dict[str, tuple[Any, str]] = {}
    for section in read_parameters(path):
        name_of_node = node.rpartition("/")[2]
        if not section.is_for(node) and not (is_anywhere and section.node in ("", name_of_node)):
            continue
        for name, value in section.values.items():
            if is_parameter(config_type, name):
                place = f"{section.where}, {name}"
                found[name] = converted(value, config_type, name, place), section.where
            elif section.node:
                known = sorted({*describe(config_type), *OF_EVERY_NODE})
                owner = f"{section.where}: {section.node}"
                raise ValueError(unknown_name("parameter", name, known, owner=owner))
    return found


def is_parameter(config_type: type, name: str) -> bool:
    """Tell whether a node of this configuration has a parameter, also by a name of an earlier release."""
    known = name in OF_EVERY_NODE or current_name(config_type, name) in describe(config_type)
    return known or name.startswith(OF_ROS)


def check_sections(path: Path, nodes: Mapping[str, type]) -> list[str]:
    """Refuse what was meant for one of our nodes and reaches none; return the sections of other nodes.

    Args:
        path: A parameters file.
        nodes: The configuration of each node that may run, by full name.

    Raises:
        ValueError: A section's or a parameter's name is nearly one of ours; the message names file and line.
    """
    names = {node.rpartition("/")[2]: node for node in nodes}
    everything = {name for config_type in nodes.values() for name in describe(config_type)}
    others = []
    for section in read_parameters(path):
        matched = [node for node in nodes if section.is_for(node)]
        if not matched and (near := section.node if section.node in names else nearest(section.node, names)):
            raise ValueError(
                f"{section.where}: the section {section.pattern!r} reaches no node of the graph; did you "
                f"mean {near!r}, with the full name {names[near]!r}? '/**/{near}' is for it in any namespace"
            )
        if not matched:
            others.append(section.pattern)
        for name in () if section.node else section.values:
            is_known = any(is_parameter(nodes[node], name) for node in matched)
            if not is_known and (near := nearest(name, everything)):
                raise ValueError(
                    f"{section.where}: no node that the section {section.pattern!r} reaches has a parameter "
                    f"{name!r}; did you mean {near!r}?"
                )
    return others


def converted(value: Any, config_type: type, name: str, where: str) -> Any:
    """Return a value as the type of its parameter: a whole 400.0 as an integer, 3 as 3.0, yes as true.

    Args:
        value: As YAML or ROS has it.
        config_type: The node's configuration.
        name: The parameter.
        where: What to blame.

    Raises:
        ValueError: It cannot be meant so.
    """
    hints = typing.get_type_hints(config_type)
    hint = hints.get(current_name(config_type, name), bool if name in OF_EVERY_NODE else None)
    if hint is None:
        return value
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{where} is {value!r}, expected a list")
        kind = typing.get_args(hint)[0]
        return [_scalar(item, kind, where) for item in value]
    return _scalar(value, hint, where)


def _scalar(value: Any, kind: type, where: str) -> Any:
    text = value.strip().lower() if isinstance(value, str) else ""
    if kind is bool and (isinstance(value, bool) or text in _TRUE + _FALSE):
        return value if isinstance(value, bool) else text in _TRUE
    if kind is str:
        if isinstance(value, str):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        raise ValueError(f"{where} is {value!r}, expected text; put it in quotes")
    if kind in (int, float) and not isinstance(value, bool):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = None
        if number is not None and kind is float:
            return number
        if number is not None and number.is_integer():
            return value if isinstance(value, int) else int(number)
    words = {bool: "true or false", int: "a whole number", float: "a number"}
    raise ValueError(f"{where} is {value!r}, expected {words.get(kind, kind.__name__)}")
