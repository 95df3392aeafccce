"""FLAME expression coefficients from MediaPipe blendshapes, by a map that the user brings.

FLAME's coefficients mean nothing without its basis, which may not be shipped. Who has it (or paired data)
fits channels to it: `timar robot fit-expressions` writes ``expressions: {channel: {index: weight, offset:
b}}`` with channel = sum of weight x coefficient + b. Channels named as MediaPipe's blendshapes are inverted
here, by regularised least squares.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from timar_common.user_motion import EXPRESSION_LIMIT, PARTS
from timar_common.yaml_map import read_yaml_map

Array = npt.NDArray[np.float64]

SIZE = PARTS["expression"].stop
_REGULARISATION = 1e-2
"""Regularisation, relative to the mean squared weight: few channels must not move 50 coefficients wildly."""


@dataclasses.dataclass(frozen=True)
class ExpressionMap:
    """Linear map from channels to expression coefficients."""

    channels: tuple[str, ...]
    offsets: Array
    """(channels,)"""
    inverse: Array
    """(50, channels)"""

    def coefficients(self, shapes: Mapping[str, float]) -> Array | None:
        """Return (50,) expression coefficients; None when a channel was not seen."""
        if any(name not in shapes for name in self.channels):
            return None
        seen = np.array([shapes[name] for name in self.channels])
        return np.clip(self.inverse @ (seen - self.offsets), -EXPRESSION_LIMIT, EXPRESSION_LIMIT)


def read_expression_map(path: Path) -> ExpressionMap:
    """Read a YAML with ``expressions``, a robot's for example.

    Raises:
        ValueError: It has none, or one of them is wrong; the message names file, line and channel.
        OSError: It cannot be read.
    """
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
    strength = _REGULARISATION * float((weights**2).sum(1).mean())
    gram = weights @ weights.T + max(strength, 1e-12) * np.eye(len(names))
    return ExpressionMap(tuple(names), offsets, weights.T @ np.linalg.inv(gram))
