"""The training loop: it learns, it can be killed and resumed, and it stops at what is not finite."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml
from timar_model.session.recording import run_session
from timar_training.corpora import dyads
from timar_training.evaluation import quality
from timar_training.train_command import main as train_main
from timar_training.training.config import TrainConfig
from timar_training.training.optimisation import LEAST_RATE, NonFiniteLossError, learning_rate
from timar_training.training.run import open_run

from timar_model import load_model

pytestmark = pytest.mark.slow

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
        steps=200,
        learning_rate=4e-3,
        warmup_steps=10,
        ema_decay=0.9,
        validate_every=200,
        checkpoint_every=200,
    )
    open_run(config).run()
    trained = load_model(tmp_path / "run" / "model")
    clip = dyads.read_split(corpus, "test")[0]
    user, agent = (dyads.read_voice(clip.voice_path(speaker)) for speaker in (1, 2))
    motion = run_session(trained.session(seed=0, temperature=0.0), user, agent)
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
    for kind in ("weights", "averaged_weights"):
        one, other = (getattr(run, kind)() for run in (whole, again))
        for name, value in one.items():
            torch.testing.assert_close(value, other[name], rtol=0, atol=0, msg=f"{kind} {name}")
    assert again.best_loss == whole.best_loss


def test_a_run_that_was_killed_ends_with_the_same_weights(corpus, tmp_path):
    values = {**config_for(corpus, tmp_path / "killed", steps=40).__dict__, "turn_lengths": [3, 5, 8]}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    config = TrainConfig.from_yaml(path)
    paths = {"PYTHONPATH": ":".join(place for place in sys.path if place)}
    code = "import sys; from timar_training.train_command import main; sys.exit(main(sys.argv[1:]))"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path), "--processes", "1"], env={**os.environ, **paths}
    ) as run:
        until_s = time.monotonic() + 300
        while not list((tmp_path / "killed").glob("checkpoint-*")) and time.monotonic() < until_s:
            assert run.poll() is None
            time.sleep(0.005)
        os.kill(run.pid, signal.SIGKILL)
    again = open_run(config)
    assert again.resume()
    assert 3 <= again.step < 40
    again.run()
    whole = open_run(dataclasses.replace(config, out=str(tmp_path / "whole")))
    whole.run()
    for kind in ("weights", "averaged_weights"):
        one, other = (getattr(run, kind)() for run in (whole, again))
        for name, value in one.items():
            torch.testing.assert_close(value, other[name], rtol=0, atol=0, msg=f"{kind} {name}")


def test_the_average_that_is_kept_is_not_the_last_weights(corpus, tmp_path):
    """Gathered weights were once the parameters themselves, so what came after was saved as the average."""
    run = open_run(config_for(corpus, tmp_path / "run", steps=3, learning_rate=1e-2))
    run.run()
    average, last = run.averaged_weights(), run.weights()
    kept = load_model(tmp_path / "run" / "model").weights()
    assert any((average[name] != last[name]).any() for name in last)
    for name, value in average.items():
        np.testing.assert_array_equal(kept[name], value.numpy(), err_msg=name)


def test_each_batch_draws_its_own_mixture_of_turns_and_they_fill_the_window(corpus, tmp_path):
    run = open_run(config_for(corpus, tmp_path / "run", turn_lengths=[3, 5, 8]))
    batches = [run._train.draw(step) for step in range(6)]
    assert {sum(batch.turn_frames) for batch in batches} == {25}
    assert len({tuple(batch.turn_frames) for batch in batches}) > 1
    lengths = {length for batch in batches for length in batch.turn_frames}
    assert {3, 5, 8} <= lengths <= {1, 2, 3, 5, 8}, "what does not fit into its stretch of 8 is cut"
    assert run._train.turns_of(4) == batches[4].turn_frames


def test_weights_can_be_kept_by_the_motion_they_draw(corpus, tmp_path):
    config = config_for(corpus, tmp_path / "run", best_by="mse_jaw", best_by_seconds=2.0, steps=3)
    best = open_run(config).run()
    assert 0 < best < 1


def test_numbers_of_the_run_are_written_for_tensorboard(corpus, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    losses = []
    open_run(config_for(corpus, tmp_path / "run", log_every=1)).run(lambda step: losses.append(step.loss))
    log = EventAccumulator(str(tmp_path / "run" / "log"))
    log.Reload()
    assert [event.value for event in log.Scalars("train/loss")] == pytest.approx(losses)
    assert [event.step for event in log.Scalars("validation/loss")] == [3, 6]


def test_two_processes_train_one_model(corpus, tmp_path):
    """Averaged gradients of half batches are those of the whole one; masks and noise differ by process."""
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**config_for(corpus, tmp_path / "two").__dict__, "turn_lengths": []}))
    paths = {"PYTHONPATH": ":".join(place for place in sys.path if place)}
    code = tmp_path / "run.py"
    code.write_text("import sys\nfrom timar_training.train_command import main\nsys.exit(main(sys.argv[1:]))")
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--mixed_precision", "no"]
    command = [sys.executable, *launch, "--main_process_port", "0", str(code), str(path), "--processes", "1"]
    done = subprocess.run(
        command, env={**os.environ, **paths}, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert load_model(tmp_path / "two" / "model").config.width == 64
    one = open_run(config_for(corpus, tmp_path / "two"))
    assert one.resume()
    assert one.step == 6


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
    named = {id(parameter): name for name, parameter in run._module.network.named_parameters()}
    decayed = {named[id(parameter)] for parameter in run._optimiser.param_groups[0]["params"]}
    assert "blocks.0.expand.weight" in decayed
    assert not any(name.endswith("bias") or name.startswith("head.") for name in decayed)


def test_the_learning_rate_warms_up_and_falls_to_a_twentieth():
    config = TrainConfig(data="d", out="o", window_frames=100, steps=100, warmup_steps=10, learning_rate=1.0)
    assert learning_rate(0, config) == pytest.approx(0.1)
    assert learning_rate(10, config) == pytest.approx(1.0)
    assert learning_rate(100, config) == pytest.approx(LEAST_RATE)


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
        ("turn_lengths", [5, 500], "turn_lengths holds 500"),
        ("architecture", "unet", "expected one of timar"),
        ("architecture", "timar-full-attention", "set model.past_frames to 0"),
        ("best_by", "beauty", "expected one of loss"),
        ("warmup_steps", 2000, "expected fewer than the 2000 steps"),
        ("model", {"user_lag": "none"}, "expected 0 without a user lag"),
    ],
)
def test_an_inconsistent_file_is_refused_before_anything_is_computed(tmp_path, capsys, key, value, message):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"data": "nowhere", "out": str(tmp_path / "out"), key: value}))
    assert train_main([str(path)]) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_a_distilled_head_comes_near_its_teachers_motion_in_one_step_and_leaves_the_backbone(
    corpus, tmp_path
):
    model = {**SMALL, "draws": "turns", "moved_groups": ["jaw", "neck"]}
    common = {"learning_rate": 3e-3, "ema_decay": 0.9, "validate_every": 50, "checkpoint_every": 50}
    open_run(config_for(corpus, tmp_path / "teacher", model=model, steps=50, **common)).run()
    config = config_for(
        corpus,
        tmp_path / "pupil",
        model={**model, "sampling": {"steps": 1}},
        steps=100,
        architecture="timar-distilled",
        start_from=str(tmp_path / "teacher/model"),
        **common,
    )
    run = open_run(config)
    at_first = run.validate()
    # Also when it is stopped in between: the teacher is the one it started from.
    open_run(dataclasses.replace(config, stop_step=50)).run()
    assert run.resume()
    assert run.run() < 0.9 * at_first
    pupil, teacher = (load_model(tmp_path / name / "model") for name in ("pupil", "teacher"))
    for name, value in teacher.weights().items():
        if not name.startswith("head."):
            np.testing.assert_array_equal(pupil.weights()[name], value)
    clip = dyads.read_split(corpus, "test")[0]
    voices = [dyads.read_voice(clip.voice_path(speaker))[: 640 * 100] for speaker in (1, 2)]
    wanted = run_session(teacher.session(seed=0, steps=10, temperature=0.5), *voices)

    def distance(model):
        session = model.session(seed=0, steps=1, temperature=0.5)
        return np.square(run_session(session, *voices) - wanted).mean()

    assert distance(pupil) < distance(teacher)


def test_distilling_needs_a_head_that_draws_turns(corpus, tmp_path):
    open_run(config_for(corpus, tmp_path / "teacher", steps=3)).run()
    config = config_for(
        corpus,
        tmp_path / "pupil",
        architecture="timar-distilled",
        start_from=str(tmp_path / "teacher/model"),
    )
    with pytest.raises(ValueError, match="expected draws: turns"):
        open_run(config)
