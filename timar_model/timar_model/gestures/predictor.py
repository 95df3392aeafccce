"""Calibrated prediction of when people nod, shake or tilt their heads; numpy inference of learned weights.

Two answers for each kind of gesture. The *probability* that one begins within the next half second follows
from the conversation alone: what the head itself drew before is no evidence of what people do. The *hazard*
from which the head draws also knows its own past gestures, so that drawn gestures come in the bursts and
pauses of people.

    B   conversations side by side (any shape, also none)
    D   features (`timar_model.gestures.features`)
    K   kinds of gestures
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from timar_model.gestures.features import (
    FEATURE_NAMES,
    LISTENING,
    NEITHER,
    RATE_HZ,
    SPEAKING,
    STATES,
    ConversationFeatures,
)
from timar_model.gestures.gesture import MAX_COUNT, SPEEDS_HZ, GestureKind

FloatArray = npt.NDArray[np.float32]

SOON_S = 0.5
"""The published probability is of this time ahead [s]."""
SHIPPED_WEIGHTS = Path(__file__).parent / "people.safetensors"
FORMAT = "timar-gestures-2"
SILENT = len(STATES)
"""Listening with no own speech planned within a second: calibrated apart, for little is known there."""
CALIBRATION_ROWS = (2, len(STATES) + 1)
"""User unseen or seen; state."""
APART_FRAMES = 5
"""Gestures follow each other no sooner; closer ones count as one."""
PAUSE_EDGES_S = (0.6, 1.2, 2.4, 4.8, 9.6, 19.2, 38.4)
"""Bins of the time since the own last gesture ended."""
DECISIVE_PAUSE_S = 0.8
"""A decisive head rests so long after a gesture [s]."""
_PAUSE_EDGES_S = np.array(PAUSE_EDGES_S, np.float32)
_LARGE_S = 1e3


class Forecast(NamedTuple):
    """What is foreseen at a frame."""

    probability: FloatArray
    """(B, K) that a gesture begins within the next half second."""
    hazard: FloatArray
    """(B, K) that it begins in this frame, given that none is under way."""
    threshold: FloatArray
    """(B, K) probability from which a decisive head begins one, in the state of this frame."""


@dataclasses.dataclass(frozen=True)
class DrawnStrokes:
    """How a gesture is made."""

    count: int
    size_rad: float
    speed_hz: float


class GestureNetwork:
    """The network that predicts gestures, with everything else that was learned.

    Args:
        arrays: By the names and shapes that `expected_shapes` lists.
        about: Where they come from: licence, attribution, meetings, figures.
    """

    def __init__(self, arrays: Mapping[str, FloatArray], about: Mapping[str, Any]) -> None:
        self.arrays = arrays
        self.about = about

    @property
    def kinds(self) -> tuple[GestureKind, ...]:
        """Kinds that are foreseen, in the order of K."""
        return tuple(GestureKind[name.upper()] for name in self.about["kinds"])

    def predict(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the probability within `SOON_S` and the rate [1/s], (..., K) each, of features (..., D)."""
        w = self.arrays
        x = (features - w["mean"]) / w["scale"]
        for layer in ("hidden1", "hidden2"):
            x = x @ w[f"{layer}.weight"].T + w[f"{layer}.bias"]
            x = x / (1 + np.exp(-x))
        soon = x @ w["soon.weight"].T + w["soon.bias"]
        slope, offset = np.moveaxis(w["calibration"][calibration_row(features)], -1, 0)
        soon = slope * soon + offset
        rate = x @ w["rate.weight"].T + w["rate.bias"]
        return 1 / (1 + np.exp(-soon)), np.exp(np.minimum(rate, 3.0))


def calibration_row(features: FloatArray) -> tuple[npt.NDArray[np.int_], npt.NDArray[np.int_]]:
    """Return whether the user is seen, and the state or `SILENT`, of features (..., D)."""
    listens, speaks, begins, seen = (
        features[..., FEATURE_NAMES.index(name)] > 0.5 for name in (*STATES[:2], "ahead_1s", "user_seen")
    )
    silent = np.where(begins, LISTENING, SILENT)
    return seen.astype(int), np.where(listens, silent, np.where(speaks, SPEAKING, NEITHER))


