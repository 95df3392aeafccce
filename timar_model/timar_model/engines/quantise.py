"""Graphs in fewer bits: int8 products for the CPU, float16 for CUDA; layers that suffer stay float.

An int8 layer holds its weights as signed bytes with one scale per output; its input is rounded to unsigned
bytes with one scale per call, where the call is made. Attention, norms and everything between stay float32.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from timar_model.architecture.config import SAMPLES_PER_FRAME
from timar_model.architecture.model import TimarModel
from timar_model.engines.graphs import (
    MICROSOFT,
    OPSET,
    external_tensor,
    import_microsoft,
    read_as_stored,
)
from timar_model.engines.int8_kernels import CHECK_GRAPH, CHECK_ROWS, INT8_WEIGHTS, LEVELS, LEVELS_7_BIT
from timar_model.engines.onnx_engine import HEAD, variant_file
from timar_model.engines.torch_engine import TorchEngine
from timar_model.model_folder import current_name, tensor_locations

LARGEST_ERROR = 0.03
"""A layer stays float above this error of its output, relative to its size, unless told otherwise."""
CALIBRATION_TURNS = 3
CHECK_INPUTS = 4
"""Rows of a layer's input that are stored for the check, of its largest and smallest value among them."""

Array = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class _Product:
    """A product with a weight, as it stands in a graph."""

    layer: str
    node: onnx.NodeProto
    source: str
    weight: str
    bias: str
    output: str
    replaced: tuple[int, ...]
    """Indices of the nodes that the int8 product replaces."""


@dataclasses.dataclass(frozen=True)
class LayerSample:
    """What a layer did to a few rows of the rehearsed conversation."""

    input: Array
    output: Array
    """Of float32, without the bias."""
    errors: tuple[float, float]
    """Of exact products with weights as stored and of 7 bits made of them, relative to the output's size."""


@dataclasses.dataclass(frozen=True)
class LayerError:
    """What int8 does to a layer."""

    error: float
    """The largest change of its output in the rehearsed conversation, relative to the output's size."""
    sample: LayerSample | None
    """None where the layer was not called."""


def quantise_graphs(
    graphs: dict[str, onnx.ModelProto],
    model: TimarModel,
    speech: nn.Module | None,
    files: Sequence[Path],
    target: Path,
    log: Any,
    largest_error: float | None = None,
    weight_bits: int = 8,
) -> tuple[list[Path], dict[str, Any]]:
    """Write the int8 form of graphs, layer by layer, so that memory holds one layer's weights at a time.

    Args:
        graphs: By file name; they read their parameters from `files`.
        model: The network, run to measure what its layers suffer.
        speech: The frozen encoder, if the model has one.
        files: Safetensors with all parameters.
        target: Where to write.
        log: Takes a line on what is being done.
        largest_error: Of a layer's output, relative to its size; a layer that suffers more stays float. None:
            `LARGEST_ERROR`.
        weight_bits: Of the weights: 8, or 7, with which no processor's products saturate.

    Returns:
        The files written, and what the manifest says of them: the layers left float with their errors.
    """
    log("measuring what each layer suffers")
    largest_level = LEVELS if weight_bits == 8 else LEVELS_7_BIT
    measured = layer_errors(model, speech, largest_level)
    errors = {layer: found.error for layer, found in measured.items()}
    limit = LARGEST_ERROR if largest_error is None else largest_error
    kept = {layer: round(error, 4) for layer, error in sorted(errors.items()) if error > limit}
    products = {name: list(_products(graph)) for name, graph in graphs.items()}
    chosen = {name: [p for p in found if p.layer not in kept] for name, found in products.items()}
    layers = sorted({product.layer for found in chosen.values() for product in found})
    log(f"writing {len(layers)} layers as int8 with weights of {weight_bits} bits; {len(kept)} stay float")
    parameters = {name: (file, location) for file in files for name, location in tensor_locations(file)}
    _write_weights(target / INT8_WEIGHTS, layers, parameters, largest_level)
    quantised = dict(tensor_locations(target / INT8_WEIGHTS))
    paths = [target / INT8_WEIGHTS]
    for name, graph in graphs.items():
        path = target / variant_file(name, "int8")
        path.write_bytes(_replaced(graph, chosen[name], quantised).SerializeToString())
        paths.append(path)
    samples = {layer: measured[layer].sample for layer in layers}
    paths += _write_check({name: one for name, one in samples.items() if one}, quantised, target)
    worst = max((error for layer, error in errors.items() if layer not in kept), default=0.0)
    return paths, {
        "weights": f"int8 of {weight_bits} bits, one scale per output",
        "weight_bits": weight_bits,
        "activations": "uint8, one scale per call",
        "int8_layers": len(layers),
        "largest_error_int8": round(worst, 4),
        "largest_error_checked": {
            f"{bits} bits": round(
                max((one.errors[number] for one in samples.values() if one), default=0.0), 4
            )
            for number, bits in enumerate((8, 7) if weight_bits == 8 else (7,))
        },
        "float_layers": kept,
    }


