"""The training loop: it learns, it can be killed and resumed, and it stops at what is not finite."""

import numpy as np
import pytest
import torch
import yaml
from timar_training import dyads, quality, trainer
from timar_training.conversing import converse
from timar_training.train_command import main as train_main
from timar_training.train_config import TrainConfig
from timar_training.trainer import NonFiniteLossError, learning_rate, open_run

from timar_model import load_model

SMALL = {
    "window_frames": 25,
    "blocks": 2,
    "width": 64,
    "token_dim": 48,
    "head_width": 96,
    "objective": {"past_drop": 0.3},
}


@pytest.fixture
def corpus(tmp_path, write_babble_clip, write_splits):
    for number in range(6):
        write_babble_clip(tmp_path, f"clip{number}", seconds=12.0, seed=number)
    write_splits(tmp_path, train=[f"clip{n}" for n in range(4)], validation=["clip4"], test=["clip5"])
    return tmp_path


def config_for(corpus, out, **changes):
    values = {
        "data": str(corpus),
        "out": str(out),
        "model": SMALL,
        "window_frames": 25,
        "batch": 8,
        "steps": 6,
        "warmup_steps": 2,
        "precision": "float32",
        "threads": 1,
        "validate_every": 3,
        "validation_batches": 1,
        "checkpoint_every": 3,
    }
    return TrainConfig(**{**values, **changes})


def test_a_few_seconds_of_training_beat_the_mean_pose(corpus, tmp_path):
    # Without past frames there is nothing to lean on but the voice.
    model = {**SMALL, "past_frames": 0, "window_frames": 10, "objective": {"repeats": 2}}
    config = config_for(
        corpus,
        tmp_path / "run",
        model=model,
        steps=120,
        learning_rate=4e-3,
        warmup_steps=10,
        ema_decay=0.9,
        validate_every=120,
        checkpoint_every=120,
    )
    open_run(config).run()
    trained = load_model(tmp_path / "run" / "model")
    clip = dyads.read_split(corpus, "test")[0]
    user, agent = (dyads.read_voice(clip.voice_path(speaker)) for speaker in (1, 2))
    motion = converse(trained.session(seed=0, temperature=0.0), user, agent)
    truth = dyads.read_motion(clip.motion_path(2)).vector[: len(motion), 50]
    error = np.square(motion[:, 50] - truth).mean()
    assert error < 0.5 * np.square(trained.statistics.mean[50] - truth).mean()
    assert quality.jaw_follows_voice(motion, agent).at_zero > 0.6


def test_a_run_that_was_interrupted_ends_with_the_same_weights(corpus, tmp_path):
    whole = open_run(config_for(corpus, tmp_path / "whole"))
    whole.run()
    interrupted = open_run(config_for(corpus, tmp_path / "cut"))
    stopped = []

    def stop_after_four(progress):
        if progress.step == 4:
            stopped.append(True)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted.run(stop_after_four)
    again = open_run(config_for(corpus, tmp_path / "cut"))
    assert again.resume()
    assert again.step == 3
    again.run()
    for kind in ("model", "average"):
        one, other = (getattr(run, kind).state_dict() for run in (whole, again))
        for name, value in one.items():
            torch.testing.assert_close(value, other[name], rtol=0, atol=0, msg=f"{kind} {name}")
    assert again.best_loss == whole.best_loss


def test_a_half_written_checkpoint_is_not_taken_for_one(corpus, tmp_path):
    run = open_run(config_for(corpus, tmp_path / "run"))
    run.run()
    (tmp_path / "run" / ".new.half").mkdir()
    (tmp_path / "run" / ".new.half" / "state.safetensors").write_bytes(b"half")
    again = open_run(config_for(corpus, tmp_path / "run"))
    assert again.resume()
    assert again.step == 6


def test_a_run_is_not_resumed_with_other_settings(corpus, tmp_path):
    open_run(config_for(corpus, tmp_path / "run")).run()
    with pytest.raises(ValueError, match="made with other settings"):
        open_run(config_for(corpus, tmp_path / "run", learning_rate=0.5)).resume()


def test_the_same_seed_trains_the_same_model(corpus, tmp_path):
    losses = [[], []]
    for number in (0, 1):
        run = open_run(config_for(corpus, tmp_path / str(number), steps=3))
        run.run(lambda progress, number=number: losses[number].append(progress.loss))
    assert losses[0] == losses[1]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_its_batch(corpus, tmp_path):
    run = open_run(config_for(corpus, tmp_path / "run"))
    draw = run._train.draw

    def spoilt(step):
        batch = draw(step)
        if step == 2:
            batch.agent_motion[0, 20] = float("nan")
        return batch

    run._train.draw = spoilt
    with pytest.raises(NonFiniteLossError, match="nonfinite_batch_2"):
        run.run()
    with np.load(tmp_path / "run" / "nonfinite_batch_2.npz") as saved:
        assert np.isnan(saved["agent_motion"]).any()


def test_only_matrices_of_the_backbone_decay(corpus, tmp_path):
    run = open_run(config_for(corpus, tmp_path / "run"))
    decayed = {run._names[id(parameter)] for parameter in run._optimiser.param_groups[0]["params"]}
    assert "blocks.0.expand.weight" in decayed
    assert not any(name.endswith("bias") or name.startswith("head.") for name in decayed)


def test_the_learning_rate_warms_up_and_falls_to_a_twentieth():
    config = TrainConfig(data="d", out="o", window_frames=100, steps=100, warmup_steps=10, learning_rate=1.0)
    assert learning_rate(0, config) == pytest.approx(0.1)
    assert learning_rate(10, config) == pytest.approx(1.0)
    assert learning_rate(100, config) == pytest.approx(trainer.LEAST_RATE)


def test_a_clip_in_both_splits_is_refused(corpus, tmp_path, write_splits):
    write_splits(corpus, validation=["clip0"])
    with pytest.raises(dyads.BadClipError, match="clip0 stands in"):
        open_run(config_for(corpus, tmp_path / "run"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("batchs", 3, "unknown key 'batchs'"),
        ("batch", 0, "batch is 0"),
        ("precision", "float8", "expected one of float32, bfloat16"),
        ("window_frames", 52, "multiple of the turn"),
        ("model", {"widht": 3}, "no field 'widht'"),
        ("model", {"objective": {"mask": 1}}, "no field 'mask'"),
        ("ema_decay", 1.0, "ema_decay is 1.0"),
    ],
)
def test_an_inconsistent_file_is_refused_before_anything_is_computed(tmp_path, capsys, key, value, message):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"data": "nowhere", "out": str(tmp_path / "out"), key: value}))
    assert train_main([str(path)]) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
