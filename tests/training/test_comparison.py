"""The comparison is fair by construction: equal sizes, trials and steps; else it is refused."""

import json

import pytest
import torch
from timar_model.config import ModelConfig
from timar_model.model import TimarModel
from timar_training.compare import ComparisonConfig, compare_models, plan, table
from timar_training.compare_command import DEFAULT, main, smoke
from timar_training.dualtalk import DualTalkNetwork, equal_size
from timar_training.networks import build_network, parameters_of

SMALL = {"blocks": 2, "width": 64, "token_dim": 48, "head_width": 96, "window_frames": 25, "past_frames": 0}


@pytest.fixture
def config(tmp_path, write_babble_clip, write_splits):
    for number in range(5):
        write_babble_clip(tmp_path, f"clip{number}", seconds=8.0, seed=number)
    write_splits(tmp_path, train=["clip0", "clip1"], validation=["clip2"], test=["clip3"], ood=["clip4"])
    shared = {"model": SMALL, "window_frames": 25, "batch": 2, "steps": 2, "warmup_steps": 1, "threads": 1}
    shared |= {"validation_batches": 1, "log_every": 0, "precision": "float32"}
    systems = {"timar": {}, "dualtalk": {"architecture": "dualtalk"}}
    return ComparisonConfig(
        data=str(tmp_path),
        out=str(tmp_path / "out"),
        systems=systems,
        shared=shared,
        seeds=[1, 2],
        learning_rates=[1e-3, 2e-3],
        baselines=["mean-pose"],
        temperatures=[0.0],
        clips=1,
        seconds=6.0,
    )


def test_the_dualtalk_like_network_has_as_many_parameters_as_timar():
    reference = ModelConfig(window_frames=50)
    size = parameters_of(TimarModel(reference))
    matched = equal_size(reference, size)
    assert parameters_of(DualTalkNetwork(matched)) == pytest.approx(size, rel=0.03)


def test_every_system_has_equal_steps_data_batch_and_trials(config):
    trials = plan(config)
    assert {len(runs) for runs in trials.values()} == {2}
    runs = [run for system in trials.values() for run in system]
    assert len({(run.steps, run.batch, run.data, run.window_frames, run.seed) for run in runs}) == 1
    sizes = [parameters_of(build_network(run.architecture, run.model_config())) for run in runs]
    assert max(sizes) < 1.04 * min(sizes)
    assert {run.model_config().speech_encoder for run in runs} == {"logmel"}


def test_the_comparison_writes_table_and_differences_and_goes_on_where_it_stopped(config):
    lines = []
    result = compare_models(config, lines.append)
    assert {(row["system"], row["split"]) for row in result["rows"]} == {
        (name, split) for name in ("mean-pose", "timar", "dualtalk") for split in ("test", "ood")
    }
    assert len(result["systems"]["timar"]["folders"]) == 2
    row = next(row for row in result["rows"] if row["system"] == "dualtalk")
    low, high = row["seed_range"]["unshifted_mse_pose"]
    assert low <= row["mean"]["unshifted_mse_pose"] <= high
    gains = {(row["other"], row["metric"]) for row in result["differences"]}
    assert ("dualtalk", "unshifted_mse_jaw") in gains
    assert "| FD ↓ |" in table(json.loads(json.dumps(result)))
    again = []
    assert (
        compare_models(config, again.append)["rows"][0]["mean"]["mse_jaw"]
        == result["rows"][0]["mean"]["mse_jaw"]
    )
    assert all("from step 2" in line for line in again if "from step" in line)


def test_the_shipped_protocol_is_consistent():
    config = ComparisonConfig.from_yaml(DEFAULT)
    trials = plan(config)
    assert set(trials) == {"timar", "dualtalk", "mlp-head", "full-attention", "no-history"}
    assert smoke(config).shared["steps"] == 4


def test_a_comparison_without_timar_is_refused(tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_text("data: d\nout: o\nshared: {}\nsystems: {dualtalk: {}}\n")
    assert main([str(path)]) == 1
    assert "expected one to be 'timar'" in " ".join(capsys.readouterr().err.split())


def test_the_dualtalk_like_network_hears_the_future_and_an_unseen_user_is_not_looked_at():
    torch.manual_seed(0)
    network = DualTalkNetwork(ModelConfig(**SMALL)).eval()
    speech, motion = torch.randn(2, 1, 30, 160), torch.randn(1, 30, 56)
    seen = torch.ones(1, 30, 3)
    later = speech[1].clone()
    later[:, 20:] += 1.0
    with torch.no_grad():
        made = network(speech[0], motion, seen, speech[1])
        assert (network(speech[0], motion, seen, later) - made)[:, :10].abs().max() > 1e-6
        unseen = network(speech[0], motion, 0 * seen, speech[1])
        torch.testing.assert_close(network(speech[0], 5 * motion, 0 * seen, speech[1]), unseen)
