"""A configuration is checked when it is made and survives JSON."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from timar_model.architecture.config import SIZES, ModelConfig, ObjectiveConfig, SamplingConfig
from timar_model.architecture.model import TimarModel


@pytest.mark.parametrize("size", SIZES)
def test_every_size_survives_json(size):
    config = ModelConfig.of_size(size)
    assert ModelConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(("size", "millions"), [("tiny", 2), ("base", 194), ("large", 428), ("huge", 813)])
def test_sizes_have_the_parameters_they_are_known_by(size, millions):
    with torch.device("meta"):
        count = (
            sum(parameter.numel() for parameter in TimarModel(ModelConfig.of_size(size)).parameters()) / 1e6
        )
    assert round(count) == millions


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 130, "heads": 4}, "width 130 must be an even multiple of its 4 heads"),
        ({"turn_frames": 0}, r"turn_frames is 0, expected a number from 1"),
        ({"turn_frames": 2.5}, r"turn_frames is 2\.5"),
        ({"window_frames": 3}, "window_frames is 3, expected at least one turn of 5"),
        ({"positions": "sine"}, "positions is 'sine', expected one of rotary, window"),
        ({"positions": "window"}, "needs past_frames 0 and user_lag 'none'"),
        ({"user_lag": "none"}, "user_lag_margin_frames is 2, expected 0 without a user lag"),
        ({"speech_dim": 100}, "speech_dim is 100, expected 160"),
        ({"rotary_base": float("nan")}, "rotary_base is nan"),
        ({"sampling": SamplingConfig(history="filled")}, "expected 'masked' where past frames are seen"),
        ({"colour": 3}, "no field 'colour'"),
    ],
)
def test_configuration_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig.of_size("tiny", **changes)


def test_unknown_size_is_refused():
    with pytest.raises(ValueError, match="'giant', expected one of tiny, small, base, large, huge"):
        ModelConfig.of_size("giant")


def test_probability_above_one_is_refused():
    with pytest.raises(ValueError, match=r"user_token_drop is 1\.5, expected a number from 0 to 1"):
        ObjectiveConfig(user_token_drop=1.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: "nonsense", "is not JSON"),
        (lambda values: json.dumps({**values, "extra": 1}), "no field 'extra'"),
        (lambda values: json.dumps({k: v for k, v in values.items() if k != "width"}), "width is missing"),
        (lambda values: json.dumps({**values, "sampling": 3}), "SamplingConfig is 3, expected a JSON object"),
        (lambda values: json.dumps([values]), "expected a JSON object"),
    ],
)
def test_json_of_something_else_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig.from_json(change(dataclasses.asdict(ModelConfig())))