def read_weights(path: Path = SHIPPED_WEIGHTS) -> GestureNetwork:
    """Read weights that `timar train-gestures` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such file; the message says what differs.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            arrays = {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} holds no gesture weights ({error}); write them by timar train-gestures"
        ) from error
    if about.get("format") != FORMAT or about.get("features") != list(FEATURE_NAMES):
        raise ValueError(
            f"{path} has the format {about.get('format')!r} or other features than {FORMAT} here; "
            "write it again by timar train-gestures"
        )
    weights = GestureNetwork(arrays, about)
    for name, shape in expected_shapes(len(weights.kinds), about["hidden"]).items():
        found = arrays[name].shape if name in arrays else None
        if found != shape or not np.isfinite(arrays[name]).all():
            raise ValueError(
                f"{path}: {name} has the shape {found} or is not finite, expected {shape}; train again"
            )
    return weights


def expected_shapes(kinds: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the arrays of a weights file."""
    features, states, bins = len(FEATURE_NAMES), len(STATES), len(PAUSE_EDGES_S) + 1
    return {
        "mean": (features,), "scale": (features,),
        "hidden1.weight": (hidden, features), "hidden1.bias": (hidden,),
        "hidden2.weight": (hidden, hidden), "hidden2.bias": (hidden,),
        "soon.weight": (kinds, hidden), "soon.bias": (kinds,),
        "rate.weight": (kinds, hidden), "rate.bias": (kinds,),
        "pause_same": (states, kinds, bins), "pause_other": (states, kinds, bins),
        "rate_scale": (states, kinds), "threshold": (states, kinds),
        "calibration": (*CALIBRATION_ROWS, kinds, 2),
        "duration_s": (states, kinds, 21), "stroke_hz": (kinds, 2), "size_rad": (kinds, 2),
    }  # fmt: skip


class GestureHistory:
    """How long the own gestures are past, and what follows from it.

    Args:
        weights: What was learned.
        shape: Of B.
    """

    def __init__(self, weights: GestureNetwork, shape: tuple[int, ...] = ()) -> None:
        self._weights = weights
        self._since_s = np.full((*shape, len(weights.kinds)), _LARGE_S, np.float32)
        """Time since each kind's last gesture ended; negative while one is under way [s]."""

    def copy(self) -> GestureHistory:
        """Return a history that goes its own way."""
        return copy.copy(self)  # No array is changed in place.

    @property
    def is_free(self) -> npt.NDArray[np.bool_]:
        """Return where a gesture may begin, (B)."""
        free: npt.NDArray[np.bool_] = self._since_s.min(-1) >= APART_FRAMES / RATE_HZ - 1e-3
        return free

    def hazard(self, rate: FloatArray, state: npt.NDArray[np.int_]) -> FloatArray:
        """Return the probability that one begins in this frame, by rates [1/s] (B, K) and states (B)."""
        w, since = self._weights.arrays, self._since_s
        same, other = (
            np.searchsorted(_PAUSE_EDGES_S, s, side="right") for s in (since, _since_others(since))
        )
        at, kinds = state[..., None], np.arange(since.shape[-1])
        factor = (
            w["rate_scale"][at, kinds] * w["pause_same"][at, kinds, same] * w["pause_other"][at, kinds, other]
        )
        hazard: FloatArray = 1 - np.exp(-rate * factor / np.float32(RATE_HZ))
        return hazard

    def threshold(self, state: npt.NDArray[np.int_]) -> FloatArray:
        """Return the probability from which a decisive head begins one (B, K); infinite soon after one."""
        rested = self._since_s.min(-1) >= DECISIVE_PAUSE_S
        return np.where(rested[..., None], self._weights.arrays["threshold"][state], np.float32(np.inf))

    def advance(self) -> None:
        """Go on by one frame."""
        self._since_s = np.minimum(self._since_s + np.float32(1 / RATE_HZ), np.float32(_LARGE_S))

    def begin(self, begins: npt.NDArray[np.bool_], duration_s: npt.ArrayLike) -> None:
        """Note own gestures that begin in this frame, (B, K), with durations (B, K) [s]."""
        self._since_s = np.where(begins, -np.asarray(duration_s, np.float32), self._since_s)


