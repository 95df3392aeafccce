"""Import of a published model, from hub, folder or file to motion; what is wrong with it is a sentence."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from local_hub import HubRepo, local_hub, use_hub
from published_checkpoint import save_run, training_arguments
from safetensors.numpy import load_file, save_file
from timar_model.architecture.reference import authors_state, read_checkpoint, translate
from timar_model.importing import ImportOptions, import_model
from timar_model.model_folder import read_model

from timar_model import commands, load_model

GOLDEN = Path(__file__).parents[1] / "data" / "timar_golden"
ENCODER = GOLDEN / "wav2vec2"
COMMIT, ENCODER_COMMIT = "c" * 40, "d" * 40
ARGUMENTS = {
    "model": "timar_small",
    "encoder_num_heads": 4,
    "max_context_time": 4,
    "speech_snippet_embed_dim": 64,
    "token_embed_dim": 48,
    "diffloss_d": 2,
    "diffloss_w": 64,
}
"""What the golden weights' run would have kept."""
BARE = ImportOptions(variants=(), heads=4, speech_encoder=str(ENCODER))


def golden_weights() -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in load_file(GOLDEN / "timar.safetensors").items()}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The golden weights as the training script saves them, average, moments and arguments included."""
    path = tmp_path_factory.mktemp("published") / "TIMAR.pth"
    return save_run(path, golden_weights(), training_arguments(**ARGUMENTS))


@pytest.fixture
def hub(checkpoint):
    """A hub with the repository as it is published, and the speech encoder by its published name."""
    files = {"TIMAR.pth": checkpoint.read_bytes(), "README.md": b"---\nlicense: apache-2.0\n---\n"}
    encoder = {path.name: path.read_bytes() for path in ENCODER.iterdir()}
    encoder["README.md"] = b"---\nlanguage: en\nlicense: apache-2.0\n---\n"
    repos = {
        "coderchen01/TIMAR": HubRepo({COMMIT: files}),
        "facebook/wav2vec2-large-960h-lv60-self": HubRepo({ENCODER_COMMIT: encoder}),
    }
    with local_hub(repos) as served:
        yield served


def run_command(arguments, home: Path, hub, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `timar import` in a process of its own, with a home, a hub and a cache of its own."""
    environment = {**os.environ, "HOME": str(home), "HF_HOME": str(home / "hub"), "HF_ENDPOINT": hub.url}
    for name in ("XDG_DATA_HOME", "HF_TOKEN", "HF_HUB_CACHE"):
        environment.pop(name, None)
    code = "import sys; from timar_model.commands import import_model; sys.exit(import_model(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def golden_motion(model, engine):
    """Yield a golden conversation's motion turn by turn, found and expected."""
    case = {
        name.removeprefix("masked_history."): array
        for name, array in np.load(GOLDEN / "sampling.npz").items()
        if name.startswith("masked_history.")
    }
    session = model.session(engine)
    for turn in range(2):
        given = [case[name][turn] for name in ("user_speech", "user_motion", "agent_speech")]
        noise = [case[f"noise.{turn}.{draw}"][-25:] for draw in range(6)]
        yield session.step(*given, noise=noise), case["agent_motion"][turn]


