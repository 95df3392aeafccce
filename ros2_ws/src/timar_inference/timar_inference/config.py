"""What can be set on the inference node."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
from timar_common.config import check, option
from timar_model.gestures.dials import HeadDials

MODEL_DEFAULT = -1.0
"""A sampling option of this value is left to the model."""
MARGIN_DEFAULT = -1
WHOLE_TURN = -1
AUTO = "auto"
FLOAT_SAMPLING = ("temperature", "guidance", "noise_correlation_s")
WHOLE_SAMPLING = ("steps", "iterations", "window_frames", "keep_turns")


@dataclasses.dataclass(frozen=True)
class DialsConfig:
    """What can be turned while the head runs; as they stand here, it is the calibrated head."""

    expressiveness: float = option(
        1.0,
        "Size of the motion of neck and face about their calm pose, and of gestures.",
        minimum=0.0,
        maximum=2.0,
        is_live=True,
    )
    nod_rate: float = option(
        1.0, "How often nods and shakes are drawn, of people's rate.", minimum=0.0, maximum=4.0, is_live=True
    )
    nod_size: float = option(
        1.0, "Size of nods and shakes, of people's.", minimum=0.25, maximum=2.0, is_live=True
    )
    nod_speed: float = option(
        1.0, "Speed of nods and shakes, of people's.", minimum=0.5, maximum=2.0, is_live=True
    )
    person_seed: int = option(
        0,
        "Which person nods: each number another one, who nods as often, as far and as fast as that person "
        "would; 0 is the average.",
        minimum=0,
        maximum=2**31 - 1,
        is_live=True,
    )
    decisive: bool = option(
        False,
        "Whether gestures begin where their probability passes a threshold, instead of being drawn from it.",
        is_live=True,
    )
    mouth_gate: bool = option(
        True, "Whether the mouth is shut while the agent's own voice is silent.", is_live=True
    )

    def dials(self) -> HeadDials:
        """Return the dials as the model's package takes them, numbers as exact as the log carries them."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(HeadDials)}
        exact = {name: float(np.float32(v)) for name, v in values.items() if isinstance(v, float)}
        return HeadDials(**values | exact)