def to_float16(graphs: dict[str, onnx.ModelProto], files: Sequence[Path], target: Path) -> list[Path]:
    """Write backbone and speech encoder in float16; the head stays float32, for its angles are large."""
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from safetensors.numpy import load_file, save_file

    paths = []
    parameters = {current_name(name): a for file in files for name, a in load_file(file).items()}
    for name, graph in graphs.items():
        if name == HEAD:
            path = target / HEAD
            path.write_bytes(graph.SerializeToString())
            paths.append(path)
            continue
        whole = onnx.ModelProto()
        whole.CopyFrom(graph)
        held = {}
        for tensor in whole.graph.initializer:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                held[tensor.name] = parameters[tensor.name.removeprefix("model.")].astype(np.float16)
                tensor.CopyFrom(external_tensor(tensor.name, _nowhere(held[tensor.name])))
        inside = convert_float_to_float16(whole, keep_io_types=False, disable_shape_infer=True)
        weights = target / variant_file(name, "float16").replace(".onnx", ".safetensors")
        save_file(held, weights)
        weights.chmod(0o644)
        locations = dict(tensor_locations(weights))
        for tensor in inside.graph.initializer:
            if tensor.name in locations:
                tensor.CopyFrom(external_tensor(tensor.name, locations[tensor.name]))
        path = target / variant_file(name, "float16")
        path.write_bytes(inside.SerializeToString())
        paths += [weights, path]
    return paths


def quantise_weight(weight: Array, largest_level: int = LEVELS) -> tuple[npt.NDArray[np.int8], Array]:
    """Return a weight (out, in) as bytes (in, out), and the scale of each output (out,)."""
    scale = np.maximum(np.abs(weight).max(axis=1), np.float32(1e-12)) / np.float32(largest_level)
    levels = np.rint(weight / scale[:, None]).astype(np.int8)
    return np.ascontiguousarray(levels.T), scale.astype(np.float32)


