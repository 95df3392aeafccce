"""No configuration of training accepts what cannot be: every field of every dataclass is tried."""

import dataclasses
import math
import typing
import warnings

import pytest
from timar_common.config import OneOf, Range, Rising
from timar_common.config_file import read_config
from timar_training.evaluation.comparison import ComparisonConfig
from timar_training.evaluation.scoring import EvaluationConfig
from timar_training.preparation.windows import Augmentation
from timar_training.synthesis.conversation import RoomConfig, TalkConfig
from timar_training.synthesis.gestures import GestureConfig, MotionStyle
from timar_training.synthesis.synthesize import CorpusConfig
from timar_training.training.config import TrainConfig

VALID = {
    TrainConfig: {"data": "d", "out": "o"},
    ComparisonConfig: {"data": "d", "out": "o", "systems": {"timar": {}}, "shared": {}},
    EvaluationConfig: {},
    Augmentation: {},
    CorpusConfig: {},
    TalkConfig: {},
    RoomConfig: {},
    GestureConfig: {},
    MotionStyle: {
        "vigour": 1.0,
        "jaw": 1.0,
        "engagement": 0.5,
        "expressiveness": 0.5,
        "habit": 1.0,
        "rest": (0.0, 0.0, 0.0),
    },
}


def impossible(hint):
    """Yield values that a type hint excludes."""
    if typing.get_origin(hint) is typing.Annotated:
        bare, *rules = typing.get_args(hint)
        yield from impossible(bare)
        for rule in rules:
            if isinstance(rule, Range):
                kind = int if bare is int else float
                low, high = rule.minimum, rule.maximum
                yield from [] if low == -math.inf else [kind(low if rule.is_minimum_excluded else low - 1)]
                yield from [] if high == math.inf else [kind(high if rule.is_maximum_excluded else high + 1)]
            elif isinstance(rule, Rising):
                yield (2.0, 1.0)
            elif isinstance(rule, OneOf):
                yield "none of them"
    elif typing.get_origin(hint) is tuple:
        item, *rest = typing.get_args(hint)
        yield "a word"
        if rest and rest[0] is not ...:
            yield (1.0,) * (2 + len(rest))
        fill = [1.0] * (len(rest) if ... not in rest else 0)
        yield from ((bad, *fill) for bad in impossible(item))
    elif hint is float:
        yield from (math.nan, math.inf, True, "1", None)
    elif hint is int:
        yield from (1.5, True, "1", None)
    elif hint is bool:
        yield from (1, "yes", None)
    elif hint is str:
        yield from (1, None)
    else:
        yield from ("a word", 3)


CASES = [
    pytest.param(config, field.name, bad, id=f"{config.__name__}.{field.name}={bad!r}")
    for config in VALID
    for field in dataclasses.fields(config)
    for bad in impossible(typing.get_type_hints(config, include_extras=True)[field.name])
]


@pytest.mark.parametrize("config", VALID)
def test_the_defaults_are_possible(config):
    config(**VALID[config])


@pytest.mark.parametrize(("config", "name", "bad"), CASES)
def test_an_impossible_value_is_refused_with_its_name(config, name, bad):
    with pytest.raises(ValueError, match=rf"{config.__name__}\.{name} is "):
        config(**{**VALID[config], name: bad})


@pytest.mark.parametrize("config", [config for config in VALID if config is not ComparisonConfig])
def test_every_number_has_a_range_or_may_be_any(config):
    # What may be negative, each for a reason.
    free = {"gap_mean_s", "gap_min_s", "gap_max_s", "jaw_lead_ms", "habit", "rest"}
    free |= {"listening_pitch_rad", "listening_roll_rad", "away_yaw_rad"}
    hints = typing.get_type_hints(config, include_extras=True)
    bare = {name for name, hint in hints.items() if hint in (int, float, tuple[float, float])}
    assert bare <= free


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (TalkConfig, {"gap_min_s": 2.0}, "expected gap_min_s below gap_max_s"),
        (TalkConfig, {"silence_s": (-1.0, 2.0)}, "no silence below 0"),
        (RoomConfig, {"wet": (0.0, 1.5)}, "shares from 0 to 1"),
        (RoomConfig, {"reverberation_s": (0.0, 0.5)}, "times above 0"),
        (CorpusConfig, {"unseen_probability": 0.7, "partly_seen_probability": 0.7}, "more than 1 together"),
    ],
)
def test_values_that_do_not_go_together_are_refused(config, values, message):
    with pytest.raises(ValueError, match=message):
        config(**values)


def test_every_shipped_file_is_read_without_a_warning():
    import timar_training

    (package,) = timar_training.__path__
    from pathlib import Path

    files = sorted((Path(package) / "configs").glob("*.yaml"))
    assert len(files) >= 8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in files:
            read_config(ComparisonConfig if path.stem == "comparison" else TrainConfig, path)
