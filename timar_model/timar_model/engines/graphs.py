"""Graph files whose parameters lie in safetensors files beside them: written by tracing, read with doubt."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from timar_model.model_folder import tensor_locations

OPSET = 17
MICROSOFT = "com.microsoft"
"""Domain of onnxruntime's own operators."""
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
    parameters = dict(module.named_parameters())
    path = scratch / "traced.onnx"
    with warnings.catch_warnings(), torch.inference_mode():
        # Exporting by tracing is deprecated, but needs nothing besides torch; tests hold the graphs equal.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Stateless(module.eval(), list(parameters)),
            (*example, *parameters.values()),
            str(path),
            input_names=[*inputs, *parameters],
            output_names=list(outputs),
            dynamic_axes=named,
            opset_version=OPSET,
            dynamo=False,
            # A folded weight would be another tensor than the one in the file.
            do_constant_folding=False,
            export_params=False,
        )
    graph = onnx.load(str(path))
    used = {name for node in graph.graph.node for name in node.input}
    for value in [
        value for value in graph.graph.input if value.name not in used and value.name in parameters
    ]:
        graph.graph.input.remove(value)
    return graph


class _Stateless(nn.Module):
    """A module whose parameters are inputs; those of a module are copied several times while it is traced.

    Args:
        module: The module.
        names: Of its parameters, in the order in which they follow its inputs.
    """

    def __init__(self, module: nn.Module, names: list[str]) -> None:
        super().__init__()
        # In a list they are not this module's own.
        self._modules_held = [module]
        self._names = names

    def forward(self, *given: Tensor) -> Any:
        count = len(given) - len(self._names)
        places = []
        for name, tensor in zip(self._names, given[count:], strict=True):
            path, _, leaf = name.rpartition(".")
            held = self._modules_held[0].get_submodule(path)._parameters
            places.append((held, leaf, held[leaf]))
            # Directly, for an attribute must be a parameter; `functional_call` refuses to be traced.
            held[leaf] = tensor  # type: ignore[assignment]
        try:
            return self._modules_held[0](*given[:count])
        finally:
            for held, leaf, parameter in places:
                held[leaf] = parameter


def attach(graph: onnx.ModelProto, prefix: str, *files: Path) -> None:
    """Let a traced graph read its parameters from safetensors files, so that they exist once.

    Args:
        graph: Changed in place: inputs that are parameters become tensors outside.
        prefix: What the graph's names have before those of the files.
        files: They must lie beside the graph when it is used.

    Raises:
        ValueError: A parameter is in no file.
    """
    locations = {prefix + name: location for file in files for name, location in tensor_locations(file)}
    for value in [value for value in graph.graph.input if value.name.startswith(prefix)]:
        if value.name not in locations:
            raise ValueError(f"the graph's parameter {value.name} is in no file of weights")
        graph.graph.input.remove(value)
        graph.graph.initializer.append(external_tensor(value.name, locations[value.name]))


def read_as_stored(graph: onnx.ModelProto) -> None:
    """Let products read their weights in the order of the file, by onnxruntime's own operator.

    It otherwise turns each weight around when the graph is opened: twice the work, and 15 % more memory.
    """
    nodes = graph.graph.node
    outside = {
        tensor.name for tensor in graph.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL
    }
    transposed = {
        node.output[0]: node
        for node in nodes
        if node.op_type == "Transpose" and node.input[0] in outside and _swaps_both(node)
    }
    for node in nodes:
        if node.op_type == "MatMul" and node.input[1] in transposed:
            node.op_type, node.domain = "FusedMatMul", MICROSOFT
            node.input[1] = transposed[node.input[1]].input[0]
            node.attribute.append(helper.make_attribute("transB", 1))
    used = {name for node in nodes for name in node.input}
    for name, node in transposed.items():
        if name not in used:
            nodes.remove(node)
    import_microsoft(graph)


def import_microsoft(graph: onnx.ModelProto) -> None:
    """Let a graph use onnxruntime's own operators."""
    if not any(entry.domain == MICROSOFT for entry in graph.opset_import):
        graph.opset_import.append(helper.make_opsetid(MICROSOFT, 1))


def _swaps_both(node: onnx.NodeProto) -> bool:
    return [list(one.ints) for one in node.attribute if one.name == "perm"] == [[1, 0]]


def external_tensor(name: str, location: dict[str, Any]) -> onnx.TensorProto:
    """Return a tensor that lies in a safetensors file."""
    tensor = onnx.TensorProto(name=name, data_type=_TYPES[location["dtype"]], dims=location["shape"])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key in ("location", "offset", "length"):
        tensor.external_data.add(key=key, value=str(location[key]))
    return tensor
