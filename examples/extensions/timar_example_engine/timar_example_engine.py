"""Example engine: what the built-in onnx engine computes, with every pass logged.

Install it beside the workspace, and name it wherever an engine is named:

    pip install --no-deps ./examples/extensions/timar_example_engine
    timar engines calm-head

An engine of its own arithmetic has the same methods; `timar_model.engines.Engine` says what each must do.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from timar_model.engines import Engine, ModelFolder, open_engine

_log = logging.getLogger(__name__)


def open_logged(folder: ModelFolder, threads: int) -> Engine:
    """Compute as the onnx engine does, and log every pass."""
    return LoggedEngine(open_engine("onnx", folder, threads))


class LoggedEngine:
    """Another engine, with a line of log for each pass of the backbone and of the head."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = f"logged-{engine.name}"
        self.label = f"logged-{engine.label}"
        self.config = engine.config
        self.is_batch_dependent = engine.is_batch_dependent
        self.speech_features = engine.speech_features
        self.init_state = engine.init_state

    def encode(self, inputs: Any, positions: Any, rings: Any, from_tokens: Any) -> Any:
        """Encode a turn into its cache."""
        started = time.perf_counter()
        conditions = self._engine.encode(inputs, positions, rings, from_tokens)
        _log.info("%d tokens in %.1f ms", positions.source.size, 1e3 * (time.perf_counter() - started))
        return conditions

    def sample(self, conditions: Any, noise: Any, steps: int, guidance: float, past: Any) -> Any:
        """Sample a turn's motion."""
        started = time.perf_counter()
        motion = self._engine.sample(conditions, noise, steps, guidance, past)
        _log.info("%d frames in %.1f ms", len(motion), 1e3 * (time.perf_counter() - started))
        return motion
