"""What a TIMAR model is made of: one configuration for the published system and for the streaming variant.

Notation used through the package:

    B  conversations in a batch          F  agent frames of a turn      U  user frames of a turn
    P  past frames shown to a turn       L  tokens of a sequence        N  turns of a sequence
    S  values of a speech feature        D  token width                 W  backbone width
    H  attention heads                   C  capacity of a cache [tokens]
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from timar_common.suggest import refuse_unknown

SAMPLE_RATE_HZ = 16_000
FRAMES_PER_SECOND = 25
SAMPLES_PER_FRAME = SAMPLE_RATE_HZ // FRAMES_PER_SECOND

MOTION_DIM = 56
MOTION_GROUPS: dict[str, slice] = {
    "expression": slice(0, 50),
    "jaw": slice(50, 53),
    "neck": slice(53, 56),
}

MARKERS_PER_TURN = 10
SIZES = ("tiny", "small", "base", "large", "huge")


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How motion is drawn when nothing else is asked for."""

    steps: int = 5
    """Denoising steps kept of the schedule, 1 or more."""
    temperature: float = 1.0
    """Factor on the noise of every step after the start, 0 or more."""
    guidance: float = 1.0
    """Strength of classifier-free guidance by the user's tokens; 1 is none. Of a head that draws turns: how
    much it makes of what hearing foretells of neck and expression."""
    guidance_schedule: str = "constant"
    """"constant", or "linear": growing from 1 over the passes of a turn."""
    iterations: int = 1
    """Over how many passes the frames of a turn are drawn."""
    order: str = "sequential"
    """Which frames the first passes draw: the first ones ("sequential") or any ("random")."""
    iterations_see_drawn: bool = False
    """Whether a later pass sees the frames drawn before it; the released system does not look."""
    history: str = "masked"
    """Whether earlier turns keep their agent motion "masked" (one exact pass a turn) or "filled" (two)."""
    noise_correlation_s: float = 0.0
    """Time constant by which the noise of neighbouring frames is correlated [s]; 0 draws each frame alone."""
    window_frames: int = 0
    """How much of the conversation is seen, if less than the model's own window; 0: all of that."""
    when_full: str = "recompute"
    """What a window with absolute positions does when it is full: "recompute" moves it by one turn each turn;
    "reanchor" drops its older half at once. Relative positions roll and need neither."""

    def __post_init__(self) -> None:
        _require_integers(self, "steps", "iterations", minimum=1)
        _require_integers(self, "window_frames", minimum=0)
        _require_booleans(self, "iterations_see_drawn")
        _require_numbers(self, "temperature", "noise_correlation_s", minimum=0.0)
        _require_numbers(self, "guidance", minimum=-math.inf)
        _require_choice(self, "history", ("masked", "filled"))
        _require_choice(self, "guidance_schedule", ("constant", "linear"))
        _require_choice(self, "order", ("sequential", "random"))
        _require_choice(self, "when_full", ("recompute", "reanchor"))


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """What the training loss hides from the model and how often it looks at a frame."""

    mask_ratio_min: float = 0.7
    """Smallest share of agent-motion tokens that is masked, drawn from a normal of mean 1 cut to
    [this, 1]; 1 masks all of them, as a masked history does when the model runs."""
    mask_ratio_std: float = 0.25
    """Standard deviation of that normal."""
    user_token_drop: float = 0.1
    """Probability with which a single user token becomes the learned null vector."""
    user_turn_drop: float = 0.0
    """Probability with which all user tokens of a turn become null: the guidance's other branch."""
    user_motion_drop: float = 0.0
    """Probability with which a whole clip's user motion is unseen, as for a head without a camera."""
    user_group_drop: float = 0.0
    """Probability with which expression, jaw or neck alone is unseen throughout a clip."""
    past_drop: float = 0.0
    """Probability with which a turn does not know the frames shown before it."""
    past_noise: float = 0.0
    """Largest standard deviation of the noise put on past frames, in units of normalised motion."""
    repeats: int = 4
    """Diffusion timesteps drawn for each token."""

    def __post_init__(self) -> None:
        probabilities = (
            "mask_ratio_min",
            "user_token_drop",
            "user_turn_drop",
            "user_motion_drop",
            "past_drop",
        )
        _require_numbers(self, *probabilities, minimum=0.0, maximum=1.0)
        _require_numbers(self, "mask_ratio_std", "past_noise", minimum=0.0)
        _require_integers(self, "repeats", minimum=1)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Everything that shapes a model's weights and tokens. The defaults: streaming, size tiny."""

    turn_frames: int = 5
    """Agent frames of a turn; the streaming variant takes other lengths at run time too."""
    window_frames: int = 200
    """How much of the conversation a turn sees, its own frames included."""
    positions: str = "rotary"
    """"rotary": by true time, so a rolling cache stays exact; "window": learned, by place in the window."""
    rotary_base: float = 200.0
    """Slowest rotation [frames per radian]; several windows long, so that no two places look alike."""
    past_frames: int = 4
    """Frames shown just before the turn that it sees: as extra tokens of the backbone where the head draws
    frames, in the head itself where it draws turns; 0 in the published system."""
    user_lag: str = "turn"
    """"turn": the user's block is one turn and a margin old; "none": both streams are simultaneous."""
    user_lag_margin_frames: int = 2
    """Frames between the newest user frame a turn sees and the turn's own first frame."""

    speech_encoder: str = "logmel"
    """"logmel": causal features of each frame; "wav2vec2": the frozen encoder, on each turn's sound alone."""
    mel_bands: int = 40
    """Bands of one log-mel spectrum; a frame has four of them."""
    speech_dim: int = 160
    """Values of a speech feature."""
    level_memory_s: tuple[float, ...] = ()
    """Time constants of causal averages of a voice's level that stand beside its spectra [s]: how long ago it
    fell silent can be read off them, instead of being counted over many frames."""
    speech_source: str = ""
    """Folder or hub name of the wav2vec 2.0 weights, which are not part of the model's own file."""
    loudness: str = "causal"
    """Kind of loudness normalisation before the features: "causal" or "none"."""

    token_dim: int = 96
    """Width of a token before the input projection."""
    width: int = 128
    """Width of the backbone."""
    blocks: int = 6
    """Transformer blocks."""
    heads: int = 4
    """Attention heads."""
    head_width: int = 192
    """Width of the diffusion head."""
    head_blocks: int = 2
    """Residual blocks of the diffusion head."""
    diffusion_steps: int = 1000
    """Steps of the training schedule."""
    draws: str = "frames"
    """What the head draws at once: "frames", each by itself as published, or "turns": all frames of a turn as
    one movement that goes on from the frames shown before it."""
    moved_groups: tuple[str, ...] = tuple(MOTION_GROUPS)
    """Which groups a head that draws turns moves; the others, which its data lack, rest at their mean."""
    step_size: tuple[float, float, float] = (0.3, 0.3, 0.3)
    """How much expression, jaw and neck change from frame to frame [deviations of the motion]: the unit in
    which a head that draws turns draws."""
    is_variance_bounded: bool = True
    """Whether drawing keeps the head's variance value in [-1, 1], between the posterior's variance and
    beta's. The published system does not; after a short training an unbounded one explodes over few kept
    steps."""

    sampling: SamplingConfig = dataclasses.field(
        default_factory=lambda: SamplingConfig(noise_correlation_s=0.3)
    )
    """Defaults of drawing motion."""
    objective: ObjectiveConfig = dataclasses.field(
        default_factory=lambda: ObjectiveConfig(
            mask_ratio_min=1.0,
            user_turn_drop=0.1,
            user_motion_drop=0.3,
            user_group_drop=0.1,
            past_drop=0.1,
            past_noise=0.3,
        )
    )
    """What training hides."""

    def __post_init__(self) -> None:
        sizes = ("turn_frames", "window_frames", "mel_bands", "speech_dim", "token_dim", "width", "blocks")
        _require_integers(self, *sizes, "heads", "head_width", "head_blocks", "diffusion_steps", minimum=1)
        _require_integers(self, "past_frames", "user_lag_margin_frames", minimum=0)
        _require_numbers(self, "rotary_base", minimum=1.0)
        _require_booleans(self, "is_variance_bounded")
        _require_choice(self, "positions", ("rotary", "window"))
        _require_choice(self, "user_lag", ("turn", "none"))
        _require_choice(self, "speech_encoder", ("logmel", "wav2vec2"))
        _require_choice(self, "loudness", ("causal", "none"))
        _require_choice(self, "draws", ("frames", "turns"))
        object.__setattr__(self, "moved_groups", tuple(self.moved_groups))
        object.__setattr__(self, "step_size", tuple(self.step_size))
        object.__setattr__(self, "level_memory_s", tuple(self.level_memory_s))
        self._check_together()

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    @property
    def window_turns(self) -> int:
        """Turns of the default length that fill the window."""
        return self.window_frames // self.turn_frames

    @property
    def past_tokens(self) -> int:
        """Tokens of the frames shown before a turn.

        A head that draws turns sees those frames itself; the backbone then only listens, and cannot foretell
        a movement from its beginning.
        """
        return 0 if self.draws == "turns" else self.past_frames

    @property
    def turn_tokens(self) -> int:
        """Tokens of a turn of the default length."""
        return 4 * self.turn_frames + self.past_tokens + MARKERS_PER_TURN

    @property
    def has_fixed_turns(self) -> bool:
        """Whether every turn must have the default length (absolute positions know no other)."""
        return self.positions == "window"

    @classmethod
    def of_size(cls, size: str, **changes: Any) -> ModelConfig:
        """Return the configuration of a size; tiny and small stream, base to huge are the published ones.

        Raises:
            ValueError: The size is unknown, or a change does not fit.
        """
        if size not in SIZES:
            raise ValueError(f"the model size is {size!r}, expected one of {', '.join(SIZES)}")
        refuse_unknown("field", changes, [field.name for field in dataclasses.fields(cls)], "ModelConfig")
        return cls(**{**_SIZES[size], **changes})

    def to_json(self) -> str:
        """Write the configuration as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """Read a configuration written by `to_json`.

        Raises:
            ValueError: The text is not JSON, has an unknown or missing field, or a value that does not fit.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"the model configuration is not JSON ({error}); restore the model's folder"
            ) from error
        if isinstance(values, dict):
            # Folders written before the bound have graphs that draw without it.
            values.setdefault("is_variance_bounded", False)
        values = _fields_of(cls, values)
        values["sampling"] = SamplingConfig(**_fields_of(SamplingConfig, values["sampling"]))
        values["objective"] = ObjectiveConfig(**_fields_of(ObjectiveConfig, values["objective"]))
        return cls(**values)

    def _check_together(self) -> None:
        if self.width % self.heads or self.head_dim % 2:
            raise ValueError(
                f"ModelConfig.width {self.width} must be an even multiple of its {self.heads} heads, "
                f"but a head would be {self.width / self.heads:g} wide"
            )
        if self.window_frames < self.turn_frames:
            raise ValueError(
                f"ModelConfig.window_frames is {self.window_frames}, expected at least one turn "
                f"of {self.turn_frames} frames"
            )
        if self.positions == "window":
            if self.window_frames % self.turn_frames:
                raise ValueError(
                    f"ModelConfig.window_frames is {self.window_frames}, expected whole turns of "
                    f"{self.turn_frames} frames, for positions are learned by place in the window"
                )
            if self.past_frames or self.user_lag != "none":
                raise ValueError(
                    f"ModelConfig has window positions with past_frames {self.past_frames} and user_lag "
                    f"{self.user_lag!r}; the published layout needs past_frames 0 and user_lag 'none'"
                )
        if self.user_lag == "none" and self.user_lag_margin_frames:
            raise ValueError(
                f"ModelConfig.user_lag_margin_frames is {self.user_lag_margin_frames}, "
                "expected 0 without a user lag"
            )
        if self.past_frames and self.sampling.history != "masked":
            raise ValueError(
                "ModelConfig.sampling.history is 'filled', expected 'masked' where past frames are seen"
            )
        if not self.moved_groups or set(self.moved_groups) - set(MOTION_GROUPS):
            raise ValueError(
                f"ModelConfig.moved_groups is {list(self.moved_groups)}, expected one or more of "
                f"{', '.join(MOTION_GROUPS)}"
            )
        if len(self.step_size) != len(MOTION_GROUPS) or not all(
            isinstance(size, (int, float)) and math.isfinite(size) and size > 0 for size in self.step_size
        ):
            raise ValueError(
                f"ModelConfig.step_size is {list(self.step_size)}, expected a positive number each for "
                f"{', '.join(MOTION_GROUPS)}"
            )
        if self.draws == "turns" and not self.past_frames:
            raise ValueError(
                "ModelConfig.draws is 'turns' with past_frames 0, expected at least 1, to go on from"
            )
        if self.draws == "turns" and self.sampling.iterations > 1:
            raise ValueError(
                f"ModelConfig.sampling.iterations is {self.sampling.iterations}, expected 1 where a turn's "
                "frames are drawn together"
            )
        if any(not isinstance(s, (int, float)) or not 0 < s < math.inf for s in self.level_memory_s):
            raise ValueError(
                f"ModelConfig.level_memory_s is {list(self.level_memory_s)}, expected positive numbers"
            )
        expected = 4 * self.mel_bands + len(self.level_memory_s)
        if self.speech_encoder == "logmel" and self.speech_dim != expected:
            raise ValueError(
                f"ModelConfig.speech_dim is {self.speech_dim}, expected {expected}: four spectra of "
                f"{self.mel_bands} mel bands a frame and {len(self.level_memory_s)} level memories"
            )


