"""Write a model's ONNX graphs: a pass of the backbone on top of a ring, and all of drawing (needs torch)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
from timar_common.suggest import refuse_unknown
from torch import Tensor, nn

from timar_model.architecture.config import MOTION_DIM, MOTION_GROUPS, SAMPLES_PER_FRAME, ModelConfig
from timar_model.architecture.inputs import TokenPositions, TurnInputs
from timar_model.architecture.model import TimarModel
from timar_model.architecture.schedule import drawing_schedule
from timar_model.engines.graphs import attach, read_as_stored, trace
from timar_model.engines.onnx_engine import BACKBONE, HEAD, PAST_INPUTS, SPEECH, backbone_inputs, ring_names
from timar_model.engines.torch_engine import load_network
from timar_model.model_folder import WEIGHTS, ModelFolder, add_files, read_model

SPEECH_WEIGHTS = "speech.safetensors"
VARIANTS = ("float32", "int8", "float16")
Log = Callable[[str], None]


def export_onnx(
    folder: str | Path | ModelFolder,
    variants: tuple[str, ...] = ("float32",),
    log: Log = lambda line: None,
    *,
    largest_error: float | None = None,
    weight_bits: int = 8,
) -> ModelFolder:
    """Add the ONNX graphs of a model to its folder; float graphs take their weights from its safetensors.

    A model with the frozen wav2vec 2.0 gets that as a graph too (from `speech_source`, by transformers), so
    that what is exported runs without torch and without transformers.

    Args:
        folder: A whole model folder, or what was read of it; its manifest lists the graphs afterwards.
        variants: Of "float32" (any provider), "int8" (CPU) and "float16" (CUDA and TensorRT).
        log: Takes a line on what is being done.
        largest_error: Of a layer's output in int8, relative to its size; a layer that suffers more stays
            float. None: 0.03.
        weight_bits: Of int8 weights: 8, or 7 for processors on which products with 8 saturate.

    Returns:
        The folder as read back.

    Raises:
        ValueError: A variant is unknown.
    """
    refuse_unknown("variant", variants, VARIANTS)
    found = folder if isinstance(folder, ModelFolder) else read_model(folder)
    with tempfile.TemporaryDirectory(dir=found.path.absolute().parent, prefix=".export.") as scratch:
        target = Path(scratch)
        paths, facts = write_graphs(found, target, variants, log, largest_error, weight_bits)
        log("adding the graphs to the folder")
        return add_files(found, *paths, engines={**found.manifest.get("engines", {}), **facts})


def write_graphs(
    found: ModelFolder,
    target: Path,
    variants: tuple[str, ...],
    log: Log,
    largest_error: float | None = None,
    weight_bits: int = 8,
) -> tuple[list[Path], dict[str, Any]]:
    """Write the graphs of a folder into another; return their paths and what the manifest says of them."""
    from timar_model.engines.quantise import quantise_graphs, to_float16

    model = load_network(found.config, found.weights()).eval()
    weights = found.path / WEIGHTS
    speech_weights = target / SPEECH_WEIGHTS
    graphs: dict[str, onnx.ModelProto] = {}
    speech: nn.Module | None = None
    if found.config.speech_encoder == "wav2vec2":
        log("tracing the speech encoder")
        speech = _speech(found.config, speech_weights)
        graphs[SPEECH] = _trace_speech(speech, found.config, target)
    log("tracing the backbone and the head")
    graphs[BACKBONE] = _trace_backbone(model, target, is_fused=True)
    graphs[HEAD] = _trace_head(model, target)
    files = [weights, speech_weights] if speech is not None else [weights]
    for graph in graphs.values():
        attach(graph, "model.", *files)
    paths = [speech_weights] if speech is not None else []
    facts: dict[str, Any] = {}
    if "int8" in variants:
        written, facts["onnx-int8"] = quantise_graphs(
            graphs, model, speech, files, target, log, largest_error, weight_bits
        )
        paths += written
    if "float16" in variants:
        log("writing float16 graphs")
        plain = _trace_backbone(model, target, is_fused=False)
        attach(plain, "model.", *files)
        paths += to_float16({**graphs, BACKBONE: plain}, files, target)
    if "float32" in variants:
        for name, graph in graphs.items():
            # The head runs on devices too, where the operator would part it.
            if name != HEAD:
                read_as_stored(graph)
        paths += [_write(graph, target / name) for name, graph in graphs.items()]
    (target / "traced.onnx").unlink()
    return paths, facts


def _write(graph: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(graph.SerializeToString())
    return path


class _Scatter(torch.autograd.Function):
    """Write new tokens into a ring; where input and output are one buffer, nothing else is touched."""

    @staticmethod
    def forward(ctx: Any, ring: Tensor, index: Tensor, new: Tensor) -> Tensor:
        written = ring.clone()
        written[index[..., 0], index[..., 1], index[..., 2]] = new
        return written

    @staticmethod
    def symbolic(g: Any, ring: Any, index: Any, new: Any) -> Any:
        return g.op("ScatterND", ring, index, new).setType(ring.type())


class _FusedAttention(torch.autograd.Function):
    """Attention by onnxruntime's own operator, which never writes the scores down."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, keys: Tensor, values: Tensor, heads: int, scale: float) -> Tensor:
        batch, length, _ = q.shape
        split = q.view(batch, length, heads, -1).transpose(1, 2)
        weights = (split @ keys.transpose(-1, -2) * scale).softmax(-1)
        return (weights @ values).transpose(1, 2).reshape(batch, length, -1)

    @staticmethod
    def symbolic(g: Any, q: Any, keys: Any, values: Any, heads: int, scale: float) -> Any:
        made = g.op("com.microsoft::MultiHeadAttention", q, keys, values, num_heads_i=heads, scale_f=scale)
        return made.setType(q.type().with_sizes([None, None, None]))


