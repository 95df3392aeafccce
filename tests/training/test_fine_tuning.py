"""Fine-tuning of an imported model: the loss falls, and the exported engine stays exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from timar_model.engines.export import export_onnx
from timar_model.model_folder import read_model
from timar_training.networks.low_rank import add_low_rank, merged
from timar_training.train_command import main as train_main
from timar_training.training.config import TrainConfig
from timar_training.training.run import open_run

from timar_model import MotionStatistics, import_reference, load_model

GOLDEN = Path(__file__).parents[1] / "data" / "timar_golden"


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """The golden checkpoint with units of motion of its own, as a model folder."""
    statistics = MotionStatistics(np.zeros(56, np.float32), np.full(56, 0.1, np.float32))
    out = tmp_path_factory.mktemp("imported") / "model"
    import_reference(
        GOLDEN / "timar.safetensors", {"heads": 4}, GOLDEN / "wav2vec2", out, statistics=statistics
    )
    return out


@pytest.fixture
def corpus(tmp_path, write_babble_clip, write_splits):
    (tmp_path / "data").mkdir()
    for number in range(3):
        write_babble_clip(tmp_path / "data", f"clip{number}", seconds=8.0, seed=number)
    write_splits(tmp_path / "data", train=["clip0", "clip1"], validation=["clip2"])
    return tmp_path / "data"


def config_for(imported, corpus, out, kind, **changes):
    values = {
        "data": str(corpus),
        "out": str(out),
        "start_from": str(imported),
        "fine_tuning": kind,
        "window_frames": 50,
        "batch": 4,
        "steps": 60,
        "learning_rate": 3e-3,
        "warmup_steps": 3,
        "ema_decay": 0.9,
        "precision": "float32",
        "threads": 1,
        "validate_every": 60,
        "validation_batches": 4,
        "checkpoint_every": 60,
        "log_every": 0,
    }
    return TrainConfig(**{**values, **changes})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "low-rank"])
def test_fine_tuning_lowers_the_loss_and_the_exported_engine_stays_exact(kind, imported, corpus, tmp_path):
    run = open_run(config_for(imported, corpus, tmp_path / "run", kind))
    before = run.validate()
    after = run.run()
    assert after < 0.8 * before

    begun, tuned = read_model(imported), read_model(tmp_path / "run" / "model")
    assert tuned.config == begun.config
    np.testing.assert_array_equal(tuned.statistics.std, begun.statistics.std)
    assert tuned.manifest["provenance"]["started_from"]["sha256"] == begun.sha256
    changed = {n for n, array in tuned.weights().items() if not np.array_equal(array, begun.weights()[n])}
    assert "blocks.0.attention.qkv.weight" in changed
    assert ("blocks.0.norm1.weight" in changed) is (kind == "full")

    export_onnx(tmp_path / "run" / "model")
    model, random = load_model(tmp_path / "run" / "model"), np.random.default_rng(0)
    sessions = [model.session(name, window_turns=2) for name in ("torch", "onnx")]
    for _ in range(3):
        sound = 0.1 * random.standard_normal((2, 16_000)).astype(np.float32)
        motion = 0.1 * random.standard_normal((25, 56)).astype(np.float32)
        exact, found = (session.step(sound[0], motion, sound[1]) for session in sessions)
        np.testing.assert_allclose(found, exact, rtol=0, atol=2e-5)


def test_low_rank_run_that_was_stopped_ends_with_the_same_weights(imported, corpus, tmp_path):
    short = {"steps": 4, "validate_every": 2, "checkpoint_every": 2, "validation_batches": 1}
    whole = open_run(config_for(imported, corpus, tmp_path / "whole", "low-rank", **short))
    whole.run()
    open_run(config_for(imported, corpus, tmp_path / "cut", "low-rank", **short, stop_step=2)).run()
    again = open_run(config_for(imported, corpus, tmp_path / "cut", "low-rank", **short))
    assert again.resume()
    again.run()
    for name, value in whole.averaged_weights().items():
        torch.testing.assert_close(again.averaged_weights()[name], value, rtol=0, atol=0, msg=name)


def test_a_change_of_low_rank_is_nothing_at_first_and_is_merged_exactly(imported):
    from timar_model.engines.torch_engine import load_network

    found = read_model(imported)
    network = load_network(found.config, found.weights())
    add_low_rank(network, 4)
    plain = merged(network.state_dict())
    assert {name: tensor.shape for name, tensor in plain.items()} == {
        name: array.shape for name, array in found.weights().items()
    }
    for name, tensor in plain.items():
        np.testing.assert_array_equal(tensor.numpy(), found.weights()[name], err_msg=name)
    layer = network.blocks[0].attention.qkv
    with torch.no_grad():
        layer.low_rank_up.normal_()
        x = torch.randn(3, layer.in_features)
        weight = merged(network.state_dict())["blocks.0.attention.qkv.weight"]
        torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, weight, layer.bias))
    learned = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    assert learned < 0.3 * sum(parameter.numel() for parameter in network.parameters())


def test_timar_train_from_a_model_needs_no_file_of_its_own(imported, corpus, tmp_path, capsys):
    arguments = ["--from", str(imported), "--data", str(corpus), "--out", str(tmp_path / "run")]
    assert train_main(arguments) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "this model has learned positions for 100 frames; shorten the one" in said
    (tmp_path / "short.yaml").write_text("window_frames: 50\nbatch: 2\nvalidation_batches: 1\nlog_every: 0\n")
    arguments = [str(tmp_path / "short.yaml"), *arguments, "--processes", "1", "--max-minutes", "0.001"]
    assert train_main([*arguments, "--steps", "200", "--tune", "full"]) == 0
    assert read_model(tmp_path / "run" / "model").config == read_model(imported).config


def test_a_model_to_fine_tune_that_is_not_there_is_named(corpus, tmp_path, capsys):
    arguments = ["--data", str(corpus), "--out", str(tmp_path / "run")]
    assert train_main(["--from", "nobody", *arguments]) == 1
    assert "there is no model 'nobody'" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit):
        train_main(arguments)
    with pytest.raises(ValueError, match="without start_from, expected a model"):
        TrainConfig(data="a", out="b", fine_tuning="full")
