"""Load a model and make it ready to talk: its session, warm, and how its turns stand on the clock."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
from timar_common.clock import SAMPLES_PER_FRAME

from timar_inference.alignment import Alignment
from timar_inference.config import MARGIN_DEFAULT, InferenceConfig
from timar_inference.decisions import Identity
from timar_inference.runner import Session
from timar_inference.user_motion import MOTION_CHANNELS, PARTS
from timar_model import find_model, load_model

PUBLISHED_MARGIN_FRAMES = 2
"""For a model that was trained without a user lag: its user stream is set back by a turn and this much."""


@dataclasses.dataclass(frozen=True)
class Runtime:
    """A model that is ready to talk."""

    session: Session
    identity: Identity
    alignment: Alignment
    notes: tuple[str, ...]
    """What a person should know about it, for the log."""


def open_runtime(config: InferenceConfig) -> Runtime:
    """Load the model that `config` names, open a session on its engine, and warm it.

    Raises:
        ValueError: There is no such model, its folder is not whole, or it cannot do what was asked for; the
            message says what to do.
        RuntimeError: The engine cannot run here.
    """
    started = time.perf_counter()
    model = load_model(find_model(config.model))
    session = model.session(
        engine=config.engine, seed=config.seed, threads=config.threads, **config.sampling()
    )
    margin = config.margin_frames
    notes = []
    if margin == MARGIN_DEFAULT:
        margin = model.config.user_lag_margin_frames
        if model.config.user_lag == "none":
            margin = PUBLISHED_MARGIN_FRAMES
            notes.append(
                f"{config.model} was trained without a user lag; its user stream is set back by one turn and "
                f"{margin} frames"
            )
    alignment = Alignment(config.turn_frames or model.config.turn_frames, margin)
    warm_up(session, alignment, config.warmup_turns, config.seed)
    elapsed = time.perf_counter() - started
    identity = Identity(session.engine_name, model.sha256)
    notes.append(
        f"{config.model} ({identity.model_sha256[:12]}) on {identity.engine}, turns of "
        f"{alignment.turn_frames} frames, ready after {elapsed:.1f} s"
    )
    return Runtime(session, identity, alignment, tuple(notes))


def warm_up(session: Session, alignment: Alignment, turns: int, seed: int) -> None:
    """Compute turns on silence, seen and unseen in turn, and forget them."""
    for turn in range(turns):
        user_frames = session.user_frames(alignment.turn_frames)
        user_speech = np.zeros(SAMPLES_PER_FRAME * user_frames, np.float32)
        agent_speech = np.zeros(SAMPLES_PER_FRAME * alignment.turn_frames, np.float32)
        if turn % 2:
            session.step(user_speech, None, agent_speech)
        else:
            motion = np.zeros((user_frames, MOTION_CHANNELS), np.float32)
            valid = np.ones((user_frames, len(PARTS)), np.bool_)
            session.step(user_speech, motion, agent_speech, user_motion_valid=valid)
    session.reset(seed)
