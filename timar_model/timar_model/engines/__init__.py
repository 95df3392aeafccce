"""Engines by name: the built-in ones, and those that other packages bring as entry points `timar.engines`.

An engine's entry point names a function that takes a `ModelFolder` and a number of threads and returns an
`Engine`; the first line of its docstring is what `timar engines` prints about it.
"""

from __future__ import annotations

from collections.abc import Callable

from timar_common.extensions import extension_names, load_extension

from timar_model.engines.engine import Engine
from timar_model.engines.environment import illegal_instruction
from timar_model.model_folder import ModelFolder

__all__ = [
    "BUILT_IN",
    "GROUP",
    "Engine",
    "ModelFolder",
    "OpenEngine",
    "engine_names",
    "find_engine",
    "open_engine",
]

GROUP = "timar.engines"

OpenEngine = Callable[[ModelFolder, int], Engine]


def open_engine(name: str, folder: ModelFolder, threads: int = 1) -> Engine:
    """Open an engine of a model folder.

    Args:
        name: A built-in or installed engine's, or ``module:function``.
        folder: The model's.
        threads: Threads of the arithmetic.

    Raises:
        ValueError: There is no such engine, or it cannot run this folder.
        FileNotFoundError: The folder lacks the engine's graphs; the message says how to write them.
        ImportError: What the engine needs is not installed.
    """
    if dies := illegal_instruction(_COMPUTES_BY.get(name, "")):
        raise ValueError(dies)
    try:
        return find_engine(name)(folder, threads)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the engine {name!r} cannot run here: {missing_package(str(error.name))}; or choose another",
            name=error.name,
        ) from error


def missing_package(package: str) -> str:
    """Say that a package is missing, with the remedy."""
    return f"{package} is not installed (pip install {package})"


def find_engine(name: str) -> OpenEngine:
    """Return what opens an engine.

    Raises:
        ValueError: There is no engine of that name; the message says which there are.
    """
    found: OpenEngine = load_extension(GROUP, name, BUILT_IN, what="the engine")
    return found


def engine_names() -> list[str]:
    """Return the names of all engines, the built-in ones first."""
    return [*BUILT_IN, *(name for name in extension_names(GROUP) if name not in BUILT_IN)]


def _torch(folder: ModelFolder, threads: int) -> Engine:
    """Compute in float32 by torch; any number of denoising steps."""
    from timar_model.engines.torch_engine import TorchEngine

    return TorchEngine.from_folder(folder, threads)


def _torch_bfloat16(folder: ModelFolder, threads: int) -> Engine:
    """Compute in bfloat16 by torch: half the memory."""
    import torch

    from timar_model.engines.torch_engine import TorchEngine

    return TorchEngine.from_folder(folder, threads, torch.bfloat16)


def _onnx(folder: ModelFolder, threads: int) -> Engine:
    """Compute by onnxruntime without torch: float32 on the CPU, float16 on CUDA or TensorRT."""
    from timar_model.engines.onnx_engine import OnnxEngine

    return OnnxEngine.from_folder(folder, threads)


def _onnx_int8(folder: ModelFolder, threads: int) -> Engine:
    """Compute by onnxruntime on the CPU with int8 products: the fastest there."""
    from timar_model.engines.onnx_engine import OnnxEngine

    return OnnxEngine.from_folder(folder, threads, "int8")


BUILT_IN: dict[str, OpenEngine] = {
    "torch": _torch,
    "torch-bf16": _torch_bfloat16,
    "onnx": _onnx,
    "onnx-int8": _onnx_int8,
}
_COMPUTES_BY = {"torch": "torch", "torch-bf16": "torch", "onnx": "onnxruntime", "onnx-int8": "onnxruntime"}
