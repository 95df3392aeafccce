"""Everything that makes an agent's motion for a dyad, behind one interface: models, ablations, baselines."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from timar_model.config import ModelConfig
from timar_model.loading import Model, find_model

from . import dyads
from .conversing import Recording, converse, converse_together
from .dyads import AGENT_SPEAKER, USER_SPEAKER, Clip, Motion

FloatArray = npt.NDArray[np.float32]
COMPUTE_FRAMES = 1
"""A model without a user lag is shown one turn and its computing time late; a frame is allowed for that."""


@dataclasses.dataclass(frozen=True)
class Dyad:
    """One clip in memory, both sides on one frame grid."""

    name: str
    user_voice: FloatArray
    """(640 T,) 16 kHz."""
    agent_voice: FloatArray
    """(640 T,)."""
    user_motion: Motion
    """(T, 56); unseen frames are not valid."""
    agent_motion: Motion | None
    """The truth; None where it was not recorded."""

    @property
    def frames(self) -> int:
        """T."""
        return len(self.agent_voice) // SAMPLES_PER_FRAME

    def without_user_motion(self) -> Dyad:
        """Return it with the user unseen."""
        return dataclasses.replace(self, user_motion=Motion.unseen(self.frames))


def load_dyad(clip: Clip, seconds: float | None = None) -> Dyad:
    """Read a clip, or its first seconds.

    Raises:
        BadClipError: A file cannot be read.
    """
    voices = [dyads.read_voice(clip.voice_path(speaker)) for speaker in (USER_SPEAKER, AGENT_SPEAKER)]
    frames = min(dyads.frames_of(voice) for voice in voices)
    if seconds is not None:
        frames = min(frames, int(seconds * SAMPLE_RATE_HZ) // SAMPLES_PER_FRAME)
    user, agent = (voice[: frames * SAMPLES_PER_FRAME] for voice in voices)
    paths = [clip.motion_path(speaker) for speaker in (USER_SPEAKER, AGENT_SPEAKER)]
    seen, truth = (dyads.read_motion(path).fitted_to(frames) if path.is_file() else None for path in paths)
    return Dyad(clip.name, user, agent, seen or Motion.unseen(frames), truth)


class Predictor(Protocol):
    """Makes the agent's motion of a whole dyad; it never looks at `Dyad.agent_motion`."""

    name: str
    turn_frames: int
    """Its step [frames]; 1 for what has none."""
    delay_frames: int
    """By how much its motion is shown after the voice it belongs to [frames]."""

    def predict(self, dyad: Dyad, seed: int) -> FloatArray:
        """Return (T', 56), T' at most the dyad's frames, frame f made for sample 640 f."""


class SessionPredictor:
    """A model through its live session, turn by turn.

    Args:
        model: The model.
        history_turns: How many turns before the newest it sees; None: its whole window.
        threads: Of the arithmetic.
        sampling: Options that differ from the model's own.
        turn_frames: Length of its turns [frames]; None: the model's own.

    Raises:
        ValueError: The model's window does not hold so many turns.
    """

    def __init__(
        self,
        model: Model,
        history_turns: int | None = None,
        threads: int = 1,
        sampling: dict[str, Any] | None = None,
        turn_frames: int | None = None,
    ) -> None:
        config = model.config
        self.name = model.path.name
        self.turn_frames = turn_frames or config.turn_frames
        self.delay_frames = delay_of(config, self.turn_frames)
        self._model = model
        self._options: dict[str, Any] = {"threads": threads, **(sampling or {})}
        if history_turns is not None:
            window = (history_turns + 1) * self.turn_frames
            if window > config.window_frames:
                raise ValueError(
                    f"a history of {history_turns} turns needs a window of {window} frames, but the model "
                    f"has {config.window_frames}; ask for at most "
                    f"{config.window_frames // self.turn_frames - 1}"
                )
            self._options["window_frames"] = window

    def predict(self, dyad: Dyad, seed: int) -> FloatArray:
        """Return (T', 56) of whole turns."""
        session = self._model.session(engine="torch", seed=seed, **self._options)
        return converse(session, *_recording(dyad), turn_frames=self.turn_frames)

    def predict_together(self, dyads: Sequence[Dyad], seed: int) -> list[FloatArray]:
        """Return what `predict` would for each dyad, computed side by side."""
        batch = self._model.batch([seed] * len(dyads), engine="torch", **self._options)
        return converse_together(batch, [_recording(dyad) for dyad in dyads], self.turn_frames)


def _recording(dyad: Dyad) -> Recording:
    return dyad.user_voice, dyad.agent_voice, dyad.user_motion


def predict_all(predictor: Predictor, dyads: Sequence[Dyad], seed: int) -> list[FloatArray]:
    """Return the motion of each dyad, by shared passes where the predictor has them."""
    if isinstance(predictor, SessionPredictor):
        return predictor.predict_together(dyads, seed)
    return [predictor.predict(dyad, seed) for dyad in dyads]


def delay_of(config: ModelConfig, turn_frames: int) -> int:
    """Return by how many frames a model's motion is shown after the voice it belongs to."""
    return 0 if config.user_lag == "turn" else turn_frames + COMPUTE_FRAMES


def open_predictors(
    name: str,
    data: Path,
    histories: Sequence[int | None] = (None,),
    threads: int = 1,
    sampling: dict[str, Any] | None = None,
    turn_lengths: Sequence[int | None] = (None,),
) -> list[tuple[int | None, Predictor]]:
    """Return what a name stands for, once for each history and each length of turns it knows.

    Args:
        name: A model folder, a shipped model, or one of `baselines.BASELINES`, fitted on the train list.
        data: Folder of dyads.
        histories: Turns seen before the newest; only models have any.
        threads: Of the arithmetic.
        sampling: Options that differ from a model's own.
        turn_lengths: Lengths of turns [frames]; only models that stream have any. None: the model's own.

    Raises:
        FileNotFoundError: There is no such thing.
        ValueError: A history does not fit the model.
    """
    from .baselines import BASELINES, fit_baseline

    if name in BASELINES:
        return [(None, fit_baseline(name, dyads.read_split(data, "train")))]
    from timar_model.checkpoint import read_model

    folder = read_model(find_model(name))
    settings = folder.manifest["provenance"].get("training", {}).get("settings", {})
    architecture = settings.get("architecture", "timar")
    if architecture in ("dualtalk", "timar-full-attention"):
        from .whole_sequence import open_whole_sequence

        return [(None, open_whole_sequence(folder, architecture, settings, sampling or {}))]
    model: Model = Model(folder)
    if architecture == "timar-mlp-head":
        from .whole_sequence import RegressingModel

        model = RegressingModel(folder)
    return [
        (turns, SessionPredictor(model, turns, threads, sampling, frames))
        for frames in turn_lengths
        for turns in histories
    ]
