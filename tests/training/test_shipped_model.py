"""The shipped model moves plausibly: a real quality test, on voices and conversations it never met."""

import os
from pathlib import Path

import numpy as np
import pytest
from timar_common.motion_file import EXPRESSION, NECK
from timar_common.pcm import float_to_int16
from timar_model.session.recording import run_session
from timar_training.corpora import dyads
from timar_training.evaluation import quality
from timar_training.synthesis.conversation import TalkConfig, hold_conversation
from timar_training.synthesis.gestures import GestureConfig, MotionStyle, move_head
from timar_training.synthesis.voices import SpeakerVoice

from timar_model import load_model

CLIPS = (
    *dyads.find_clips(Path(__file__).parents[2] / "examples" / "data" / "conversation"),
    *(dyads.find_clips(Path(os.environ["TIMAR_EXTRA_DATA"])) if "TIMAR_EXTRA_DATA" in os.environ else ()),
)
"""The shipped conversation, and the clips of people whom nobody may ship."""


@pytest.fixture(scope="module")
def model():
    return load_model("calm-head")


@pytest.fixture(scope="module")
def talk(babble):
    """Twenty seconds of two made-up voices, at ordinary level, with a little noise behind them."""
    rng = np.random.default_rng(7)
    lengths = (0.4, 0.7, 1.3, 2.0, 2.8)
    voices = [
        SpeakerVoice(name, "made up", tuple(float_to_int16(babble(s, rng)) for s in lengths))
        for name in ("first", "second")
    ]
    talk = hold_conversation((voices[0], voices[1]), 20.0, TalkConfig(), rng)
    for voice in talk.voices:
        voice += 1e-3 * rng.standard_normal(len(voice)).astype(np.float32)
    return talk


@pytest.fixture(scope="module")
def motion(model, talk):
    return run_session(model.session(seed=5), *talk.voices)


def test_the_jaw_follows_the_agents_voice_within_a_frame(motion, talk):
    follows = quality.jaw_follows_voice(motion, talk.voices[1])
    assert follows.at_zero > 0.6
    assert abs(follows.lag_ms) < 40.0


def test_the_jaw_opens_as_far_as_the_rules_say(motion, talk):
    style = MotionStyle(vigour=1, jaw=1, engagement=1, expressiveness=1, habit=1, rest=(0.0, 0.0, 0.0))
    truth = move_head(talk, 1, style, GestureConfig(), np.random.default_rng(0))
    ratio = quality.amplitude_rad(motion) / quality.amplitude_rad(truth)
    assert 0.6 < ratio < 1.5


def test_the_neck_answers_the_users_voice(model, motion, talk):
    user, agent = talk.voices
    silent = run_session(model.session(seed=5), np.zeros_like(user), agent)
    change = np.sqrt(np.square((motion - silent)[:, NECK]).mean())
    assert change > 0.3 * motion[:, NECK].std(axis=0).mean()


def test_the_head_moves_gently_and_not_by_itself_wildly(motion):
    assert np.abs(motion[:, NECK]).max() < 0.5
    speed = quality.neck_speed_rad_s(motion)
    assert 0.02 < speed[0] < 0.5
    assert speed.max() < 0.5


def test_no_expression_is_invented(motion):
    assert np.abs(motion[:, EXPRESSION]).max() < 0.05


def test_twice_the_same_seed_is_twice_the_same_motion(model, talk):
    user, agent = (voice[: 50 * 640] for voice in talk.voices)
    first, second = (run_session(model.session(seed=5), user, agent) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.name)
def test_on_a_whole_conversation_the_jaw_follows_and_the_user_matters(model, clip):
    user, agent = (dyads.read_voice(clip.voice_path(speaker))[: 375 * 640] for speaker in (1, 2))
    seen = dyads.read_motion(clip.motion_path(dyads.USER_SPEAKER))
    motion = run_session(model.session(seed=5), user, agent, seen)
    follows = quality.jaw_follows_voice(motion, agent)
    assert follows.at_zero > 0.5
    assert abs(follows.lag_ms) < 40.0
    silent = run_session(model.session(seed=5), np.zeros_like(user), agent, seen)
    change = np.sqrt(np.square((motion - silent)[:, NECK]).mean())
    assert change > 0.2 * motion[:, NECK].std(axis=0).mean()


def test_the_shipped_folder_says_where_it_comes_from_and_stays_small(model):
    provenance = model.manifest["provenance"]
    assert provenance["data_kind"] == "SYNTHETIC"
    assert provenance["command"].startswith("timar train")
    assert "SYNTHETIC" in (model.path / "README.md").read_text()
    assert sum(path.stat().st_size for path in model.path.iterdir()) <= 15_000_000
