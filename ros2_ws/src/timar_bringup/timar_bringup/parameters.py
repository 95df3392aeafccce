"""The parameters that each node of the graph is started with, and where each value comes from.

A launch argument counts more than the files of `params:=`, these more than the shipped config/robot.yaml, and
that more than a node's own default. Whatever is said counts or is refused; ROS 2 itself ignores a section of
a node that does not exist in silence.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from timar_common.config import current_name, describe
from timar_common.parameter_file import KEY, check_sections, parameters_for
from timar_common.yaml_map import read_yaml_map

from timar_bringup.files import refusing, shared_file, with_urdf
from timar_bringup.graph import NODES, Plan, UsageError, plan, read_arguments

SHIPPED = "config/robot.yaml"


class EffectiveValue(NamedTuple):
    """A parameter's value and what set it."""

    value: Any
    origin: str


@dataclasses.dataclass(frozen=True)
class GraphParameters:
    """What every node of a plan is given beyond its defaults."""

    by_node: Mapping[str, Mapping[str, EffectiveValue]]
    """Full name of the node -> parameter -> value."""
    others: tuple[str, ...]
    """Sections of the files that are for nodes of other people."""

    def values(self, node: str) -> dict[str, Any]:
        """Return a node's parameters by name."""
        return {name: one.value for name, one in self.by_node[node].items()}

    def to_ros(self) -> dict[str, Any]:
        """Return all of them in the layout of a ROS 2 parameters file."""
        return {node: {KEY: self.values(node)} for node in self.by_node}


def graph_parameters(graph: Plan, environment: Mapping[str, str] | None = None) -> GraphParameters:
    """Read the parameters files of a plan and lay its launch arguments over them.

    Raises:
        UsageError: A file cannot be read, reaches no node where it nearly names one, or a value does not fit.
        FileNotFoundError: The shipped file is not there.
    """
    mine = _paths(str(graph.arguments["params"]))
    shipped = read_yaml_map(shared_file(SHIPPED, environment)).values()
    by_node: dict[str, dict[str, EffectiveValue]] = {}
    for planned in graph.nodes:
        values = shipped.get(f"/**/{planned.node.name}", {KEY: {}})[KEY]
        origins = {name: EffectiveValue(value, SHIPPED) for name, value in values.items()}
        by_node[graph.full_name(planned.node)] = origins
    # Configurations take a while to import; the shipped file is held to them by a test.
    types = {graph.full_name(node): node.config_type() for node in NODES} if mine else {}
    others: list[str] = []
    for path in mine:
        with refusing("parameters file", path):
            others += check_sections(path, types)
            for name, values in by_node.items():
                given = parameters_for(path, name, types[name])
                values |= {current_name(types[name], key): EffectiveValue(*one) for key, one in given.items()}
                _check(name, types[name], values)
    for planned in graph.nodes:
        argument_of = planned.node.parameters
        by_node[graph.full_name(planned.node)] |= {
            parameter: EffectiveValue(value, f"argument {argument_of.get(parameter, 'of the graph')}")
            for parameter, value in planned.parameters.items()
        }
    return GraphParameters(by_node, tuple(others))


def _check(node: str, config_type: type, values: Mapping[str, EffectiveValue]) -> None:
    """Refuse values that the node's configuration would refuse at its start."""
    fields = {name: values[name].value for name in describe(config_type) if name in values}
    try:
        config_type(**fields)
    except ValueError as error:
        origins = sorted({values[name].origin for name in fields if name in str(error)})
        raise ValueError(f"{node}: {error} (set by {', '.join(origins) or 'several'})") from error


def _paths(written: str) -> list[Path]:
    """Return the files of the argument `params`; a comma may also be part of the only one's name."""
    if not written or Path(written).exists():
        return [Path(written)] if written else []
    return [Path(part.strip()) for part in written.split(",") if part.strip()]


def main(argv: list[str]) -> int:
    """Print the effective value of every parameter of the graph, and what set it."""
    parser = argparse.ArgumentParser(
        prog="timar params",
        description=main.__doc__,
        epilog="Arguments are those of `timar run`, for example params:=mine.yaml namespace:=head1.",
    )
    parser.add_argument("arguments", nargs="*", metavar="name:=value", help="launch arguments")
    parser.add_argument("--set", action="store_true", help="only what is not a node's default")
    parser.add_argument("--json", action="store_true", help="as JSON")
    typed = parser.parse_args(argv)
    try:
        graph = plan(with_urdf(read_arguments(typed.arguments)))
        found = graph_parameters(graph)
    except (UsageError, FileNotFoundError) as error:
        sys.stderr.write(f"timar params: {error}\n")
        return 2
    everything = effective_values(graph, found, with_defaults=not typed.set)
    if typed.json:
        table = {
            node: {name: one._asdict() for name, one in values.items()} for node, values in everything.items()
        }
        sys.stdout.write(json.dumps(table, indent=2) + "\n")
        return 0
    sys.stdout.write("\n".join(lines(everything, found.others)) + "\n")
    return 0


def effective_values(
    graph: Plan, found: GraphParameters, *, with_defaults: bool = True
) -> dict[str, dict[str, EffectiveValue]]:
    """Return every parameter of each node by the node's full name, those it was not given as defaults."""
    table: dict[str, dict[str, EffectiveValue]] = {}
    for planned in graph.nodes:
        name, config_type = graph.full_name(planned.node), planned.node.config_type()
        default, given = config_type(), found.by_node[name]
        fields = {
            field: EffectiveValue(getattr(default, field), "default") for field in describe(config_type)
        }
        table[name] = {**(fields if with_defaults else {}), **given}
    return table


def lines(table: Mapping[str, Mapping[str, EffectiveValue]], others: tuple[str, ...] = ()) -> list[str]:
    """Return the table as text: parameter, value, what set it."""
    written = []
    for node, values in table.items():
        written.append(node)
        width = max(map(len, values), default=0)
        written += [f"  {name:<{width}}  {one.value!r:<16} {one.origin}" for name, one in values.items()]
    if others:
        written.append(f"not ours, and left to their nodes: {', '.join(others)}")
    return written
