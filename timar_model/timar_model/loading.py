"""From a model folder to a model that can hold conversations."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from timar_model.checkpoint import ModelFolder, read_model
from timar_model.config import ModelConfig, SamplingConfig
from timar_model.engine import ENGINES, Engine
from timar_model.session import Session
from timar_model.speech import SpeechFeatures, speech_features
from timar_model.statistics import MotionStatistics

SHIPPED = Path(__file__).parent / "models"


class Model:
    """A verified model folder, ready to open sessions; engines are built when first asked for."""

    def __init__(self, folder: ModelFolder) -> None:
        self._folder = folder
        self._features: SpeechFeatures | None = None
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
        take_back_turns: int = 16,
        **sampling: Any,
    ) -> Session:
        """Open a conversation.

        Args:
            engine: One of `timar_model.engine.ENGINES`.
            seed: Of the noise, 0 or more.
            threads: Threads of the arithmetic.
            take_back_turns: How many of the newest turns can be withdrawn.
            sampling: Fields of `SamplingConfig`; those not given are the model's own.

        Raises:
            ValueError: The engine or an option is unknown, or does not fit the model.
        """
        known = [field.name for field in dataclasses.fields(SamplingConfig)]
        if unknown := sorted(set(sampling) - set(known)):
            raise ValueError(
                f"a session has no sampling option {unknown[0]!r}; the options are {', '.join(known)}"
            )
        options = dataclasses.replace(self.config.sampling, **sampling)
        if self._features is None:
            self._features = speech_features(self.config)
        arithmetic = self._engine(engine, threads)
        return Session(arithmetic, self._features, self.statistics, options, seed, take_back_turns)

    def _engine(self, name: str, threads: int) -> Engine:
        if (name, threads) not in self._engines:
            self._engines[name, threads] = _build_engine(name, self._folder, threads)
        return self._engines[name, threads]


def load_model(folder: str | Path) -> Model:
    """Read and verify a model folder.

    Args:
        folder: Its path, or the name of a shipped model.

    Raises:
        FileNotFoundError: The folder, or a file of it, is not there.
        ValueError: A file is not what its manifest says.
    """
    return Model(read_model(find_model(folder)))


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
    if name == "torch":
        from timar_model.engine_torch import TorchEngine

        return TorchEngine.from_weights(folder.config, folder.weights(), threads)
    if name == "onnx":
        from timar_model.engine_onnx import OnnxEngine

        return OnnxEngine.from_folder(folder.path, folder.config, threads)
    raise ValueError(f"the engine is {name!r}, expected one of {', '.join(ENGINES)}")