def _published(width: int, blocks: int, heads: int) -> dict[str, Any]:
    return {
        "turn_frames": 25,
        "window_frames": 200,
        "positions": "window",
        "past_frames": 0,
        "user_lag": "none",
        "user_lag_margin_frames": 0,
        "speech_encoder": "wav2vec2",
        "speech_dim": 1024,
        "speech_source": "facebook/wav2vec2-large-960h-lv60-self",
        "loudness": "none",
        # Not published; the width with which all three parameter counts (194, 428, 813 M) come out.
        "token_dim": 1024,
        "width": width,
        "blocks": blocks,
        "heads": heads,
        "head_width": 1024,
        "head_blocks": 3,
        "is_variance_bounded": False,
        "sampling": SamplingConfig(),
        "objective": ObjectiveConfig(),
    }


def _fields_of(config_type: type, values: Any) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(config_type)]
    if not isinstance(values, dict):
        raise ValueError(
            f"{config_type.__name__} is {values!r}, expected a JSON object; restore the model's folder"
        )
    for name in names:
        if name not in values and name not in _ADDED_LATER:
            raise ValueError(f"{config_type.__name__}.{name} is missing in the model's config.json")
    refuse_unknown("field", values, names, f"{config_type.__name__}, which config.json holds,")
    return dict(values)


