"""Lays gestures over a model's motion, shuts the mouth in silence, and says when gestures are likely.

It works turn by turn beside the model's session, which knows nothing of it: what it adds is no history of the
model. Its state is small, so that turns can be rolled back and made again.
"""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import numpy.typing as npt

from timar_model.gestures.activity import SAMPLES_PER_FRAME, SpeechActivity
from timar_model.gestures.dials import HeadDials
from timar_model.gestures.drawing import GesturePredictor, GestureStream, draw_gesture
from timar_model.gestures.gesture import FRAMES_PER_SECOND, Gesture, GestureKind
from timar_model.gestures.mouth_gate import MouthGate
from timar_model.gestures.rendering import StrokeShape, Waveform, waveform
from timar_model.gestures.user_nods import NodDetector

Array = npt.NDArray[np.float32]

AHEAD_FRAMES = 25
"""Planned speech after a turn that is looked at."""
ABOUT_TO_SPEAK = 2
"""As in timar_msgs/AgentIntent."""
FACE, JAW, NECK = slice(0, 50), slice(50, 53), slice(53, 56)


@dataclasses.dataclass(frozen=True)
class GestureLayerConfig:
    """How gestures are joined to the motion below them."""

    calm_s: float = 1.5
    """Time constant of the calm pose, about which motion is made larger or smaller."""
    yield_share: float = 0.7
    """So much of the model's own neck motion about its calm pose gives way to a gesture."""
    yield_in_s: float = 0.24
    yield_out_s: float = 0.32
    fade_s: float = 0.28
    """A drawn gesture that a requested one interrupts fades out in this time."""
    apart_frames: int = 5
    """No gesture is drawn sooner after another."""
    shape: StrokeShape | None = None
    """How the strokes of a gesture differ; None: as in captured heads."""


@dataclasses.dataclass(frozen=True)
class RequestedGesture:
    """A gesture that somebody asked for."""

    gesture: Gesture
    gesture_id: str


@dataclasses.dataclass(frozen=True, eq=False)
class LayerInputs:
    """What a turn's gestures are made from."""

    first_frame: int
    agent_speech: Array
    """(640 F,) of the turn's own frames."""
    agent_ahead: Array
    """(640 A,) planned after them; what is missing up to a second counts as silence."""
    user_speech: Array
    """(640 P,) of the user's frames that the turn takes."""
    user_motion: Array | None = None
    """(P, 56), None where the user is not seen."""
    user_motion_valid: npt.NDArray[np.bool_] | None = None
    """(P, 3): expression, jaw, neck."""
    intent: int = 0
    """Of the agent, as in timar_msgs/AgentIntent."""
    requested: tuple[RequestedGesture, ...] = ()
    """Requests for this turn and those after it, as far as they are known."""
    dials: HeadDials = dataclasses.field(default_factory=HeadDials)

    @property
    def frames(self) -> int:
        """Length of the turn."""
        return self.agent_speech.size // SAMPLES_PER_FRAME


@dataclasses.dataclass(frozen=True, eq=False)
class LayeredTurn:
    """A turn's motion with its gestures."""

    motion: Array
    """(F, 56)."""
    probability: Array
    """(F, K) that a gesture of each kind begins within the next half second."""
    begun: tuple[RequestedGesture, ...]
    """Gestures that begin in the turn; drawn ones have no id."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Shown:
    """A gesture under way."""

    gesture: Gesture
    wave: Waveform
    fades_from: int | None = None
    fade_frames: int = 1

    def offset(self, frames: npt.NDArray[np.int_]) -> npt.NDArray[np.float64]:
        """Return what it adds to the neck at frames, (n, 3) [rad]."""
        moved = self.wave((frames - self.gesture.first_frame) / FRAMES_PER_SECOND)
        if self.fades_from is not None:
            moved = moved * (1.0 - _smooth((frames - self.fades_from) / self.fade_frames))[:, None]
        return moved

    def yields(self, frames: npt.NDArray[np.int_], config: GestureLayerConfig) -> npt.NDArray[np.float64]:
        """Return how much the motion below gives way, (n,) 0..1."""
        if self.gesture.kind.is_look:
            return np.zeros(len(frames))
        inwards = _smooth((frames - self.gesture.first_frame) / (config.yield_in_s * FRAMES_PER_SECOND))
        outwards = _smooth((frames - self.end_frame) / (config.yield_out_s * FRAMES_PER_SECOND))
        return np.minimum(inwards, 1.0 - outwards)

    @property
    def end_frame(self) -> int:
        """One past the last frame at which it adds anything."""
        faded = self.gesture.end_frame if self.fades_from is None else self.fades_from + self.fade_frames
        return min(self.gesture.end_frame, faded)

    def faded(self, frame: int, seconds: float) -> _Shown:
        """Return it as it ends early, unless it ends earlier already."""
        if self.fades_from is not None or frame >= self.gesture.end_frame:
            return self
        frames = max(1, round(seconds * FRAMES_PER_SECOND))
        return dataclasses.replace(self, fades_from=frame, fade_frames=frames)


@dataclasses.dataclass(eq=False)
class _State:
    """Everything that a turn changes."""

    own: SpeechActivity
    user: SpeechActivity
    nods: NodDetector
    stream: GestureStream | None
    spoke: npt.NDArray[np.bool_]
    """(past_frames,) own activity before the next frame."""
    shown: list[_Shown] = dataclasses.field(default_factory=list)
    calm: npt.NDArray[np.float64] | None = None
    """(56,) slow mean of the model's motion."""
    free_from: int = 0
    """First frame at which a gesture may be drawn."""
    postponed: tuple[RequestedGesture, ...] = ()
    """Requests whose turn was not shown."""

    def copied(self) -> _State:
        """Return a state that goes its own way."""
        return dataclasses.replace(
            self,
            own=copy.copy(self.own),
            user=copy.copy(self.user),
            nods=copy.deepcopy(self.nods),
            stream=copy.deepcopy(self.stream),
            shown=list(self.shown),
        )


