"""What onnxruntime can compute on here: a provider that it brings may lack its libraries or its device."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import warnings
from pathlib import Path

PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
"""Best first."""
_LIBRARIES = {
    "TensorrtExecutionProvider": "libonnxruntime_providers_tensorrt.so",
    "CUDAExecutionProvider": "libonnxruntime_providers_cuda.so",
}
_SMALLEST_GRAPH = (
    b'\x08\x08:3\n\x0c\n\x01x\x12\x01y"\x04Relu\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
"""Rectifies a number: only a session tells whether a provider runs."""


def usable_providers() -> list[str]:
    """Return the providers that run here, best first."""
    return [name for name, obstacle in provider_obstacles().items() if not obstacle]


@functools.cache
def provider_obstacles() -> dict[str, str]:
    """Return for each provider that onnxruntime brings, best first, why it does not run here, or ""."""
    import onnxruntime

    return {name: _obstacle(name) for name in PROVIDERS if name in onnxruntime.get_available_providers()}


def _obstacle(name: str) -> str:
    import onnxruntime

    if name not in _LIBRARIES:
        return ""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # It says what it lacks several times, in words of its own, and computes on the CPU instead.
    onnxruntime.set_default_logger_severity(4)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            session = onnxruntime.InferenceSession(_SMALLEST_GRAPH, options, providers=[name])
        if name in session.get_providers():
            return ""
        reason = _missing_library(_LIBRARIES[name]) or "no device is there"
    except Exception as error:  # onnxruntime's errors have no common class.
        reason = (str(error).splitlines() or [""])[0]
    finally:
        onnxruntime.set_default_logger_severity(2)
    return (
        f"onnxruntime-gpu {onnxruntime.__version__} promises {name} and cannot load it ({reason}); install "
        "what it needs (pip install onnxruntime-gpu[cuda,cudnn], TensorRT also tensorrt); the CPU computes"
    )


def _missing_library(name: str) -> str:
    """Return what the dynamic linker says of a provider's library; empty where it finds all."""
    import onnxruntime

    folder = Path(onnxruntime.__file__).parent / "capi"
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(folder / name))
    except OSError as error:
        return str(error)
    return ""
