"""Dials of a head's expression, and the person that a seed stands for."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import NamedTuple

import numpy as np

RATE_SPREAD = 0.7
SIZE_SPREAD = 0.3
SPEED_SPREAD = 0.15
"""Standard deviations between people of the logarithms of how often, how far and how fast they nod."""


class Person(NamedTuple):
    """How a person differs from the average, as factors."""

    rate: float = 1.0
    size: float = 1.0
    speed: float = 1.0


@dataclasses.dataclass(frozen=True)
class HeadDials:
    """What can be turned while the head runs; as they stand here, it is the calibrated head."""

    expressiveness: float = 1.0
    nod_rate: float = 1.0
    nod_size: float = 1.0
    nod_speed: float = 1.0
    person_seed: int = 0
    decisive: bool = False
    mouth_gate: bool = True

    def person(self) -> Person:
        """Return the person: the average one for seed 0, else one drawn; the mean rate of all is 1."""
        return _person(self.person_seed)


@functools.lru_cache(maxsize=64)
def _person(seed: int) -> Person:
    if seed == 0:
        return Person()
    spreads = [RATE_SPREAD, SIZE_SPREAD, SPEED_SPREAD]
    rate, size, speed = np.random.default_rng(seed).normal(0.0, spreads).tolist()
    return Person(math.exp(rate - 0.5 * RATE_SPREAD**2), math.exp(size), math.exp(speed))
