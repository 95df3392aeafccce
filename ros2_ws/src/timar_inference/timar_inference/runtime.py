"""Load a model and make it ready to run: its session, warm, and how its turns stand on the clock."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from timar_common.clock import FRAMES_PER_SECOND, SAMPLES_PER_FRAME
from timar_common.user_motion import MOTION_CHANNELS, PARTS
from timar_model.architecture.config import ModelConfig
from timar_model.engines.choosing import AutoConfig, choose
from timar_model.engines.environment import environment_troubles
from timar_model.gestures.drawing import GesturePredictor
from timar_model.gestures.predictor import PeoplePredictor
from timar_model.loading import LoadedModel, find_model, load_model

from timar_inference.alignment import Alignment
from timar_inference.config import AUTO, MARGIN_DEFAULT, WHOLE_TURN, InferenceConfig
from timar_inference.turn_jobs import ModelIdentity
from timar_inference.turn_runner import ModelSession

PUBLISHED_MARGIN_FRAMES = 2
"""For a model that was trained without a user lag and is not measured: for sound on its way and computing."""
MAX_MARGIN_FRAMES = 250
SHORT_TURN_FRAMES = 2
"""Where nobody says so, of a model that draws turns."""


@dataclasses.dataclass(frozen=True)
class Runtime:
    """A model that is ready to run."""

    session: ModelSession
    identity: ModelIdentity
    alignment: Alignment
    notes: tuple[str, ...]
    """What a person should know about it, for the log."""
    warnings: tuple[str, ...] = ()
    """What will not work as it should, for the log."""
    gestures: GesturePredictor | None = None
    """Foresees gestures, where the model comes with what can."""
    settings: Mapping[str, str | int] = dataclasses.field(default_factory=dict)
    """Parameters that may be left to auto or the model, as they are in force; given so, a replay computes the
    same."""


def open_runtime(config: InferenceConfig, log: Callable[[str], None] | None = None) -> Runtime:
    """Load the model that `config` names, open a session on its engine, and warm it.

    Args:
        config: Model, engine and sampling.
        log: Told what is being measured for what the configuration leaves to auto. None: nothing is measured,
            so that the same configuration computes the same on every machine.

    Raises:
        OSError: There is no such model, or a file of it is missing.
        ValueError: A file is not what its manifest says, or the model cannot do what was asked for.
        RuntimeError: The engine cannot run here, or the weights make numbers that are not finite.
    """
    started = time.perf_counter()
    model = load_model(find_model(config.model))
    start = _measured_start(config, model, log) if log else None
    start = start or _Start(_fixed_engine(config, model), config.threads or 1, config.sampling())
    engine, threads = start.engine, start.threads
    try:
        session = model.session(engine=engine, seed=config.seed, threads=threads, **start.options)
        alignment = _alignment(config, model.config, start)
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
    notes += [f"chosen by measuring: {start.sentence}"] if start.sentence else []
    if model.config.user_lag == "none":
        notes.append(f"{config.model} was trained without a user lag; {_way_of_lag_zero(alignment)}")
    warnings = [f"{trouble} ({session.engine_name} computes)" for trouble in environment_troubles()]
    margin_ms = 1e3 * alignment.margin_frames / FRAMES_PER_SECOND
    if start.trouble:
        shown = (
            "its motion comes late and turns are skipped" if alignment.is_shown_late else "turns come late"
        )
        warnings.append(f"{start.trouble}; until then {shown}")
    elif slowest_ms > margin_ms:
        warnings.append(
            f"a turn took {slowest_ms:.0f} ms to compute, but a margin of {alignment.margin_frames} frames "
            f"leaves {margin_ms:.0f} ms: turns will be late; choose a faster engine or a larger margin_frames"
        )
    settings: dict[str, str | int] = {
        "engine": engine,
        "threads": threads,
        "margin_frames": alignment.margin_frames,
        "window_frames": session.window_frames,
        "when_full": session.sampling.when_full,
        "keep_turns": session.sampling.keep_turns,
    }
    return Runtime(
        session,
        ModelIdentity(session.engine_name, model.sha256),
        alignment,
        tuple(notes),
        tuple(warnings),
        _predictor(config, model.config),
        settings,
    )


@dataclasses.dataclass(frozen=True)
class _Start:
    """How a model is opened."""

    engine: str
    threads: int
    options: Mapping[str, Any]
    """Of its session."""
    margin_frames: int = PUBLISHED_MARGIN_FRAMES
    """Of a model that was trained without a user lag."""
    sentence: str = ""
    """What was measured; empty where nothing was."""
    trouble: str = ""
    """What to say where nothing holds real time."""


def _fixed_engine(config: InferenceConfig, model: LoadedModel) -> str:
    """Return the engine where nothing is measured: for "auto" the graph where there is one."""
    graphs = any(model.path.glob("*.onnx"))
    return config.engine if config.engine != AUTO else "onnx" if graphs else "torch"


def _measured_start(config: InferenceConfig, model: LoadedModel, log: Callable[[str], None]) -> _Start | None:
    """Return what was measured for the settings that are left to auto; None where none is."""
    has_places = model.config.positions == "window"
    is_open = config.engine == AUTO or not config.threads or (has_places and config.when_full == AUTO)
    if not is_open and not (config.margin_frames == MARGIN_DEFAULT and model.config.user_lag == "none"):
        return None
    given = config.sampling()
    when_full = AUTO if config.when_full == AUTO else given.get("when_full", model.config.sampling.when_full)
    wanted = AutoConfig.of(
        config.engine,
        config.threads,
        when_full,
        given,
        turn_frames=_turn_frames(config, model.config),
        preview_frames=config.preview_frames,
        preview_by=config.preview_by,
    )
    choice = choose(model, wanted, log)
    choice = choice.degraded() if config.allow_degraded else choice
    setting = choice.picked.setting
    return _Start(
        setting.engine,
        setting.threads,
        given | setting.sampling(),
        min(choice.margin_frames, MAX_MARGIN_FRAMES),
        choice.sentence(),
        "" if choice.picked.holds else choice.trouble(model),
    )


def _predictor(config: InferenceConfig, model_config: ModelConfig) -> GesturePredictor | None:
    """Return what foresees gestures; "auto" leaves them out of a model that was not made for them."""
    is_wanted = config.gestures == "people" or (config.gestures == "auto" and model_config.user_lag != "none")
    return PeoplePredictor() if is_wanted else None


def _way_of_lag_zero(alignment: Alignment) -> str:
    frames = alignment.turn_frames + alignment.margin_frames
    way = "shown late: its motion stands" if alignment.is_shown_late else "its user stream is set back:"
    return f"{way} {frames} frames ({frames / FRAMES_PER_SECOND:.2f} s) behind the voice of the head"


def _alignment(config: InferenceConfig, model_config: ModelConfig, start: _Start) -> Alignment:
    margin = config.margin_frames
    is_simultaneous = model_config.user_lag == "none"
    if margin == MARGIN_DEFAULT:
        margin = start.margin_frames if is_simultaneous else model_config.user_lag_margin_frames
    turn_frames = _turn_frames(config, model_config) or model_config.turn_frames
    if model_config.has_fixed_turns and config.preview_frames not in (WHOLE_TURN, 0, turn_frames):
        raise ValueError(
            f"preview_frames is {config.preview_frames}, but {config.model} knows only turns of "
            f"{turn_frames} frames; expected -1 for a whole turn, or 0 for no preview"
        )
    # What does not hold real time is nearer to its training when it hears the user of its own frames.
    is_late = config.lag_zero == "shown_late" or bool(start.trouble)
    return Alignment(turn_frames, margin, is_simultaneous and is_late)


def _turn_frames(config: InferenceConfig, model_config: ModelConfig) -> int:
    """Return how long a turn is; 0 for the model's own [frames].

    A head that draws turns goes on from the frames shown before it, so that short turns are as smooth as long
    ones and are seen sooner; other models run turns of the length they were made for.
    """
    is_short = not config.turn_frames and model_config.draws == "turns"
    return min(SHORT_TURN_FRAMES, model_config.turn_frames) if is_short else config.turn_frames


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