@dataclasses.dataclass(frozen=True)
class InferenceConfig(DialsConfig):
    """Model, engine, sampling, dials, and what is done about time."""

    model: str = option("calm-head", "Name of a shipped or imported model, or path of a model folder.")
    engine: str = option(
        AUTO,
        "What computes: torch, onnx or another engine of the model package; auto takes the most exact one "
        "that was measured to hold real time on this machine, in a replay onnx where the folder has graphs.",
    )
    threads: int = option(
        0,
        "Threads the engine may use; more than one can starve the sound. 0 takes what was measured, in a "
        "replay 1.",
        minimum=0,
        maximum=64,
    )
    allow_degraded: bool = option(
        False,
        "Whether a machine on which nothing holds real time may use a smaller window than the model's.",
    )
    warmup_turns: int = option(
        3,
        "Turns computed on silence before the conversation, so that its first one is not slow.",
        minimum=0,
        maximum=50,
    )

    turn_frames: int = option(
        0,
        "Length of a turn; 0 takes 2 for a model that draws turns of any length, else the model's.",
        unit="frames",
        minimum=0,
        maximum=250,
    )
    margin_frames: int = option(
        MARGIN_DEFAULT,
        "How long before its first frame is seen a turn stops listening; -1 takes the model's, and for one "
        "that was trained without a user lag what a turn was measured to need, in a replay 2.",
        unit="frames",
        minimum=MARGIN_DEFAULT,
        maximum=250,
    )
    preview_frames: int = option(
        WHOLE_TURN,
        "How many frames after a turn are predicted, so that joints need not brake where it ends; 0 predicts "
        "none, -1 as many as a turn has.",
        unit="frames",
        minimum=WHOLE_TURN,
        maximum=250,
    )
    preview_by: str = option(
        "auto",
        "What predicts the frames after a turn: turn, a whole pass with the speech planned; head, the "
        "diffusion head alone on the turn's last frame; auto, head where a model knows only whole turns or a "
        "turn is shorter than the model's.",
        choices=("auto", "turn", "head"),
    )
    gestures: str = option(
        "auto",
        "From what nods and other gestures are drawn: people, weights learned from people; none; auto takes "
        "people's unless the model was trained without a user lag. Requests are done in any case.",
        choices=("auto", "people", "none"),
    )
    lag_zero: str = option(
        "user_set_back",
        "How a model that was trained without a user lag runs live: user_set_back gives it the user of a "
        "turn and the margin before; shown_late waits for the user, and its motion comes behind the voice.",
        choices=("user_set_back", "shown_late"),
    )
    seed: int = option(
        0, "Seed of the first conversation's noise; each later one adds 1.", minimum=0, maximum=2**53
    )
    temperature: float = option(
        MODEL_DEFAULT,
        "Scale of the sampling noise; -1 takes the model's.",
        minimum=MODEL_DEFAULT,
        maximum=2.0,
    )
    guidance: float = option(
        MODEL_DEFAULT,
        "Weight of what the user does in sampling; -1 takes the model's.",
        minimum=MODEL_DEFAULT,
        maximum=10.0,
    )
    steps: int = option(0, "Diffusion steps; 0 takes the model's.", minimum=0, maximum=1000)
    iterations: int = option(0, "Masked iterations per turn; 0 takes the model's.", minimum=0, maximum=64)
    history: str = option(
        "model",
        "What later turns see of the agent's motion; model takes the model's.",
        choices=("model", "masked", "filled"),
    )
    window_frames: int = option(
        0,
        "How much of the conversation is seen; 0 takes the model's.",
        unit="frames",
        minimum=0,
        maximum=100_000,
    )
    when_full: str = option(
        AUTO,
        "How a full window of absolute positions moves: recompute, by one turn every turn, as the released "
        "code does; reanchor, by several turns at once; model takes the model's; auto the most exact one "
        "that was measured to hold real time, in a replay the model's.",
        choices=(AUTO, "model", "recompute", "reanchor"),
    )
    keep_turns: int = option(
        0,
        "How many turns a full window of absolute positions keeps when it moves; 0 takes what was measured, "
        "else the model's.",
        unit="turns",
        minimum=0,
        maximum=1000,
    )
    noise_correlation_s: float = option(
        MODEL_DEFAULT,
        "Time over which the noise of neighbouring frames is correlated; -1 takes the model's.",
        unit="s",
        minimum=MODEL_DEFAULT,
        maximum=60.0,
    )

    late_policy: str = option(
        "partial",
        "When a turn is committed to the history without sampling: partial, when none of its frames can be "
        "seen any more; strict, when its first one cannot.",
        choices=("partial", "strict"),
    )
    plan_change: str = option(
        "rollback",
        "When planned speech changes under a turn already made: rollback withdraws it and generates it again "
        "if it is not yet seen; next_turn leaves it.",
        choices=("rollback", "next_turn"),
    )
    publication_ms: float = option(
        2.0, "Time a finished turn needs to reach the joints' node.", unit="ms", minimum=0.0, maximum=100.0
    )

    clock_of_head: bool = option(
        False,
        "Whether the head is another machine: its clock is asked for, and the way there and back is added to "
        "the margin that the model has. Set by the launch argument head_host.",
    )

    queue_turns: int = option(8, "Turns that may wait for the engine.", minimum=1, maximum=1000)
    max_gap_s: float = option(
        10.0,
        "Sound that was lost for longer is not filled with silence: a new conversation begins.",
        unit="s",
        minimum=1.0,
        maximum=600.0,
    )
    max_reorder_s: float = option(
        2.0,
        "Sound that comes later than this after its successors is refused, not just left out.",
        unit="s",
        minimum=0.1,
        maximum=60.0,
    )
    max_stamp_error_s: float = option(
        60.0,
        "A block whose stamp lies further from now than this is refused.",
        unit="s",
        minimum=1.0,
        maximum=3600.0,
    )
    plan_horizon_s: float = option(
        120.0, "How far ahead speech may be planned.", unit="s", minimum=1.0, maximum=3600.0
    )

    def __post_init__(self) -> None:
        if self.plan_change == "take_back":
            warnings.warn("plan_change take_back is now called rollback", DeprecationWarning, stacklevel=3)
            object.__setattr__(self, "plan_change", "rollback")
        check(self)
        for name in FLOAT_SAMPLING:
            value = getattr(self, name)
            if value < 0 and value != MODEL_DEFAULT:
                raise ValueError(
                    f"InferenceConfig.{name} is {value}, expected 0 or more, or -1 for the model's own"
                )

    def sampling(self) -> dict[str, Any]:
        """Return the sampling options that were set, by the session's names; the model decides the rest."""
        wanted: dict[str, Any] = {}
        for name in FLOAT_SAMPLING:
            if getattr(self, name) != MODEL_DEFAULT:
                wanted[name] = getattr(self, name)
        for name in WHOLE_SAMPLING:
            if getattr(self, name):
                wanted[name] = getattr(self, name)
        for name in ("history", "when_full"):
            if getattr(self, name) not in ("model", AUTO):
                wanted[name] = getattr(self, name)
        return wanted
