"""Exported variants: int8 stays near float32, float16 lives in device memory, hostile files are refused."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import onnx
import pytest
from timar_model.architecture.inputs import MotionStatistics, speech_features
from timar_model.engines.export import export_onnx
from timar_model.engines.onnx_engine import BACKBONE, DeviceMemory, OnnxEngine, open_graph
from timar_model.engines.quantise import layer_errors, quantise_weight
from timar_model.engines.torch_engine import TorchEngine
from timar_model.model_folder import MANIFEST, read_model, save_model
from timar_model.session.session import Session

from timar_model import find_model, load_model

GROUPS = {"neck": slice(53, 56), "jaw": slice(50, 53)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, network):
    path = tmp_path_factory.mktemp("exports") / "model"
    save_model(path, network)
    export_onnx(path, ("float32", "int8", "float16"))
    return path


@pytest.mark.slow
def test_exported_graph_over_fifty_turns_equals_torch(folder, talk):
    model = load_model(folder)
    exact, found = (model.session(name, seed=2) for name in ("torch", "onnx"))
    lengths = [3, 1, 2, 5, 4] * 10
    for frames in lengths:
        arguments = talk.turn(exact, frames)
        expected = exact.step(**arguments)
        np.testing.assert_allclose(found.step(**arguments), expected, rtol=0, atol=1e-4)


def test_weights_in_bytes_are_within_half_a_step_of_each_output():
    weight = np.random.default_rng(0).standard_normal((7, 30)).astype(np.float32)
    weight[3] *= 1e-3
    levels, scale = quantise_weight(weight)
    assert levels.dtype == np.int8
    error = np.abs(levels.T * scale[:, None] - weight)
    assert np.all(error <= 0.5001 * scale[:, None])


def test_layers_that_suffer_stay_float_and_are_listed(tmp_path, make_network):
    import torch

    network = make_network(seed=3)
    with torch.no_grad():
        # One value of the layer's input far above all others takes the steps from them.
        network.blocks[1].norm2.weight[0] = 3000.0
        network.blocks[1].expand.weight[:, 0] = 0.0
    assert layer_errors(network, None)["blocks.1.expand"].error > 0.03
    save_model(tmp_path / "model", network)
    facts = export_onnx(tmp_path / "model", ("float32", "int8")).manifest["engines"]["onnx-int8"]
    assert "blocks.1.expand" in facts["float_layers"]
    assert facts["largest_error_int8"] <= 0.03
    graph = onnx.load(str(tmp_path / "model" / "backbone.int8.onnx"), load_external_data=False)
    names = {tensor.name for tensor in graph.graph.initializer}
    assert "model.blocks.1.expand.weight" in names
    assert "blocks.0.expand.int8" in names


@pytest.mark.slow
def test_equal_parameters_stay_each_layers_own(tmp_path, network):
    """Fresh biases are all zero; the tracer kept one, and products added theirs in a step of its own."""
    import copy

    import torch

    fresh = copy.deepcopy(network)
    with torch.no_grad():
        for name, parameter in fresh.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    save_model(tmp_path / "model", fresh)
    export_onnx(tmp_path / "model", ("float32", "int8"))
    for name in ("backbone.onnx", "backbone.int8.onnx"):
        graph = onnx.load(str(tmp_path / "model" / name), load_external_data=False).graph
        assert not [node for node in graph.node if node.op_type == "Identity"]
        # Nothing is turned around when the graph is opened.
        weights = {tensor.name for tensor in graph.initializer if tensor.name.endswith(".weight")}
        assert not [node for node in graph.node if node.op_type == "Transpose" and node.input[0] in weights]
    products = [node for node in graph.node if node.op_type == "DynamicQuantizeMatMul"]
    assert len(products) > 8
    assert all(product.input[4].endswith(".bias") for product in products)


def conversation(session, make_talk, turns=60):
    talk = make_talk(5 * turns, seed=8)
    return np.concatenate([session.step(**talk.turn(session, 5)) for _ in range(turns)])


def summary(motion):
    """Say what a head does in few numbers: place, spread and speed of neck and jaw."""
    values = []
    for group in GROUPS.values():
        part = motion[:, group]
        values += [part.mean(), part.std(), np.abs(np.diff(part, axis=0)).mean()]
    return np.array(values)


@pytest.mark.slow
def test_int8_of_the_shipped_model_differs_by_less_than_another_seed(tmp_path, make_talk):
    """Trained weights, the same noise: int8 may not matter more than which noise was drawn."""
    import shutil

    shutil.copytree(find_model("calm-head"), tmp_path / "model")
    export_onnx(tmp_path / "model", ("float32", "int8"))
    model = load_model(tmp_path / "model")
    options = {"temperature": 1.0}
    exact = conversation(model.session("onnx", seed=0, **options), make_talk)
    coarse = conversation(model.session("onnx-int8", seed=0, **options), make_talk)
    others = [conversation(model.session("onnx", seed=seed, **options), make_talk) for seed in (1, 2, 3, 4)]
    spread = np.std([summary(motion) for motion in (exact, *others)], axis=0, ddof=1)
    # Two seeds differ by the root of two times the spread of one.
    assert np.all(np.abs(summary(coarse) - summary(exact)) <= 2.0 * spread)
    nearest = min(np.abs(motion - exact)[:, 53:].mean() for motion in others)
    assert np.abs(coarse - exact)[:, 53:].mean() < 0.5 * nearest


@pytest.mark.slow
def test_int8_rows_of_a_batch_do_not_hear_each_other(folder, make_talk):
    from timar_model.session.batch import TurnArguments

    loud = make_talk(160, seed=1)
    loud.user_motion *= 50.0
    same, motion = make_talk(160, seed=0), []
    for other in (make_talk(160, seed=2), loud):
        batch = load_model(folder).batch([1, 2], "onnx-int8")
        for _ in range(4):
            found = batch.step(
                [
                    TurnArguments(**talk.turn(row, 5))
                    for row, talk in zip(batch.rows, (same, other), strict=True)
                ]
            )
        motion.append(found[0])
    np.testing.assert_array_equal(*motion)


@pytest.mark.slow
@pytest.mark.parametrize("is_aliased", [True, False], ids=["in place", "in turns"])
def test_float16_graphs_run_on_rings_in_a_devices_memory(is_aliased, folder, network, talk):
    """No device is here: the same binding, on the CPU's memory, which stands in for it."""
    found = read_model(folder)
    graphs = {
        "backbone.onnx": open_graph(folder, BACKBONE, ["CPUExecutionProvider"], variant="float16"),
        "head.onnx": open_graph(folder, "head.onnx", ["CPUExecutionProvider"]),
    }
    engine = OnnxEngine(found.config, "float16", graphs)
    shape = (network.config.blocks, 1, network.config.heads, network.config.head_dim, 100)
    memory = DeviceMemory("cpu", is_aliased, *shape)
    sessions = [
        Session(one, speech_features(found.config), MotionStatistics(), found.config.sampling, ring=ring)
        for one, ring in ((engine, memory.rings[0]), (TorchEngine(network), None))
    ]
    for _ in range(20):
        motion = [session.step(**talk.turn(session, 5)) for session in sessions]
        # Random weights walk far away, and a half-precision step is as wrong as its place is far.
        assert np.abs(motion[0] - motion[1]).mean() < 0.02 + 1e-3 * np.abs(motion[1]).mean()
    assert memory.capacity > 100


