"""No configuration accepts what cannot be: every field of every dataclass config is tried."""

from __future__ import annotations

import dataclasses
import math
import typing

import pytest
from timar_common.config import Count, CountOrZero, NonNegative, Positive, Probability
from timar_model.architecture.config import ModelConfig, ObjectiveConfig, SamplingConfig
from timar_model.architecture.inputs import LoudnessConfig

CONFIGS = (SamplingConfig, ObjectiveConfig, ModelConfig, LoudnessConfig)
NO_NUMBER = (math.nan, math.inf, "1", None, True)
IMPOSSIBLE = {
    Count: (0, -1, 2.5, *NO_NUMBER),
    CountOrZero: (-1, 2.5, *NO_NUMBER),
    Probability: (-0.1, 1.1, 7.0, *NO_NUMBER),
    NonNegative: (-0.1, *NO_NUMBER),
    Positive: (0.0, -1.0, *NO_NUMBER),
    float: NO_NUMBER,
    bool: (1, "true", None),
    str: (1, None),
}


def impossible(hint) -> tuple:
    """Return values that a field of this type must reject."""
    if hint in IMPOSSIBLE:
        return IMPOSSIBLE[hint]
    if typing.get_origin(hint) is typing.Annotated:
        kind = typing.get_args(hint)[0]
        return ("nonsense", 1, None) if kind is str else (-1e9, 1e19 * -1, *NO_NUMBER)
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        return (*((value,) for value in impossible(item)), 3, "jaw")
    assert dataclasses.is_dataclass(hint), hint
    return ({}, None, 3)


FIELDS = [
    pytest.param(config, field.name, id=f"{config.__name__}.{field.name}")
    for config in CONFIGS
    for field in dataclasses.fields(config)
]


@pytest.mark.parametrize(("config", "name"), FIELDS)
def test_a_field_rejects_what_cannot_be_and_says_which(config, name):
    hint = typing.get_type_hints(config, include_extras=True)[name]
    for value in impossible(hint):
        with pytest.raises(ValueError, match=rf"{config.__name__}\.{name} is .*expected"):
            config(**{name: value})


def test_every_rate_count_and_share_has_a_range():
    """A bare int has none, and a bare float only where any finite number is a strength."""
    bare = [
        f"{config.__name__}.{name}"
        for config in CONFIGS
        for name, hint in typing.get_type_hints(config, include_extras=True).items()
        if hint in (int, float)
    ]
    assert bare == ["SamplingConfig.guidance"]


def test_seven_is_no_probability():
    """It passed until every field was checked by its type."""
    with pytest.raises(ValueError, match=r"user_group_drop is 7\.0, expected a number from 0 to 1"):
        ObjectiveConfig(user_group_drop=7.0)
