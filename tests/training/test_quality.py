"""The scores say what they claim, on motion whose answer is known."""

import numpy as np
import pytest
from timar_model.architecture.config import ModelConfig
from timar_model.architecture.inputs import MotionStatistics
from timar_model.architecture.model import TimarModel
from timar_model.metrics.movement import jerk_by_phase
from timar_model.model_folder import read_model, save_model
from timar_training.corpora.levels import frame_level_db
from timar_training.evaluate_command import main as evaluate_main
from timar_training.evaluation import quality
from timar_training.publishing.publish import publish


def still(frames=500):
    return np.zeros((frames, 56), np.float32)


def smooth_noise(frames, seed):
    kernel = np.hanning(9)
    return np.convolve(np.random.default_rng(seed).standard_normal(frames + 8), kernel, "valid")


@pytest.mark.parametrize("lag", [-2, 0, 3])
def test_a_jaw_that_comes_later_has_a_positive_lag(lag):
    track = smooth_noise(520, 0)
    found = quality.lag_correlation(track[10 - lag : 510 - lag], track[10:510])
    assert found.lag_ms == pytest.approx(40.0 * lag, abs=1.0)
    assert found.best > 0.99


def test_a_lag_between_two_frames_is_found():
    time_s = np.arange(400) / 25
    follower, leader = np.sin(2 * np.pi * 1.3 * (time_s - 0.02)), np.sin(2 * np.pi * 1.3 * time_s)
    assert quality.lag_correlation(follower, leader).lag_ms == pytest.approx(20.0, abs=2.0)


def test_the_level_of_a_frame_is_centred_on_the_instant_it_is_shown():
    voice = np.zeros(640 * 6, np.float32)
    voice[640 * 3 - 320 : 640 * 3 + 320] = 0.1
    level = frame_level_db(voice)
    assert int(level.argmax()) == 3
    assert level[3] == pytest.approx(-20.0, abs=0.01)
    assert level[[2, 4]].max() <= -79.9


def test_a_jaw_that_does_not_move_correlates_with_nothing():
    voice = smooth_noise(640 * 100, 1).astype(np.float32)
    found = quality.jaw_follows_voice(still(100), voice)
    assert (found.at_zero, found.best) == (0.0, 0.0)


def test_a_jump_between_turns_shows_at_the_seam_and_smooth_motion_does_not():
    motion = still()
    motion[:, 53:] = np.sin(np.arange(500) / 7)[:, None]
    assert quality.seam_ratio(motion, 5) == pytest.approx(1.0, abs=0.1)
    motion[:, 53] += 0.02 * (np.arange(500) // 5 % 2)
    by_phase = jerk_by_phase(motion[:, 53:], 5)
    assert int(by_phase.argmax()) == 0
    assert quality.seam_ratio(motion, 5) > 1.3


def test_jitter_is_rough_and_a_nod_is_not():
    motion = still()
    motion[:, 53] = np.sin(2 * np.pi * 2.0 * np.arange(500) / 25)
    assert quality.roughness(motion) < 0.01
    motion[:, 53] = np.random.default_rng(0).standard_normal(500)
    assert quality.roughness(motion) > 0.5


@pytest.fixture
def trained(tmp_path):
    save_model(tmp_path / "model", TimarModel(ModelConfig.of_size("tiny", blocks=1, window_frames=10)))
    (tmp_path / "card.md").write_text("# A card\n")
    return tmp_path


def test_a_published_model_carries_its_card_and_its_sampling_defaults(trained):
    folder = publish([trained / "model"], trained / "out", {"temperature": 0.25}, trained / "card.md")
    assert folder.config.sampling.temperature == 0.25
    assert "README.md" in folder.manifest["files"]
    assert (folder.path / "README.md").read_text() == "# A card\n"


def test_of_several_runs_the_mean_of_their_weights_is_published(trained):
    network = TimarModel(ModelConfig.of_size("tiny", blocks=1, window_frames=10))
    save_model(trained / "other", network, provenance={"command": "timar train other.yaml"})
    runs = [trained / "other", trained / "model"]
    folder = publish(runs, trained / "out", {}, trained / "card.md")
    one, two = (read_model(run).weights() for run in runs)
    for name, value in folder.weights().items():
        np.testing.assert_allclose(value, (one[name] + two[name]) / 2, rtol=0, atol=1e-6)
    assert folder.manifest["provenance"]["averaged_with"] == [{"command": "timar train other.yaml"}]


def test_runs_of_other_units_or_shapes_have_no_mean(trained):
    network = TimarModel(ModelConfig.of_size("tiny", blocks=1, window_frames=10))
    units = MotionStatistics(np.ones(56, np.float32), np.ones(56, np.float32))
    save_model(trained / "units", network, units)
    save_model(trained / "deep", TimarModel(ModelConfig.of_size("tiny", blocks=2, window_frames=10)))
    for other, message in (("units", "other units of motion"), ("deep", "weights of other shapes")):
        with pytest.raises(ValueError, match=message):
            publish([trained / "model", trained / other], trained / "out", {}, trained / "card.md")


def test_an_unknown_sampling_default_is_refused(trained):
    with pytest.raises(ValueError, match="no sampling option 'heat'"):
        publish([trained / "model"], trained / "out", {"heat": 1.0}, trained / "card.md")


def test_a_model_is_not_published_without_a_card(trained):
    with pytest.raises(FileNotFoundError, match="no model card"):
        publish([trained / "model"], trained / "out", {}, trained / "nothing.md")


def test_a_model_that_is_not_there_is_said_in_a_sentence(tmp_path, capsys):
    assert evaluate_main([str(tmp_path / "none"), str(tmp_path)]) == 1
    assert "none" in " ".join(capsys.readouterr().err.split())
