"""The ONNX engine: onnxruntime on TensorRT, CUDA or the CPU, whichever is there first; imports no torch."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from timar_model.cache import TokenRing
from timar_model.config import ModelConfig
from timar_model.engine import Array, Encoded, empty_ring
from timar_model.inputs import TurnInputs
from timar_model.turns import Layout, rotation

BACKBONE, HEAD = "backbone.onnx", "head.onnx"
PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")

_log = logging.getLogger(__name__)


def backbone_inputs(config: ModelConfig) -> list[str]:
    """Return the names of the backbone graph's inputs, in order."""
    streams = ["user_speech", "user_speech_seen", "user_motion", "user_motion_seen", "agent_speech"]
    streams += ["agent_motion", "agent_motion_known"]
    if config.past_frames:
        streams += ["past_motion", "past_motion_known"]
    places = ["source", "kind", "cos", "sin"] if config.positions == "rotary" else ["source", "index"]
    return [*streams, *places, "motion_rows", "ring_keys", "ring_values", "ring_bias", "new_bias"]


class OnnxEngine:
    """Run a model's exported graphs."""

    name = "onnx"

    def __init__(self, config: ModelConfig, graphs: dict[str, Any]) -> None:
        self.config = config
        # onnxruntime puts first the provider that takes whatever it can.
        device = graphs[BACKBONE].get_providers()[0].removesuffix("ExecutionProvider").lower()
        self.label = f"{self.name}-{device}-float32"
        self._graphs = graphs
        self._names = backbone_inputs(config)

    @classmethod
    def from_folder(cls, folder: Path, config: ModelConfig, threads: int = 1) -> OnnxEngine:
        """Open the graphs of a model folder.

        Raises:
            FileNotFoundError: The folder holds no graphs.
            ValueError: The number of threads is not positive.
        """
        import onnxruntime

        if threads < 1:
            raise ValueError(f"the onnx engine was given {threads} threads, expected at least 1")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # A spinning thread would take the core from the other nodes.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        available = onnxruntime.get_available_providers()
        providers = [name for name in PROVIDERS if name in available]
        graphs = {}
        for name in (BACKBONE, HEAD):
            if not (folder / name).is_file():
                raise FileNotFoundError(
                    f"the model folder {str(folder)!r} lacks {name}; "
                    "write it with timar_model.export.export_onnx"
                )
            graphs[name] = onnxruntime.InferenceSession(str(folder / name), options, providers=providers)
        _log.info("onnx engine on %s", ", ".join(graphs[BACKBONE].get_providers()))
        return cls(config, graphs)

    def init_state(self, batch: int, capacity: int) -> TokenRing:
        """Return an empty ring."""
        return empty_ring(self.config, batch, capacity)

    def encode(
        self,
        inputs: TurnInputs[Array],
        layout: Layout,
        ring: TokenRing | None,
        from_token: int = 0,
        visible: npt.NDArray[np.bool_] | None = None,
        first_index: int = 0,
    ) -> Encoded:
        """Run the backbone; see `Engine.encode`."""
        tokens = len(layout)
        ring = ring if ring is not None else empty_ring(self.config, 1, 1)
        feed: dict[str, Any] = dict(vars(inputs))
        feed["source"], feed["kind"], feed["motion_rows"] = layout.source, layout.kind, layout.motion_rows
        feed["index"] = np.arange(first_index, first_index + tokens)
        feed["cos"], feed["sin"] = rotation(layout.frame, self.config)
        feed["ring_keys"], feed["ring_values"] = ring.keys, ring.values
        feed["ring_bias"] = ring.bias(from_token)
        feed["new_bias"] = np.zeros((tokens, tokens), np.float32)
        if visible is not None:
            feed["new_bias"][~visible] = -np.inf
        conditions, keys, values = self._graphs[BACKBONE].run(
            None, {name: feed[name] for name in self._names}
        )
        return Encoded(conditions, keys, values)

    def draw(self, conditions: Array, noise: Array, steps: int, guidance: float) -> Array:
        """Draw motion; see `Engine.draw`.

        Raises:
            ValueError: The graphs were exported for another number of steps.
        """
        if steps != self.config.sampling.steps:
            raise ValueError(
                f"the onnx graphs draw by {self.config.sampling.steps} steps, not {steps}; "
                "ask for that number, or use the torch engine"
            )
        feed = {"conditions": conditions, "noise": noise, "guidance": np.array(guidance, np.float32)}
        return np.asarray(self._graphs[HEAD].run(None, feed)[0])
