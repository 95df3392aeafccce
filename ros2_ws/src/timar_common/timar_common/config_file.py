"""Read a configuration dataclass from a YAML file."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from timar_common.suggest import refuse_unknown
from timar_common.yaml_map import read_yaml_map

ConfigT = TypeVar("ConfigT")


def read_config(
    config_type: type[ConfigT], path: Path, renamed: Mapping[str, str] | None = None, **changes: Any
) -> ConfigT:
    """Read a configuration dataclass from a YAML file.

    Args:
        config_type: The dataclass; it checks its values itself.
        path: The file, a mapping whose keys are fields.
        renamed: New names by the names that keys had in an earlier release.
        changes: Fields given elsewhere, which win over the file's.

    Raises:
        ValueError: It is no YAML mapping, has an unknown key, lacks one, or a value does not fit.
        OSError: It cannot be read.
    """
    document = read_yaml_map(path)
    fields = dataclasses.fields(config_type)  # type: ignore[arg-type]
    document.refuse_unknown([field.name for field in fields] + list(renamed or {}))
    values = {**current_keys(document.values(), renamed or {}, str(path)), **changes}
    for field in fields:
        is_needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if is_needed and field.name not in values:
            raise document.error(f"{field.name!r} is missing")
    return config_type(**values)


def replace_fields(
    config: ConfigT, changes: Mapping[str, Any], renamed: Mapping[str, str] | None = None
) -> ConfigT:
    """Return a configuration with some fields changed.

    Args:
        config: A dataclass.
        changes: New values by the names of fields.
        renamed: As of `read_config`.

    Raises:
        ValueError: A field is unknown, or a value does not fit.
    """
    owner = type(config).__name__
    names = [field.name for field in dataclasses.fields(config)]  # type: ignore[arg-type]
    changes = current_keys(changes, renamed or {}, owner)
    refuse_unknown("field", changes, names, owner=owner)
    return dataclasses.replace(config, **changes)  # type: ignore[type-var]


def current_keys(values: Mapping[str, Any], renamed: Mapping[str, str], where: str) -> dict[str, Any]:
    """Return values by the names of today; a name of an earlier release is accepted and warned of.

    Args:
        values: By name.
        renamed: New names by old ones.
        where: What holds them, for the warning.
    """
    for old in renamed.keys() & values.keys():
        message = f"{where}: {old!r} is deprecated and will be removed; call it {renamed[old]!r}"
        warnings.warn(message, FutureWarning, stacklevel=3)
    return {renamed.get(name, name): value for name, value in values.items()}