def resign(folder):
    """Let the manifest agree with the files, as somebody who means harm would."""
    manifest = json.loads((folder / MANIFEST).read_text())
    for name in manifest["files"]:
        raw = (folder / name).read_bytes()
        manifest["files"][name] = {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def outside(graph):
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../secret"


def absolute(graph):
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "/etc/passwd"


def linked(graph):
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "link"


def beyond(graph):
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "offset":
                entry.value = str(10**12)


def unknown(graph):
    graph.graph.node[0].op_type = "Shell"


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [outside, absolute, linked, beyond, unknown], ids=lambda change: change.__name__
)
def test_hostile_graph_is_refused_in_one_sentence(change, tmp_path, network):
    path = tmp_path / "model"
    (tmp_path / "secret").write_bytes(b"\0" * 5_000_000)
    save_model(path, network)
    export_onnx(path)
    graph = onnx.load(str(path / BACKBONE), load_external_data=False)
    change(graph)
    (path / "link").symlink_to(tmp_path / "secret")
    (path / BACKBONE).write_bytes(graph.SerializeToString())
    resign(path)
    with pytest.raises(ValueError, match=r"onnxruntime rejects .*backbone\.onnx"):
        load_model(path).session(engine="onnx")


@pytest.mark.slow
def test_graph_of_noise_is_refused(tmp_path, network):
    path = tmp_path / "model"
    save_model(path, network)
    export_onnx(path)
    (path / BACKBONE).write_bytes(np.random.default_rng(0).bytes(5000))
    resign(path)
    with pytest.raises(ValueError, match="onnxruntime rejects"):
        load_model(path).session(engine="onnx")


HEADERS = {
    "longer than the file": (10**15).to_bytes(8, "little") + b"{}",
    "not JSON": (4).to_bytes(8, "little") + b"spam",
    "offsets that overlap": None,
    "offsets beyond the end": None,
}


@pytest.mark.parametrize("name", HEADERS)
def test_hostile_weights_are_refused_in_one_sentence(name, tmp_path, network):
    path = tmp_path / "model"
    save_model(path, network)
    raw = HEADERS[name]
    if raw is None:
        end = 16 if "overlap" in name else 10**12
        facts = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
        header = json.dumps({"a": facts, "b": {**facts, "data_offsets": [0, end]}}).encode()
        raw = len(header).to_bytes(8, "little") + header + b"\0" * 32
    (path / "model.safetensors").write_bytes(raw)
    resign(path)
    with pytest.raises(ValueError, match="is not a safetensors file"):
        load_model(path)
