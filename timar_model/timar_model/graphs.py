"""Graph files whose parameters lie in safetensors files beside them: written by tracing, read with doubt."""

from __future__ import annotations

import json
import struct
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

OPSET = 17
_TYPES = {
    "F32": onnx.TensorProto.FLOAT,
    "F16": onnx.TensorProto.FLOAT16,
    "I8": onnx.TensorProto.INT8,
    "I64": onnx.TensorProto.INT64,
}


def trace(
    module: nn.Module,
    example: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    axes: dict[str, dict[int, str]],
    scratch: Path,
) -> onnx.ModelProto:
    """Return the graph of a module without its parameters, which stay inputs by their names."""
    named = {name: axis for name, axis in axes.items() if name in {*inputs, *outputs}}
    path = scratch / "traced.onnx"
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
            # A folded weight would be another tensor than the one in the file; parameters need no copy here.
            do_constant_folding=False,
            export_params=False,
        )
    return onnx.load(str(path))


def attach(graph: onnx.ModelProto, prefix: str, *files: Path) -> None:
    """Let a traced graph read its parameters from safetensors files, so that they exist once.

    Args:
        graph: Changed in place: inputs that are parameters become tensors outside.
        prefix: What the graph's names have before those of the files.
        files: They must lie beside the graph when it is used.

    Raises:
        ValueError: A parameter is in no file.
    """
    places = {prefix + name: place for file in files for name, place in tensor_places(file)}
    for value in [value for value in graph.graph.input if value.name.startswith(prefix)]:
        if value.name not in places:
            raise ValueError(f"the graph's parameter {value.name} is in no file of weights")
        graph.graph.input.remove(value)
        graph.graph.initializer.append(external_tensor(value.name, places[value.name]))


def external_tensor(name: str, place: dict[str, Any]) -> onnx.TensorProto:
    """Return a tensor that lies in a safetensors file."""
    tensor = onnx.TensorProto(name=name, data_type=_TYPES[place["dtype"]], dims=place["shape"])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key in ("location", "offset", "length"):
        tensor.external_data.add(key=key, value=str(place[key]))
    return tensor


def tensor_places(weights: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name, and type, shape, offset and length [bytes] of each tensor in a safetensors file."""
    with weights.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    for name, facts in header.items():
        if name != "__metadata__":
            first, end = facts["data_offsets"]
            yield (
                name,
                {
                    "location": weights.name,
                    "offset": 8 + size + first,
                    "length": end - first,
                    "dtype": facts["dtype"],
                    "shape": facts["shape"],
                },
            )