def layer_errors(
    model: TimarModel, speech: nn.Module | None, largest_level: int = LEVELS
) -> dict[str, LayerError]:
    """Return by how much int8 changes each layer's output in a short conversation, and rows to check."""
    named = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    if speech is not None:
        for name, module in speech.named_modules():
            if isinstance(module, nn.Linear):
                named[f"speech_encoder.{name}"] = module
    found = {layer: LayerError(0.0, None) for layer in named}

    def measure(layer: str, module: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        levels, scale = _levels(module, largest_level)
        error = _relative_error(_int8_product(inputs[0], levels * scale, module.bias), output)
        if error >= found[layer].error:
            found[layer] = LayerError(error, _sample(module, inputs[0], levels, scale))

    session, turn = _rehearsal(model, speech)
    for _ in range(CALIBRATION_TURNS - 1):
        session.step(*turn(session))
    hooks = [module.register_forward_hook(functools.partial(measure, name)) for name, module in named.items()]
    try:
        session.step(*turn(session))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _sample(module: nn.Linear, x: Tensor, levels: Tensor, scale: Tensor) -> LayerSample:
    """Return what a layer does to rows: those of its largest and smallest value, and some others."""
    rows = x.detach().reshape(-1, x.shape[-1])  # (N, in)
    spread = np.linspace(0, len(rows) - 1, CHECK_INPUTS - 2).astype(int).tolist()
    extremes = [int(rows.amax(1).argmax()), int(rows.amin(1).argmin())]
    chosen = rows[sorted({*spread, *extremes})]
    output = nn.functional.linear(chosen, module.weight)
    seven_bits = (levels * (LEVELS_7_BIT / LEVELS)).round() * (LEVELS / LEVELS_7_BIT)
    errors = [
        _relative_error(_int8_product(chosen, weight * scale, None), output)
        for weight in (levels, seven_bits)
    ]
    return LayerSample(chosen.numpy().copy(), output.detach().numpy(), (errors[0], errors[1]))


def _relative_error(found: Tensor, expected: Tensor) -> float:
    size = float(expected.norm())
    return float((found - expected).norm()) / size if size else 0.0


def _levels(module: nn.Linear, largest_level: int) -> tuple[Tensor, Tensor]:
    """Return a layer's weight in whole steps (out, in), and the step of each output (out, 1)."""
    scale = module.weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / largest_level
    return (module.weight / scale).round(), scale


def _int8_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute a layer as the int8 graph does, with exact products and a weight that is rounded already."""
    low, high = float(x.min().clamp(max=0)), float(x.max().clamp(min=0))
    step = max((high - low) / 255.0, 1e-12)
    zero = round(-low / step)
    rounded = ((x / step).round() + zero).clamp(0, 255).sub(zero) * step
    return nn.functional.linear(rounded, weight, bias)


def _rehearsal(model: TimarModel, speech: nn.Module | None) -> tuple[Any, Any]:
    """Return a session of the network and the sound of its turns: noise with the rhythm of syllables."""
    from timar_model.architecture.inputs import MotionStatistics, Wav2Vec2Features, speech_features
    from timar_model.architecture.speech_encoder import SpeechEncoder, TorchSpeechEncoder
    from timar_model.session.session import Session

    config, random = model.config, np.random.default_rng(0)
    if isinstance(speech, SpeechEncoder):
        features: Any = Wav2Vec2Features(TorchSpeechEncoder(speech), config.loudness)
    else:
        features = speech_features(config)
    engine = TorchEngine(model, threads=torch.get_num_threads())
    session = Session(engine, features, MotionStatistics(), config.sampling, rollback_turns=1)

    def voice(frames: int) -> Array:
        samples = np.arange(frames * SAMPLES_PER_FRAME)
        rhythm = 0.5 - 0.5 * np.cos(2 * np.pi * 4.0 * samples / 16_000)
        return (0.1 * rhythm * random.standard_normal(samples.size)).astype(np.float32)

    def turn(session: Session) -> tuple[Array, Array, Array]:
        frames = config.turn_frames
        user = session.user_frames(frames)
        motion = random.standard_normal((user, 56)).astype(np.float32)
        return voice(user), motion, voice(frames)

    return session, turn


def _products(graph: onnx.ModelProto) -> Iterator[_Product]:
    """Yield every product of something computed with a weight from outside."""
    outside = {
        tensor.name for tensor in graph.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL
    }
    nodes = list(graph.graph.node)
    transposed = {
        node.output[0]: node.input[0]
        for node in nodes
        if node.op_type == "Transpose" and node.input[0] in outside
    }
    users: dict[str, list[int]] = {}
    for index, node in enumerate(nodes):
        for name in node.input:
            users.setdefault(name, []).append(index)
    for index, node in enumerate(nodes):
        if node.op_type == "Gemm" and node.input[1] in outside:
            bias = node.input[2] if len(node.input) > 2 else ""
            yield _product(node, node.input[1], bias, node.output[0], (index,))
        elif node.op_type == "MatMul" and node.input[1] in transposed:
            after = users.get(node.output[0], [])
            adds = [n for n in after if nodes[n].op_type == "Add"]
            if len(after) == 1 and adds:
                add = nodes[adds[0]]
                biases = [name for name in add.input if name in outside]
                if biases:
                    both = (index, adds[0])
                    yield _product(node, transposed[node.input[1]], biases[0], add.output[0], both)
                    continue
            yield _product(node, transposed[node.input[1]], "", node.output[0], (index,))


def _product(
    node: onnx.NodeProto, weight: str, bias: str, output: str, replaced: tuple[int, ...]
) -> _Product:
    layer = weight.removeprefix("model.").removesuffix(".weight")
    return _Product(layer, node, node.input[0], weight, bias, output, replaced)


def _replaced(
    graph: onnx.ModelProto, products: list[_Product], quantised: dict[str, dict[str, Any]]
) -> onnx.ModelProto:
    """Return a graph with int8 products; what only the float ones read is left out."""
    whole = onnx.ModelProto()
    whole.CopyFrom(graph)
    at = {product.replaced[-1]: product for product in products}
    gone = {index for product in products for index in product.replaced}
    nodes, tensors = [], {}
    for index, node in enumerate(graph.graph.node):
        if index in at:
            product = at[index]
            names = [f"{product.layer}.int8", f"{product.layer}.scale"]
            tensors.update({name: external_tensor(name, quantised[name]) for name in names})
            inputs = [product.source, *names, "", product.bias]
            nodes.append(
                helper.make_node("DynamicQuantizeMatMul", inputs, [product.output], domain=MICROSOFT)
            )
        elif index not in gone:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    nodes = [node for node in nodes if node.op_type != "Transpose" or node.output[0] in used]
    used = {name for node in nodes for name in node.input}
    del whole.graph.node[:], whole.graph.initializer[:]
    whole.graph.node.extend(nodes)
    whole.graph.initializer.extend(t for t in graph.graph.initializer if t.name in used)
    whole.graph.initializer.extend(tensors.values())
    import_microsoft(whole)
    read_as_stored(whole)
    return whole


def _write_weights(
    path: Path,
    layers: list[str],
    parameters: dict[str, tuple[Path, dict[str, Any]]],
    largest_level: int,
) -> None:
    """Write layers' bytes and scales as safetensors, one layer in memory at a time."""
    header: dict[str, Any] = {}
    offset = 0
    for layer in layers:
        out, into = parameters[f"{layer}.weight"][1]["shape"]
        for name, dtype, shape, size in (
            (f"{layer}.int8", "I8", [into, out], into * out),
            (f"{layer}.scale", "F32", [out], 4 * out),
        ):
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
            offset += size
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        for layer in layers:
            source, location = parameters[f"{layer}.weight"]
            weight = np.fromfile(source, "<f4", location["length"] // 4, offset=location["offset"])
            levels, scale = quantise_weight(weight.reshape(location["shape"]), largest_level)
            file.write(levels.tobytes() + scale.tobytes())


def _write_check(
    samples: dict[str, LayerSample], quantised: dict[str, dict[str, Any]], target: Path
) -> list[Path]:
    """Write the graph of the int8 layers alone, and the rows it is checked by."""
    from safetensors.numpy import save_file

    rows: dict[str, npt.NDArray[Any]] = {}
    nodes, tensors, ends = [], [], ([], [])  # type: ignore[var-annotated]
    for layer, sample in samples.items():
        names = [f"{layer}.int8", f"{layer}.scale"]
        tensors += [external_tensor(name, quantised[name]) for name in names]
        inputs = [f"{layer}.input", *names]
        nodes.append(helper.make_node("DynamicQuantizeMatMul", inputs, [f"{layer}.output"], domain=MICROSOFT))
        for end, kind, array in zip(ends, ("input", "output"), (sample.input, sample.output), strict=True):
            rows[f"{layer}.{kind}"] = np.ascontiguousarray(array)
            shape = [None, array.shape[1]]
            end.append(helper.make_tensor_value_info(f"{layer}.{kind}", onnx.TensorProto.FLOAT, shape))
        rows[f"{layer}.errors"] = np.array(sample.errors, np.float32)
    graph = onnx.helper.make_graph(nodes, "check", *ends, tensors)
    check = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    import_microsoft(check)
    (target / CHECK_GRAPH).write_bytes(check.SerializeToString())
    save_file(rows, target / CHECK_ROWS)
    (target / CHECK_ROWS).chmod(0o644)
    return [target / CHECK_GRAPH, target / CHECK_ROWS]


def _nowhere(array: npt.NDArray[Any]) -> dict[str, Any]:
    return {"dtype": "F16", "shape": array.shape, "location": "", "offset": 0, "length": array.nbytes}