# Torch gives these no types.
_scatter: Any = _Scatter.apply
_fused_attention: Any = _FusedAttention.apply


class _TracedHistory:
    """A layer's ring in a graph.

    Fused, keys have one value more: 0 where a slot may be seen, far below all scores where not. The queries
    have a 1 there, so hiding needs no mask and the operator keeps its fast way.
    """

    def __init__(
        self, config: ModelConfig, keys: Tensor, values: Tensor, index: Tensor, bias: Tensor | None
    ) -> None:
        self.keys, self.values, self._index, self._bias = keys, values, index, bias
        # Read off a traced tensor these would be part of the graph.
        self._heads, self._head_dim = config.heads, config.head_dim

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        batch, length = q.shape[:2]
        heads, head_dim = self._heads, self._head_dim
        scale = float(head_dim) ** -0.5
        if self._bias is None:
            q = nn.functional.pad(q, (0, 1), value=1.0)
            # The operator wants keys and values of equal width.
            k, v = nn.functional.pad(k, (0, 1)), nn.functional.pad(v, (0, 1))
        self.keys = _scatter(self.keys, self._index, k.transpose(1, 2))
        self.values = _scatter(self.values, self._index, v.transpose(1, 2))
        if self._bias is None:
            packed = q.reshape(batch, length, heads * (head_dim + 1))
            mixed = _fused_attention(packed, self.keys, self.values, heads, scale)
            return mixed.view(batch, length, heads, head_dim + 1)[..., :head_dim]
        scores = (q.transpose(1, 2) * scale) @ self.keys.transpose(-1, -2) + self._bias
        return (scores.softmax(dim=-1) @ self.values).transpose(1, 2)


class _Backbone(nn.Module):
    """The pass of the backbone with every input as a tensor of its own."""

    def __init__(self, model: TimarModel, is_fused: bool) -> None:
        super().__init__()
        self.model = model
        self.is_fused = is_fused
        self.names = backbone_inputs(model.config, is_fused)

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(self.names, arrays, strict=True))
        inputs = TurnInputs(**{name: given.get(name, arrays[0]) for name in TurnInputs.__dataclass_fields__})
        unused = given["source"]
        positions = TokenPositions(
            **{name: given.get(name, unused) for name in TokenPositions.__dataclass_fields__}
        )
        bias = None if self.is_fused else given["ring_bias"]
        history = [
            _TracedHistory(self.model.config, given[keys], given[values], given["ring_index"], bias)
            for keys, values in ring_names(self.model.config)
        ]
        conditions = self.model.encode(inputs, positions, None, history)
        return conditions, *(tensor for layer in history for tensor in (layer.keys, layer.values))


class _Head(nn.Module):
    """Drawing by the default number of steps."""

    def __init__(self, model: TimarModel) -> None:
        super().__init__()
        self.model = model
        self.schedule = drawing_schedule(model.config, model.config.sampling.steps)

    def forward(self, conditions: Tensor, noise: Tensor, guidance: Tensor, *past: Tensor) -> Tensor:
        # A head that draws frames is given no past.
        return self.model.head.sample(conditions, noise, self.schedule, guidance, *past)


