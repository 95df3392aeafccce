"""Load a model and make it ready to run: its session, warm, and how its turns stand on the clock."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
from timar_common.clock import FRAMES_PER_SECOND, SAMPLES_PER_FRAME
from timar_common.user_motion import MOTION_CHANNELS, PARTS
from timar_model.architecture.config import ModelConfig
from timar_model.gestures.drawing import GesturePredictor
from timar_model.gestures.predictor import PeoplePredictor
from timar_model.loading import find_model, load_model

from timar_inference.alignment import Alignment
from timar_inference.config import MARGIN_DEFAULT, WHOLE_TURN, InferenceConfig
from timar_inference.turn_jobs import ModelIdentity
from timar_inference.turn_runner import ModelSession

PUBLISHED_MARGIN_FRAMES = 2
"""For a model that was trained without a user lag: what it is given for sound on its way and computing."""


@dataclasses.dataclass(frozen=True)
class Runtime:
    """A model that is ready to run."""

    session: ModelSession
    identity: ModelIdentity
    alignment: Alignment
    notes: tuple[str, ...]
    """What a person should know about it, for the log."""
    gestures: GesturePredictor | None = None
    """Foresees gestures, where the model comes with what can."""


def open_runtime(config: InferenceConfig) -> Runtime:
    """Load the model that `config` names, open a session on its engine, and warm it.

    Raises:
        OSError: There is no such model, or a file of it is missing.
        ValueError: A file is not what its manifest says, or the model cannot do what was asked for.
        RuntimeError: The engine cannot run here, or the weights make numbers that are not finite.
    """
    started = time.perf_counter()
    model = load_model(find_model(config.model))
    engine = _best_engine(model.path) if config.engine == "auto" else config.engine
    try:
        session = model.session(engine=engine, seed=config.seed, threads=config.threads, **config.sampling())
        alignment = _alignment(config, model.config)
        slowest_ms = warm_up(session, alignment, config.warmup_turns, config.seed)
    except ImportError as error:
        raise RuntimeError(
            f"engine {engine!r} cannot run here, {error.name} is not installed; install it or choose another"
        ) from error
    except FloatingPointError as error:
        raise RuntimeError(f"{config.model} cannot be used: {error}") from error
    ready_s = time.perf_counter() - started
    notes = [
        f"{config.model} ({model.sha256[:12]}) on {session.engine_name}, "
        f"turns of {alignment.turn_frames} frames, ready after {ready_s:.1f} s"
    ]
    if model.config.user_lag == "none":
        notes.append(f"{config.model} was trained without a user lag; {_way_of_lag_zero(alignment)}")
    margin_ms = 1e3 * alignment.margin_frames / FRAMES_PER_SECOND
    if slowest_ms > margin_ms:
        notes.append(
            f"a turn took {slowest_ms:.0f} ms to compute, but a margin of {alignment.margin_frames} frames "
            f"leaves {margin_ms:.0f} ms: turns will be late; choose a faster engine or a larger margin_frames"
        )
    identity = ModelIdentity(session.engine_name, model.sha256)
    return Runtime(session, identity, alignment, tuple(notes), _predictor(config, model.config))


def _predictor(config: InferenceConfig, model_config: ModelConfig) -> GesturePredictor | None:
    """Return what foresees gestures; "auto" leaves them out of a model that was not made for them."""
    is_wanted = config.gestures == "people" or (config.gestures == "auto" and model_config.user_lag != "none")
    return PeoplePredictor() if is_wanted else None


def _way_of_lag_zero(alignment: Alignment) -> str:
    frames = alignment.turn_frames + alignment.margin_frames
    way = "shown late: its motion stands" if alignment.is_shown_late else "its user stream is set back:"
    return f"{way} {frames} frames ({frames / FRAMES_PER_SECOND:.2f} s) behind the voice of the head"


def _best_engine(folder: Path) -> str:
    """Return what "auto" means: the exported graph when the folder carries one, for it needs no torch."""
    return "onnx" if any(folder.glob("*.onnx")) else "torch"


def _alignment(config: InferenceConfig, model_config: ModelConfig) -> Alignment:
    margin = config.margin_frames
    is_simultaneous = model_config.user_lag == "none"
    if margin == MARGIN_DEFAULT:
        margin = PUBLISHED_MARGIN_FRAMES if is_simultaneous else model_config.user_lag_margin_frames
    turn_frames = config.turn_frames or model_config.turn_frames
    if model_config.has_fixed_turns and config.preview_frames not in (WHOLE_TURN, 0, turn_frames):
        raise ValueError(
            f"preview_frames is {config.preview_frames}, but {config.model} knows only turns of "
            f"{turn_frames} frames; expected -1 for a whole turn, or 0 for no preview"
        )
    return Alignment(turn_frames, margin, is_simultaneous and config.lag_zero == "shown_late")


def warm_up(session: ModelSession, alignment: Alignment, turns: int, seed: int) -> float:
    """Compute turns on silence, seen and unseen in turn, and forget them.

    Returns:
        The longest that a turn took, the first one apart [ms]; 0 when there were fewer than two.
    """
    slowest_ms = 0.0
    for turn in range(turns):
        started = time.perf_counter()
        user_frames = session.user_frames(alignment.turn_frames)
        user_speech = np.zeros(SAMPLES_PER_FRAME * user_frames, np.float32)
        agent_speech = np.zeros(SAMPLES_PER_FRAME * alignment.turn_frames, np.float32)
        if turn % 2:
            session.step(user_speech, None, agent_speech)
        else:
            motion = np.zeros((user_frames, MOTION_CHANNELS), np.float32)
            valid = np.ones((user_frames, len(PARTS)), np.bool_)
            session.step(user_speech, motion, agent_speech, user_motion_valid=valid)
        if turn:
            slowest_ms = max(slowest_ms, 1e3 * (time.perf_counter() - started))
    session.reset(seed)
    return slowest_ms
