"""Fixtures of the tests of timar_replay: a scripted conversation and a small model."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted_bag import make_bag, types  # noqa: F401 - fixtures
from timar_inference.config import InferenceConfig
from timar_inference.runtime import Runtime, open_runtime
from timar_replay.replay_settings import ReplaySettings


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from timar_model.architecture.config import ModelConfig
    from timar_model.architecture.model import TimarModel
    from timar_model.model_folder import save_model

    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("model") / "small"
    model = TimarModel(ModelConfig.of_size("tiny"))
    with torch.no_grad():
        # The last layers start at zero: such a head would not move, and everything would equal everything.
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0.0, 0.05)
    save_model(folder, model, provenance={"made by": "tests/replay"})
    return folder


@pytest.fixture(scope="session")
def settings(small_model: Path) -> ReplaySettings:
    inference = InferenceConfig(
        model=str(small_model), engine="torch", warmup_turns=0, preview_frames=0, steps=2
    )
    return ReplaySettings(inference=inference)


@pytest.fixture(scope="session")
def runtime(settings: ReplaySettings) -> Runtime:
    return open_runtime(settings.inference)
