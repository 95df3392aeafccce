"""Everything that makes motion goes through one evaluator, and each score says what it promises."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from timar_model.architecture.config import ModelConfig, SamplingConfig
from timar_model.architecture.model import TimarModel
from timar_model.metrics import clip_metrics
from timar_model.metrics.movement import (
    as_shown,
    event_timing,
    jerk_by_phase,
    movement_scores,
    stroke_frames,
)
from timar_model.model_folder import save_model
from timar_training.corpora import dyads
from timar_training.corpora.dyads import load_dyad
from timar_training.evaluate_command import main as evaluate_main
from timar_training.evaluation.robustness import disturb, robustness_curves
from timar_training.evaluation.scoring import EvaluationConfig, bootstrap_interval, evaluate, score_clip
from timar_training.networks.variants import build_network
from timar_training.prediction.baselines import BASELINES
from timar_training.prediction.predictor import SessionPredictor, predict_all
from timar_training.prediction.predictors import open_predictors

from timar_model import load_model

SMALL = {"blocks": 1, "width": 32, "token_dim": 16, "head_width": 32, "head_blocks": 1, "window_frames": 40}


@pytest.fixture
def corpus(tmp_path, write_babble_clip, write_splits):
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(4):
        write_babble_clip(folder, f"clip{number}", seconds=10.0, seed=number)
    write_splits(folder, train=["clip0", "clip1"], test=["clip2", "clip3"])
    return folder


@pytest.fixture
def model_of(tmp_path):
    """Return a function that saves an untrained model of an architecture."""

    def make(architecture="timar", **changes):
        torch.manual_seed(0)
        config = ModelConfig(**{**SMALL, **changes})
        network = build_network(architecture, config)
        settings = {"architecture": architecture, "window_frames": 40}
        folder = tmp_path / architecture
        save_model(folder, network, provenance={"training": {"settings": settings}})
        return folder

    return make


@dataclasses.dataclass
class Recorded:
    """Plays back motion that is known beforehand."""

    motion: np.ndarray
    name: str = "recorded"
    turn_frames: int = 5
    delay_frames: int = 0

    def predict(self, dyad, seed):
        assert dyad.agent_motion is None
        return self.motion


def dyad_of(corpus, name="clip2"):
    return load_dyad(dyads.Clip(name, corpus))


@pytest.mark.slow
@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_goes_through_the_evaluator(corpus, name):
    ((_, predictor),) = open_predictors(name, corpus)
    result = evaluate(predictor, dyads.read_split(corpus, "test"), EvaluationConfig(), seconds=8.0)
    assert {"fid_jaw", "mse_pose", "energy_pose", "unshifted_mse_pose"} <= set(result["mean"])
    assert set(result["clips"]) == {"clip2", "clip3"}


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["timar", "timar-mlp-head", "timar-full-attention", "dualtalk"])
def test_every_network_goes_through_the_evaluator(corpus, model_of, architecture):
    changes = {"past_frames": 0} if architecture == "timar-full-attention" else {}
    folder = model_of(architecture, **changes)
    ((_, predictor),) = open_predictors(str(folder), corpus, sampling={"temperature": 0.0})
    motion = predictor.predict(dataclasses.replace(dyad_of(corpus), agent_motion=None), seed=0)
    assert motion.shape == (250, 56)
    assert np.isfinite(motion).all()
    scores, _ = score_clip(predictor, dyad_of(corpus), EvaluationConfig())
    assert scores["mse_jaw"] > 0


def test_the_mean_pose_is_beaten_by_the_energy_rule_where_the_jaw_follows_the_voice(corpus):
    clips = dyads.read_split(corpus, "test")
    scores = {}
    for name in ("mean-pose", "energy-rule"):
        ((_, predictor),) = open_predictors(name, corpus)
        scores[name] = evaluate(predictor, clips, EvaluationConfig())["mean"]
    assert scores["energy-rule"]["mse_jaw"] < 0.7 * scores["mean-pose"]["mse_jaw"]
    assert "lip_lag_ms" not in scores["mean-pose"]


def test_a_regressing_head_draws_the_same_motion_whatever_the_seed(corpus, model_of):
    ((_, predictor),) = open_predictors(str(model_of("timar-mlp-head")), corpus)
    first, second = (predictor.predict(dyad_of(corpus), seed) for seed in (0, 1))
    np.testing.assert_array_equal(first, second)


def test_full_attention_sees_later_turns_and_causal_attention_does_not(corpus, model_of):
    dyad = dyad_of(corpus)
    changed = dataclasses.replace(dyad, agent_voice=dyad.agent_voice.copy())
    changed.agent_voice[30 * 640 :] = 0.0
    # A fresh head ignores its condition.
    for architecture, sees in (("timar", False), ("timar-full-attention", True)):
        folder = model_of(architecture, past_frames=0)
        network = build_network(architecture, ModelConfig(**{**SMALL, "past_frames": 0}))
        for parameter in network.head.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        save_model(
            folder, network, provenance=json.loads((folder / "manifest.json").read_text())["provenance"]
        )
        ((_, predictor),) = open_predictors(str(folder), corpus, sampling={"temperature": 0.0})
        before, after = (predictor.predict(one, 0)[:20] for one in (dyad, changed))
        assert bool(np.abs(before - after).max() > 1e-5) is sees


def test_perfect_motion_has_perfect_scores(corpus):
    dyad = dyad_of(corpus)
    scores, _ = score_clip(Recorded(dyad.agent_motion.vector), dyad, EvaluationConfig())
    for name in ("mse_jaw", "mse_pose", "velocity_distance_pose_rad_s", "energy_jaw"):
        assert scores[name] == pytest.approx(0.0, abs=1e-9)
    assert scores["fid_pose"] == pytest.approx(0.0, abs=1e-6)
    assert scores["jerk_pose_rad_s3"] == scores["jerk_true_pose_rad_s3"]
    assert not [name for name in scores if name.endswith("_exp")]


def test_as_shown_a_late_model_is_scored_late_and_unshifted_as_the_paper_does(corpus):
    dyad = dyad_of(corpus)
    late = Recorded(dyad.agent_motion.vector, delay_frames=26)
    scores, _ = score_clip(late, dyad, EvaluationConfig())
    assert scores["unshifted_mse_pose"] == 0.0
    expected = clip_metrics(as_shown(dyad.agent_motion.vector, 26), dyad.agent_motion.vector)
    assert scores["mse_pose"] == pytest.approx(expected["mse_pose"])
    assert scores["mse_pose"] > 1e-4


def test_lips_that_come_three_frames_late_lag_by_120_ms(corpus):
    dyad = dyad_of(corpus)
    lag = [
        score_clip(Recorded(dyad.agent_motion.vector, delay_frames=delay), dyad, EvaluationConfig())[0][
            "lip_lag_ms"
        ]
        for delay in (0, 3)
    ]
    assert lag[1] - lag[0] == pytest.approx(120.0, abs=10.0)


def test_a_model_without_user_lag_is_shown_a_turn_and_a_frame_late(model_of):
    late = model_of(user_lag="none", user_lag_margin_frames=0)
    assert SessionPredictor(load_model(late)).delay_frames == 6
    assert SessionPredictor(load_model(model_of())).delay_frames == 0


def test_a_jump_at_each_seam_shows_in_the_phase_of_the_seam():
    motion = np.repeat(np.random.default_rng(0).standard_normal((40, 3)), 5, axis=0)
    assert int(jerk_by_phase(motion, 5).argmax()) in (0, 1, 4)
    assert jerk_by_phase(motion, 5)[2] < jerk_by_phase(motion, 5)[0]
    shifted = as_shown(motion, 2)
    np.testing.assert_allclose(jerk_by_phase(shifted, 5, 2)[0], jerk_by_phase(motion, 5)[0], rtol=0.2)


def test_each_event_is_matched_once_and_within_200_ms():
    true = np.array([10, 50, 90])
    assert event_timing(true, true, 100).f1 == pytest.approx(1.0)
    assert event_timing(true + 5, true, 200).recall == 1.0
    assert event_timing(true + 6, true, 200).f1 == 0.0
    crowd = event_timing(np.array([9, 10, 11, 12]), np.array([10]), 100)
    assert (crowd.precision, crowd.recall) == (0.25, 1.0)


def test_many_random_events_score_no_better_than_chance():
    rng = np.random.default_rng(0)
    found, true = (np.sort(rng.choice(5000, 300, replace=False)) for _ in range(2))
    timing = event_timing(found, true, 5000)
    assert timing.f1 == pytest.approx(timing.chance_f1, abs=0.07)
    assert timing.chance_f1 > 0.2


def test_motion_twice_as_fast_has_a_velocity_distance():
    rng = np.random.default_rng(0)
    truth = np.cumsum(rng.standard_normal((400, 56)) * 0.01, axis=0)
    assert movement_scores(truth, truth)["velocity_distance_pose_rad_s"] == 0.0
    twice = movement_scores(2 * truth, truth)
    assert twice["velocity_distance_pose_rad_s"] > 0.1
    assert twice["jerk_pose_rad_s3"] == pytest.approx(2 * twice["jerk_true_pose_rad_s3"])


def test_more_samples_lower_the_energy_score_of_a_model_that_varies_rightly(corpus):
    dyad = dyad_of(corpus)
    spread = np.zeros_like(dyad.agent_motion.vector)
    spread[:, 50:] = 0.05

    class Varying(Recorded):
        def predict(self, given, seed):
            return self.motion + (1 if seed % 2 else -1) * spread

    one, two = (
        score_clip(Varying(dyad.agent_motion.vector), dyad, EvaluationConfig(samples=samples))[0][
            "energy_pose"
        ]
        for samples in (1, 2)
    )
    assert two < one


def test_draws_are_judged_by_their_mean_and_by_how_much_each_moves(corpus):
    dyad = dyad_of(corpus)
    wave = np.zeros_like(dyad.agent_motion.vector)
    wave[:, 53] = 0.1 * np.sin(2 * np.pi * 0.1 * np.arange(len(wave)) / 25)

    class Varying(Recorded):
        def predict(self, given, seed):
            return self.motion + (1 if seed % 2 else -1) * wave

    scores, _ = score_clip(Varying(dyad.agent_motion.vector), dyad, EvaluationConfig(samples=2))
    assert scores["mse_of_mean_pose"] == pytest.approx(0.0, abs=1e-9)
    assert scores["mse_pose"] > 1e-3
    true = dyad.agent_motion.vector[:, 53:].var(axis=0).sum()
    assert scores["variance_ratio_pose"] == pytest.approx(1 + wave[:, 53].var() / true, rel=0.05)
    assert scores["variance_ratio_jaw"] == pytest.approx(1.0, rel=1e-5)


def test_nod_strokes_are_counted_and_slow_posture_is_none():
    seconds, rng = 60, np.random.default_rng(0)
    motion = np.zeros((25 * seconds, 56))
    motion[:, 53] = 0.1 * np.sin(2 * np.pi * 0.3 * np.arange(len(motion)) / 25)
    assert len(stroke_frames(motion)) == 0
    for first in (100, 400, 900):
        motion[first : first + 12, 53] += 0.08 * np.sin(np.pi * np.arange(12) / 12) ** 2
    motion[:, 53] += 1e-3 * rng.standard_normal(len(motion))
    found = stroke_frames(motion)
    assert len(found) == 3
    assert np.abs(found - np.array([106, 406, 906])).max() <= 2


def test_an_interval_holds_the_mean_and_narrows_with_clips():
    rng = np.random.default_rng(0)
    few, many = (bootstrap_interval(rng.standard_normal(count).tolist()) for count in (10, 1000))
    assert few[0] < 0.5
    assert few[1] > -0.5
    assert many[1] - many[0] < 0.5 * (few[1] - few[0])


def test_bursts_hit_the_users_side_alone_and_more_of_it_with_a_higher_probability(corpus):
    dyad = dyad_of(corpus)
    untouched = disturb(dyad, "noise", 0.0, 1)
    np.testing.assert_array_equal(untouched.user_voice, dyad.user_voice)
    share = [np.mean(disturb(dyad, "silence", p, 1).user_voice != dyad.user_voice) for p in (0.2, 0.7, 1.0)]
    assert share[0] <= share[1] <= share[2]
    silent = disturb(dyad, "silence", 1.0, 1)
    assert not silent.user_voice.any()
    np.testing.assert_array_equal(silent.agent_voice, dyad.agent_voice)
    assert not disturb(dyad, "dropped-motion", 1.0, 1).user_motion.valid.any()


def test_robustness_is_a_curve_for_each_kind_of_burst(corpus):
    ((_, rule),) = open_predictors("energy-rule", corpus)
    clips = dyads.read_split(corpus, "test")
    curves = robustness_curves(rule, clips, EvaluationConfig(), probabilities=(0.0, 0.7), seconds=6.0)
    assert set(curves) == {"noise", "silence", "dropped-motion"}
    still = curves["dropped-motion"]
    assert still[0]["mean"]["mse_jaw"] == still[1]["mean"]["mse_jaw"]


@pytest.mark.slow
def test_the_command_writes_settings_table_and_plots(corpus, model_of, tmp_path):
    folder = model_of()
    (corpus / "manifest.json").write_text(json.dumps({"kind": "SYNTHETIC"}))
    out = tmp_path / "out"
    options = [
        "--split",
        "test",
        "--clips",
        "1",
        "--seconds",
        "4",
        "--history",
        "0",
        "3",
        "--user",
        "seen",
        "unseen",
    ]
    assert evaluate_main([str(folder), str(corpus), *options, "--temperature", "0", "--out", str(out)]) == 0
    result = json.loads((out / "results.json").read_text())
    assert result["data_kind"] == "SYNTHETIC"
    settings = [(setting["history_turns"], setting["is_user_seen"]) for setting in result["settings"]]
    assert settings == [(0, True), (0, False), (3, True), (3, False)]
    assert "| FD ↓ |" in (out / "table.md").read_text()
    assert (out / "scores.png").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize("turn_frames", [None, 8])
def test_clips_made_together_are_those_made_alone(corpus, model_of, turn_frames):
    """Sixteen clips share each pass; the shorter ones go on in silence, of which nothing may be seen."""
    folder = model_of()
    network = TimarModel(ModelConfig(**SMALL))
    for parameter in network.head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    save_model(folder, network)
    ((_, predictor),) = open_predictors(str(folder), corpus, turn_lengths=(turn_frames,))
    clips = [load_dyad(dyads.Clip("clip2", corpus), 3.0), load_dyad(dyads.Clip("clip3", corpus), 4.2)]
    together = predict_all(predictor, clips, seed=1)
    assert [len(motion) for motion in together] == ([75, 105] if turn_frames is None else [72, 104])
    for clip, motion in zip(clips, together, strict=True):
        np.testing.assert_allclose(motion, predictor.predict(clip, seed=1), atol=2e-5)


def test_a_history_longer_than_the_window_is_refused(corpus, model_of, capsys):
    assert evaluate_main([str(model_of()), str(corpus), "--history", "9"]) == 1
    assert "ask for at most 7" in " ".join(capsys.readouterr().err.split())


def test_history_changes_what_is_generated(corpus, model_of):
    folder = model_of()
    network = TimarModel(ModelConfig(**SMALL, sampling=SamplingConfig(temperature=0.0)))
    for parameter in network.head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    save_model(folder, network)
    motion = [
        predictor.predict(dyad_of(corpus), 0) for _, predictor in open_predictors(str(folder), corpus, (0, 7))
    ]
    np.testing.assert_array_equal(motion[0][:5], motion[1][:5])
    assert np.abs(motion[0][60:] - motion[1][60:]).max() > 1e-5
