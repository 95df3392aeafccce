"""What keeps engines from running a model folder on this machine."""

from __future__ import annotations

import importlib.util

from timar_model.engines import engine_names, find_engine, missing_package
from timar_model.engines.environment import illegal_instruction
from timar_model.engines.onnx_engine import BACKBONE, SPEECH, export_command, variant_file
from timar_model.model_folder import ModelFolder


def obstacles(folder: ModelFolder) -> dict[str, str]:
    """Return for each engine why it cannot run a folder here, or ""; of one from outside, if it is found."""
    needed, graphs = ["torch"], [BACKBONE]
    if folder.config.speech_encoder == "wav2vec2":
        needed.append("transformers")
        graphs.append(SPEECH)
    no_torch = "; ".join(missing_package(name) for name in needed if not is_installed(name))
    no_torch = no_torch or illegal_instruction("torch")
    found = {"torch": no_torch, "torch-bf16": no_torch}
    for name, variant in (("onnx", "float32"), ("onnx-int8", "int8")):
        files = [variant_file(graph, variant) for graph in graphs]
        lacking = [file for file in files if file not in folder.manifest["files"]]
        is_there = is_installed("onnxruntime")
        found[name] = illegal_instruction("onnxruntime") if is_there else missing_package("onnxruntime")
        if lacking and not found[name]:
            command = export_command(folder.path, variant)
            found[name] = f"{folder.path} lacks {', '.join(lacking)} ({command})"
    for name in engine_names():
        if name not in found:
            try:
                find_engine(name)
                found[name] = ""
            except ValueError as error:
                found[name] = str(error)
    return found


def is_installed(package: str) -> bool:
    """Tell whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None
