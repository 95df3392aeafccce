"""Windows: each its own sample, and fed with exactly what the live session would have at that moment."""

import dataclasses

import numpy as np
import pytest
import torch
from timar_model.architecture.config import ModelConfig, ObjectiveConfig
from timar_model.architecture.inputs import TurnInputs, speech_features
from timar_model.architecture.model import TimarModel
from timar_model.architecture.sequences import lead_frames
from timar_model.model_folder import save_model
from timar_model.session.recording import run_session
from timar_training.corpora import dyads
from timar_training.preparation.prepare import clip_streams, prepare
from timar_training.preparation.windows import Augmentation, WindowSampler, motion_statistics

from timar_model import load_model

NOTHING_HIDDEN = ObjectiveConfig(
    mask_ratio_min=1.0,
    user_token_drop=0.0,
    user_turn_drop=0.0,
    user_motion_drop=0.0,
    past_drop=0.0,
    past_noise=0.0,
)
CONFIG = ModelConfig.of_size("tiny", window_frames=50, blocks=1, objective=NOTHING_HIDDEN)
TURNS = [5] * 10
LEAD = lead_frames(TURNS, CONFIG)


@pytest.fixture
def corpus(tmp_path, write_babble_clip, write_splits):
    for number in range(3):
        write_babble_clip(tmp_path, f"clip{number}", seconds=8.0, seed=number)
    write_splits(tmp_path, train=["clip0", "clip1"], validation=["clip2"])
    return tmp_path


def prepared(corpus):
    return prepare(dyads.read_split(corpus, "train"), CONFIG, LEAD, corpus / ".prepared")


def sampler(data, seed=3, augmentation=None):
    return WindowSampler(data, motion_statistics(data), CONFIG, TURNS, 4, seed, augmentation)


def tensors(batch):
    return {name: value for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}


def test_training_feeds_a_turn_exactly_what_the_live_session_feeds_it(corpus, tmp_path, monkeypatch):
    clip = dyads.read_split(corpus, "train")[0]
    data = prepare([clip], CONFIG, LEAD, corpus / ".prepared")
    statistics = motion_statistics(data)
    network = TimarModel(CONFIG)
    save_model(tmp_path / "model", network, statistics)

    fed = {"timar_model.architecture.inputs": [], "timar_model.architecture.model": []}
    for module, record in fed.items():

        def remember(module=module, record=record, **streams):
            # What the session prepares is numpy; the engine makes tensors of the same turns once more.
            if module.endswith("model") or isinstance(streams["user_speech"], np.ndarray):
                record.append({name: np.asarray(value) for name, value in streams.items()})
            return TurnInputs(**streams)

        monkeypatch.setattr(f"{module}.TurnInputs", remember)

    user, agent = (dyads.read_voice(clip.voice_path(speaker)) for speaker in (1, 2))
    run_session(
        load_model(tmp_path / "model").session(seed=0),
        user[: 50 * 640],
        agent[: 50 * 640],
        dyads.read_motion(clip.motion_path(1)),
    )
    windows = WindowSampler(data, statistics, CONFIG, TURNS, 1, 0)
    first = [step for step in range(len(windows)) if windows.windows_of(step)[0] == LEAD]
    fed["timar_model.architecture.model"].clear()
    network.training_loss(windows.draw(first[0]))
    trained = fed["timar_model.architecture.model"][0]
    live = {
        name: np.concatenate([turn[name] for turn in fed["timar_model.architecture.inputs"]], axis=1)
        for name in ("user_speech", "agent_speech", "user_motion", "user_motion_seen")
    }
    for name in ("user_speech", "agent_speech", "user_motion_seen"):
        np.testing.assert_allclose(trained[name], live[name], atol=1e-5, err_msg=name)
    seen = live["user_motion_seen"][..., 2] > 0
    assert seen.sum() > 30
    np.testing.assert_allclose(
        trained["user_motion"][seen][:, 50:], live["user_motion"][seen][:, 50:], atol=1e-4
    )


def test_nothing_after_a_turns_horizon_changes_the_turn(corpus, tmp_path):
    clip = dyads.read_split(corpus, "train")[0]
    torch.manual_seed(0)
    network = TimarModel(CONFIG)
    # A fresh head ignores everything: it starts as an estimate of nothing.
    for parameter in network.head.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_model(tmp_path / "model", network)
    model = load_model(tmp_path / "model")
    user, agent = (dyads.read_voice(clip.voice_path(speaker))[: 60 * 640].copy() for speaker in (1, 2))
    first = run_session(model.session(seed=1), user, agent)
    margin = CONFIG.user_lag_margin_frames
    user[(40 - margin) * 640 :] *= -0.5
    agent[45 * 640 :] = 0.1
    second = run_session(model.session(seed=1), user, agent)
    np.testing.assert_array_equal(first[:45], second[:45])
    assert np.abs(first[45:50] - second[45:50]).max() > 1e-4


