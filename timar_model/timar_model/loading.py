"""From a model folder to a model that can hold conversations."""

from __future__ import annotations

import dataclasses
import gc
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timar_common.suggest import refuse_unknown

from timar_model.architecture.config import SamplingConfig
from timar_model.engines import Engine, open_engine
from timar_model.model_folder import ModelFolder, models_folder, read_model
from timar_model.session.batch import BatchedSession
from timar_model.session.session import ROLLBACK_TURNS, Session

if TYPE_CHECKING:
    from typing_extensions import Self

SHIPPED = Path(__file__).parent / "models"
DEFAULT_MODEL = "calm-head"
"""The shipped model."""


@dataclasses.dataclass(frozen=True)
class LoadedModel(ModelFolder):
    """A verified model folder, ready to open sessions; engines are built when first asked for."""

    _engines: dict[tuple[str, int], Engine] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )

    @classmethod
    def of(cls, folder: ModelFolder) -> Self:
        """Return a folder that was read already, ready to open sessions."""
        return cls(**vars(folder))

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
            engine: "torch", "torch-bf16", "onnx", "onnx-int8", or one that another package brings.
            seed: Of the noise, 0 or more.
            threads: Threads of the arithmetic.
            rollback_turns: How many of the newest turns can be rolled back.
            window_turns: How much of the conversation is seen, in turns of the default length; another way
                to say `window_frames`.
            sampling: Fields of `SamplingConfig`; those not given are the model's own.

        Raises:
            ValueError: The engine or an option is unknown, or does not fit the model.
        """
        if "take_back_turns" in sampling:
            warnings.warn("take_back_turns is called rollback_turns now", DeprecationWarning, stacklevel=2)
            rollback_turns = sampling.pop("take_back_turns")
        options = self._sampling(window_turns, sampling)
        found = self._engine(engine, threads)
        return Session(found, found.speech_features(), self.statistics, options, seed, rollback_turns)

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
        found = self._engine(engine, threads)
        return BatchedSession(found, found.speech_features(), self.statistics, options, seeds, rollback_turns)

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

    def close_engines(self) -> None:
        """Drop the engines, whose memory is free when no session holds them any more."""
        self._engines.clear()
        gc.collect()

    def _engine(self, name: str, threads: int) -> Engine:
        """Return an engine, built when first asked for."""
        if (name, threads) not in self._engines:
            self._engines[name, threads] = open_engine(name, self, threads)
        return self._engines[name, threads]


def load_model(folder: str | Path) -> LoadedModel:
    """Read and verify a model folder.

    Args:
        folder: Its path, or the name of a shipped or imported model.

    Raises:
        FileNotFoundError: The folder, or a file of it, is not there.
        ValueError: A file is not what its manifest says.
    """
    return LoadedModel.of(read_model(find_model(folder)))


def find_model(name_or_path: str | Path) -> Path:
    """Return the folder of a shipped or imported model by its name, or the path itself.

    Raises:
        FileNotFoundError: It is none of them.
    """
    path = Path(name_or_path)
    if path.is_dir():
        return path
    for folder in (SHIPPED, models_folder()):
        if path.name == str(name_or_path) and (folder / path.name).is_dir():
            return folder / path.name
    shipped, imported = _names_in(SHIPPED), _names_in(models_folder())
    raise FileNotFoundError(
        f"there is no model {str(name_or_path)!r}, neither as a folder nor shipped nor imported; "
        f"shipped are: {', '.join(shipped) or 'none'}; imported: {', '.join(imported) or 'none'}"
    )


def _names_in(folder: Path) -> list[str]:
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path.name for path in found if path.is_dir() and not path.name.startswith("."))
