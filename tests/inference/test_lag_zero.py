"""A model trained without a user lag (as published: turns of 1 s), run live in its two ways."""

import numpy as np
import pytest
from timar_inference.alignment import Alignment
from timar_inference.config import InferenceConfig
from timar_inference.runtime import open_runtime
from timar_inference.turn_jobs import Decision, TurnRequest

WAYS = ("user_set_back", "shown_late")
FRAMES, MARGIN = 25, 2
FRAME_NS = 40_000_000
SECONDS = 6


@pytest.fixture(scope="module")
def published(make_model_folder):
    """Its layout, small: absolute positions, no past frames, both streams simultaneous."""
    return make_model_folder(
        "published",
        turn_frames=FRAMES,
        window_frames=4 * FRAMES,
        positions="window",
        past_frames=0,
        user_lag="none",
        user_lag_margin_frames=0,
        loudness="none",
    )


@pytest.fixture
def hold(published, make_talk):
    def make(way, compute_ms=0.0, **changes):
        config = {"model": str(published), "engine": "torch", "lag_zero": way, **changes}
        runtime = open_runtime(InferenceConfig(**config))
        return make_talk(runtime, compute_ms, keep_requests=True, **config)

    return make


def turns_of(talk):
    return [job for job in talk.requests if isinstance(job, TurnRequest)]


@pytest.mark.parametrize("way", WAYS)
def test_every_turn_is_complete_and_hears_no_future(hold, way):
    talk = hold(way)
    outcomes = talk.hear(0, 16_000 * SECONDS)
    turns = turns_of(talk)
    first = 0 if way == "shown_late" else FRAMES
    assert [turn.first_frame for turn in turns] == list(range(first, turns[-1].first_frame + 1, FRAMES))
    assert len(turns) == 6
    assert all(each.entry.decision == Decision.GENERATE for each in outcomes[1:])
    assert not any(each.entry.is_late for each in outcomes)
    for turn in turns:
        offset = 0 if way == "shown_late" else -FRAMES - MARGIN
        assert (turn.user_first_frame, turn.user_frames) == (turn.first_frame + offset, FRAMES)
        heard = np.round(turn.user_speech * 32768).astype(int)
        places = 640 * turn.user_first_frame + np.arange(640 * FRAMES)
        expected = np.where(places < 0, 0, talk.voice[0, np.maximum(places, 0)])
        np.testing.assert_array_equal(heard, expected)
        said = np.round(turn.agent_speech * 32768).astype(int)
        first_sample = 640 * turn.first_frame
        np.testing.assert_array_equal(said, talk.voice[1, first_sample : first_sample + 640 * FRAMES])
        # Handed out with the very block that completes it.
        assert turn.ready_ns == talk.time_of(640 * turn.user_end_frame)


@pytest.mark.parametrize(
    ("first_sample", "expected"), [(0, 0), (15_999, 0), (16_000, 25), (16_000 * 3600 + 8000, 90_000)]
)
def test_first_turn_shown_late_is_the_one_in_which_the_user_is_first_heard(first_sample, expected):
    alignment = Alignment(FRAMES, MARGIN, is_shown_late=True)
    assert alignment.first_turn(first_sample) == expected
    assert alignment.user_range(expected, FRAMES) == (expected, expected + FRAMES)
    assert alignment.delay_frames == FRAMES + MARGIN


@pytest.mark.parametrize("way", WAYS)
def test_what_comes_later_changes_nothing_that_was_made(hold, way):
    """The user and the plan are changed from a place on: turns made before it was heard stay to the bit."""
    cut = 16_000 * 4
    talks = [hold(way), hold(way)]
    talks[1].voice[0, cut:] = 0
    made = [
        {each.entry.first_frame: each.motion for each in talk.hear(0, 16_000 * SECONDS) if each.shown}
        for talk in talks
    ]
    heard_until = {turn.first_frame: 640 * turn.user_end_frame for turn in turns_of(talks[0])}
    assert {end <= cut for end in heard_until.values()} == {True, False}
    for first_frame, end in heard_until.items():
        assert np.array_equal(made[0][first_frame], made[1][first_frame]) == (end <= cut)