@pytest.mark.slow
def test_published_model_comes_from_the_hub_by_one_command_and_gives_the_released_codes_numbers(
    hub, tmp_path
):
    """Broken in the middle, called again, and once more without the hub."""
    hub.breaks = [70_000, 0, 0, 0, 0, 0]
    first = run_command(["hub:coderchen01/TIMAR"], tmp_path, hub)
    assert (first.returncode, first.stdout.count("goes on")) == (1, 0)
    assert "goes on where it stopped" in first.stderr
    assert "Traceback" not in first.stderr
    models = tmp_path / ".local" / "share" / "timar" / "models"
    assert list(models.iterdir()) == []

    second = run_command(["hub:coderchen01/TIMAR"], tmp_path, hub)
    assert second.returncode == 0, second.stderr
    size = len(hub.repos["coderchen01/TIMAR"].commits[COMMIT]["TIMAR.pth"])
    assert hub.served["TIMAR.pth"] == size
    assert f"hub:coderchen01/TIMAR@{COMMIT} has the licence apache-2.0" in second.stdout
    assert "(speech encoder) has the licence apache-2.0" in second.stdout
    assert "as in the paper: 5 sampling steps, no guidance" in second.stdout
    assert 'make run ARGS="model:=TIMAR engine:=auto' in second.stdout

    model = load_model(models / "TIMAR")
    assert {"backbone.onnx", "backbone.int8.onnx", "speech.int8.onnx"} <= set(model.manifest["files"])
    provenance = model.manifest["provenance"]
    assert (provenance["repository"], provenance["revision"]) == ("coderchen01/TIMAR", COMMIT)
    assert provenance["speech_encoder"]["revision"] == ENCODER_COMMIT
    assert provenance["speech_encoder"]["licence"] == "apache-2.0"
    for found, expected in golden_motion(model, "onnx"):
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)

    asked = len(hub.requests)
    third = run_command(["hub:coderchen01/TIMAR", "--no-export"], tmp_path, hub, HF_HUB_OFFLINE="1")
    assert third.returncode == 0, third.stderr
    assert len(hub.requests) == asked
    assert load_model(models / "TIMAR").manifest["provenance"]["revision"] == COMMIT


def test_checkpoint_of_the_released_training_is_read_with_its_arguments(checkpoint, tmp_path):
    """It holds a Namespace with arrays: the published file was rejected as one that might run code."""
    with pytest.raises(Exception, match=r"argparse\.Namespace"):
        torch.load(checkpoint, weights_only=True)
    found = read_checkpoint(checkpoint)
    assert (found.settings["encoder_num_heads"], found.is_of_training) == (4, True)
    folder = import_model(str(checkpoint), tmp_path / "model", dataclasses.replace(BARE, heads=None))
    assert (folder.config.heads, folder.config.window_frames, folder.config.sampling.steps) == (4, 100, 5)
    assert folder.statistics.std.max() == 1.0
    for name, array in translate(load_file(GOLDEN / "timar.safetensors")).items():
        np.testing.assert_array_equal(folder.weights()[name], array, err_msg=name)


def test_units_of_motion_are_the_checkpoints_own_where_it_was_trained_on_them(tmp_path):
    mean, std = np.linspace(-1, 1, 56, dtype=np.float32), np.linspace(0.5, 2, 56, dtype=np.float32)
    arguments = training_arguments(**ARGUMENTS, do_norm=True, mean=mean, std=std)
    path = save_run(tmp_path / "normalised.pth", golden_weights(), arguments)
    statistics = import_model(str(path), tmp_path / "model", BARE).statistics
    np.testing.assert_array_equal(statistics.mean, mean)
    np.testing.assert_array_equal(statistics.std, std)
    del arguments.mean, arguments.std
    save_run(path, golden_weights(), arguments)
    with pytest.raises(
        ValueError, match=r"trained on normalised motion \(do_norm\) and holds no mean and std"
    ):
        import_model(str(path), tmp_path / "model", BARE)


def test_statistics_in_the_released_codes_own_layout_are_read(tmp_path):
    groups = {"exp": 50, "jawpose": 3, "neck": 3}
    stat = {name: {"mean": [float(size)] * size, "std": [2.0] * size} for name, size in groups.items()}
    (tmp_path / "stat_flame.json").write_text(json.dumps(stat))
    shutil.copy(GOLDEN / "timar.safetensors", tmp_path)
    found = import_model(str(tmp_path), tmp_path / "model", BARE).statistics
    assert found.mean.tolist() == [50.0] * 50 + [3.0] * 6


