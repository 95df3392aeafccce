"""Write a model's ONNX graphs: a pass of the backbone on top of a cache, and all of drawing (needs torch)."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from timar_model.attention import History
from timar_model.checkpoint import ModelFolder, add_files, read_model
from timar_model.config import MOTION_DIM, MOTION_GROUPS, ModelConfig
from timar_model.engine_onnx import BACKBONE, HEAD, HEAD_GUIDED, backbone_inputs
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
    """Drawing by the default number of steps, with or without guidance."""

    def __init__(self, model: TimarModel, is_guided: bool) -> None:
        super().__init__()
        self.head = model.head
        self.schedule = respaced(model.config.diffusion_steps, model.config.sampling.steps)
        self.is_guided = is_guided

    def forward(self, conditions: Tensor, noise: Tensor, guidance: Tensor | None = None) -> Tensor:
        z = conditions if self.is_guided else conditions[0]
        return self.head.sample(z, noise, self.schedule, guidance)


def export_onnx(folder: str | Path) -> ModelFolder:
    """Add the ONNX graphs of a model to its folder.

    Args:
        folder: A whole model folder; its manifest lists the graphs afterwards.

    Returns:
        The folder as read back.
    """
    found = read_model(folder)
    model = load_network(found.config, found.weights()).eval()
    with tempfile.TemporaryDirectory() as scratch:
        paths = write_graphs(model, Path(scratch))
        return add_files(folder, *paths)


def write_graphs(model: TimarModel, target: Path) -> list[Path]:
    """Write a network's graphs into a folder and return their paths."""
    config = model.config
    frames = torch.zeros(1, 2, config.width)
    noise = torch.zeros(config.sampling.steps + 1, 2, MOTION_DIM)
    row_axes = {"conditions": {1: "frames"}, "noise": {1: "frames"}, "motion": {0: "frames"}}
    drawn = ["motion"]
    _write(
        _Backbone(model),
        _example(config),
        target / BACKBONE,
        backbone_inputs(config),
        ["conditions", "keys", "values"],
        _backbone_axes(config),
    )
    _write(_Head(model, False), (frames, noise), target / HEAD, ["conditions", "noise"], drawn, row_axes)
    guided = (frames.repeat(2, 1, 1), noise, torch.tensor(1.5))
    _write(
        _Head(model, True), guided, target / HEAD_GUIDED, ["conditions", "noise", "guidance"], drawn, row_axes
    )
    return [target / name for name in (BACKBONE, HEAD, HEAD_GUIDED)]


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


def _write(
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
        )
