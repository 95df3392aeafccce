"""Both engines come from the same folder, compute the same, and the ONNX one needs no torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from timar_model.engines.export import export_onnx
from timar_model.engines.onnx_engine import OnnxEngine
from timar_model.model_folder import add_files, read_model, save_model

from timar_model import load_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, network):
    path = tmp_path_factory.mktemp("engines") / "model"
    save_model(path, network, provenance={"seed": 0})
    (path / "README.md").write_text("By whom, from what.\n")
    export_onnx(path)
    return path


@pytest.mark.slow
def test_engines_draw_the_same_motion(folder, talk):
    model = load_model(folder)
    sessions = [model.session(engine=name, seed=4, guidance=1.3) for name in ("torch", "onnx")]
    for frames in [5] * 8 + [2, 9, 5]:
        motion = [session.step(**talk.turn(session, frames)) for session in sessions]
        np.testing.assert_allclose(motion[1], motion[0], rtol=0, atol=5e-5)


def test_graphs_are_part_of_the_verified_folder(folder):
    manifest = load_model(folder).manifest
    assert {"backbone.onnx", "head.onnx"} <= set(manifest["files"])
    assert manifest["provenance"] == {"seed": 0}
    assert (folder / "README.md").read_text() == "By whom, from what.\n"


def test_weights_exist_once_in_the_folder(folder):
    stored = sum(array.nbytes for array in read_model(folder).weights().values())
    assert (folder / "model.safetensors").stat().st_size >= stored
    for name in ("backbone.onnx", "head.onnx"):
        graph = onnx.load(folder / name, load_external_data=False).graph
        assert any(tensor.external_data for tensor in graph.initializer)
        assert sum(len(tensor.raw_data) for tensor in graph.initializer) < 1000


def test_folder_without_graphs_names_what_is_missing(tmp_path, network):
    save_model(tmp_path / "model", network)
    with pytest.raises(FileNotFoundError, match=r"lacks backbone\.onnx; write it with: timar export"):
        load_model(tmp_path / "model").session(engine="onnx")


def test_steps_the_graphs_were_not_made_for_are_refused(folder, talk):
    session = load_model(folder).session(engine="onnx", steps=3)
    with pytest.raises(ValueError, match="sample by 5 steps, not 3"):
        session.step(**talk.turn(session, 5))


def test_no_threads_are_refused(folder):
    for engine in ("torch", "onnx"):
        with pytest.raises(ValueError, match="0 threads, expected at least 1"):
            load_model(folder).session(engine=engine, threads=0)


def test_onnx_engine_imports_no_torch(folder):
    program = f"""
import sys
import numpy as np
import timar_model
session = timar_model.load_model({str(folder)!r}).session(engine="onnx")
for _ in range(3):
    motion = session.step(np.zeros(3200, np.float32), None, np.zeros(3200, np.float32))
assert motion.shape == (5, 56), motion.shape
print(sorted(name for name in sys.modules if name.split(".")[0] in ("torch", "transformers")))
"""
    found = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT / "timar_model",
        env={"PYTHONPATH": f"{ROOT}/timar_model:{ROOT}/ros2_ws/src/timar_common", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (found.returncode, found.stdout.strip()) == (0, "[]"), found.stderr


def test_sums_of_torch_are_in_a_fixed_order_unless_somebody_chose_another(folder):
    """Two threads of MKL summed by timing on AMD; its mode is set before its first product."""
    program = f"""
import os
import timar_model
import numpy as np
session = timar_model.load_model({str(folder)!r}).session(engine="torch", threads=2)
first = session.step(np.zeros(3200, np.float32), None, np.ones(3200, np.float32) / 9)
session.rollback(0)
again = session.step(np.zeros(3200, np.float32), None, np.ones(3200, np.float32) / 9)
assert first.tobytes() == again.tobytes()
print(os.environ["MKL_CBWR"])
"""
    path = f"{ROOT}/timar_model:{ROOT}/ros2_ws/src/timar_common"
    for chosen, expected in (({}, "AUTO"), ({"MKL_CBWR": "COMPATIBLE"}, "COMPATIBLE")):
        found = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONPATH": path, **chosen},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert (found.returncode, found.stdout.strip()) == (0, expected), found.stderr


def test_an_engine_whose_package_is_missing_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModuleNotFoundError, match=r"not installed \(pip install onnxruntime\)"):
        load_model(folder).session(engine="onnx")


def test_provider_that_onnxruntime_promises_and_cannot_load_is_one_sentence_and_not_used(
    tmp_path, make_network, monkeypatch, caplog
):
    """onnxruntime-gpu without CUDA's libraries imports, promises CUDA and computes on the CPU."""
    import onnxruntime
    from timar_model.engines import providers

    promised = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: promised)
    providers.provider_obstacles.cache_clear()
    try:
        assert providers.usable_providers() == ["CPUExecutionProvider"]
        sentence = providers.provider_obstacles()["CUDAExecutionProvider"]
        assert "promises CUDAExecutionProvider and cannot load it" in sentence
        save_model(tmp_path / "model", make_network())
        export_onnx(tmp_path / "model", ("float32", "float16"))
        with caplog.at_level("WARNING"):
            engine = OnnxEngine.from_folder(read_model(tmp_path / "model"))
        assert engine.label == "onnx-cpu-float32"
        assert sentence in caplog.messages
    finally:
        providers.provider_obstacles.cache_clear()


def test_graphs_that_another_version_exported_are_named_with_the_command_that_writes_them_anew(
    tmp_path, folder
):
    shutil.copytree(folder, tmp_path / "model")
    graph = onnx.load(tmp_path / "model" / "backbone.onnx", load_external_data=False)
    old = next(one.name for one in graph.graph.input if "ring" not in one.name)
    graph.graph.input[[one.name for one in graph.graph.input].index(old)].name = "earlier_name"
    for node in graph.graph.node:
        node.input[:] = ["earlier_name" if name == old else name for name in node.input]
    changed = tmp_path / "backbone.onnx"
    changed.write_bytes(graph.SerializeToString())
    add_files(tmp_path / "model", changed)
    with pytest.raises(
        ValueError, match=r"was exported by another version: .* export it again: timar export"
    ):
        load_model(tmp_path / "model").session("onnx")
