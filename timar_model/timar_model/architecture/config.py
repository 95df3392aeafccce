"""What a TIMAR model is made of: one configuration for the published system and for the streaming variant.

Notation used through the package:

    B  conversations in a batch          F  agent frames of a turn      U  user frames of a turn
    P  past frames shown to a turn       L  tokens of a sequence        N  turns of a sequence
    S  values of a speech feature        D  token width                 W  backbone width
    H  attention heads                   C  capacity of a cache [tokens]
    K  denoising steps
"""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import Annotated, Any

from timar_common.config import Count, CountOrZero, NonNegative, OneOf, Positive, Probability, Range, check
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
    """How motion is sampled when nothing else is asked for."""

    steps: Count = 5
    """Denoising steps kept of the schedule."""
    temperature: NonNegative = 1.0
    """Factor on the noise of every step after the start."""
    guidance: float = 1.0
    """Strength of classifier-free guidance by the user's tokens; 1 is none. Of a head that samples turns:
    factor on what the mean head predicts of neck and expression."""
    guidance_schedule: Annotated[str, OneOf(("constant", "linear"))] = "constant"
    """"constant", or "linear": growing from 1 over the passes of a turn."""
    iterations: Count = 1
    """Over how many passes the frames of a turn are sampled."""
    order: Annotated[str, OneOf(("sequential", "random"))] = "sequential"
    """Which frames the first passes sample: the first ones ("sequential") or any ("random")."""
    iterations_see_drawn: bool = False
    """Whether a later pass sees the frames sampled before it; the released system does not look."""
    history: Annotated[str, OneOf(("masked", "filled"))] = "masked"
    """Whether earlier turns keep their agent motion "masked" (one exact pass a turn) or "filled" (two)."""
    noise_correlation_s: NonNegative = 0.0
    """Time constant by which the noise of neighbouring frames is correlated [s]; 0 samples each alone."""
    window_frames: CountOrZero = 0
    """How much of the conversation is seen, if less than the model's own window; 0: all of that."""
    when_full: Annotated[str, OneOf(("recompute", "reanchor"))] = "recompute"
    """What a window with absolute positions does when it is full: "recompute" moves it by one turn each turn;
    "reanchor" drops its older turns at once. Relative positions roll and need neither."""
    keep_turns: CountOrZero = 0
    """Of "reanchor": how many turns stay when the window moves; 0: half of a full window."""

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """What the training loss hides from the model and how often it looks at a frame."""

    mask_ratio_min: Probability = 0.7
    """Smallest share of agent-motion tokens that is masked, drawn from a normal of mean 1 cut to
    [this, 1]; 1 masks all of them, as a masked history does when the model runs."""
    mask_ratio_std: NonNegative = 0.25
    """Standard deviation of that normal."""
    user_token_drop: Probability = 0.1
    """Probability with which a single user token becomes the learned null vector."""
    user_turn_drop: Probability = 0.0
    """Probability with which all user tokens of a turn become null: the guidance's other branch."""
    user_motion_drop: Probability = 0.0
    """Probability with which a whole clip's user motion is unseen, as for a head without a camera."""
    user_group_drop: Probability = 0.0
    """Probability with which expression, jaw or neck alone is unseen throughout a clip."""
    past_drop: Probability = 0.0
    """Probability with which a turn does not know the frames shown before it."""
    past_noise: NonNegative = 0.0
    """Largest standard deviation of the noise put on past frames, in units of normalised motion."""
    repeats: Count = 4
    """Diffusion timesteps drawn for each token."""

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Everything that shapes a model's weights and tokens. The defaults: streaming, size tiny."""

    turn_frames: Count = 5
    """Agent frames of a turn; the streaming variant takes other lengths at run time too."""
    window_frames: Count = 200
    """How much of the conversation a turn sees, its own frames included."""
    positions: Annotated[str, OneOf(("rotary", "window"))] = "rotary"
    """"rotary": by true time, so a rolling cache stays exact; "window": learned, by place in the window."""
    rotary_base: Annotated[float, Range(1.0)] = 200.0
    """Slowest rotation [frames per radian]; several windows long, so that no two frames look alike."""
    past_frames: CountOrZero = 4
    """Frames shown just before the turn that it sees: as extra tokens of the backbone where the head samples
    frames, in the head itself where it samples turns; 0 in the published system."""
    user_lag: Annotated[str, OneOf(("turn", "none"))] = "turn"
    """"turn": the user's block is one turn and a margin old; "none": both streams are simultaneous."""
    user_lag_margin_frames: CountOrZero = 2
    """Frames between the newest user frame a turn sees and the turn's own first frame."""

    speech_encoder: Annotated[str, OneOf(("logmel", "wav2vec2"))] = "logmel"
    """"logmel": causal features of each frame; "wav2vec2": the frozen encoder, on each turn's sound alone."""
    mel_bands: Count = 40
    """Bands of one log-mel spectrum; a frame has four of them."""
    speech_dim: Count = 160
    """Values of a speech feature."""
    level_memory_s: tuple[Positive, ...] = ()
    """Time constants of causal averages of a voice's level that stand beside its spectra [s]: how long ago it
    fell silent can be read off them, instead of being counted over many frames."""
    speech_source: str = ""
    """Folder or hub name of the wav2vec 2.0 weights, which are not part of the model's own file."""
    loudness: Annotated[str, OneOf(("causal", "none"))] = "causal"
    """Kind of loudness normalisation before the features."""

    token_dim: Count = 96
    """Width of a token before the input projection."""
    width: Count = 128
    """Width of the backbone."""
    blocks: Count = 6
    """Transformer blocks."""
    heads: Count = 4
    """Attention heads."""
    head_width: Count = 192
    """Width of the diffusion head."""
    head_blocks: Count = 2
    """Residual blocks of the diffusion head."""
    diffusion_steps: Count = 1000
    """Steps of the training schedule."""
    draws: Annotated[str, OneOf(("frames", "turns"))] = "frames"
    """What the head samples at once: "frames", each by itself as published, or "turns": all frames of a turn
    as one movement that goes on from the frames shown before it."""
    moved_groups: tuple[Annotated[str, OneOf(tuple(MOTION_GROUPS))], ...] = tuple(MOTION_GROUPS)
    """Which groups a head that samples turns moves; the others, which its data lack, rest at their mean."""
    step_size: tuple[Positive, Positive, Positive] = (0.3, 0.3, 0.3)
    """How much expression, jaw and neck change from frame to frame [deviations of the motion]: the unit in
    which a head that samples turns samples."""
    is_variance_bounded: bool = True
    """Whether sampling keeps the head's variance value in [-1, 1], between the posterior's variance and
    beta's. The published system does not; after a short training an unbounded one explodes over few kept
    steps."""

    sampling: SamplingConfig = SamplingConfig(noise_correlation_s=0.3)
    """Defaults of sampling motion."""
    objective: ObjectiveConfig = ObjectiveConfig(
        mask_ratio_min=1.0,
        user_turn_drop=0.1,
        user_motion_drop=0.3,
        user_group_drop=0.1,
        past_drop=0.1,
        past_noise=0.3,
    )
    """What training hides."""

    def __post_init__(self) -> None:
        check(self)
        self._check_together()

    @functools.cached_property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    @functools.cached_property
    def window_turns(self) -> int:
        """Turns of the default length that fill the window."""
        return self.window_frames // self.turn_frames

    @functools.cached_property
    def past_tokens(self) -> int:
        """Tokens of the frames shown before a turn.

        A head that samples turns sees those frames itself; the backbone then only listens, and cannot predict
        a movement from its beginning.
        """
        return 0 if self.draws == "turns" else self.past_frames

    @functools.cached_property
    def turn_tokens(self) -> int:
        """Tokens of a turn of the default length."""
        return 4 * self.turn_frames + self.past_tokens + MARKERS_PER_TURN

    @functools.cached_property
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
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"the model configuration is not JSON ({error}); restore the model's folder"
            ) from error
        if isinstance(values, dict):
            # Folders written before the bound have graphs that sample without it.
            values.setdefault("is_variance_bounded", False)
        values = _fields_of(cls, values)
        values["sampling"] = SamplingConfig(**_fields_of(SamplingConfig, values["sampling"]))
        values["objective"] = ObjectiveConfig(**_fields_of(ObjectiveConfig, values["objective"]))
        return cls(**values)

    def _check_together(self) -> None:
        is_published, samples_turns = self.positions == "window", self.draws == "turns"
        features = 4 * self.mel_bands + len(self.level_memory_s)
        for is_wrong, message in (
            (
                self.width % self.heads or self.head_dim % 2,
                f"width {self.width} must be an even multiple of its {self.heads} heads, "
                f"but a head would be {self.width / self.heads:g} wide",
            ),
            (
                self.window_frames < self.turn_frames,
                f"window_frames is {self.window_frames}, expected at least one turn "
                f"of {self.turn_frames} frames",
            ),
            (
                is_published and self.window_frames % self.turn_frames,
                f"window_frames is {self.window_frames}, expected whole turns of "
                f"{self.turn_frames} frames, for positions are learned by place in the window",
            ),
            (
                is_published and (self.past_frames or self.user_lag != "none"),
                f"positions is 'window' with past_frames {self.past_frames} and user_lag "
                f"{self.user_lag!r}; the published layout needs past_frames 0 and user_lag 'none'",
            ),
            (
                self.user_lag == "none" and self.user_lag_margin_frames,
                f"user_lag_margin_frames is {self.user_lag_margin_frames}, expected 0 without a user lag",
            ),
            (
                self.past_frames and self.sampling.history != "masked",
                "sampling.history is 'filled', expected 'masked' where past frames are seen",
            ),
            (
                not self.moved_groups,
                f"moved_groups is empty, expected one or more of {', '.join(MOTION_GROUPS)}",
            ),
            (
                samples_turns and not self.past_frames,
                "draws is 'turns' with past_frames 0, expected at least 1, to go on from",
            ),
            (
                samples_turns and self.sampling.iterations > 1,
                f"sampling.iterations is {self.sampling.iterations}, expected 1 where a turn's "
                "frames are sampled together",
            ),
            (
                self.speech_encoder == "logmel" and self.speech_dim != features,
                f"speech_dim is {self.speech_dim}, expected {features}: four spectra of "
                f"{self.mel_bands} mel bands a frame and {len(self.level_memory_s)} level memories",
            ),
        ):
            if is_wrong:
                raise ValueError(f"ModelConfig.{message}")


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


# Fields that folders written before them lack; their defaults are what those folders meant.
_ADDED_LATER = (
    "guidance_schedule",
    "order",
    "when_full",
    "keep_turns",
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
