"""A gesture predictor for tests: its foresight is easily told."""

from __future__ import annotations

import numpy as np
from timar_model.gestures.gesture import GestureKind
from timar_model.gestures.predictor import DrawnStrokes, Forecast


class SteadyStream:
    """Foresees nods at a steady rate, more of them while the user speaks."""

    def __init__(self) -> None:
        self.frames = 0

    def step(self, plan, user, user_nods, user_seen, intent) -> Forecast:
        self.frames += 1
        hazard = np.array([0.01 + 0.01 * user])
        return Forecast(12.5 * hazard, hazard, np.array([0.2]))

    def draw(self, kind, random) -> DrawnStrokes:
        return DrawnStrokes(int(random.integers(1, 4)), 0.08, 2.0)

    def began(self, kind, duration_s) -> None:
        pass


class SteadyPredictor:
    kinds = (GestureKind.NOD,)

    def stream(self) -> SteadyStream:
        return SteadyStream()
