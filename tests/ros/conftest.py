"""Every run of the ROS tests keeps to itself: its own domain, this machine, quick discovery."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from timar_bringup.files import middleware_environment

# Read by the middleware at rclpy.init, so it must be set before any test begins.
os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
os.environ.update(middleware_environment(os.environ))


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights: what moves does not matter here, only that everything arrives, whole and in time."""
    import torch
    from timar_model.architecture.config import ModelConfig
    from timar_model.architecture.model import TimarModel
    from timar_model.model_folder import save_model

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "random"
    save_model(folder, TimarModel(ModelConfig.of_size("tiny")), provenance={"made by": "tests/ros"})
    return folder
