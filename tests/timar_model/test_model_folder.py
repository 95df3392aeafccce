"""A model folder is read with doubt: what is missing, half there or another's is named in one sentence."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from timar_model.model_folder import MANIFEST, WEIGHTS, read_model, save_model, write_manifest

from timar_model import MotionStatistics, find_model, load_model


@pytest.fixture
def folder(tmp_path, network):
    statistics = MotionStatistics(np.arange(56), np.full(56, 2.0))
    save_model(tmp_path / "model", network, statistics, {"seed": 0})
    return tmp_path / "model"


def shapes_of(weights):
    return {name: array.shape for name, array in weights.items()}


def rewrite(folder, change):
    """Change the weights and sign them anew, as somebody who mixes two models by hand would."""
    found = read_model(folder)
    weights = change(found.weights())
    save_file(weights, folder / WEIGHTS)
    write_manifest(folder, found.config, shapes_of(weights), found.statistics, {})


def test_model_comes_back_as_it_was_saved(folder, network):
    model = load_model(folder)
    assert model.config == network.config
    assert model.manifest["provenance"] == {"seed": 0}
    assert model.manifest["rates"] == {"sample_rate_hz": 16000, "frames_per_second": 25}
    assert len(model.sha256) == 64
    np.testing.assert_array_equal(model.statistics.mean, np.arange(56))
    for name, tensor in network.state_dict().items():
        np.testing.assert_array_equal(read_model(folder).weights()[name], tensor.numpy(), err_msg=name)


def test_saving_twice_replaces_the_model_and_leaves_nothing_beside_it(folder, network):
    first = load_model(folder).sha256
    save_model(folder, network, provenance={"seed": 1})
    assert load_model(folder).sha256 != first
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_model_that_cannot_be_written_leaves_the_old_one(folder, network):
    before = load_model(folder).sha256
    broken = MotionStatistics()
    object.__setattr__(broken, "mean", np.zeros(3))
    with pytest.raises(ValueError, match="motion's mean has shape"):
        save_model(folder, network, broken)
    assert load_model(folder).sha256 == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no model '.*nowhere'"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="shipped"):
        find_model("no-such-head")


@pytest.mark.parametrize("name", ["config.json", WEIGHTS, MANIFEST])
def test_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks {name}"):
        load_model(folder)


def test_truncated_weights_are_noticed_by_their_size(folder):
    raw = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(raw[: len(raw) // 2])
    with pytest.raises(ValueError, match=rf"has {len(raw) // 2} bytes, expected {len(raw)}"):
        load_model(folder)


def test_one_changed_bit_is_noticed(folder):
    raw = bytearray((folder / WEIGHTS).read_bytes())
    raw[-3] ^= 1
    (folder / WEIGHTS).write_bytes(raw)
    with pytest.raises(ValueError, match="is not the file its manifest describes"):
        load_model(folder)


def test_configuration_of_another_size_is_noticed(folder, make_network):
    found = read_model(folder)
    other = make_network(width=48, heads=3).config
    (folder / "config.json").write_text(other.to_json())
    write_manifest(folder, other, shapes_of(found.weights()), found.statistics, {})
    with pytest.raises(ValueError, match=r"config\.json and model\.safetensors belong to different models"):
        load_model(folder).session()


def test_weights_without_a_tensor_are_noticed(folder):
    rewrite(folder, lambda weights: {name: array for name, array in weights.items() if name != "mask"})
    with pytest.raises(ValueError, match="mask of shape None"):
        load_model(folder).session()


def test_weights_that_are_no_safetensors_are_refused(folder):
    found = read_model(folder)
    torch.save({"mask": torch.zeros(3)}, folder / WEIGHTS)
    write_manifest(folder, found.config, {}, found.statistics, {})
    with pytest.raises(ValueError, match="is not a safetensors file"):
        load_model(folder)


HOSTILE = {
    "not JSON": (lambda manifest: "{", "is not JSON"),
    "not an object": (lambda manifest: "[1]", "has format"),
    "another format": (lambda manifest: json.dumps({**manifest, "format": 99}), "has format 99, expected 1"),
    "no shapes": (lambda manifest: json.dumps({**manifest, "shapes": None}), "no shapes of type dict"),
    "no files": (lambda manifest: json.dumps({**manifest, "files": {}}), r"does not list config\.json"),
    "file outside": (
        lambda manifest: json.dumps({**manifest, "files": {**manifest["files"], "../x": {}}}),
        "files of the folder itself",
    ),
    "statistics of another length": (
        lambda manifest: json.dumps({**manifest, "motion_std": [1.0]}),
        "motion's std has shape",
    ),
    "deviation of zero": (
        lambda manifest: json.dumps({**manifest, "motion_std": [0.0] * 56}),
        "expected more than 0",
    ),
    "shapes of another size": (
        lambda manifest: json.dumps({**manifest, "shapes": {**manifest["shapes"], "mask": [7]}}),
        r"mask of shape \[32\], expected \[7\]",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_manifest_is_refused(name, folder):
    change, message = HOSTILE[name]
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(change(manifest))
    with pytest.raises(ValueError, match=message):
        load_model(folder)


def test_unknown_engine_and_option_are_refused_with_the_known_ones(folder):
    with pytest.raises(
        ValueError, match=r"engine is .abacus., expected one of onnx, onnx-int8, torch, torch-bf16"
    ):
        load_model(folder).session(engine="abacus")
    with pytest.raises(
        ValueError,
        match=r"no sampling option .temprature.; did you mean .temperature",
    ):
        load_model(folder).session(temprature=0.5)


def test_link_to_another_file_is_noticed(folder, tmp_path):
    """A link is followed, as stores of models are made of them; what it leads to must be the listed bytes."""
    raw = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).unlink()
    (tmp_path / "elsewhere").write_bytes(raw)
    (folder / WEIGHTS).symlink_to(tmp_path / "elsewhere")
    assert load_model(folder).config
    (tmp_path / "elsewhere").write_bytes(bytes(len(raw)))
    with pytest.raises(ValueError, match="is not the file its manifest describes"):
        load_model(folder)


@pytest.mark.parametrize("name", ["/etc/passwd", "a/b", ".."])
def test_file_that_is_not_of_the_folder_itself_is_not_even_read(name, folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = {"bytes": 0, "sha256": ""}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="files of the folder itself"):
        load_model(folder)
