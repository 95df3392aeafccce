"""The gesture predictor: causal features, the shipped weights, the own past, and files that are refused."""

import copy
import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from timar_model.gestures import features as f
from timar_model.gestures.gesture import GestureKind
from timar_model.gestures.predictor import (
    FORMAT,
    SILENT,
    PeoplePredictor,
    PredictorStream,
    calibration_row,
    read_weights,
)

FRAMES = 400


@pytest.fixture(scope="module")
def weights():
    return read_weights()


def talk(seed, rows=3):
    """Return who speaks and nods in stretches of about a second, (rows, FRAMES) each."""
    random = np.random.default_rng(seed)
    return [np.repeat(random.random((rows, FRAMES // 20)) < 0.5, 20, axis=1) for _ in range(3)]


def test_side_by_side_and_alone_conversations_have_the_same_features_to_the_bit():
    own, user, nods = talk(0)
    together = f.ConversationFeatures((3,))
    plan = np.pad(own, ((0, 0), (0, f.PLAN_FRAMES + 1)))
    rows = np.stack(
        [
            together.step(plan[:, t : t + 1 + f.PLAN_FRAMES], user[:, t], nods[:, t], True)
            for t in range(FRAMES)
        ],
        axis=1,
    )
    for i in range(3):
        alone, _ = f.features_of(own[i], user[i], nods[i], np.ones(FRAMES, bool))
        np.testing.assert_array_equal(alone, rows[i])
    assert rows.shape[2] == len(f.FEATURE_NAMES)
    assert np.isfinite(rows).all()


@pytest.mark.parametrize("lag", [0, 4])
def test_no_feature_knows_the_user_before_the_lag_is_over(lag):
    own, user, nods = (track[0] for track in talk(1))
    seen = np.ones(FRAMES, bool)
    before, _ = f.features_of(own, user, nods, seen, lag)
    changed_user, changed_nods = user.copy(), nods.copy()
    changed_user[200:] ^= True
    changed_nods[200:] ^= True
    after, _ = f.features_of(own, changed_user, changed_nods, seen, lag)
    np.testing.assert_array_equal(before[: 200 + lag], after[: 200 + lag])
    assert (before[200 + lag] != after[200 + lag]).any()


def test_planned_speech_counts_a_second_ahead_and_no_further():
    quiet = np.zeros(FRAMES, bool)
    planned = quiet.copy()
    planned[200:230] = True
    without, _ = f.features_of(quiet, quiet)
    with_plan, _ = f.features_of(planned, quiet)
    differs = (without != with_plan).any(1)
    assert np.flatnonzero(differs)[0] == 200 - f.PLAN_FRAMES


def test_one_that_speaks_and_one_that_is_spoken_to_are_told_apart():
    one, none = np.ones(FRAMES, bool), np.zeros(FRAMES, bool)
    assert f.features_of(one, none)[1][-1] == f.SPEAKING
    assert f.features_of(none, one)[1][-1] == f.LISTENING
    assert f.features_of(none, none)[1][-1] == f.NEITHER


def test_a_listener_about_to_answer_is_likelier_to_nod_than_one_who_goes_on_listening(weights):
    user, quiet = np.ones(FRAMES, bool), np.zeros(1 + f.PLAN_FRAMES, bool)
    stream = PredictorStream(weights)
    for t in range(FRAMES):
        stream.step(quiet, user[t])
    answering = quiet.copy()
    answering[8:] = True
    listening = copy.deepcopy(stream).step(quiet, True).probability
    assert stream.step(answering, True).probability[0] > 1.5 * listening[0]


def test_a_copied_stream_goes_its_own_way(weights):
    stream = PredictorStream(weights)
    quiet = np.zeros(1 + f.PLAN_FRAMES, bool)
    for _ in range(30):
        stream.step(quiet, True)
    twin = copy.deepcopy(stream)
    for _ in range(30):
        twin.step(~quiet, False)
    again = PredictorStream(weights)
    for _ in range(30):
        again.step(quiet, True)
    for left, right in zip(stream.step(quiet, True), again.step(quiet, True), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_gesture_changes_the_hazard_and_not_the_published_probability(weights):
    stream = PredictorStream(weights)
    quiet = np.zeros(1 + f.PLAN_FRAMES, bool)
    for _ in range(100):
        stream.step(quiet, True)
    twin = copy.deepcopy(stream)
    strokes = twin.draw(GestureKind.NOD, np.random.default_rng(0))
    assert strokes.count >= 1
    assert 0.2 <= strokes.speed_hz <= 5
    before, after = stream.step(quiet, True), twin.step(quiet, True)
    np.testing.assert_array_equal(before.probability, after.probability)
    assert after.hazard[0] != before.hazard[0]
    assert np.isinf(after.threshold).all(), "a decisive head rests after a gesture"


def test_shipped_weights_name_their_source_and_licence(weights):
    about = PeoplePredictor(weights).weights.about
    assert "AMI" in about["attribution"]
    assert about["licence"] == "CC BY 4.0"
    assert [kind.name.lower() for kind in weights.kinds] == about["kinds"]


@pytest.mark.parametrize("wrong", ["nothing", "text", "format", "shape"])
def test_a_file_without_gesture_weights_is_refused_in_one_sentence(wrong, tmp_path, weights):
    path = tmp_path / "wrong.safetensors"
    arrays, about = dict(weights.arrays), dict(weights.about)
    if wrong == "text":
        path.write_text("these are no weights", encoding="utf-8")
    elif wrong == "format":
        save_file(arrays, path, metadata={"about": json.dumps({**about, "format": FORMAT + "-old"})})
    elif wrong == "shape":
        arrays["soon.bias"] = np.full_like(arrays["soon.bias"], np.nan)
        save_file(arrays, path, metadata={"about": json.dumps(about)})
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        read_weights(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_listening_in_silence_and_before_ones_own_words_are_calibrated_apart():
    rows = np.zeros((5, len(f.FEATURE_NAMES)), np.float32)
    for row, names in enumerate(
        [("listening",), ("listening", "ahead_1s"), ("speaking", "ahead_1s"), (), ("listening", "user_seen")]
    ):
        for name in names:
            rows[row, f.FEATURE_NAMES.index(name)] = 1.0
    seen, group = calibration_row(rows)
    assert group.tolist() == [SILENT, f.LISTENING, f.SPEAKING, f.NEITHER, SILENT]
    assert seen.tolist() == [0, 0, 0, 0, 1]


def test_the_shipped_probability_is_tempered_and_never_sharpened(weights):
    slopes = weights.arrays["calibration"][..., 0]
    assert slopes.shape == (2, 4, 3)
    assert (slopes <= 1).all()
    assert (slopes[..., 0] < 1).all()
