"""A turn as it arrives: inputs checked, voices turned into features, motion into the model's units."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from timar_model.config import MOTION_DIM, MOTION_GROUPS, SAMPLES_PER_FRAME, ModelConfig
from timar_model.inputs import TurnInputs
from timar_model.speech import SpeechFeatures, VoiceState
from timar_model.statistics import MotionStatistics
from timar_model.turns import Turn

Array = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Heard:
    """One turn as it arrives: its tokens' streams and the voices' states after it."""

    turn: Turn
    inputs: TurnInputs[Array]
    user_voice: VoiceState
    agent_voice: VoiceState


class Hearing:
    """Check what a turn brings and make the model's inputs of it; holds no state."""

    def __init__(self, config: ModelConfig, features: SpeechFeatures, statistics: MotionStatistics) -> None:
        self._config = config
        self._features = features
        self._statistics = statistics

    def voice(self) -> VoiceState:
        """Return the state of a voice before its first sample."""
        return self._features.initial()

    def hear(
        self,
        turn: Turn,
        user_speech: Array | None,
        user_motion: Array | None,
        agent_speech: Array,
        user_motion_valid: npt.NDArray[np.bool_] | None,
        voices: tuple[VoiceState, VoiceState],
        past: tuple[Array, Array],
    ) -> Heard:
        """Check a turn and compute its features; both voices go through the features together.

        Args:
            turn: Its place.
            user_speech: As of `Session.step`, and so the next three.
            user_motion: See there.
            agent_speech: See there.
            user_motion_valid: See there.
            voices: States of the user's voice and the agent's.
            past: (P, 56) normalised motion shown before, and (P,) where it is known.

        Raises:
            ValueError: A shape is wrong or a value not finite.
        """
        agent_sound = checked("agent_speech", agent_speech, (turn.frames * SAMPLES_PER_FRAME,))
        user_shape = (turn.user_frames * SAMPLES_PER_FRAME,)
        user_sound = None if user_speech is None else checked("user_speech", user_speech, user_shape)
        motion, seen = self._user_motion(user_motion, user_motion_valid, turn.user_frames)
        user_rows = np.zeros((turn.user_frames, self._config.speech_dim), np.float32)
        user_voice, agent_voice = voices
        if user_sound is None:
            ((agent_rows, agent_voice),) = self._features.compute_all([agent_sound], [agent_voice])
        else:
            (user_rows, user_voice), (agent_rows, agent_voice) = self._features.compute_all(
                [user_sound, agent_sound], [user_voice, agent_voice]
            )
        inputs = TurnInputs(
            user_speech=user_rows[None],
            user_speech_seen=np.full((1, turn.user_frames), user_sound is not None, np.float32),
            user_motion=motion[None],
            user_motion_seen=seen[None],
            agent_speech=agent_rows[None],
            agent_motion=np.zeros((1, turn.frames, MOTION_DIM), np.float32),
            agent_motion_known=np.zeros((1, turn.frames), np.float32),
            past_motion=past[0][None],
            past_motion_known=past[1][None],
        )
        return Heard(turn, inputs, user_voice, agent_voice)

    def _user_motion(
        self, motion: Array | None, valid: npt.NDArray[np.bool_] | None, frames: int
    ) -> tuple[Array, Array]:
        """Return (U, 56) normalised motion, zero where not seen, and (U, 3) what is seen."""
        shape = (frames, len(MOTION_GROUPS))
        if motion is None:
            if valid is not None and np.any(valid):
                raise ValueError(
                    "user_motion_valid says something is seen, but user_motion is None; give both"
                )
            return np.zeros((frames, MOTION_DIM), np.float32), np.zeros(shape, np.float32)
        seen = np.ones(shape, bool) if valid is None else np.asarray(valid)
        if seen.shape != shape or seen.dtype != np.bool_:
            raise ValueError(
                f"user_motion_valid is {seen.dtype} of shape {seen.shape}, expected bool of {shape}"
            )
        wide = np.zeros((frames, MOTION_DIM), bool)
        for column, group in enumerate(MOTION_GROUPS.values()):
            wide[:, group] = seen[:, column, None]
        motion = np.asarray(motion, np.float32)
        if motion.shape == wide.shape:
            motion = np.where(wide, motion, self._statistics.mean)
        motion = checked("user_motion", motion, wide.shape)
        return self._statistics.normalise(motion), seen.astype(np.float32)


def checked(name: str, array: Any, shape: tuple[int, ...]) -> Array:
    """Return an input as float32 of its shape.

    Raises:
        ValueError: Its shape is another, or it is not finite.
    """
    array = np.ascontiguousarray(array, np.float32)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} holds a value that is not finite; mend it before the session hears it")
    return array
