"""Load a model and make it ready to run: its session, warm, and how its turns stand on the clock."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping

import numpy as np
from timar_common.clock import FRAMES_PER_SECOND, SAMPLES_PER_FRAME
from timar_common.user_motion import MOTION_CHANNELS, PARTS
from timar_model.architecture.config import ModelConfig
from timar_model.engines.choosing import Choice, Wanted, choose
from timar_model.engines.measuring import EngineSetting, Usage
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
    choice = None if log is None else _choose(config, model, log)
    setting = _setting_without_measuring(config, model) if choice is None else choice.picked.setting
    engine, options = setting.engine, config.sampling() | setting.sampling()
    try:
        session = model.session(engine=engine, seed=config.seed, threads=setting.threads, **options)
        alignment = _alignment(config, model.config, choice)
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
    notes += [] if choice is None else [f"chosen by measuring: {choice.sentence()}"]
    if model.config.user_lag == "none":
        notes.append(f"{config.model} was trained without a user lag; {_way_of_lag_zero(alignment)}")
    warnings = []
    margin_ms = 1e3 * alignment.margin_frames / FRAMES_PER_SECOND
    if choice is not None and not choice.picked.holds:
        warnings.append(_trouble(choice, model, alignment))
    elif slowest_ms > margin_ms:
        warnings.append(
            f"a turn took {slowest_ms:.0f} ms to compute, but a margin of {alignment.margin_frames} frames "
            f"leaves {margin_ms:.0f} ms: turns will be late; choose a faster engine or a larger margin_frames"
        )
    settings = {
        "engine": engine,
        "threads": setting.threads,
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


def _choose(config: InferenceConfig, model: LoadedModel, log: Callable[[str], None]) -> Choice | None:
    """Return what was measured for the settings that are left to auto; None where none is."""
    has_places = model.config.positions == "window"
    is_open = config.engine == AUTO or not config.threads or (has_places and config.when_full == AUTO)
    if not is_open and not (config.margin_frames == MARGIN_DEFAULT and model.config.user_lag == "none"):
        return None
    given = config.sampling()
    ways = [given.pop(name, default) for name, default in (("when_full", None), ("keep_turns", 0))]
    when_full = AUTO if config.when_full == AUTO else ways[0] or model.config.sampling.when_full
    wanted = Wanted(config.engine, config.threads, when_full, ways[1], given.pop("window_frames", 0))
    usage = Usage(config.turn_frames, config.preview_frames, config.preview_by, given)
    choice = choose(model, wanted, usage, log)
    return choice.degraded() if config.allow_degraded else choice


def _trouble(choice: Choice, model: LoadedModel, alignment: Alignment) -> str:
    """Say that nothing holds real time here, what helps, and how it runs until then."""
    shown = (
        f"until then it is shown late, {alignment.delay_frames} frames behind the voice, with turns skipped"
        if alignment.is_shown_late
        else "until then turns are late or skipped"
    )
    return f"{choice.trouble(model)}; {shown}"


def _predictor(config: InferenceConfig, model_config: ModelConfig) -> GesturePredictor | None:
    """Return what foresees gestures; "auto" leaves them out of a model that was not made for them."""
    is_wanted = config.gestures == "people" or (config.gestures == "auto" and model_config.user_lag != "none")
    return PeoplePredictor() if is_wanted else None


def _way_of_lag_zero(alignment: Alignment) -> str:
    frames = alignment.turn_frames + alignment.margin_frames
    way = "shown late: its motion stands" if alignment.is_shown_late else "its user stream is set back:"
    return f"{way} {frames} frames ({frames / FRAMES_PER_SECOND:.2f} s) behind the voice of the head"


def _setting_without_measuring(config: InferenceConfig, model: LoadedModel) -> EngineSetting:
    """Return what "auto" means in a replay: the graph where there is one, one thread, the model's window."""
    graphs = any(model.path.glob("*.onnx"))
    engine = config.engine if config.engine != AUTO else "onnx" if graphs else "torch"
    return EngineSetting(engine, config.threads or 1)


def _alignment(config: InferenceConfig, model_config: ModelConfig, choice: Choice | None) -> Alignment:
    margin = config.margin_frames
    is_simultaneous = model_config.user_lag == "none"
    if margin == MARGIN_DEFAULT and not is_simultaneous:
        margin = model_config.user_lag_margin_frames
    elif margin == MARGIN_DEFAULT:
        margin = PUBLISHED_MARGIN_FRAMES if choice is None else min(choice.margin_frames, MAX_MARGIN_FRAMES)
    turn_frames = config.turn_frames or model_config.turn_frames
    if model_config.has_fixed_turns and config.preview_frames not in (WHOLE_TURN, 0, turn_frames):
        raise ValueError(
            f"preview_frames is {config.preview_frames}, but {config.model} knows only turns of "
            f"{turn_frames} frames; expected -1 for a whole turn, or 0 for no preview"
        )
    # What does not hold real time is nearer to its training when it hears the user of its own frames.
    is_late = config.lag_zero == "shown_late" or (choice is not None and not choice.picked.holds)
    return Alignment(turn_frames, margin, is_simultaneous and is_late)


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
