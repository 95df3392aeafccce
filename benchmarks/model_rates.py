"""What the machine's bare int8 products do, and where a pass of the int8 backbone spends its time."""

from __future__ import annotations

import collections
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from timar_model.architecture.inputs import MotionStatistics
from timar_model.engines.onnx_engine import BACKBONE, HEAD, OnnxEngine, open_graph, variant_file
from timar_model.model_folder import read_model
from timar_model.session.session import Session

TOKENS = 110
SHAPES = {"square": (1024, 1024, 1024), "shape": (TOKENS, 1024, 4096)}
RATES = {
    "int8 square": "one product of (1024, 1024) and (1024, 1024), over and over",
    "int8 shape": "one of the backbone's shape, (110, 1024) and (1024, 4096), its weights in the cache",
    "int8 pass": "the backbone's own 128 products, one after the other, each with its own weights",
}
GROUPS = {
    "products": ("DynamicQuantizeMatMul", "MatMul", "FusedMatMul", "Gemm"),
    "attention": ("MultiHeadAttention",),
    "GELU": ("Gelu", "BiasGelu"),
    "norms and sums": ("LayerNormalization", "SkipLayerNormalization", "Add"),
}
MOVES = "moving (into heads, into the ring, between widths)"


def bare_products(folder: Path, threads: int) -> dict[str, tuple[Callable[[], object], float]]:
    """Return bare products by name: the work, and how many floating point operations one call is."""
    random = np.random.default_rng(0)
    found: dict[str, tuple[Callable[[], object], float]] = {}
    for name, (rows, into, out) in SHAPES.items():
        weight = random.integers(-127, 128, (into, out), np.int8)
        x = random.integers(0, 256, (rows, into), np.uint8)
        run = _product("MatMulInteger", TensorProto.UINT8, TensorProto.INT32, x, weight, threads)
        found[f"int8 {name}"] = (_eight_times(run), 8 * 2.0 * rows * into * out)
    rows, into, out = SHAPES["shape"]
    weights = random.standard_normal((into, out), np.float32)
    x = random.standard_normal((rows, into), np.float32)
    run = _product("MatMul", TensorProto.FLOAT, TensorProto.FLOAT, x, weights, threads)
    found["float32 shape"] = (_eight_times(run), 8 * 2.0 * rows * into * out)
    found["int8 pass"] = _whole_pass(folder, threads)
    return found


def profile(model, turns, threads: int) -> dict[str, float]:
    """Return the milliseconds of one int8 pass on a full ring by kind of work, by onnxruntime's own clock.

    Args:
        model: The loaded model.
        turns: Arguments of as many turns as fill the window, and some more.
        threads: Of onnxruntime.
    """
    with tempfile.TemporaryDirectory() as scratch:
        options = _options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(scratch) / "pass")
        file = model.path / variant_file(BACKBONE, "int8")
        backbone = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        head = open_graph(model.path, HEAD, ["CPUExecutionProvider"], threads, variant="int8")
        features = OnnxEngine.from_folder(read_model(model.path), threads, "int8").speech_features()
        engine = OnnxEngine(model.config, "int8", {BACKBONE: backbone, HEAD: head}, features)
        session = Session(engine, features, MotionStatistics(), model.config.sampling, rollback_turns=1)
        for arguments in turns:
            session.step(*arguments)
        events = json.loads(Path(backbone.end_profiling()).read_text())
    nodes = [event for event in events if event.get("cat") == "Node" and "op_name" in event.get("args", {})]
    nodes = [event for event in nodes if event["name"].endswith("kernel_time")]
    times: dict[tuple[str, str], list[float]] = collections.defaultdict(list)
    for event in nodes:
        times[event["args"]["op_name"], event["name"]].append(event["dur"] / 1e3)
    of_kind = {name: 0.0 for name in (*GROUPS, MOVES)}
    kinds = {op: name for name, ops in GROUPS.items() for op in ops}
    for (op, _), took in times.items():
        of_kind[kinds.get(op, MOVES)] += float(np.median(took))
    return of_kind


def _product(op: str, kind: int, out: int, x, weight, threads: int) -> Callable[[], object]:
    ends = [helper.make_tensor_value_info("x", kind, x.shape), helper.make_tensor_value_info("y", out, None)]
    nodes = [helper.make_node(op, ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "product", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    session = _opened(graph, threads)
    return lambda: session.run(None, {"x": x})


def _eight_times(run: Callable[[], object]) -> Callable[[], object]:
    return lambda: [run() for _ in range(8)]


def _whole_pass(folder: Path, threads: int) -> tuple[Callable[[], object], float]:
    """Return all int8 products of the backbone's blocks in one graph, on the folder's own weights."""
    graph = onnx.load(str(folder / variant_file(BACKBONE, "int8")), load_external_data=False).graph
    weights = [
        tensor
        for tensor in graph.initializer
        if tensor.name.startswith("blocks.") and tensor.name.endswith(".int8")
    ]
    nodes, flops, widths = [], 0.0, sorted({tensor.dims[0] for tensor in weights})
    for number, tensor in enumerate(weights):
        into, out = tensor.dims
        flops += 2.0 * TOKENS * into * out
        nodes.append(helper.make_node("MatMulInteger", [f"x{into}", tensor.name], [f"y{number}"]))
        # So that what comes of it is let go at once, as in the backbone.
        nodes.append(helper.make_node("Slice", [f"y{number}", "zero", "one", "zero"], [f"z{number}"]))
    ends = [
        [helper.make_tensor_value_info(f"x{width}", TensorProto.UINT8, (TOKENS, width)) for width in widths],
        [
            helper.make_tensor_value_info(f"z{number}", TensorProto.INT32, None)
            for number in range(len(weights))
        ],
    ]
    numbers = [numpy_helper.from_array(np.array([n]), name) for n, name in enumerate(("zero", "one"))]
    made = helper.make_graph(nodes, "pass", *ends, [*weights, *numbers])
    path = folder / "bare_products.onnx"
    try:
        session = _opened(made, threads, path)
    finally:
        path.unlink()
    random = np.random.default_rng(0)
    feed = {f"x{width}": random.integers(0, 256, (TOKENS, width), np.uint8) for width in widths}
    return lambda: session.run(None, feed), flops


def _opened(graph: onnx.GraphProto, threads: int, path: Path | None = None) -> onnxruntime.InferenceSession:
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if path is None:
        return onnxruntime.InferenceSession(made.SerializeToString(), _options(threads))
    path.write_bytes(made.SerializeToString())
    return onnxruntime.InferenceSession(str(path), _options(threads))


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _main() -> None:
    """Print the bare rates of a folder: python benchmarks/model_rates.py FOLDER [THREADS]."""
    folder, threads = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 2
    for name, (work, flops) in bare_products(folder, threads).items():
        took = []
        for _ in range(12):
            started = time.perf_counter()
            work()
            took.append(time.perf_counter() - started)
        print(f"{name}: {flops / np.median(took) / 1e9:.0f} GFLOP/s")


if __name__ == "__main__":
    _main()
