"""What keeps engines back on a machine is said, with what is used instead; the facts are made up."""

import signal
import subprocess
import types

import onnx
import pytest
from timar_model.engines import environment, open_engine
from timar_model.engines.environment import EnvironmentFacts, environment_troubles, find_facts
from timar_model.engines.obstacles import obstacles
from timar_model.engines.onnx_engine import open_graph_file
from timar_model.loading import find_model
from timar_model.model_folder import read_model

GPU = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")


@pytest.fixture(scope="module")
def folder():
    return read_model(find_model("talking-head"))


@pytest.fixture
def no_avx(monkeypatch):
    """A processor without AVX; the trial of a package ends as a test says."""
    statuses = {}
    monkeypatch.setattr(environment, "find_facts", lambda: EnvironmentFacts(cpu_flags=frozenset(("sse4_2",))))

    def trial(command, **_):
        package = next(name for name, code in environment._TRIALS.items() if code == command[2])
        return types.SimpleNamespace(returncode=statuses.get(package, 0))

    monkeypatch.setattr(subprocess, "run", trial)
    environment.illegal_instruction.cache_clear()
    yield statuses
    environment.illegal_instruction.cache_clear()


def test_a_machine_that_lacks_nothing_says_nothing():
    facts = EnvironmentFacts(
        packages={"onnxruntime-gpu": "1.32.0"}, built_for={"onnxruntime-gpu": (12, 8)}, driver=(12, 2)
    )
    assert environment_troubles(facts) == ()
    assert environment_troubles(EnvironmentFacts(machine="aarch64", cpu_flags=frozenset(("neon",)))) == ()
    assert environment_troubles(EnvironmentFacts(cpu_flags=frozenset())) == ()


def test_a_driver_too_old_for_what_was_installed_is_named_with_both_versions():
    facts = EnvironmentFacts(built_for={"onnxruntime-gpu": (12, 8), "torch": (11, 8)}, driver=(11, 4))
    (sentence,) = environment_troubles(facts)
    assert "the NVIDIA driver runs CUDA up to 11.4, and onnxruntime-gpu was built for 12.8" in sentence
    assert "the CPU computes instead. Update the driver to one for CUDA 12" in sentence


def test_two_onnxruntimes_in_one_folder_are_named_with_what_is_used_and_how_to_mend_it():
    facts = EnvironmentFacts(
        packages={"onnxruntime": "1.20.1", "onnxruntime-gpu": "1.32.0"}, imported="1.20.1", providers=GPU[2:]
    )
    (sentence,) = environment_troubles(facts)
    assert "onnxruntime 1.20.1 and onnxruntime-gpu 1.32.0 are installed over each other" in sentence
    assert "import brings 1.20.1, and what it computes on is used: CPU" in sentence
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in sentence


def test_a_processor_without_avx_is_named_and_what_survives_there_is_used(no_avx, folder):
    (sentence,) = environment_troubles(environment.find_facts())
    assert "this processor has no AVX" in sentence
    assert "measures which one holds real time" in sentence
    assert obstacles(folder)["onnx"] == ""


def test_an_engine_that_would_end_by_an_illegal_instruction_is_never_opened(no_avx, folder):
    """The process would be gone without a word."""
    no_avx["onnxruntime"] = -signal.SIGILL
    found = obstacles(folder)
    assert "onnxruntime" in found["onnx"]
    assert "ends with an illegal instruction on this processor, which has no AVX" in found["onnx"]
    assert found["torch"] == ""
    with pytest.raises(ValueError, match="illegal instruction"):
        open_engine("onnx", folder)


@pytest.mark.parametrize(
    ("ir_version", "opset", "said"),
    [(99, 17, "ONNX IR version 99, onnxruntime .* reads up to"), (8, 99, "opset 99, which onnxruntime")],
)
def test_a_graph_that_newer_software_exported_names_both_versions(tmp_path, ir_version, opset, said):
    number = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [number("x", 1, [1])], [number("y", 1, [1])]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    model.ir_version = ir_version
    path = tmp_path / "backbone.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=f"exported by a newer version .*{said}.*engine:=auto takes torch"):
        open_graph_file(path, ["CPUExecutionProvider"])


def test_the_facts_of_this_machine_are_found():
    facts = find_facts()
    assert facts.imported
    assert list(facts.packages)
    assert environment._version_of_torch("2.13.0+cu126") == (12, 6)
    assert environment._version_of_torch("2.13.0+cpu") is None
    assert environment._version("12.8") == (12, 8)