def test_shown_late_makes_what_the_model_makes_of_simultaneous_streams(hold, published):
    """The very numbers of the published alignment: both voices of the same second, turn by turn."""
    talk = hold("shown_late", seed=4)
    outcomes = talk.hear(0, 16_000 * SECONDS)
    session = open_runtime(InferenceConfig(model=str(published), engine="torch", seed=4)).session
    voice = talk.voice.astype(np.float32) / np.float32(32_768)
    for second, outcome in enumerate(outcomes[1:]):
        place = slice(16_000 * second, 16_000 * (second + 1))
        expected = session.step(voice[0, place], None, voice[1, place])
        np.testing.assert_array_equal(outcome.motion, expected)


@pytest.mark.parametrize(("way", "behind_ms"), [("user_set_back", 0), ("shown_late", 1080)])
def test_lips_stand_behind_the_voice_only_when_shown_late(hold, way, behind_ms):
    talk = hold(way)
    for outcome in talk.hear(0, 16_000 * SECONDS)[1:]:
        heard_ns = talk.time_of(640 * outcome.entry.first_frame)
        assert outcome.shown.header.stamp - heard_ns == behind_ms * 1_000_000


@pytest.mark.parametrize("way", WAYS)
def test_user_is_answered_within_a_turn_and_the_margin(hold, way):
    """As shown, from the capture of a user's frame to the first frame seen that knows it: both ways alike."""
    talk = hold(way)
    waits_ms = []
    for outcome, turn in zip(talk.hear(0, 16_000 * SECONDS)[1:], turns_of(talk), strict=True):
        for frame in range(max(0, turn.user_first_frame), turn.user_end_frame):
            waits_ms.append((outcome.shown.header.stamp - talk.time_of(640 * (frame + 1))) / 1e6)
    assert (min(waits_ms), max(waits_ms)) == (80.0, 1040.0)
    assert np.mean(waits_ms) == pytest.approx(560.0, abs=15.0)


@pytest.mark.parametrize("way", WAYS)
def test_previews_stand_where_the_next_turn_will(hold, way):
    talk = hold(way)
    outcomes = talk.hear(0, 16_000 * SECONDS)
    due = {each.entry.first_frame: each.shown.header.stamp for each in outcomes[1:]}
    matched = [preview for preview in talk.previews if preview.first_frame in due]
    assert len(matched) == len(due) - 1
    assert all(preview.header.stamp == due[preview.first_frame] for preview in matched)


@pytest.mark.parametrize("way", WAYS)
def test_margin_is_the_time_there_is_to_compute(hold, way):
    """Too slow for its margin a turn is late, and with a larger one it is in time."""
    slow = hold(way, compute_ms=200.0)
    assert all(each.entry.is_late for each in slow.hear(0, 16_000 * SECONDS)[1:])
    roomy = hold(way, compute_ms=200.0, margin_frames=6)
    outcomes = roomy.hear(0, 16_000 * SECONDS)[1:]
    assert outcomes
    assert not any(each.entry.is_late for each in outcomes)


def test_log_says_which_way_it_runs(published):
    notes = {
        way: " ".join(open_runtime(InferenceConfig(model=str(published), engine="torch", lag_zero=way)).notes)
        for way in WAYS
    }
    assert "shown late: its motion stands 27 frames (1.08 s) behind the voice" in notes["shown_late"]
    assert "user stream is set back: 27 frames (1.08 s)" in notes["user_set_back"]


def test_preview_of_another_length_than_its_fixed_turns_is_refused(published):
    with pytest.raises(ValueError, match=r"preview_frames is 5, but .* only turns of 25"):
        open_runtime(InferenceConfig(model=str(published), engine="torch", preview_frames=5))


def test_way_that_is_none_is_refused_by_name():
    with pytest.raises(ValueError, match="lag_zero"):
        InferenceConfig(lag_zero="guess")


def test_how_a_full_window_moves_is_the_models_unless_told(published):
    for told, expected in (({}, "recompute"), ({"when_full": "reanchor"}, "reanchor")):
        config = InferenceConfig(model=str(published), engine="torch", warmup_turns=0, **told)
        assert open_runtime(config).session.sampling.when_full == expected
