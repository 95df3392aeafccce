"""The comparison is fair by construction: equal sizes, trials and steps; else it is refused."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from timar_model.architecture.config import ModelConfig
from timar_model.architecture.model import TimarModel
from timar_training.compare_command import DEFAULT, main
from timar_training.evaluation.comparison import (
    ComparisonConfig,
    compare_models,
    drawn_means,
    gain,
    interval,
    plan,
)
from timar_training.evaluation.comparison_report import table
from timar_training.networks.dualtalk import DualTalkNetwork
from timar_training.networks.variants import build_network, equal_size, parameters_of

SMALL = {"blocks": 2, "width": 64, "token_dim": 48, "head_width": 96, "window_frames": 25, "past_frames": 0}


@pytest.fixture
def config(tmp_path, write_babble_clip, write_splits):
    for number in range(5):
        write_babble_clip(tmp_path, f"clip{number}", seconds=8.0, seed=number)
    write_splits(tmp_path, train=["clip0", "clip1"], validation=["clip2"], test=["clip3"], ood=["clip4"])
    shared = {"model": SMALL, "window_frames": 25, "batch": 2, "steps": 2, "warmup_steps": 1, "threads": 1}
    shared |= {"validation_batches": 1, "log_every": 0, "precision": "float32"}
    turns = {"draws": "turns", "past_frames": 2}
    systems = {"timar": {"model": turns}, "dualtalk": {"architecture": "dualtalk"}, "frame-head": {}}
    return ComparisonConfig(
        data=str(tmp_path),
        out=str(tmp_path / "out"),
        systems=systems,
        shared=shared,
        seeds=[1, 2],
        learning_rates=[1e-3, 2e-3],
        ablation_seeds={"frame-head": [2]},
        baselines=["mean-pose"],
        temperatures=[0.0],
        clips=1,
        seconds=6.0,
    )


def test_the_dualtalk_like_network_has_as_many_parameters_as_timar():
    reference = ModelConfig(window_frames=50)
    size = parameters_of(TimarModel(reference))
    matched = dataclasses.replace(reference, **equal_size("dualtalk", reference, size))
    assert parameters_of(DualTalkNetwork(matched)) == pytest.approx(size, rel=0.03)


def test_every_system_has_equal_steps_data_batch_and_trials(config):
    trials = plan(config)
    assert {len(runs) for runs in trials.values()} == {2}
    runs = [run for system in trials.values() for run in system]
    assert len({(run.steps, run.batch, run.data, run.window_frames) for run in runs}) == 1
    sizes = [parameters_of(build_network(run.architecture, run.model_config())) for run in runs]
    assert max(sizes) < 1.04 * min(sizes)
    assert {run.model_config().speech_encoder for run in runs} == {"logmel"}


@pytest.mark.slow
def test_the_comparison_writes_table_and_differences_and_goes_on_where_it_stopped(config):
    lines = []
    result = compare_models(config, lines.append)
    assert {(row["system"], row["split"]) for row in result["rows"]} == {
        (name, split)
        for name in ("mean-pose", "timar", "dualtalk", "frame-head")
        for split in ("test", "ood")
    }
    assert len(result["systems"]["timar"]["folders"]) == 2
    row = next(row for row in result["rows"] if row["system"] == "dualtalk")
    by_seed = row["by_seed"]["unshifted_mse_pose"]
    assert row["mean"]["unshifted_mse_pose"] == pytest.approx(sum(by_seed) / 2)
    assert len(result["systems"]["frame-head"]["folders"]) == 1
    assert result["systems"]["frame-head"]["learning_rate"] == result["systems"]["timar"]["learning_rate"]
    assert result["not_run"] == []
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
    assert list(trials)[:2] == ["timar", "dualtalk"]
    assert set(trials) == set(config.systems)
    sizes = {
        name: parameters_of(build_network(runs[0].architecture, runs[0].model_config()))
        for name, runs in trials.items()
    }
    assert max(sizes.values()) < 1.07 * min(sizes.values())
    assert config.smoke().shared["steps"] == 4


def test_an_interval_of_a_gain_knows_that_both_sides_saw_the_same_clips():
    rng = np.random.default_rng(0)
    hard = rng.uniform(1.0, 10.0, 12)
    ours, theirs = (share * hard + rng.normal(0, 0.05, (3, 12)) for share in (0.8, 1.0))
    low, high = interval(gain(drawn_means(ours), drawn_means(theirs, side=1)))
    assert 0.17 < low < 0.2 < high < 0.23
    alone = interval(drawn_means(ours))
    assert alone[1] - alone[0] > 1.0
    restless = theirs + np.array([[-4.0], [0.0], [4.0]])
    low, high = interval(gain(drawn_means(ours), drawn_means(restless, side=1)))
    assert low < 0 < high


def test_an_ablation_of_the_reference_is_refused(config):
    with pytest.raises(ValueError, match="names 'timar', expected a system other"):
        dataclasses.replace(config, ablation_seeds={"timar": (1,)})


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
