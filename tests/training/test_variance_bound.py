"""A head that learned little draws within bounds, where an unbounded one explodes over few steps."""

import json

import numpy as np
import pytest
import torch
from timar_model.architecture.config import ModelConfig
from timar_model.architecture.diffusion import DiffusionHead
from timar_model.architecture.model import TimarModel
from timar_model.architecture.schedule import respaced
from timar_model.model_folder import save_model

from timar_model import load_model

ROWS = 64


def head_that_is_wildly_unsure(is_bounded, variance_value):
    torch.manual_seed(0)
    head = DiffusionHead(8, 16, 1, is_bounded)
    with torch.no_grad():
        head.output.weight[56:] = 0.0
        head.output.bias[56:] = variance_value
    return head


def draw(head, temperature):
    noise = torch.randn((6, ROWS, 56), generator=torch.Generator().manual_seed(1))
    noise[1:] *= temperature
    return head.sample(torch.zeros(1, ROWS, 8), noise, respaced(1000, 5), torch.tensor(1.0)).detach()


def test_a_variance_value_far_outside_its_range_counts_as_its_edge():
    wild = draw(head_that_is_wildly_unsure(False, 20.0), 1.0)
    bounded = draw(head_that_is_wildly_unsure(True, 20.0), 1.0)
    at_the_edge = draw(head_that_is_wildly_unsure(False, 1.0), 1.0)
    torch.testing.assert_close(bounded, at_the_edge, rtol=0, atol=0)
    assert (wild - at_the_edge).abs().max() > 0.1


def test_within_the_range_the_bound_changes_nothing():
    free, bounded = (draw(head_that_is_wildly_unsure(flag, 0.4), 1.0) for flag in (False, True))
    torch.testing.assert_close(bounded, free, rtol=0, atol=0)


def test_without_temperature_the_bound_changes_nothing():
    free, bounded = (draw(head_that_is_wildly_unsure(flag, 20.0), 0.0) for flag in (False, True))
    torch.testing.assert_close(bounded, free, rtol=0, atol=0)


@pytest.mark.parametrize(("size", "expected"), [("tiny", True), ("small", True), ("base", False)])
def test_streaming_models_are_bounded_and_the_published_system_is_not(size, expected):
    assert ModelConfig.of_size(size).is_variance_bounded is expected


def test_a_folder_from_before_the_bound_draws_as_its_graphs_do():
    values = json.loads(ModelConfig().to_json())
    del values["is_variance_bounded"]
    assert ModelConfig.from_json(json.dumps(values)).is_variance_bounded is False


def test_a_session_draws_within_the_bound(tmp_path):
    torch.manual_seed(0)
    network = TimarModel(ModelConfig(blocks=1, window_frames=10))
    motion = {}
    with torch.no_grad():
        network.head.output.weight[:56].normal_(std=0.1)
        for value in (1.0, 20.0):
            network.head.output.bias[56:] = value
            save_model(tmp_path / str(value), network)
            session = load_model(tmp_path / str(value)).session(temperature=1.0)
            motion[value] = session.step(np.zeros(3200, np.float32), None, np.zeros(3200, np.float32))
    assert np.abs(motion[1.0]).max() > 1e-3
    np.testing.assert_array_equal(motion[20.0], motion[1.0])
