"""Extension points: implementations found by name through Python entry points, or as ``module:attribute``.

A package from outside the workspace names its implementation in its own metadata (for example under
``[project.entry-points."timar.end_of_turn"]``), is installed beside the workspace, and is found by that name:
nothing of this project is edited.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from timar_common.suggest import nearest


def load_extension(group: str, name: str, built_in: Mapping[str, Any] | None = None, what: str = "") -> Any:
    """Return the implementation that a parameter names.

    Args:
        group: Entry point group, for example ``timar.end_of_turn``.
        name: Name of a built-in or installed implementation, or ``module:attribute``.
        built_in: The project's own by name; an installed one does not replace them.
        what: Name of the parameter, for messages.

    Raises:
        ValueError: There is none of that name, or it cannot be imported; the message says which there are.
    """
    said = f"{what or group} is {name!r}"
    if built_in and name in built_in:
        return built_in[name]
    module_name, separator, attribute = name.partition(":")
    try:
        if separator and module_name and attribute:
            return getattr(importlib.import_module(module_name), attribute)
        for entry in entry_points(group=group):
            if entry.name == name:
                return entry.load()
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{said} and cannot be imported: {error}; is it installed?") from error
    names = extension_names(group, built_in)
    near = nearest(name, names)
    hint = f"; did you mean {near}?" if near else ""
    raise ValueError(
        f"{said}, expected one of {', '.join(names) or '(none is installed)'}, or module:attribute, "
        f"for example my_robot.audio:MyModel{hint}"
    )


def extension_names(group: str, built_in: Mapping[str, Any] | None = None) -> list[str]:
    """Return the names of all built-in and installed implementations of a group."""
    return sorted({*(built_in or {}), *(entry.name for entry in entry_points(group=group))})
