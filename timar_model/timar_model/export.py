"""Write a model's ONNX graphs: a pass of the backbone on top of a cache, and all of drawing (needs torch)."""

from __future__ import annotations

import json
import struct
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from timar_model.attention import History
from timar_model.checkpoint import WEIGHTS, ModelFolder, add_files, read_model
from timar_model.config import MOTION_DIM, MOTION_GROUPS, ModelConfig
from timar_model.engine_onnx import BACKBONE, HEAD, backbone_inputs
from timar_model.engine_torch import load_network
from timar_model.inputs import TurnInputs
from timar_model.model import Places, TimarModel
from timar_model.schedule import respaced

OPSET = 17


class _Backbone(nn.Module):
    """The pass of the backbone with every input as a tensor of its own."""

    def __init__(self, model: TimarModel) -> None:
        super().__init__()
        self.model = model
        self.names = backbone_inputs(model.config)

    def forward(self, *arrays: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        given = dict(zip(self.names, arrays, strict=True))
        inputs = TurnInputs(**{name: given.get(name, arrays[0]) for name in TurnInputs.__dataclass_fields__})
        unused = given["source"]
        places = Places(**{name: given.get(name, unused) for name in Places.__dataclass_fields__})
        keys, values = given["ring_keys"], given["ring_values"]
        history = [
            History(keys[block], values[block], given["ring_bias"], given["new_bias"])
            for block in range(self.model.config.blocks)
        ]
        return self.model.encode(inputs, places, None, history)


class _Head(nn.Module):
    """Drawing by the default number of steps."""

    def __init__(self, model: TimarModel) -> None:
        super().__init__()
        self.model = model
        self.schedule = respaced(model.config.diffusion_steps, model.config.sampling.steps)

    def forward(self, conditions: Tensor, noise: Tensor, guidance: Tensor) -> Tensor:
        return self.model.head.sample(conditions, noise, self.schedule, guidance)


def export_onnx(folder: str | Path) -> ModelFolder:
    """Add the ONNX graphs of a model to its folder; they take their weights from its model.safetensors.

    Args:
        folder: A whole model folder; its manifest lists the graphs afterwards.

    Returns:
        The folder as read back.
    """
    found = read_model(folder)
    model = load_network(found.config, found.weights()).eval()
    with tempfile.TemporaryDirectory() as scratch:
        return add_files(folder, *write_graphs(model, found.path / WEIGHTS, Path(scratch)))


def write_graphs(model: TimarModel, weights: Path, target: Path) -> list[Path]:
    """Write a network's graphs into a folder and return their paths.

    Args:
        model: The network.
        weights: Its safetensors file, which must lie beside the graphs when they are used.
        target: Where the graphs go.
    """
    config = model.config
    _trace(
        _Backbone(model),
        _example(config),
        target / BACKBONE,
        backbone_inputs(config),
        ["conditions", "keys", "values"],
        _backbone_axes(config),
    )
    example = (
        torch.zeros(2, 3, config.width),
        torch.zeros(config.sampling.steps + 1, 3, MOTION_DIM),
        torch.tensor(1.5),
    )
    axes = {"conditions": {0: "rows", 1: "frames"}, "noise": {1: "frames"}, "motion": {0: "frames"}}
    _trace(_Head(model), example, target / HEAD, ["conditions", "noise", "guidance"], ["motion"], axes)
    paths = [target / BACKBONE, target / HEAD]
    for path in paths:
        _share_weights(path, weights)
    return paths


def _share_weights(graph: Path, weights: Path) -> None:
    """Let a graph read its parameters from the safetensors file, so that they exist once."""
    places = _tensor_places(weights)
    model = onnx.load(str(graph))
    for tensor in model.graph.initializer:
        name = tensor.name.removeprefix("model.")
        if name not in places:
            continue
        offset, length = places[name]
        if len(tensor.raw_data) != length:
            raise ValueError(f"{name} has {len(tensor.raw_data)} bytes in the graph, expected {length}")
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", weights.name), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
    graph.write_bytes(model.SerializeToString())


def _tensor_places(weights: Path) -> dict[str, tuple[int, int]]:
    """Return offset and length [bytes] of each tensor in a safetensors file (size, header, data)."""
    with weights.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    return {
        name: (8 + size + facts["data_offsets"][0], facts["data_offsets"][1] - facts["data_offsets"][0])
        for name, facts in header.items()
        if name != "__metadata__"
    }


def _example(config: ModelConfig) -> tuple[Tensor, ...]:
    """Return inputs of two turns' different sizes, so that no length is taken for another."""
    user, agent, past, slots = 3, 4, config.past_frames, 7
    tokens = 2 * user + 2 * agent + past + 10
    cache = (config.blocks, 1, config.heads, slots, config.head_dim)
    shapes: dict[str, Tensor] = {
        "user_speech": torch.zeros(1, user, config.speech_dim),
        "user_speech_seen": torch.ones(1, user),
        "user_motion": torch.zeros(1, user, MOTION_DIM),
        "user_motion_seen": torch.ones(1, user, len(MOTION_GROUPS)),
        "agent_speech": torch.zeros(1, agent, config.speech_dim),
        "agent_motion": torch.zeros(1, agent, MOTION_DIM),
        "agent_motion_known": torch.zeros(1, agent),
        "past_motion": torch.zeros(1, past, MOTION_DIM),
        "past_motion_known": torch.zeros(1, past),
        "source": torch.arange(tokens),
        "kind": torch.zeros(tokens, dtype=torch.int64),
        "index": torch.arange(tokens),
        "cos": torch.ones(tokens, config.head_dim // 2),
        "sin": torch.zeros(tokens, config.head_dim // 2),
        "motion_rows": torch.arange(agent),
        "ring_keys": torch.zeros(cache),
        "ring_values": torch.zeros(cache),
        "ring_bias": torch.zeros(slots),
        "new_bias": torch.zeros(tokens, tokens),
    }
    return tuple(shapes[name] for name in backbone_inputs(config))


def _backbone_axes(config: ModelConfig) -> dict[str, dict[int, str]]:
    axes: dict[str, dict[int, str]] = {
        "motion_rows": {0: "frames"},
        "ring_keys": {1: "ring_rows", 3: "slots"},
        "ring_values": {1: "ring_rows", 3: "slots"},
        "ring_bias": {0: "slots"},
        "new_bias": {0: "tokens", 1: "tokens"},
        "conditions": {0: "rows", 1: "frames"},
        "keys": {1: "rows", 3: "tokens"},
        "values": {1: "rows", 3: "tokens"},
    }
    for name in ("source", "kind", "index", "cos", "sin"):
        axes[name] = {0: "tokens"}
    for name in backbone_inputs(config):
        if name.startswith(("user", "agent", "past")):
            axes[name] = {0: "rows", 1: name.split("_")[0] + "_frames"}
    return axes


def _trace(
    module: nn.Module,
    example: tuple[Tensor, ...],
    path: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    axes: dict[str, dict[int, str]],
) -> None:
    named = {name: axis for name, axis in axes.items() if name in {*inputs, *outputs}}
    with warnings.catch_warnings(), torch.inference_mode():
        # Exporting by tracing is deprecated, but needs nothing besides torch; tests hold the graphs equal.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            example,
            str(path),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=named,
            opset_version=OPSET,
            dynamo=False,
            # A folded weight would be another tensor than the one in the file.
            do_constant_folding=False,
        )