def test_config_beside_the_weights_says_what_no_shape_gives(tmp_path):
    shutil.copy(GOLDEN / "timar.safetensors", tmp_path)
    config = {**json.loads((GOLDEN / "config.json").read_text()), "num_sampling_steps": "7", "cfg": 1.5}
    (tmp_path / "config.json").write_text(json.dumps(config))
    options = dataclasses.replace(BARE, heads=None)
    lines: list[str] = []
    found = import_model(str(tmp_path), tmp_path / "model", options, lines.append).config
    assert (found.heads, found.sampling.steps, found.sampling.guidance) == (4, 7, 1.5)
    assert not any("sampling steps" in line for line in lines)
    (tmp_path / "config.json").write_text(json.dumps({**config, "use_causal_attn": False}))
    with pytest.raises(ValueError, match="was made with use_causal_attn False, expected True"):
        import_model(str(tmp_path), tmp_path / "other", options)


def test_model_folder_of_this_project_comes_from_the_hub_as_it_is(hub, tmp_path, network, monkeypatch):
    from timar_model.model_folder import save_model

    folder = save_model(tmp_path / "mine", network, provenance={"licence": "mine"})
    files = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    hub.repos["me/mine"] = HubRepo({COMMIT: files})
    use_hub(hub, tmp_path / "cache", monkeypatch)
    found = import_model("hub:me/mine", tmp_path / "model", ImportOptions(variants=()))
    assert found.sha256 == folder.sha256


# What is wrong with a checkpoint, and what the sentence says of it.


def _changed(change):
    def write(folder: Path) -> Path:
        weights = load_file(GOLDEN / "timar.safetensors")
        change(weights)
        save_file(weights, folder / "weights.safetensors")
        return folder / "weights.safetensors"

    return write


def _raw(name, content):
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def _code(folder: Path) -> Path:
    class Evil:
        def __reduce__(self):
            return os.system, ("touch " + str(folder / "ran"),)

    torch.save({"model_ema": golden_weights(), "args": Evil()}, folder / "evil.pth")
    return folder / "evil.pth"


