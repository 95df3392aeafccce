"""From a model folder to a model that can hold conversations."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timar_common.suggest import refuse_unknown

from timar_model.architecture.config import ModelConfig, SamplingConfig
from timar_model.architecture.inputs import (
    MotionStatistics,
    SpeechFeatures,
    Wav2Vec2Features,
    speech_features,
)
from timar_model.engines.engine import ENGINES, Engine
from timar_model.model_folder import WEIGHTS, ModelFolder, read_model
from timar_model.session.batch import BatchedSession
from timar_model.session.session import ROLLBACK_TURNS, Session

SHIPPED = Path(__file__).parent / "models"


class LoadedModel:
    """A verified model folder, ready to open sessions; engines are built when first asked for."""

    def __init__(self, folder: ModelFolder) -> None:
        self._folder = folder
        self._features: dict[tuple[str, int], SpeechFeatures] = {}
        self._engines: dict[tuple[str, int], Engine] = {}

    @property
    def path(self) -> Path:
        """The folder."""
        return self._folder.path

    @property
    def config(self) -> ModelConfig:
        """The model's configuration."""
        return self._folder.config

    @property
    def manifest(self) -> dict[str, Any]:
        """The folder's manifest."""
        return self._folder.manifest

    @property
    def statistics(self) -> MotionStatistics:
        """Mean and spread of the motion it was trained on."""
        return self._folder.statistics

    @property
    def sha256(self) -> str:
        """64 hex digits of the manifest."""
        return self._folder.sha256

    def session(
        self,
        engine: str = "torch",
        seed: int = 0,
        threads: int = 1,
        rollback_turns: int = ROLLBACK_TURNS,
        window_turns: int | None = None,
        **sampling: Any,
    ) -> Session:
        """Open a conversation.

        Args:
            engine: One of `timar_model.engine.ENGINES`.
            seed: Of the noise, 0 or more.
            threads: Threads of the arithmetic.
            rollback_turns: How many of the newest turns can be withdrawn.
            window_turns: How much of the conversation is seen, in turns of the default length; another way
                to say `window_frames`.
            sampling: Fields of `SamplingConfig`; those not given are the model's own.

        Raises:
            ValueError: The engine or an option is unknown, or does not fit the model.
        """
        options = self._sampling(window_turns, sampling)
        arithmetic, features = self._parts(engine, threads)
        return Session(arithmetic, features, self.statistics, options, seed, rollback_turns)

    def batch(
        self,
        seeds: Sequence[int],
        engine: str = "torch",
        threads: int = 1,
        rollback_turns: int = ROLLBACK_TURNS,
        window_turns: int | None = None,
        **sampling: Any,
    ) -> BatchedSession:
        """Open several conversations that share passes, one for each seed; arguments as of `session`."""
        options = self._sampling(window_turns, sampling)
        arithmetic, features = self._parts(engine, threads)
        return BatchedSession(arithmetic, features, self.statistics, options, seeds, rollback_turns)

    def _sampling(self, window_turns: int | None, sampling: dict[str, Any]) -> SamplingConfig:
        known = ["window_turns", *(field.name for field in dataclasses.fields(SamplingConfig))]
        refuse_unknown("sampling option", sampling, known)
        if window_turns is not None:
            if sampling.get("window_frames"):
                raise ValueError(
                    f"window_turns is {window_turns} and window_frames {sampling['window_frames']}; give one"
                )
            sampling = {**sampling, "window_frames": window_turns * self.config.turn_frames}
        return dataclasses.replace(self.config.sampling, **sampling)

    def _parts(self, name: str, threads: int) -> tuple[Engine, SpeechFeatures]:
        """Return the engine and the features beside it, built when first asked for."""
        key = (name, threads)
        if key not in self._engines:
            self._engines[key] = _build_engine(name, self._folder, threads)
            self._features[key] = _build_features(name, self._folder, threads)
        return self._engines[key], self._features[key]


def load_model(folder: str | Path) -> LoadedModel:
    """Read and verify a model folder.

    Args:
        folder: Its path, or the name of a shipped model.

    Raises:
        FileNotFoundError: The folder, or a file of it, is not there.
        ValueError: A file is not what its manifest says.
    """
    return LoadedModel(read_model(find_model(folder)))


def find_model(name_or_path: str | Path) -> Path:
    """Return the folder of a shipped model by its name, or the path itself.

    Raises:
        FileNotFoundError: It is neither.
    """
    path = Path(name_or_path)
    if path.is_dir():
        return path
    shipped = SHIPPED / str(name_or_path)
    if path.name == str(name_or_path) and shipped.is_dir():
        return shipped
    names = sorted(found.name for found in SHIPPED.iterdir() if found.is_dir()) if SHIPPED.is_dir() else []
    raise FileNotFoundError(
        f"there is no model {str(name_or_path)!r}, neither as a folder nor shipped; "
        f"shipped are: {', '.join(names) or 'none'}"
    )


def _build_engine(name: str, folder: ModelFolder, threads: int) -> Engine:
    if name.startswith("torch") and name in ENGINES:
        import torch
        from safetensors.torch import load_file

        from timar_model.engines.torch_engine import TorchEngine, load_network

        network = load_network(folder.config, load_file(folder.path / WEIGHTS))
        return TorchEngine(network, threads, torch.float32 if name == "torch" else torch.bfloat16)
    if name.startswith("onnx") and name in ENGINES:
        from timar_model.engines.onnx_engine import OnnxEngine

        return OnnxEngine.from_folder(folder.path, folder.config, threads, _variant(name))
    raise ValueError(f"the engine is {name!r}, expected one of {', '.join(ENGINES)}")


def _variant(engine: str) -> str:
    return "int8" if engine == "onnx-int8" else "float32"


def _build_features(name: str, folder: ModelFolder, threads: int) -> SpeechFeatures:
    """Return the features beside an engine: the exported encoder where the folder has it, else torch."""
    config = folder.config
    if config.speech_encoder == "wav2vec2" and name.startswith("onnx"):
        from timar_model.engines.onnx_engine import OnnxSpeechEncoder

        encoder = OnnxSpeechEncoder.from_folder(folder.path, threads, _variant(name))
        return Wav2Vec2Features(encoder, config.loudness)
    return speech_features(config)
