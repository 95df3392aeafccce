"""What a replay is run with: the nodes' own configurations, and how time is modelled."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
import warnings
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from timar_audio.turns_config import TurnsConfig
from timar_common.config import current_name
from timar_common.parameter_file import OF_EVERY_NODE, parameters_for
from timar_common.suggest import unknown_name
from timar_inference.config import InferenceConfig
from timar_retargeting.config import RetargetingConfig

from timar_replay.virtual_worker import ComputeTimePolicy

FORMAT = 1
"""Grows when the same settings would give other bytes."""
ENGINE_PACKAGES = ("numpy", "onnxruntime", "torch")


@dataclasses.dataclass(frozen=True)
class ReplaySettings:
    """Everything that decides what a replay of a bag makes."""

    inference: InferenceConfig = dataclasses.field(default_factory=lambda: InferenceConfig(warmup_turns=0))
    turns: TurnsConfig = dataclasses.field(default_factory=TurnsConfig)
    retargeting: RetargetingConfig = dataclasses.field(default_factory=RetargetingConfig)
    policy: ComputeTimePolicy = dataclasses.field(default_factory=ComputeTimePolicy)
    is_following: bool = False
    """Whether the recorded turn_log is repeated instead of turns being scheduled again."""
    namespace: str | None = None
    user_sound: str = ""
    """Topic of the user's voice in a bag of other packages' nodes; empty: ours, or the only one there is."""
    agent_sound: str = ""
    """Likewise of the head's own voice; empty: ours, or none."""
    sound_layout: str = ""
    """What plain bytes of theirs mean where nothing in the bag says so: format, rate [Hz], channels."""

    def digest(self, model_sha256: str) -> str:
        """Return 64 hexadecimal digits of the settings, the model and the builds that compute."""
        content = {
            "format": FORMAT,
            "settings": dataclasses.asdict(self),
            "model": model_sha256,
            "builds": {name: _version(name) for name in ENGINE_PACKAGES},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def changed(self, assignments: Iterable[str]) -> ReplaySettings:
        """Return the settings with parameters of the nodes changed.

        Args:
            assignments: ``NODE.PARAMETER=VALUE``, for example ``inference.temperature=0.8``.

        Raises:
            ValueError: There is no such node or parameter, or the value does not fit it.
        """
        settings = self
        for assignment in assignments:
            place, equals, text = assignment.partition("=")
            node, dot, name = place.partition(".")
            if not equals or not dot or node not in NODES:
                raise ValueError(
                    f"{assignment!r} sets nothing; expected NODE.PARAMETER=VALUE with a node of "
                    f"{', '.join(NODES)}"
                )
            config_type = type(getattr(settings, node))
            name = current_name(config_type, name)
            hints = typing.get_type_hints(config_type)
            if name not in hints:
                raise ValueError(unknown_name("parameter", name, sorted(hints), owner=node))
            settings = settings._with(node, {place.partition(".")[2]: _read(text, hints[name], place)})
        return settings

    def with_parameters(self, path: Path) -> ReplaySettings:
        """Return the settings with a ROS parameters file read in; nodes not replayed are left out.

        Raises:
            ValueError: The file is no parameters file, or a value does not fit.
            OSError: It cannot be read.
        """
        settings = self
        for node in NODES:
            # The robot's namespace is the bag's.
            config_type = type(getattr(settings, node))
            given = parameters_for(path, f"/{node}", config_type, is_anywhere=True)
            values = {name: value for name, (value, _) in given.items() if name not in OF_EVERY_NODE}
            settings = settings._with(node, values)
        return settings

    def _with(self, node: str, values: Mapping[str, Any]) -> ReplaySettings:
        """Return the settings with parameters of a node changed; former names are taken with a warning."""
        config = getattr(self, node)
        renamed = {name: current_name(type(config), name) for name in values}
        for former, name in renamed.items():
            if name != former:
                warnings.warn(
                    f"{node}.{former} is now called {node}.{name}; the old name goes next release",
                    FutureWarning,
                    stacklevel=3,
                )
        changes = {renamed[name]: value for name, value in values.items()}
        return dataclasses.replace(self, **{node: dataclasses.replace(config, **changes)})


NODES = ("inference", "turns", "retargeting")


def _read(text: str, hint: Any, place: str) -> Any:
    try:
        if hint is bool:
            return {"true": True, "false": False}[text.lower()]
        if typing.get_origin(hint) is tuple:
            return tuple(typing.get_args(hint)[0](part) for part in text.split(",") if part)
        return hint(text)
    except (KeyError, ValueError):
        name = getattr(hint, "__name__", str(hint))
        raise ValueError(f"{place} is set to {text!r}, expected {name}") from None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