class _Speech(nn.Module):
    """The frozen encoder, its parameters named as the files name them."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.model = nn.ModuleDict({"speech_encoder": encoder})

    def forward(self, sound: Tensor) -> Tensor:
        found: Tensor = self.model["speech_encoder"](sound)
        return found


def _backbone_dims(config: ModelConfig, is_fused: bool) -> dict[str, tuple[int | str, ...]]:
    """Return the dimensions of the backbone graph's inputs and outputs; those that vary have a name."""
    ring = ("rows", config.heads, "slots", config.head_dim + is_fused)
    rotary = ("rows", "tokens", config.head_dim // 2)
    dims: dict[str, tuple[int | str, ...]] = {
        "user_speech": ("rows", "user_frames", config.speech_dim),
        "user_speech_seen": ("rows", "user_frames"),
        "user_motion": ("rows", "user_frames", MOTION_DIM),
        "user_motion_seen": ("rows", "user_frames", len(MOTION_GROUPS)),
        "agent_speech": ("rows", "agent_frames", config.speech_dim),
        "agent_motion": ("rows", "agent_frames", MOTION_DIM),
        "agent_motion_known": ("rows", "agent_frames"),
        "past_motion": ("rows", "past_frames", MOTION_DIM),
        "past_motion_known": ("rows", "past_frames"),
        "source": ("tokens",),
        "kind": ("tokens",),
        "index": ("rows", "tokens"),
        "cos": rotary,
        "sin": rotary,
        "motion_rows": ("frames",),
        "ring_index": ("rows", config.heads, "tokens", 3),
        "ring_bias": ("rows", 1, 1, "slots"),
        "conditions": ("rows", "frames", config.width),
    }
    for name in (name for pair in ring_names(config) for name in pair):
        dims[name] = dims[f"{name}.out"] = ring
    return dims


def _trace_backbone(model: TimarModel, scratch: Path, is_fused: bool) -> onnx.ModelProto:
    config = model.config
    dims, names = _backbone_dims(config, is_fused), backbone_inputs(config, is_fused)
    outputs = ["conditions", *(f"{name}.out" for pair in ring_names(config) for name in pair)]
    # Sizes that differ, so that no length is taken for another.
    sizes = {"rows": 1, "user_frames": 3, "agent_frames": 4, "frames": 4, "slots": 37}
    sizes |= {"past_frames": config.past_tokens, "tokens": 2 * 3 + 2 * 4 + config.past_tokens + 10}
    integers = ("source", "kind", "index", "motion_rows", "ring_index")
    example = tuple(
        torch.zeros(
            [sizes[dim] if isinstance(dim, str) else dim for dim in dims[name]],
            dtype=torch.int64 if name in integers else torch.float32,
        )
        for name in names
    )
    axes = {
        name: {axis: dim for axis, dim in enumerate(dims[name]) if isinstance(dim, str)}
        for name in (*names, *outputs)
    }
    return trace(_Backbone(model, is_fused), example, names, outputs, axes, scratch)


def _trace_head(model: TimarModel, scratch: Path) -> onnx.ModelProto:
    config = model.config
    branches = 1 if config.draws == "turns" else 2
    example: tuple[Tensor, ...] = (
        torch.zeros(branches, 3, config.width),
        torch.zeros(config.sampling.steps + 1, 3, MOTION_DIM),
        torch.tensor(1.5),
    )
    axes = {"conditions": {0: "branches", 1: "frames"}, "noise": {1: "frames"}, "motion": {0: "frames"}}
    names = ["conditions", "noise", "guidance"]
    if config.draws == "turns":
        example += (torch.zeros(1, config.past_frames, MOTION_DIM), torch.ones(1, config.past_frames))
        names += PAST_INPUTS
        axes.update({name: {0: "turns"} for name in PAST_INPUTS})
    return trace(_Head(model), example, names, ["motion"], axes, scratch)


def _speech(config: ModelConfig, weights: Path) -> nn.Module:
    """Load the frozen encoder and write its weights as the graphs name them."""
    from safetensors.torch import save_file

    from timar_model.architecture.speech_encoder import TorchSpeechEncoder

    encoder = TorchSpeechEncoder.from_pretrained(config.speech_source).encoder
    save_file({f"speech_encoder.{n}": t.contiguous() for n, t in encoder.state_dict().items()}, weights)
    weights.chmod(0o644)
    return encoder


def _trace_speech(encoder: nn.Module, config: ModelConfig, scratch: Path) -> onnx.ModelProto:
    example = (torch.zeros(2, config.turn_frames * SAMPLES_PER_FRAME),)
    axes = {"sound": {0: "voices"}, "features": {0: "voices"}}
    return trace(_Speech(encoder), example, ["sound"], ["features"], axes, scratch)