def _cut(name):
    def write(folder: Path) -> Path:
        if name.endswith(".pth"):
            save_run(folder / name, golden_weights(), None)
        else:
            shutil.copy(GOLDEN / "timar.safetensors", folder / name)
        raw = (folder / name).read_bytes()
        (folder / name).write_bytes(raw[: len(raw) // 2])
        return folder / name

    return write


def _lora(folder: Path) -> Path:
    save_file(
        {"base.blocks.0.attn.lora_A.weight": np.zeros((4, 64), np.float32)}, folder / "adapter.safetensors"
    )
    return folder / "adapter.safetensors"


def _archive(folder: Path) -> Path:
    np.savez(folder / "weights.npz", mean=np.zeros(3))
    return folder / "weights.npz"


QKV = "encoder_blocks.1.attn.qkv.weight"
BAD = {
    "a pickle with code": (_code, r"loading it would run code \(posix\.system\)"),
    "a missing tensor": (
        _changed(lambda weights: weights.pop(QKV)),
        r"lacks encoder_blocks\.1\.attn\.qkv\.weight of shape \(192, 64\)",
    ),
    "a missing tensor that tells the size": (
        _changed(lambda weights: weights.pop("mask_token")),
        r"lacks mask_token, expected of shape \(1, 1, width\)",
    ),
    "a superfluous tensor": (
        _changed(lambda weights: weights.update({"encoder_blocks.0.attn.gate.weight": np.zeros((2, 3))})),
        "is no weight of the published TIMAR",
    ),
    "a superfluous bias": (
        _changed(lambda weights: weights.update({"z_proj.bias2": np.zeros((2, 3), np.float32)})),
        r"holds z_proj\.bias2 of shape \(2, 3\), which has no place in it",
    ),
    "a misshaped tensor": (
        _changed(lambda weights: weights.update({QKV: np.zeros((192, 32), np.float32)})),
        r"has encoder_blocks\.1\.attn\.qkv\.weight of shape \(192, 32\), expected \(192, 64\)",
    ),
    "a whole block missing": (
        _changed(lambda weights: [weights.pop(name) for name in list(weights) if "blocks.0." in name]),
        r"lacks .* of shape .* \(and \d+ more\)",
    ),
    "Keras": (
        _raw("weights.h5", b"\x89HDF\r\n\x1a\n" + bytes(100)),
        "is an HDF5 file, as TensorFlow and Keras",
    ),
    "Flax": (_raw("flax_model.msgpack", bytes(100)), "is a file of Flax"),
    "a NumPy archive": (_archive, "is an archive of NumPy"),
    "a pointer of git-lfs": (
        _raw("TIMAR.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 6\n"),
        "is a pointer of git-lfs",
    ),
    "a page of the web": (_raw("TIMAR.pth", b"<!doctype html><html>"), "is a page of the web"),
    "another model": (
        lambda folder: _raw("x", b"")(folder) and ENCODER / "model.safetensors",
        r"is no TIMAR: its first tensor is '.*'; expected a \.pth of the released code",
    ),
    "a LoRA": (_lora, r"is a low-rank adapter \(LoRA\) and no whole model"),
    "a cut safetensors": (
        _cut("weights.safetensors"),
        r"is cut off: it has \d+ bytes, its header tells of \d+",
    ),
    "a cut .pth": (_cut("weights.pth"), "is cut off: its archive has no end"),
    "an empty file": (_raw("weights.pth", b""), "no plain checkpoint of tensors"),
    "a list": (
        lambda folder: torch.save([torch.zeros(3)], folder / "list.pth") or folder / "list.pth",
        "holds a list, expected a .pth of the released code",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_checkpoint_is_one_sentence_and_leaves_no_folder(name, tmp_path, capsys):
    write, message = BAD[name]
    (tmp_path / "given").mkdir()
    arguments = [str(write(tmp_path / "given")), str(tmp_path / "out" / "model"), "--heads", "4"]
    assert commands.import_model([*arguments, "--speech-encoder", str(ENCODER), "--no-export"]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(told)
    assert not list((tmp_path / "out").iterdir())
    assert not (tmp_path / "given" / "ran").exists()


def test_speech_encoder_of_another_size_is_named_with_both_widths(tmp_path, capsys):
    shutil.copytree(ENCODER, tmp_path / "encoder")
    config = json.loads((ENCODER / "config.json").read_text())
    for change, message in (
        ({"hidden_size": 48}, "gives 48 values a frame, but the checkpoint reads 64"),
        ({"model_type": "hubert"}, "is of type 'hubert', expected 'wav2vec2'"),
    ):
        (tmp_path / "encoder" / "config.json").write_text(json.dumps({**config, **change}))
        arguments = [str(GOLDEN / "timar.safetensors"), str(tmp_path / "model"), "--heads", "4"]
        assert commands.import_model([*arguments, "--speech-encoder", str(tmp_path / "encoder")]) == 1
        assert message in capsys.readouterr().err
        assert not (tmp_path / "model").exists()


def test_speech_encoder_that_lacks_tensors_is_not_filled_with_random_ones(tmp_path):
    from timar_model.architecture.speech_encoder import TorchSpeechEncoder

    shutil.copytree(ENCODER, tmp_path / "encoder")
    weights = load_file(ENCODER / "model.safetensors")
    lacking = next(name for name in weights if "q_proj.weight" in name)
    save_file({n: a for n, a in weights.items() if n != lacking}, tmp_path / "encoder" / "model.safetensors")
    with pytest.raises(ValueError, match=r"lacks 1 tensors of a wav2vec 2\.0, .*q_proj\.weight first"):
        TorchSpeechEncoder.from_pretrained(str(tmp_path / "encoder"))
    (tmp_path / "encoder" / "model.safetensors").write_bytes(b"spam")
    with pytest.raises(OSError, match="cannot be read"):
        TorchSpeechEncoder.from_pretrained(str(tmp_path / "encoder"))


def test_speech_encoder_as_a_pickle_of_tensors_gives_the_same(tmp_path):
    """The published one has no safetensors on its main branch."""
    from timar_model.architecture.speech_encoder import TorchSpeechEncoder

    shutil.copy(ENCODER / "config.json", tmp_path)
    torch.save(
        {n: torch.from_numpy(a) for n, a in load_file(ENCODER / "model.safetensors").items()},
        tmp_path / "pytorch_model.bin",
    )
    sound = np.random.default_rng(0).standard_normal((1, 16_000)).astype(np.float32)
    found, expected = (
        TorchSpeechEncoder.from_pretrained(str(folder))(sound) for folder in (tmp_path, ENCODER)
    )
    np.testing.assert_array_equal(found, expected)


def test_two_imports_into_one_folder_do_not_mix(checkpoint, tmp_path, capsys):
    from timar_common.folder_lock import folder_lock

    with folder_lock(tmp_path / "model"):
        assert commands.import_model([str(checkpoint), str(tmp_path / "model"), "--no-export"]) == 1
        assert "is in use by process" in capsys.readouterr().err
    (tmp_path / ".model.x7k2a_b1" / "new").mkdir(parents=True)  # As a killed import leaves it.
    import_model(str(checkpoint), tmp_path / "model", BARE)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


FULL = """
import resource, sys
from timar_model import commands
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
new, old, checkpoint, encoder = sys.argv[1:]
assert commands.import_model([checkpoint, new, "--speech-encoder", encoder]) == 1
assert commands.import_model([checkpoint, old, "--speech-encoder", encoder]) == 1
assert commands.export([old, "--int8"]) == 1
"""


@pytest.mark.slow
def test_full_disk_is_one_sentence_and_leaves_everything_as_it_was(checkpoint, tmp_path):
    """The kernel refuses files beyond a size, as a full disk refuses more bytes."""
    old = tmp_path / "old"
    before = import_model(str(checkpoint), old, BARE).sha256
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "new"), str(old), str(checkpoint), str(ENCODER)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sentences = [line for line in done.stderr.splitlines() if line.startswith("timar ")]
    assert len(sentences) == 3
    assert all("the disk of" in line and "is full" in line and "as it was" in line for line in sentences)
    assert read_model(old).sha256 == before
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_disk_that_is_too_small_is_said_before_anything_is_downloaded(hub, tmp_path, monkeypatch, capsys):
    use_hub(hub, tmp_path / "cache", monkeypatch)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 1000))
    assert commands.import_model(["hub:coderchen01/TIMAR", str(tmp_path / "model")]) == 1
    assert "MB are needed to download to" in capsys.readouterr().err
    assert not hub.served
    assert not (tmp_path / "model").exists()


def test_several_weight_files_are_asked_about(tmp_path, checkpoint):
    for name in ("a.pth", "b.pth"):
        shutil.copy(checkpoint, tmp_path / name)
    with pytest.raises(ValueError, match=r"holds a\.pth, b\.pth; say which by --file"):
        import_model(str(tmp_path), tmp_path / "model", BARE)
    assert import_model(
        str(tmp_path), tmp_path / "model", dataclasses.replace(BARE, file="b.pth")
    ).path.is_dir()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no weights"):
        import_model(str(tmp_path / "empty"), tmp_path / "other", BARE)


def test_adapter_of_a_repository_is_named_before_it_is_downloaded(hub, tmp_path, monkeypatch):
    use_hub(hub, tmp_path / "cache", monkeypatch)
    hub.repos["me/adapter"] = HubRepo(
        {COMMIT: {"adapter_config.json": b"{}", "adapter_model.safetensors": b"1"}}
    )
    with pytest.raises(ValueError, match=r"is a low-rank adapter \(LoRA\)"):
        import_model("hub:me/adapter", tmp_path / "model", BARE)
    assert not hub.served


def test_authors_names_are_ours_backwards():
    weights = load_file(GOLDEN / "timar.safetensors")
    back = authors_state(translate(weights))
    assert {name: array.shape for name, array in back.items()} == {n: a.shape for n, a in weights.items()}


def test_name_without_the_hubs_prefix_is_told_about_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="for the hub's repository say hub:coderchen01/TIMAR"):
        import_model("coderchen01/TIMAR", tmp_path / "model")


def test_imported_model_is_found_by_its_name(tmp_path, monkeypatch, checkpoint):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    folder = import_model(str(checkpoint), None, BARE)
    assert folder.path == tmp_path / "timar" / "models" / "TIMAR"
    assert load_model("TIMAR").sha256 == folder.sha256
    with pytest.raises(FileNotFoundError, match="imported: TIMAR"):
        load_model("TIMUR")