class PredictorStream:
    """Forecasts of B conversations, frame by frame.

    Args:
        weights: What was learned.
        shape: Of B; empty for one conversation.
    """

    def __init__(self, weights: GestureNetwork, shape: tuple[int, ...] = ()) -> None:
        self._weights = weights
        self._features = ConversationFeatures(shape)
        self._history = GestureHistory(weights, shape)

    def __deepcopy__(self, memo: dict[int, Any]) -> PredictorStream:
        """Return the state with weights shared."""
        copied = object.__new__(PredictorStream)
        copied._weights = self._weights
        copied._features, copied._history = self._features.copy(), self._history.copy()
        return copied

    @property
    def state(self) -> npt.NDArray[np.int_]:
        """Return (B) listening, speaking or neither, as indices of `features.STATES`."""
        return self._features.state

    def step(
        self,
        plan: npt.NDArray[np.bool_],
        user: npt.ArrayLike,
        user_nods: npt.ArrayLike = False,
        user_seen: npt.ArrayLike = False,
        intent: int = 0,
    ) -> Forecast:
        """Take the next frame; arguments as of `ConversationFeatures.step`.

        Args:
            plan: (B, 26) own speech in this frame and the second after it.
            user: (B) whether the user speaks in the newest known frame.
            user_nods: (B) whether the user's head is in a nod there.
            user_seen: (B) whether it is seen.
            intent: Of the agent, not used: of annotated people only the speech tells what they intend.
        """
        self._history.advance()
        probability, rate = self._weights.predict(self._features.step(plan, user, user_nods, user_seen))
        hazard = self._history.hazard(rate, self.state)
        return Forecast(probability, hazard, self._history.threshold(self.state))

    def began(self, kind: GestureKind, duration_s: float) -> None:
        """Note that an own gesture begins in the newest frame; for one conversation."""
        kinds = np.array(self._weights.kinds)
        self._history.begin(kinds == kind, np.full(len(kinds), duration_s))

    def draw(self, kind: GestureKind, random: np.random.Generator) -> DrawnStrokes:
        """Draw how a gesture that begins now is made, and note that it does; for one conversation."""
        strokes = draw_strokes(self._weights, kind, int(self.state), random)
        self.began(kind, strokes.count / strokes.speed_hz)
        return strokes


def _since_others(since_s: FloatArray) -> FloatArray:
    """Return for each kind the time since the last gesture of any other kind, (B, K)."""
    kinds = since_s.shape[-1]
    if kinds == 1:
        return np.full_like(since_s, _LARGE_S)
    return np.stack([np.delete(since_s, k, -1).min(-1) for k in range(kinds)], -1)


def draw_strokes(
    weights: GestureNetwork, kind: GestureKind, state: int, random: np.random.Generator
) -> DrawnStrokes:
    """Draw duration, strokes, size and speed of a gesture that begins in a state, as people have them."""
    index, w = weights.kinds.index(kind), weights.arrays
    duration_s = float(draw_duration(weights, np.array(state), index, random.random()))
    return strokes_lasting(kind, duration_s, w["stroke_hz"][index], w["size_rad"][index], random)


def strokes_lasting(
    kind: GestureKind,
    duration_s: float,
    stroke_hz: npt.NDArray[np.floating],
    size_rad: npt.NDArray[np.floating],
    random: np.random.Generator,
) -> DrawnStrokes:
    """Draw how a gesture of a given duration is made.

    Args:
        kind: Nods and shakes have as many strokes as fit; others one.
        duration_s: From where it begins to where the head is back [s].
        stroke_hz: (2,) mean and spread of the logarithm of the pace.
        size_rad: (2,) the same of the size.
        random: All choices come from it.
    """
    pace_hz, size = (
        float(np.exp(mean + spread * np.clip(random.normal(), -2, 2)))
        for mean, spread in (stroke_hz, size_rad)
    )
    count = int(np.clip(round(duration_s * pace_hz), 1, MAX_COUNT))
    if kind not in (GestureKind.NOD, GestureKind.SHAKE):
        count = 1
    return DrawnStrokes(count, size, float(np.clip(count / duration_s, *SPEEDS_HZ)))


def draw_duration(
    weights: GestureNetwork, state: npt.NDArray[np.int_], kind: int, uniform: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """Return durations [s] of gestures that begin in states (B), by quantiles at `uniform` (B) in 0..1."""
    table = weights.arrays["duration_s"][state, kind]
    position = np.asarray(uniform) * (table.shape[-1] - 1)
    low = np.minimum(position.astype(int), table.shape[-1] - 2)
    pick = np.take_along_axis(table, np.stack([low, low + 1], -1), -1)
    share = position - low
    # Between two quantiles of a skewed distribution the logarithm is nearer to linear.
    return np.exp((1 - share) * np.log(pick[..., 0]) + share * np.log(pick[..., 1]))


class PeoplePredictor:
    """Foresees gestures of conversations by learned weights.

    Args:
        weights: As read; None takes the shipped ones.
    """

    def __init__(self, weights: GestureNetwork | None = None) -> None:
        self.weights = weights or read_weights()

    @property
    def kinds(self) -> tuple[GestureKind, ...]:
        """Kinds that are foreseen, in the order of a forecast."""
        return self.weights.kinds

    def stream(self) -> PredictorStream:
        """Return the state of a new conversation."""
        return PredictorStream(self.weights)
