"""Gesture training and `timar evaluate --events` on made-up people who nod when they are spoken to."""

import dataclasses
import json

import numpy as np
import pytest
from made_archive import write_archive
from scipy import special
from timar_common.motion_file import MotionTrack, write_motion
from timar_model.gestures.predictor import read_weights
from timar_model.loading import DEFAULT_MODEL
from timar_training import evaluate_command, train_gestures_command
from timar_training.corpora.ami import Participant, series_of
from timar_training.corpora.dyads import write_voice
from timar_training.evaluation.event_scores import (
    bootstrap_weights,
    f1_above_chance,
    hits_above_chance,
    rank_events,
)
from timar_training.evaluation.events import assign_weights
from timar_training.preparation.annotated import AnnotatedTracks
from timar_training.training.gesture_training import _tempered

PERSON = Participant("", "A", "", (), (), (), ())

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    archive = write_archive(folder / "made.zip", meetings=4, seconds=240)
    arguments = [str(archive), str(folder / "weights"), "--folds", "2", "--only-folds", "--epochs", "10"]
    assert train_gestures_command.main(arguments) == 0
    return archive, folder / "weights"


@pytest.fixture(scope="module")
def judged(trained, tmp_path_factory):
    archive, weights = trained
    file = tmp_path_factory.mktemp("judged") / "events.json"
    assert evaluate_command.main([str(weights), "--events", str(archive), "--json", str(file)]) == 0
    return json.loads(file.read_text())


def test_the_predictor_learns_when_made_up_people_nod(judged):
    model = judged["states"]["listening"]["model"]
    assert model["auc"] > 0.62
    assert model["auc_95"][0] > 0.55
    assert model["brier_skill"] > 0
    assert 0.7 < model["calibration_slope"] < 1.4


def test_drawn_heads_nod_about_as_often_and_as_long_as_made_up_people(judged):
    listening = judged["states"]["listening"]
    assert listening["model"]["nods_per_min"] == pytest.approx(listening["true_per_min"], rel=0.3)
    assert judged["distributions"]["duration_listening"]["distance"] < 0.2


def test_the_json_has_what_the_protocol_names(judged):
    for state in ("listening", "silent", "speaking"):
        assert "true_per_min" in judged["states"][state]
        for method in ("model", "timing", "timing_plan"):
            row = judged["states"][state][method]
            assert {"auc", "auc_95", "lift", "brier_skill", "f1_above_chance", "nods_per_min"} <= set(row)
    assert judged["differences"]["listening"]["model - timing_plan"]["auc_95"]
    assert judged["lag_s"] == 0.16
    assert set(judged["without_lag"]["states"]) == {"listening", "silent", "speaking"}


def test_the_annotation_played_back_is_nearly_all_hits_and_chance_is_none(judged):
    listening = judged["states"]["listening"]
    assert listening["annotated"]["f1_above_chance"] > 0.6
    assert abs(listening["random"]["f1_above_chance"]) < 0.05


