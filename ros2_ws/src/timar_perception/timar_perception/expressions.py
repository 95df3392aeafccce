"""FLAME expression coefficients from MediaPipe's blendshapes, by a map that the user brings.

FLAME's coefficients mean nothing without its basis, which may not be shipped. A map is either the user's
matrix between ARKit's blendshapes and FLAME (`timar_common.arkit`), or channels that `timar robot
fit-expressions` wrote: ``expressions: {channel: {index: weight, offset: b}}`` with channel = sum of weight x
coefficient + b, named as MediaPipe's blendshapes, and inverted here by regularised least squares.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from timar_common.arkit import ARKIT_NAMES, damped_inverse, names_arkit_map, read_arkit_map
from timar_common.user_motion import EXPRESSION_LIMIT, PARTS
from timar_common.yaml_map import read_yaml_map

Array = npt.NDArray[np.float64]

SIZE = PARTS["expression"].stop


@dataclasses.dataclass(frozen=True)
class ExpressionMap:
    """Linear map from channels to expression coefficients."""

    channels: tuple[str, ...]
    offsets: Array
    """(channels,)"""
    inverse: Array
    """(50, channels)"""
    summary: str = ""
    """What was read, for the log."""

    def coefficients(self, shapes: Mapping[str, float]) -> Array | None:
        """Return (50,) expression coefficients; None when a channel was not seen."""
        if any(name not in shapes for name in self.channels):
            return None
        seen = np.array([shapes[name] for name in self.channels])
        return np.clip(self.inverse @ (seen - self.offsets), -EXPRESSION_LIMIT, EXPRESSION_LIMIT)


def read_expression_map(path: Path) -> ExpressionMap:
    """Read the user's matrix, or a YAML with ``expression_map`` or ``expressions``, a robot's for example.

    Raises:
        ValueError: There is none, or it is wrong; the message names file, line and channel.
        OSError: It cannot be read.
    """
    if names_arkit_map(path):
        arkit = read_arkit_map(path)
        # A blendshape that moves nothing need not be seen; MediaPipe sees no tongue.
        channels = [name for name, row in zip(ARKIT_NAMES, arkit.flame_from_arkit, strict=True) if row.any()]
        channels = [name for name in channels if name != "tongueOut"]
        rows = [ARKIT_NAMES.index(name) for name in channels]
        return ExpressionMap(
            tuple(channels), np.zeros(len(rows)), arkit.flame_from_arkit[rows].T, arkit.summary
        )
    listed = read_yaml_map(path).child("expressions")
    names = listed.keys()
    if not names:
        raise listed.error("there is no channel; timar robot fit-expressions writes them")
    weights, offsets = np.zeros((len(names), SIZE)), np.zeros(len(names))
    for row, name in enumerate(names):
        for index, number in listed.child(name).number_by_key().items():
            if index == "offset":
                offsets[row] = number
            elif index.isdigit() and int(index) < SIZE:
                weights[row, int(index)] = number
            else:
                raise listed.error(f"{name!r} weighs {index!r}, expected 0..{SIZE - 1} or offset", name)
    return ExpressionMap(tuple(names), offsets, damped_inverse(weights))
