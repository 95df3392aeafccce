"""Check int8 layers by the kernels that will run, and choose weights that this processor multiplies right.

On x86 without VNNI, onnxruntime adds two products of an unsigned and a signed byte in 16 bits. 2 * 255 * 127
does not fit and saturates, without an error. The export therefore stores rows of each layer's input with what
float32 makes of them, and the graph of these layers alone, which is run once a processor and onnxruntime.

Weights of 7 bits cannot saturate, since 2 * 255 * 64 fits, and keep the fast kernel. Where a folder holds 8
bits, 7 are made of them as the graphs are opened; `timar import` stores what its processor needs.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from timar_model.machine import cpu_flags, remembered
from timar_model.model_folder import ModelFolder, tensor_locations

INT8_WEIGHTS = "model.int8.safetensors"
CHECK_GRAPH, CHECK_ROWS = "check.int8.onnx", "check.int8.safetensors"
LEVELS, LEVELS_7_BIT = 127, 64
"""The largest level of a weight of 8 bits, and of 7."""

Array = npt.NDArray[np.float32]
Products = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""From the input of each layer to its output: what is checked."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Int8Kernels:
    """A way of computing int8 layers."""

    label: str
    bits: int
    """Of the weights."""
    is_converted: bool = False
    """Whether they are made of stored ones of 8 bits as the graphs are opened."""

    def options_for(self, options: Any, folder: Path) -> Any:
        """Prepare onnxruntime's options; keep what is returned until the graph is open."""
        if not self.is_converted:
            return None
        # Given one file from memory, onnxruntime wants all of them from there; mapped, they cost nothing.
        files: dict[str, npt.NDArray[np.uint8]] = {
            path.name: np.memmap(path, np.uint8, "r") for path in sorted(folder.glob("*.safetensors"))
        }
        files[INT8_WEIGHTS] = seven_bit_weights(folder / INT8_WEIGHTS)
        names, contents = [*files], [*files.values()]
        options.add_external_initializers_from_files_in_memory(names, contents, [c.size for c in contents])
        return contents


AS_STORED = Int8Kernels("weights of 8 bits", 8)
STORED_SEVEN_BITS = Int8Kernels("weights of 7 bits, as they are stored", 7)
SEVEN_BITS = Int8Kernels("weights of 7 bits, because products with 8 saturate on this processor", 7, True)
KERNELS = {"8 bits": AS_STORED, "7 bits": SEVEN_BITS}
"""In the order in which they are tried."""
INSTRUCTIONS = {
    "amx_int8": "AMX",
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX-VNNI",
    "i8mm": "the matrix instructions of ARM",
    "asimddp": "the dot products of ARM",
}
"""What multiplies bytes without saturating, by Linux's names of a processor's flags, best first."""


def weight_bits_here() -> int:
    """Return the bits that int8 weights should have on this processor: 7 where products saturate."""
    return 8 if cpu_flags() & {*INSTRUCTIONS} else 7


def choose_kernels(folder: ModelFolder) -> Int8Kernels:
    """Return the kernels that compute a folder's int8 layers right on this processor, 8 bits if they do.

    Of a folder that was exported without the check, the processor's flags decide.

    Raises:
        ValueError: None computes them right; the message names a layer and its errors.
    """
    import onnxruntime

    if CHECK_ROWS not in folder.manifest["files"]:
        return AS_STORED if weight_bits_here() == 8 else SEVEN_BITS
    key = {"onnxruntime": onnxruntime.__version__, "model": folder.sha256, "kernels": [*KERNELS]}
    kernels = KERNELS[remembered("int8", key, lambda: _first_right(folder.path))]
    if kernels is AS_STORED and folder.manifest["engines"].get("onnx-int8", {}).get("weight_bits", 8) == 7:
        kernels = STORED_SEVEN_BITS
    _log.log(logging.WARNING if kernels.is_converted else logging.INFO, "int8: %s", kernels.label)
    return kernels


def _first_right(folder: Path) -> str:
    wrong = ""
    for name, kernels in KERNELS.items():
        found = wrong_layers(folder, kernels, products_here(folder, kernels))
        if not found:
            return name
        layer, (error, allowed) = max(found.items(), key=lambda item: item[1][0])
        wrong += (
            f"; with {name} {layer} is off by {100 * error:.1f} %, expected at most {100 * allowed:.1f} %"
        )
    raise ValueError(f"int8 products are wrong on this processor, use the engine onnx{wrong}")


def layer_errors_here(
    folder: Path, kernels: Int8Kernels, products: Products
) -> dict[str, tuple[float, float]]:
    """Return each layer's relative error by `products`, and the one that exact products of bytes have."""
    from safetensors.numpy import load_file

    rows = load_file(folder / CHECK_ROWS)
    layers = [name.removesuffix(".input") for name in rows if name.endswith(".input")]
    made = products({layer: rows[f"{layer}.input"] for layer in layers})
    found = {}
    for layer in layers:
        expected = rows[f"{layer}.output"]
        size = max(float(np.linalg.norm(expected)), 1e-12)
        error = float(np.linalg.norm(made[layer] - expected)) / size
        found[layer] = error, float(rows[f"{layer}.errors"][int(kernels.is_converted)])
    return found


def wrong_layers(folder: Path, kernels: Int8Kernels, products: Products) -> dict[str, tuple[float, float]]:
    """Return the layers whose error is larger than exact products explain: theirs, and what is allowed."""
    found = {}
    for layer, (error, exact) in layer_errors_here(folder, kernels, products).items():
        # A level that rounds to the other side is no fault.
        allowed = 1.2 * exact + 1e-3
        if not error <= allowed:
            found[layer] = error, allowed
    return found


def products_here(folder: Path, kernels: Int8Kernels) -> Products:
    """Return the layers as this machine's onnxruntime computes them."""

    def run(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        from timar_model.engines.onnx_engine import open_graph_file

        graph = open_graph_file(folder / CHECK_GRAPH, ["CPUExecutionProvider"], kernels=kernels)
        named = {f"{layer}.input": rows for layer, rows in inputs.items()}
        made = graph.run([f"{layer}.output" for layer in inputs], named)
        return dict(zip(inputs, made, strict=True))

    return run


def seven_bit_weights(path: Path) -> npt.NDArray[np.uint8]:
    """Return a file of int8 weights with levels of at most 64 instead of 127, and scales to match."""
    content = np.fromfile(path, np.uint8)
    for name, location in tensor_locations(path):
        part = content[location["offset"] : location["offset"] + location["length"]]
        if name.endswith(".int8"):
            part[:] = np.frombuffer(part.tobytes().translate(_SEVEN_BITS), np.uint8)
        elif name.endswith(".scale"):
            scale = part.view(np.float32)
            scale *= np.float32(LEVELS / LEVELS_7_BIT)
    return content


_SEVEN_BITS = (
    np.rint(np.arange(256, dtype=np.uint8).view(np.int8) * (LEVELS_7_BIT / LEVELS)).astype(np.int8).tobytes()
)
"""The level of 7 bits for each byte."""
