"""int8 computes what float32 does on the processor at hand; products that saturate are caught and avoided."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest
from safetensors.numpy import load_file
from timar_model.engines import int8_kernels
from timar_model.engines.export import export_onnx
from timar_model.engines.int8_kernels import (
    AS_STORED,
    INT8_WEIGHTS,
    KERNELS,
    LEVELS_7_BIT,
    SEVEN_BITS,
    choose_kernels,
    layer_errors_here,
    products_here,
    seven_bit_weights,
    wrong_layers,
)

from timar_model import find_model, load_model


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """The shipped model on a machine about which nothing is known yet."""
    monkeypatch.setenv("TIMAR_CACHE", str(tmp_path / "cache"))
    return load_model("calm-head")


def saturating_products(folder, kernels):
    """Return int8 layers as x86 without VNNI computes them: u8 x s8, two products added in 16 bits."""
    tensors = load_file(folder / INT8_WEIGHTS)
    if kernels.bits == 7:
        changed = folder.parent / "seven" / INT8_WEIGHTS
        changed.parent.mkdir(exist_ok=True)
        seven_bit_weights(folder / INT8_WEIGHTS).tofile(changed)
        tensors = load_file(changed)

    def layer(x, levels, scale):
        low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
        step = (high - low) / 255
        zero = round(-low / step)
        rounded = (np.rint(x / step) + zero).clip(0, 255)  # (N, in) unsigned bytes
        odd = rounded.shape[1] % 2
        a = np.pad(rounded, ((0, 0), (0, odd))).reshape(len(x), -1, 2, 1).astype(np.int32)
        b = np.pad(levels.astype(np.int32), ((0, odd), (0, 0))).reshape(1, -1, 2, levels.shape[1])
        pairs = (a * b).sum(axis=2).clip(-32768, 32767)  # (N, in / 2, out)
        return (pairs.sum(axis=1) - zero * levels.astype(np.int32).sum(axis=0)) * np.float32(step) * scale

    def products(inputs):
        return {
            name: layer(rows, tensors[f"{name}.int8"], tensors[f"{name}.scale"])
            for name, rows in inputs.items()
        }

    return products


@pytest.fixture
def writable(tmp_path):
    """A copy of the shipped model's int8 files, beside which a test may write."""
    import shutil

    shutil.copytree(find_model("calm-head"), tmp_path / "model")
    return tmp_path / "model"


def test_int8_layers_are_no_further_from_float32_here_than_the_manifest_says(shipped):
    """On any processor: whatever kernels were chosen for it."""
    kernels = choose_kernels(shipped)
    errors = layer_errors_here(shipped.path, kernels, products_here(shipped.path, kernels))
    assert len(errors) == shipped.manifest["engines"]["onnx-int8"]["int8_layers"]
    stated = shipped.manifest["engines"]["onnx-int8"]["largest_error_checked"][f"{kernels.bits} bits"]
    assert max(error for error, _ in errors.values()) <= stated + 1e-3


@pytest.mark.parametrize("kernels", KERNELS.values(), ids=KERNELS)
def test_int8_moves_the_head_as_float32_does(kernels, shipped, make_talk, monkeypatch):
    """Weights of 7 bits, too; weights of 8 only where products do not saturate."""
    if kernels is AS_STORED:
        kernels = choose_kernels(shipped)
    monkeypatch.setattr("timar_model.engines.onnx_engine.choose_kernels", lambda folder: kernels)
    talk = make_talk(200)
    exact, coarse = (shipped.session(name, seed=3) for name in ("onnx", "onnx-int8"))
    assert coarse.engine_name == f"onnx-cpu-int8{'-7bit' if kernels.bits == 7 else ''}"
    difference = 0.0
    for _ in range(40):
        given = talk.turn(exact, 5)
        difference = max(difference, float(np.abs(exact.step(**given) - coarse.step(**given)).max()))
    assert 0 < difference <= 0.01


def test_the_check_catches_products_that_saturate(writable):
    """Seen on a processor with AVX2 only: the head's pitch was off by four times its own spread, silently."""
    found = wrong_layers(writable, AS_STORED, saturating_products(writable, AS_STORED))
    assert len(found) > 10
    assert max(error for error, _ in found.values()) > 0.1
    assert not wrong_layers(writable, SEVEN_BITS, saturating_products(writable, SEVEN_BITS))


def test_a_processor_whose_products_saturate_gets_weights_of_seven_bits_and_the_log_says_so(
    writable, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("TIMAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(int8_kernels, "products_here", saturating_products)
    model = load_model(writable)
    with caplog.at_level(logging.INFO):
        assert model.session("onnx-int8").engine_name == "onnx-cpu-int8-7bit"
    assert "weights of 7 bits, because products with 8 saturate on this processor" in caplog.text
    # It is asked once a processor.
    monkeypatch.setattr(int8_kernels, "products_here", lambda *_: pytest.fail("checked again"))
    assert choose_kernels(model) is SEVEN_BITS


def test_weights_stored_with_seven_bits_run_everywhere_as_they_are(
    writable, tmp_path, monkeypatch, make_talk
):
    """What `timar import` writes where products saturate: nothing is converted at each start."""
    monkeypatch.setenv("TIMAR_CACHE", str(tmp_path / "cache"))
    export_onnx(writable, ("float32", "int8"), weight_bits=7)
    levels = [array for name, array in load_file(writable / INT8_WEIGHTS).items() if name.endswith(".int8")]
    assert max(int(np.abs(array.astype(int)).max()) for array in levels) == LEVELS_7_BIT
    assert not wrong_layers(writable, AS_STORED, saturating_products(writable, AS_STORED))
    model = load_model(writable)
    assert not choose_kernels(model).is_converted
    exact, coarse = (model.session(name, seed=3) for name in ("onnx", "onnx-int8"))
    assert coarse.engine_name == "onnx-cpu-int8-7bit"
    talk = make_talk(50)
    for _ in range(10):
        given = talk.turn(exact, 5)
        assert 0 < np.abs(exact.step(**given) - coarse.step(**given)).max() <= 0.02


def test_int8_that_is_wrong_whatever_the_weights_is_refused_by_layer(writable, tmp_path, monkeypatch):
    monkeypatch.setenv("TIMAR_CACHE", str(tmp_path / "cache"))

    def wrong(folder, kernels):
        exact = products_here(folder, kernels)

        def products(inputs):
            return {**exact(inputs), "head.time1": 3.0 * exact(inputs)["head.time1"]}

        return products

    monkeypatch.setattr(int8_kernels, "products_here", wrong)
    with pytest.raises(ValueError, match=r"use the engine onnx; .*head\.time1 is off by 199\.\d %"):
        load_model(writable).session("onnx-int8")


def test_a_folder_exported_without_the_check_goes_by_the_processors_instructions(shipped, monkeypatch):
    files = {name: facts for name, facts in shipped.manifest["files"].items() if not name.startswith("check")}
    older = dataclasses.replace(shipped, manifest={**shipped.manifest, "files": files})
    for flags, expected in (({"avx2"}, SEVEN_BITS), ({"avx2", "avx512_vnni"}, AS_STORED)):
        monkeypatch.setattr(int8_kernels, "cpu_flags", lambda flags=flags: flags)
        assert choose_kernels(older) is expected