def test_weights_are_not_judged_by_people_they_learned_from(trained, capsys):
    archive, weights = trained
    assert evaluate_command.main([str(weights / "fold_1.safetensors"), "--events", str(archive)]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "learned from meeting XX100" in said
    assert "--folds" in said


def test_another_meeting_of_people_they_learned_from_is_judged_and_said(trained):
    _, weights = trained
    learned = read_weights(weights / "fold_1.safetensors")
    person = dataclasses.replace(PERSON, meeting=learned.about["meetings"][0][:-1] + "d")
    tracks = AnnotatedTracks((person,), (series_of(person.meeting),), *(np.zeros((1, 1), bool),) * 4)
    messages = []
    assert assign_weights([learned], tracks, messages.append).tolist() == [0]
    assert "other meetings of the people" in messages[0]


def test_the_same_seed_gives_the_same_weights(trained, tmp_path):
    archive = write_archive(tmp_path / "made.zip", meetings=2, seconds=100)
    found = []
    for name in ("a", "b"):
        assert train_gestures_command.main([str(archive), str(tmp_path / name), "--epochs", "2"]) == 0
        found.append(read_weights(tmp_path / name / train_gestures_command.WEIGHTS_FILE))
    for name, array in found[0].arrays.items():
        np.testing.assert_array_equal(array, found[1].arrays[name], err_msg=name)
    assert found[0].about["meetings"] == ["XX1000a", "XX1001a"]


def test_fewer_series_than_folds_are_refused_in_one_sentence(tmp_path, capsys):
    archive = write_archive(tmp_path / "made.zip", meetings=2, seconds=60)
    assert train_gestures_command.main([str(archive), str(tmp_path / "out"), "--folds", "5"]) == 1
    assert "expected at least 5" in " ".join(capsys.readouterr().err.split())


def test_dyads_are_judged_as_well_and_beside_them_the_models_own_motion(trained, tmp_path, capsys):
    _, weights = trained
    t = np.arange(25 * 30) / 25
    for number in range(3):
        rng = np.random.default_rng(number)
        for speaker, spoken in ((1, t < 25), (2, t > 26)):
            voice = np.repeat(spoken, 640) * 0.1 * rng.standard_normal(640 * len(t))
            write_voice(tmp_path / f"c{number}_speaker{speaker}.wav", voice.astype(np.float32))
        motion = np.zeros((len(t), 56), np.float32)
        for start_s in (12, 15 + number, 21):
            motion[:, 53] += (
                0.1 * np.sin(2 * np.pi * (t - start_s)) ** 2 * ((t > start_s) & (t < start_s + 1))
            )
        track = MotionTrack(motion, np.ones((len(t), 3), bool))
        write_motion(tmp_path / f"c{number}_speaker2.npz", track)
    file = tmp_path / "events.json"
    arguments = [DEFAULT_MODEL, "--events", str(tmp_path), "--gestures", str(weights / "fold_1.safetensors")]
    assert evaluate_command.main([*arguments, "--json", str(file)]) == 0
    judged = json.loads(file.read_text())
    listening = judged["states"]["listening"]
    assert listening["annotated"]["f1_above_chance"] > 0.4
    assert 0 < listening["motion"]["auc"] < 1
    assert "calibration_slope" not in listening["motion"]
    assert {"model", "timing_plan", "random"} <= set(listening)
    assert "motion" in capsys.readouterr().out
    assert evaluate_command.main([DEFAULT_MODEL, "--events", str(tmp_path / "missing")]) == 1


@pytest.mark.parametrize("arguments", [["calm-head"], ["calm-head", "data", "--events", "x.zip"]])
def test_evaluate_wants_either_dyads_or_events(arguments):
    with pytest.raises(SystemExit):
        evaluate_command.main(arguments)


def test_a_perfect_score_ranks_perfectly_and_a_constant_does_not():
    random = np.random.default_rng(0)
    soon = random.random((4, 2000)) < 0.05
    use, person = np.ones_like(soon), np.array([0, 0, 1, 2])
    everybody = bootstrap_weights(3)
    perfect = rank_events(np.where(soon, 0.9, 0.01), soon, use, person)
    assert perfect.auc(everybody)[0] == pytest.approx(1.0)
    assert perfect.lift(everybody)[0] > 15
    flat = rank_events(np.full(soon.shape, 0.05), soon, use, person)
    assert flat.auc(everybody)[0] == pytest.approx(0.5)
    assert flat.lift(everybody)[0] == pytest.approx(1.0)
    assert flat.brier_skill(everybody)[0] == pytest.approx(0.0, abs=1e-3)


def test_a_calibrated_score_has_slope_one_and_an_overconfident_one_less():
    random = np.random.default_rng(1)
    logit = random.normal(-3, 1, (3, 40000))
    soon = random.random(logit.shape) < 1 / (1 + np.exp(-logit))
    use, everybody = np.ones_like(soon), bootstrap_weights(3)
    for factor in (1.0, 2.0):
        ranking = rank_events(1 / (1 + np.exp(-factor * logit)), soon, use, np.arange(3))
        slope = ranking.calibration(everybody, 2)[0][0]
        assert slope == pytest.approx(1 / factor, rel=0.06)


def test_hits_need_half_a_second_and_chance_is_taken_off():
    true = [100 + np.cumsum(np.random.default_rng(2).integers(60, 400, 80))]
    moments, person = np.ones((1, 20000), bool), np.zeros(1, int)
    near = hits_above_chance([true[0] + 12], true, moments, person, 25)
    far = hits_above_chance([true[0] + 14], true, moments, person, 25)
    assert near[0, 0] == near[0, 2:].sum()
    assert far[0, 0] == 0
    assert f1_above_chance(near)[0] > 0.8


@pytest.mark.parametrize("true_slope", [0.5, 0.8])
def test_logits_that_claim_too_much_are_tempered_and_keep_their_mean(true_slope):
    rng = np.random.default_rng(0)
    logit = (-3.5 + rng.standard_normal(60_000)).astype(np.float32)
    label = rng.random(len(logit)) < special.expit(-3.5 + true_slope * (logit + 3.5))
    slope, offset = _tempered(logit, label)
    assert slope == pytest.approx(true_slope, abs=0.08)
    assert special.expit(slope * logit + offset).mean() == pytest.approx(
        special.expit(logit).mean(), rel=1e-3
    )
    nothing = rng.random(len(logit)) < 0.03
    assert _tempered(logit, nothing)[0] < 0.08