class GestureLayer:
    """What is laid over the motion of one conversation at a time.

    Args:
        predictor: Foresees gestures; None: none is foreseen or drawn, and requests are made all the same.
        config: How gestures join what is below.
        kept_turns: How many turns can be rolled back.
    """

    def __init__(
        self,
        predictor: GesturePredictor | None = None,
        config: GestureLayerConfig | None = None,
        kept_turns: int = 64,
    ) -> None:
        self.predictor, self.config = predictor, config or GestureLayerConfig()
        self._gate = MouthGate()
        self._kept_turns = kept_turns
        self.reset(0)

    @property
    def kinds(self) -> tuple[GestureKind, ...]:
        """Kinds that are foreseen."""
        return () if self.predictor is None else self.predictor.kinds

    def reset(self, seed: int) -> None:
        """Begin a conversation."""
        self._seed = seed
        self._before: dict[int, _State] = {}
        self._state = _State(
            SpeechActivity(),
            SpeechActivity(),
            NodDetector(),
            None if self.predictor is None else self.predictor.stream(),
            np.zeros(self._gate.past_frames, np.bool_),
        )

    def rollback(self, first_frame: int) -> None:
        """Restore the state from before the turn that starts at `first_frame`, if it was made."""
        if first_frame in self._before:
            self._state = self._before.pop(first_frame)
            for later in [frame for frame in self._before if frame > first_frame]:
                del self._before[later]

    def apply(self, inputs: LayerInputs, motion: Array | None) -> LayeredTurn | None:
        """Take a turn, and return its motion with gestures.

        Args:
            inputs: What it is made from.
            motion: (F, 56) of the model; None for a turn that is not shown: its requests wait.
        """
        self._before[inputs.first_frame] = self._state.copied()
        while len(self._before) > self._kept_turns:
            del self._before[next(iter(self._before))]
        state, first = self._state, inputs.first_frame
        speaks = state.own.step(inputs.agent_speech)
        frames = first + np.arange(len(speaks))
        around = np.concatenate([state.spoke, speaks, self._ahead(inputs)])
        state.spoke = around[len(speaks) : len(speaks) + len(state.spoke)]
        due = self._due(inputs, first, first + inputs.frames)
        begun = [] if motion is None else self._begin_requested(due)
        state.postponed = due if motion is None else ()
        probability = self._foresee(inputs, around, begun, is_shown=motion is not None)
        if motion is None:
            return None
        laid = self._lay(motion, frames, around, inputs.dials)
        state.shown = [
            shown
            for shown in state.shown
            if shown.end_frame + self.config.yield_out_s * FRAMES_PER_SECOND > frames[-1]
        ]
        return LayeredTurn(laid, probability, tuple(begun))

    def preview(self, inputs: LayerInputs, motion: Array) -> Array:
        """Lay over the motion that follows the turn just taken what is known of it; nothing changes.

        Args:
            inputs: Of the turn just taken.
            motion: (n, 56) of the model, from the turn's end on.
        """
        kept, self._state = self._state, dataclasses.replace(self._state, shown=list(self._state.shown))
        try:
            first = inputs.first_frame + inputs.frames
            speaks = self._ahead(inputs)
            missing = np.zeros(max(0, len(motion) + self._gate.ahead_frames - len(speaks)), np.bool_)
            around = np.concatenate([self._state.spoke, speaks, missing])
            self._begin_requested(self._due(inputs, first, first + len(motion)))
            return self._lay(motion, first + np.arange(len(motion)), around, inputs.dials)
        finally:
            self._state = kept

    # Its parts.

    def _ahead(self, inputs: LayerInputs) -> npt.NDArray[np.bool_]:
        """Return the agent's planned activity after a turn, at least a second of it."""
        planned = self._state.own.peek(inputs.agent_ahead)
        return np.concatenate([planned, np.zeros(max(0, AHEAD_FRAMES - len(planned)), np.bool_)])

    def _due(self, inputs: LayerInputs, first_frame: int, end_frame: int) -> tuple[RequestedGesture, ...]:
        """Return the requests that begin in [first_frame, end_frame), and at its start those that waited."""
        waited = [
            dataclasses.replace(
                request, gesture=dataclasses.replace(request.gesture, first_frame=first_frame)
            )
            for request in self._state.postponed
        ]
        new = [r for r in inputs.requested if first_frame <= r.gesture.first_frame < end_frame]
        return (*waited, *new)

    def _begin_requested(self, due: tuple[RequestedGesture, ...]) -> list[RequestedGesture]:
        """Show requests; a look ends a look, any other gesture ends what else is under way."""
        state = self._state
        for gesture in (request.gesture for request in due):
            fade_s = 0.5 / gesture.speed_hz if gesture.kind.is_look else self.config.fade_s
            state.shown = [
                shown.faded(gesture.first_frame, fade_s)
                if shown.gesture.kind.is_look == gesture.kind.is_look
                else shown
                for shown in state.shown
            ]
            self._show(gesture)
        return list(due)

    def _show(self, gesture: Gesture) -> None:
        self._state.shown.append(_Shown(gesture, waveform(gesture, self.config.shape)))
        if not gesture.kind.is_look:
            self._state.free_from = max(self._state.free_from, gesture.end_frame + self.config.apart_frames)

    def _foresee(
        self,
        inputs: LayerInputs,
        around: npt.NDArray[np.bool_],
        begun: list[RequestedGesture],
        *,
        is_shown: bool,
    ) -> Array:
        """Step the predictor through the turn's frames, and begin what is drawn."""
        state, dials = self._state, inputs.dials
        frames = inputs.frames
        user = state.user.step(inputs.user_speech)
        nods = [state.nods.step(neck) for neck in _necks_of(inputs, len(user))]
        probability = np.zeros((frames, len(self.kinds)), np.float32)
        if self.predictor is None or state.stream is None:
            return probability
        planned = around[self._gate.past_frames :].copy()
        if inputs.intent == ABOUT_TO_SPEAK and not planned[: frames + AHEAD_FRAMES].any():
            planned[frames + AHEAD_FRAMES // 2 :] = True  # A dialogue says so before there is a plan.
        for index in range(frames):
            frame, newest = inputs.first_frame + index, min(index, len(user) - 1)
            is_seen = inputs.user_motion_valid is not None and bool(inputs.user_motion_valid[newest, 2])
            forecast = state.stream.step(
                planned[index : index + 1 + AHEAD_FRAMES],
                bool(user[newest]),
                nods[newest],
                is_seen,
                inputs.intent,
            )
            probability[index] = forecast.probability
            for request in begun:
                if request.gesture.first_frame == frame:
                    state.stream.began(request.gesture.kind, request.gesture.duration_s)
            if is_shown and frame >= state.free_from and not self._is_awaited(inputs, frame):
                gesture = draw_gesture(self.kinds, state.stream, forecast, dials, self._seed, frame)
                if gesture is not None:
                    state.stream.began(gesture.kind, gesture.duration_s)
                    begun.append(RequestedGesture(gesture, ""))
                    self._show(gesture)
        return probability

    def _is_awaited(self, inputs: LayerInputs, frame: int) -> bool:
        """Tell whether a request begins so soon that a drawn gesture would be cut short by it."""
        return any(
            0 <= request.gesture.first_frame - frame < FRAMES_PER_SECOND for request in inputs.requested
        )

    def _lay(
        self,
        motion: Array,
        frames: npt.NDArray[np.int_],
        around: npt.NDArray[np.bool_],
        dials: HeadDials,
    ) -> Array:
        """Scale the motion about its calm pose, let it give way, add gestures, and shut the mouth."""
        laid = motion.astype(np.float64)
        state, config = self._state, self.config
        state.calm = laid[0].copy() if state.calm is None else state.calm
        keep = np.exp(-1.0 / (config.calm_s * FRAMES_PER_SECOND))
        yielding = np.zeros(len(frames))
        for shown in state.shown:
            yielding = np.maximum(yielding, shown.yields(frames, config))
        for index, row in enumerate(laid):
            state.calm = state.calm + (1.0 - keep) * (row - state.calm)
            if dials.expressiveness != 1.0:
                row[FACE] = state.calm[FACE] + dials.expressiveness * (row[FACE] - state.calm[FACE])
            own = dials.expressiveness * (1.0 - config.yield_share * yielding[index])
            if own != 1.0:
                row[NECK] = state.calm[NECK] + own * (row[NECK] - state.calm[NECK])
        for shown in state.shown:
            laid[:, NECK] += shown.offset(frames)
        if dials.mouth_gate:
            count = self._gate.past_frames + len(frames) + self._gate.ahead_frames
            laid[:, JAW] *= self._gate.gains(around[:count])[:, None]
        return laid.astype(np.float32)


def _necks_of(inputs: LayerInputs, frames: int) -> list[Array | None]:
    motion, valid = inputs.user_motion, inputs.user_motion_valid
    if motion is None or valid is None:
        return [None] * frames
    return [row[NECK] if seen else None for row, seen in zip(motion, valid[:, 2], strict=True)]


def _smooth(share: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    share = np.clip(share, 0.0, 1.0)
    smooth: npt.NDArray[np.float64] = share**3 * (10.0 - 15.0 * share + 6.0 * share**2)
    return smooth