def _require_integers(config: Any, *names: str, minimum: int) -> None:
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise ValueError(
                f"{type(config).__name__}.{name} is {value!r}, expected an integer from {minimum}"
            )


def _require_booleans(config: Any, *names: str) -> None:
    for name in names:
        if not isinstance(getattr(config, name), bool):
            raise ValueError(
                f"{type(config).__name__}.{name} is {getattr(config, name)!r}, expected true or false"
            )


def _require_numbers(config: Any, *names: str, minimum: float, maximum: float = math.inf) -> None:
    for name in names:
        value = getattr(config, name)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or not minimum <= value <= maximum:
            raise ValueError(
                f"{type(config).__name__}.{name} is {value!r}, "
                f"expected a number from {minimum:g} to {maximum:g}"
            )


def _require_choice(config: Any, name: str, choices: tuple[str, ...]) -> None:
    value = getattr(config, name)
    if value not in choices:
        raise ValueError(f"{type(config).__name__}.{name} is {value!r}, expected one of {', '.join(choices)}")


# Fields that folders written before them lack; their defaults are what those folders meant.
_ADDED_LATER = (
    "guidance_schedule",
    "order",
    "when_full",
    "draws",
    "moved_groups",
    "step_size",
    "level_memory_s",
)

_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "small": {"token_dim": 192, "width": 256, "blocks": 8, "heads": 4, "head_width": 384, "head_blocks": 3},
    "base": _published(768, 24, 12),
    "large": _published(1024, 32, 16),
    "huge": _published(1280, 40, 16),
}
