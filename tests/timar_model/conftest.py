"""A streaming model small enough to test, with weights that make every token count."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from timar_model.architecture.config import SAMPLES_PER_FRAME, ModelConfig, SamplingConfig
from timar_model.architecture.inputs import MotionStatistics, speech_features
from timar_model.architecture.model import TimarModel
from timar_model.engines.export import export_onnx
from timar_model.engines.onnx_engine import OnnxEngine
from timar_model.engines.torch_engine import TorchEngine
from timar_model.model_folder import read_model, save_model
from timar_model.session.session import Session

SMALL = {
    "window_frames": 30,
    "token_dim": 16,
    "width": 32,
    "blocks": 2,
    "heads": 2,
    "head_width": 24,
    "mel_bands": 10,
}


def small_config(**changes):
    return ModelConfig.of_size("tiny", **{**SMALL, "speech_dim": 40, **changes})


def small_network(seed=0, **changes):
    torch.manual_seed(seed)
    network = TimarModel(small_config(**changes)).eval()
    with torch.no_grad():
        # The layers that start at zero would hide mistakes.
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


@dataclasses.dataclass
class Talk:
    """Two voices and the user's motion, from frame 0."""

    user_speech: np.ndarray
    agent_speech: np.ndarray
    user_motion: np.ndarray

    def turn(self, session, frames):
        """Return a turn's arguments of `step`, as the clock pairs the streams."""
        first, user_frames = session.next_frame, session.user_frames(frames)
        lag = session.config.user_lag_margin_frames
        start = first - lag - user_frames if session.config.user_lag == "turn" else first
        sound = slice(first * SAMPLES_PER_FRAME, (first + frames) * SAMPLES_PER_FRAME)
        seen = np.arange(start, start + user_frames) >= 0
        return {
            "user_speech": _padded(
                self.user_speech.reshape(-1, SAMPLES_PER_FRAME), start, user_frames
            ).reshape(-1),
            "user_motion": _padded(self.user_motion, start, user_frames),
            "agent_speech": self.agent_speech[sound],
            "user_motion_valid": np.repeat(seen[:, None], 3, axis=1),
        }


def make_talk(frames, seed=3):
    random = np.random.default_rng(seed)
    envelope = np.repeat(np.abs(random.standard_normal((2, frames))), SAMPLES_PER_FRAME, axis=1)
    sound = (0.05 * envelope * random.standard_normal(envelope.shape)).clip(-1, 1).astype(np.float32)
    motion = random.standard_normal((frames, 56)).astype(np.float32)
    return Talk(sound[0], sound[1], motion)


def _padded(rows, start, count):
    return np.stack(
        [rows[index] if index >= 0 else np.zeros_like(rows[0]) for index in range(start, start + count)]
    )


@pytest.fixture(scope="session")
def make_network():
    return small_network


@pytest.fixture(scope="session", name="make_talk")
def _make_talk():
    return make_talk


@pytest.fixture(scope="session", params=["frames", "turns"])
def network(request):
    """A network of either head: one that draws each frame alone, and one that draws turns."""
    return small_network(draws=request.param)


@pytest.fixture(scope="session")
def talk():
    return make_talk(160)


EXACT = ("torch", "onnx")
"""Engines in float32, which all compute the same."""


@pytest.fixture(params=EXACT)
def engine_name(request):
    return request.param


@pytest.fixture(scope="session")
def engine_of(tmp_path_factory):
    """Build an engine of a network once, by name."""
    engines = {}

    def get(name, used):
        if (name, id(used)) not in engines:
            engines[name, id(used)] = used, build_engine(name, used, tmp_path_factory.mktemp(name))
        return engines[name, id(used)][1]

    return get


@pytest.fixture
def open_session(network, engine_name, engine_of):
    """Open sessions on either engine: what one promises, the other holds too."""

    def make(seed=0, rollback_turns=4, using=None, **sampling):
        used = using or network
        statistics = MotionStatistics(np.linspace(-0.5, 0.5, 56), np.linspace(0.5, 2.0, 56))
        options = SamplingConfig(**{"noise_correlation_s": 0.3, **sampling})
        features = speech_features(used.config)
        return Session(engine_of(engine_name, used), features, statistics, options, seed, rollback_turns)

    return make


def build_engine(name, network, folder):
    if name == "torch":
        return TorchEngine(network)
    save_model(folder / "model", network)
    export_onnx(folder / "model")
    return OnnxEngine.from_folder(read_model(folder / "model"))