def test_a_window_holds_the_rows_of_its_clip_at_its_place(corpus):
    data = prepared(corpus)
    windows = sampler(data)
    batch = windows.draw(5)
    statistics = motion_statistics(data)
    for row, start in enumerate(windows.windows_of(5)):
        rows = slice(int(start) - LEAD, int(start) + 50)
        np.testing.assert_array_equal(batch.agent_speech[row].numpy(), data.agent_speech[rows])
        np.testing.assert_allclose(
            batch.agent_motion[row].numpy(), statistics.normalise(data.agent_motion[rows]), atol=1e-6
        )


def test_every_window_comes_once_an_epoch(corpus):
    windows = sampler(prepared(corpus))
    assert len(windows) == 8
    starts = np.concatenate([windows.windows_of(step) for step in range(2)])
    assert len(set(starts.tolist())) == 8


def test_a_window_does_not_depend_on_the_windows_around_it(corpus):
    """The released loader let windows share one record, so a clip trained on its last 8 s only."""
    data = prepared(corpus)
    before = {name: value.clone() for name, value in tensors(sampler(data).draw(0)).items()}
    start = sampler(data).windows_of(0)
    changed = dataclasses.replace(
        data, **{name: np.array(getattr(data, name)) for name in ("user_speech", "agent_motion")}
    )
    keep = np.zeros(len(data.user_speech), bool)
    for first in start:
        keep[first - LEAD : first + 50] = True
    changed.user_speech[~keep] = 99.0
    statistics = motion_statistics(data)
    after = WindowSampler(changed, statistics, CONFIG, TURNS, 4, 3).draw(0)
    for name, value in tensors(after).items():
        torch.testing.assert_close(value, before[name], msg=name)


def test_order_and_augmentation_follow_from_seed_and_step_alone(corpus):
    data = prepared(corpus)
    first, second = (sampler(data, 5, Augmentation()) for _ in range(2))
    first.draw(0)
    first.draw(1)
    for name, value in tensors(first.draw(7)).items():
        torch.testing.assert_close(value, tensors(second.draw(7))[name], msg=name)
    assert (sampler(data, 6).windows_of(0) != sampler(data, 5).windows_of(0)).any()


def test_only_a_seen_user_gets_invented_expression(corpus):
    batch = sampler(prepared(corpus), 5, Augmentation(expression_probability=1.0)).draw(2)
    seen = batch.user_motion_seen.numpy()
    has_pose = seen[..., 1:].max(axis=2) > 0
    np.testing.assert_array_equal(seen[..., 0] > 0, has_pose)
    assert not batch.user_motion.numpy()[~has_pose].any()
    assert batch.user_motion.numpy()[has_pose][:, :50].std() > 0.5


def test_frames_before_a_recording_are_silent_unseen_and_unknown(corpus):
    clip = dyads.read_split(corpus, "train")[0]
    streams = clip_streams(clip, speech_features(CONFIG), LEAD)
    silence = clip_streams_of_silence()
    np.testing.assert_allclose(streams["user_speech"][:LEAD], silence[:LEAD], atol=1e-6)
    assert not streams["user_valid"][:LEAD].any()
    assert not streams["agent_valid"][:LEAD].any()


def clip_streams_of_silence():
    features = speech_features(CONFIG)
    return features.compute(np.zeros(LEAD * 640, np.float32), features.initial())[0]


def test_prepared_arrays_are_found_again_and_made_anew_when_a_file_changes(corpus, write_babble_clip):
    prepared(corpus)
    prepared(corpus)
    assert len(list((corpus / ".prepared").iterdir())) == 1
    write_babble_clip(corpus, "clip0", seconds=9.0, seed=11)
    assert prepared(corpus).frames(0) == 225
    assert len(list((corpus / ".prepared").iterdir())) == 2


def test_two_processes_may_prepare_the_same_data_at_once(corpus):
    """The slower of two processes once failed, for its folder was to replace one that was there already."""
    clips = dyads.read_split(corpus, "train")
    faster = []
    slower = prepare(
        clips, CONFIG, LEAD, corpus / ".prepared", advance=lambda done, total: faster.append(prepared(corpus))
    )
    assert len(list((corpus / ".prepared").iterdir())) == 1
    np.testing.assert_array_equal(faster[0].agent_speech, slower.agent_speech)


def test_features_whose_code_changed_are_not_taken_for_the_old_ones(corpus, monkeypatch):
    """A changed loudness normaliser once trained a model on features the live session no longer made."""
    prepared(corpus)
    features = speech_features(CONFIG)
    compute = features.compute

    def louder(samples, state):
        rows, after = compute(samples, state)
        return rows + 0.1, after

    features.compute = louder
    monkeypatch.setattr("timar_training.preparation.prepare.speech_features", lambda config: features)
    prepared(corpus)
    assert len(list((corpus / ".prepared").iterdir())) == 2


def test_clips_shorter_than_a_window_are_said_to_be_too_short(tmp_path, write_babble_clip):
    write_babble_clip(tmp_path, "short", seconds=1.0, seed=0)
    data = prepare(dyads.find_clips(tmp_path), CONFIG, LEAD, tmp_path / ".prepared")
    with pytest.raises(ValueError, match="no clip has 50 frames in a row"):
        sampler(data)
