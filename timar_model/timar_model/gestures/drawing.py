"""Draws gestures from the probability that they begin; what is drawn depends on seed and frame alone."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from timar_model.gestures.dials import HeadDials
from timar_model.gestures.gesture import (
    MAX_COUNT,
    MAX_SPEED_RAD_S,
    SIZES_RAD,
    SPEEDS_HZ,
    Gesture,
    GestureKind,
)
from timar_model.gestures.predictor import DrawnStrokes, Forecast
from timar_model.gestures.rendering import FASTEST_HZ

USUAL = {
    GestureKind.NOD: (DrawnStrokes(2, 0.09, 2.0), 0.0),
    GestureKind.SHAKE: (DrawnStrokes(2, 0.1, 1.5), 0.0),
    GestureKind.TILT: (DrawnStrokes(1, 0.14, 0.8), 0.8),
    GestureKind.LOOK_AWAY: (DrawnStrokes(1, 0.25, 1.0), 3.0),
    GestureKind.LOOK_BACK: (DrawnStrokes(1, 0.25, 1.0), 0.0),
}
"""Strokes and time out [s] of a requested gesture that leaves them to the head."""


class GestureStream(Protocol):
    """Forecast of one conversation, frame by frame; `copy.deepcopy` gives its state."""

    def step(
        self,
        plan: npt.NDArray[np.bool_],
        user: bool,
        user_nods: bool,
        user_seen: bool,
        intent: int,
    ) -> Forecast:
        """Take the next frame.

        Args:
            plan: (1 + 25,) own speech in this frame and the planned speech after it.
            user: Whether the user speaks in the newest frame that is known.
            user_nods: Whether the user's head is in a nod there.
            user_seen: Whether it is seen.
            intent: Of the agent, as in timar_msgs/AgentIntent.
        """

    def draw(self, kind: GestureKind, random: np.random.Generator) -> DrawnStrokes:
        """Draw how a gesture that begins now is made."""

    def began(self, kind: GestureKind, duration_s: float) -> None:
        """Note that an own gesture begins in the newest frame."""


class GesturePredictor(Protocol):
    """What foresees gestures."""

    @property
    def kinds(self) -> tuple[GestureKind, ...]:
        """Kinds that are foreseen, in the order of a `Forecast`."""

    def stream(self) -> GestureStream:
        """Return the state of a new conversation."""


def random_at(seed: int, person_seed: int, frame: int) -> np.random.Generator:
    """Return the random numbers of one frame, the same however often and in whatever order it is drawn."""
    mask = 2**64 - 1
    return np.random.Generator(
        np.random.Philox(key=[seed & mask, person_seed & mask], counter=[0, frame & mask, 0, 0])
    )


def draw_gesture(
    kinds: tuple[GestureKind, ...],
    stream: GestureStream,
    forecast: Forecast,
    dials: HeadDials,
    seed: int,
    frame: int,
) -> Gesture | None:
    """Return the gesture that begins at a frame, if one does.

    With a changed forecast the same frame draws the same numbers, so that turns that are made again differ
    only as far as the forecast does.

    Args:
        kinds: In the order of the forecast.
        stream: The conversation as it stands at the frame.
        forecast: At the frame.
        dials: How often, how large, how fast; which person; whether to decide instead of to draw.
        seed: Of the conversation.
        frame: On the conversation's counter.
    """
    person, random = dials.person(), random_at(seed, dials.person_seed, frame)
    rate = dials.nod_rate * person.rate if dials.expressiveness > 0.0 else 0.0
    chances = random.random(len(kinds))
    if dials.decisive:
        begins = forecast.probability * rate >= forecast.threshold
        chances = forecast.threshold / np.maximum(forecast.probability, 1e-9)
    else:
        begins = chances < 1.0 - (1.0 - np.clip(forecast.hazard, 0.0, 1.0)) ** rate
    if rate == 0.0 or not begins.any():
        return None
    kind = kinds[int(np.argmin(np.where(begins, chances, np.inf)))]
    strokes = stream.draw(kind, random)
    speed = strokes.speed_hz * dials.nod_speed * person.speed
    # Annotated spans are shorter than the movements.
    speed = min(speed, FASTEST_HZ.get(kind, SPEEDS_HZ[1]))
    size = strokes.size_rad * dials.nod_size * person.size * dials.expressiveness
    side = 1 if random.random() < 0.5 or kind is GestureKind.NOD else -1
    return possible_gesture(
        kind,
        frame,
        DrawnStrokes(strokes.count, size, speed),
        side=side,
        variation=int(random.integers(2**31)),
    )


def possible_gesture(
    kind: GestureKind, frame: int, strokes: DrawnStrokes, *, hold_s: float = 0.0, side: int, variation: int
) -> Gesture:
    """Return a gesture brought into what can be: a fast one that is too large becomes smaller."""
    speed = float(np.clip(strokes.speed_hz, *SPEEDS_HZ))
    largest = 0.5 * MAX_SPEED_RAD_S / speed / (2.0 if kind is GestureKind.SHAKE else 1.0)
    size = float(np.clip(strokes.size_rad, SIZES_RAD[0], min(SIZES_RAD[1], 0.999 * largest)))
    count = int(np.clip(strokes.count, 1, MAX_COUNT)) if kind in (GestureKind.NOD, GestureKind.SHAKE) else 1
    return Gesture(kind, frame, count, size, speed, side, hold_s, variation)


def usual_gesture(kind: GestureKind, frame: int, dials: HeadDials, seed: int) -> Gesture:
    """Return a gesture as the head makes it when nothing is said of it; dials and person count."""
    usual, hold_s = USUAL[kind]
    person, variation = dials.person(), variation_of(seed, frame)
    strokes = DrawnStrokes(
        usual.count,
        usual.size_rad * dials.nod_size * dials.expressiveness * person.size,
        usual.speed_hz * dials.nod_speed * person.speed,
    )
    side = 1 if kind is GestureKind.NOD or variation % 2 else -1
    return possible_gesture(kind, frame, strokes, hold_s=hold_s, side=side, variation=variation)


def variation_of(seed: int, frame: int) -> int:
    """Return the seed of how the strokes of a requested gesture differ."""
    return int(random_at(seed, 0, frame).integers(2**31))
