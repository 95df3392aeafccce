"""A session, turn by turn: equal to one pass over everything, reversible, and careful with bad input."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from timar_model.architecture.config import MOTION_DIM, SAMPLES_PER_FRAME
from timar_model.architecture.inputs import TurnInputs, layout_of, speech_features
from timar_model.architecture.schedule import drawing_schedule
from timar_model.architecture.sequences import attention_mask, clip_features, lead_frames, turn_sequence

LENGTHS = {
    "one": [1] * 45,
    "default": [5] * 16,
    "three": [3] * 30,
    "long": [25] * 5,
    "window": [30] * 3,
    "mixed": [5, 5, 1, 7, 3, 25, 5, 2, 2, 11, 5, 30, 1, 1, 5, 5, 9, 4],
}


def run(session, talk, lengths, noise=None, **others):
    return [
        session.step(**talk.turn(session, frames), noise=None if noise is None else noise[index], **others)
        for index, frames in enumerate(lengths)
    ]


def draw_noise(lengths, seed=5):
    random = np.random.default_rng(seed)
    return [random.standard_normal((6, frames, MOTION_DIM)).astype(np.float32) for frames in lengths]


def one_pass(network, session, talk, lengths, motion, noise):
    """Compute all turns at once by the training's mask; the past frames are those the session showed."""
    config, stats = network.config, session._statistics
    turns = turn_sequence(lengths, config)
    layout = layout_of(turns, config.past_tokens)
    lead = lead_frames(lengths, config)
    features = speech_features(config)
    total = sum(lengths)
    silence = np.zeros((lead, MOTION_DIM), np.float32)
    user_motion = np.concatenate([silence, stats.normalise(talk.user_motion[:total])])
    shown = np.concatenate([silence, stats.normalise(np.concatenate(motion))])

    def frames(array, ranges):
        rows = np.concatenate([np.arange(first, first + count) + lead for first, count in ranges])
        return torch.from_numpy(np.ascontiguousarray(array[rows]))[None]

    shown[:lead] = 0.0
    known = (np.arange(-lead, total) >= 0).astype(np.float32)
    user = [(turn.user_first_frame, turn.user_frames) for turn in turns]
    agent = [(turn.first_frame, turn.frames) for turn in turns]
    past = [(turn.first_frame - config.past_frames, config.past_frames) for turn in turns]
    sound = slice(0, total * SAMPLES_PER_FRAME)
    inputs = TurnInputs(
        user_speech=frames(clip_features(features, talk.user_speech[sound], lead), user),
        user_speech_seen=torch.ones(1, sum(count for _, count in user)),
        user_motion=frames(user_motion, user),
        user_motion_seen=frames(np.repeat(known[:, None], 3, axis=1), user),
        agent_speech=frames(clip_features(features, talk.agent_speech[sound], lead), agent),
        agent_motion=torch.zeros(1, total, MOTION_DIM),
        agent_motion_known=torch.zeros(1, total),
        past_motion=frames(shown, past),
        past_motion_known=frames(known, past),
    )
    visible = torch.from_numpy(attention_mask(layout, config.window_frames))
    with torch.inference_mode():
        z = network.encode(inputs, network.token_positions(layout), visible, None)
        schedule, guidance = drawing_schedule(config, 5), torch.tensor(1.0)
        if config.draws == "frames":
            drawn = network.head.sample(
                z, torch.from_numpy(np.concatenate(noise, axis=1)), schedule, guidance
            )
            return stats.restore(drawn.numpy())
        parts, row = [], 0
        for index, (turn, of_turn) in enumerate(zip(turns, noise, strict=True)):
            own = slice(index * config.past_frames, (index + 1) * config.past_frames)
            past = inputs.past_motion[:, own], inputs.past_motion_known[:, own]
            z_rows = z[:, row : row + turn.frames]
            parts.append(network.head.sample(z_rows, torch.from_numpy(of_turn), schedule, guidance, *past))
            row += turn.frames
    return stats.restore(torch.cat(parts).numpy())


@pytest.mark.slow
@pytest.mark.parametrize("name", LENGTHS)
def test_turn_by_turn_equals_one_pass_past_the_window(name, network, talk, open_session):
    lengths, session = LENGTHS[name], open_session()
    assert sum(lengths) > network.config.window_frames
    noise = draw_noise(lengths)
    motion = run(session, talk, lengths, noise)
    whole = one_pass(network, session, talk, lengths, motion, noise)
    np.testing.assert_allclose(np.concatenate(motion), whole, rtol=0, atol=5e-5)


@pytest.mark.slow
def test_without_past_frames_turn_by_turn_equals_one_pass(talk, open_session, make_network):
    network = make_network(past_frames=0)
    session, lengths = open_session(using=network), LENGTHS["mixed"]
    noise = draw_noise(lengths)
    motion = run(session, talk, lengths, noise)
    whole = one_pass(network, session, talk, lengths, motion, noise)
    np.testing.assert_allclose(np.concatenate(motion), whole, rtol=0, atol=5e-5)


@pytest.mark.slow
def test_ring_grows_for_short_turns_and_then_stays(talk, open_session):
    session = open_session()
    run(session, talk, [1] * 80)
    grown = session._window.ring.capacity
    run(session, talk, [1] * 80)
    assert session._window.ring.capacity == grown


@pytest.mark.slow
@pytest.mark.parametrize("voice", ["user_speech", "agent_speech", "user_motion"])
def test_motion_depends_on_no_input_that_comes_after_what_the_clock_allows(
    voice, talk, open_session, make_talk
):
    lengths, first_changed = [5] * 12, 40
    other = make_talk(160)
    array = getattr(other, voice)
    unit = 1 if voice == "user_motion" else SAMPLES_PER_FRAME
    array[first_changed * unit :] *= -0.5
    motion = np.concatenate(run(open_session(), talk, lengths))
    changed = np.concatenate(run(open_session(), other, lengths))
    # The user's frame f is heard by the turn that ends its lag after it; the agent's by its own turn.
    first_different = 40 if voice == "agent_speech" else 45
    np.testing.assert_array_equal(motion[:first_different], changed[:first_different])
    assert np.abs(motion[first_different:] - changed[first_different:]).max() > 1e-4


@pytest.mark.slow
def test_turn_of_which_nothing_was_heard_long_ago_has_left_the_window(
    talk, open_session, make_network, make_talk
):
    """One block deep and without past frames, an early difference is gone once the window has slid past."""
    network = make_network(past_frames=0, blocks=1)
    other = make_talk(160)
    other.user_motion[:5] += 1.0
    lengths, noise = [5] * 16, draw_noise([5] * 16)
    motion = np.concatenate(run(open_session(using=network), talk, lengths, noise))
    changed = np.concatenate(run(open_session(using=network), other, lengths, noise))
    assert np.abs(motion - changed)[5:35].max() > 1e-4
    # The turn that reads frames 0-4 starts at frame 10 (lag 5 + 2 of turns of 5), and is seen for 30 frames.
    np.testing.assert_array_equal(motion[45:], changed[45:])


@pytest.mark.slow
@pytest.mark.parametrize("back", [1, 2, 4])
def test_taken_back_turns_come_again_to_the_last_bit(back, talk, open_session):
    lengths = LENGTHS["mixed"]
    session = open_session()
    motion = run(session, talk, lengths[:-1])
    first_frame = sum(lengths[: len(lengths) - 1 - back])
    session.rollback(first_frame)
    assert session.next_frame == first_frame
    again = run(session, talk, lengths[len(lengths) - 1 - back :])
    np.testing.assert_array_equal(np.concatenate(again[:back]), np.concatenate(motion[-back:]))
    straight = run(open_session(), talk, lengths)
    np.testing.assert_array_equal(again[-1], straight[-1])


def test_rollback_then_another_turn_length_equals_never_having_gone_on(talk, open_session):
    lengths, other = [5] * 12, [2, 7, 5, 1, 5]
    session = open_session()
    run(session, talk, lengths)
    session.rollback(50)
    branched = run(session, talk, other)
    straight_session = open_session()
    straight = run(straight_session, talk, [5] * 10 + other)[10:]
    np.testing.assert_array_equal(np.concatenate(branched), np.concatenate(straight))
    assert session.cached_tokens == straight_session.cached_tokens


def test_rollback_beyond_what_is_kept_is_refused_and_changes_nothing(talk, open_session):
    session, twin = open_session(), open_session()
    run(session, talk, [5] * 8)
    run(twin, talk, [5] * 8)
    assert session.oldest_rollback == 20
    for first_frame in (15, 22, 45, -5):
        with pytest.raises(ValueError, match=rf"frame {first_frame} can be rolled back.*20, 25, 30, 35"):
            session.rollback(first_frame)
    np.testing.assert_array_equal(*[run(one, talk, [5])[0] for one in (session, twin)])


def previewed(session, talk, lengths, frames=5):
    """Run turns with a guess at the frames before each, as the live head makes one."""
    turns, guesses = [], []
    for length in lengths:
        first = session.next_frame * 640
        guesses.append(session.preview(talk.agent_speech[first : first + 640 * frames]))
        turns.append(session.step(**talk.turn(session, length)))
    return turns, guesses


def test_preview_leaves_no_trace(talk, open_session):
    """Past the window, for turns of any length: numbers, cache, and how far turns can be rolled back."""
    lengths = [5, 5, 3, 7, 5, 5, 10, 5, 1, 5, 5, 5]
    plain, guessing = open_session(), open_session()
    expected = run(plain, talk, lengths)
    found, _ = previewed(guessing, talk, lengths)
    assert np.concatenate(found).tobytes() == np.concatenate(expected).tobytes()
    assert guessing.cached_tokens == plain.cached_tokens
    assert guessing.oldest_rollback == plain.oldest_rollback
    for session in (plain, guessing):
        session.rollback(plain.oldest_rollback)
    guessing.preview(talk.agent_speech[:3200])
    np.testing.assert_array_equal(*(np.stack(run(each, talk, [5, 5])) for each in (guessing, plain)))


def test_preview_is_the_turn_that_did_not_hear_the_user(talk, open_session):
    """The same noise and the same past: only the user's block is missing, and it makes the difference."""
    session, deaf = open_session(), open_session()
    for each in (session, deaf):
        run(each, talk, [5] * 7)
    guess = session.preview(talk.agent_speech[35 * 640 : 40 * 640])
    np.testing.assert_array_equal(guess, deaf.step(None, None, talk.agent_speech[35 * 640 : 40 * 640]))
    assert np.abs(guess - run(session, talk, [5])[0]).max() > 1e-4


def test_unheard_user_is_null_whatever_was_said(talk, open_session):
    """Not heard is not silence: the learned null stands for it, and the voice's state waits."""
    silent, unheard = open_session(), open_session()
    arguments = talk.turn(silent, 5)
    silence = silent.step(**arguments | {"user_speech": np.zeros(3200, np.float32)})
    nothing = unheard.step(**arguments | {"user_speech": None})
    assert np.abs(silence - nothing).max() > 1e-4
    committed = open_session()
    committed.commit(**arguments | {"user_speech": None})
    assert committed.next_frame == 5


@pytest.mark.parametrize("speech", [np.zeros(3199, np.float32), np.full(3200, np.nan, np.float32)])
def test_preview_of_impossible_speech_is_refused(speech, open_session):
    with pytest.raises(ValueError, match="agent_speech"):
        open_session().preview(speech)


def test_engine_says_what_it_computes_with(open_session, engine_name):
    expected = {"torch": "torch-float32", "onnx": "onnx-cpu-float32"}
    assert open_session().engine_name == expected[engine_name]


def test_reset_begins_the_same_conversation_again(talk, open_session):
    session = open_session(seed=7)
    motion = run(session, talk, [5] * 9)
    session.reset()
    assert (session.next_frame, session.cached_tokens) == (0, 0)
    np.testing.assert_array_equal(np.stack(run(session, talk, [5] * 9)), np.stack(motion))
    session.reset(seed=8)
    assert np.abs(run(session, talk, [5])[0] - motion[0]).max() > 1e-3


@pytest.mark.slow
def test_committed_turn_leaves_the_history_of_a_drawn_one(talk, open_session, make_network):
    """Masked history keeps no motion, so an undrawn turn differs only in the past frames."""
    network = make_network(past_frames=0)
    drawn, late = open_session(using=network), open_session(using=network)
    noise = draw_noise([5] * 8)
    for index in range(8):
        arguments = drawn_arguments = talk.turn(drawn, 5)
        motion = drawn.step(**drawn_arguments, noise=noise[index])
        if index in (2, 5, 6):
            late.commit(**arguments)
        else:
            np.testing.assert_array_equal(late.step(**arguments, noise=noise[index]), motion)
    assert late.next_frame == drawn.next_frame


def test_past_frames_of_an_undrawn_turn_are_unknown(talk, open_session):
    session = open_session()
    run(session, talk, [5] * 3)
    session.commit(**talk.turn(session, 2))
    np.testing.assert_array_equal(session._state.past_known, [1, 1, 0, 0])


def test_ten_hours_in_motion_is_what_it_was_at_the_start(talk, open_session):
    """Rotations are relative; only rounding of far-away angles could tell, and it is done in float64."""
    near, far = open_session(), open_session()
    hours = 10 * 3600 * 25
    far._state = dataclasses.replace(far._state, next_frame=hours)
    noise = draw_noise([5] * 10)
    for index in range(10):
        arguments = talk.turn(near, 5)
        expected = near.step(**arguments, noise=noise[index])
        np.testing.assert_allclose(far.step(**arguments, noise=noise[index]), expected, rtol=0, atol=5e-5)


def test_unseen_user_and_unseen_groups_are_read_as_unseen(talk, open_session):
    noise = draw_noise([5])[0]
    arguments = {**talk.turn(open_session(), 5), "noise": noise}
    arguments["user_motion"] = talk.user_motion[:5]

    def motion(**changes):
        return open_session().step(**{**arguments, **changes})

    nothing = np.zeros((5, 3), bool)
    neck = np.repeat([[False, False, True]], 5, axis=0)
    unseen = motion(user_motion=None, user_motion_valid=None)
    np.testing.assert_array_equal(motion(user_motion_valid=nothing), unseen)
    poisoned = talk.user_motion[:5].copy()
    poisoned[:, :53] = np.nan
    only_neck = motion(user_motion_valid=neck)
    np.testing.assert_array_equal(motion(user_motion=poisoned, user_motion_valid=neck), only_neck)
    seen = motion(user_motion_valid=None)
    assert (
        min(np.abs(seen - unseen).max(), np.abs(seen - only_neck).max(), np.abs(unseen - only_neck).max())
        > 1e-4
    )


def test_guidance_of_one_is_none_and_more_moves_away_from_the_unconditional(talk, open_session):
    noise = draw_noise([5] * 9)
    plain, one, more = (
        np.concatenate(run(open_session(guidance=g), talk, [5] * 9, noise)) for g in (1.0, 1.0 + 1e-6, 2.0)
    )
    np.testing.assert_allclose(one, plain, rtol=0, atol=2e-4)
    assert np.abs(more - plain).max() > 1e-2


@pytest.mark.slow
def test_later_passes_that_see_drawn_frames_draw_others(talk, open_session, make_network):
    noise, used = draw_noise([5] * 4), make_network()
    blind, seeing = (
        np.concatenate(
            run(open_session(using=used, iterations=3, iterations_see_drawn=see), talk, [5] * 4, noise)
        )
        for see in (False, True)
    )
    np.testing.assert_array_equal(blind[:1], seeing[:1])
    assert np.abs(blind - seeing).max() > 1e-3


BAD = {
    "user speech too short": ({"user_speech": np.zeros(640, np.float32)}, r"user_speech has shape \(640,\)"),
    "agent speech of a half frame": ({"agent_speech": np.zeros(1000, np.float32)}, "1000 samples"),
    "agent speech empty": ({"agent_speech": np.zeros(0, np.float32)}, "0 samples"),
    "agent speech with NaN": ({"agent_speech": np.full(3200, np.nan, np.float32)}, "agent_speech holds"),
    "user motion of 55 values": ({"user_motion": np.zeros((5, 55), np.float32)}, "user_motion has shape"),
    "user motion with infinity": (
        {"user_motion": np.full((5, 56), np.inf, np.float32), "user_motion_valid": None},
        "user_motion holds",
    ),
    "validity of integers": ({"user_motion_valid": np.ones((5, 3), np.int64)}, "user_motion_valid is int64"),
    "noise of another turn": ({"noise": np.zeros((6, 4, 56), np.float32)}, "noise has shape"),
    "longer than the window": (
        {"agent_speech": np.zeros(31 * 640, np.float32)},
        "31 frames, expected at most the window's 30",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_bad_turn_is_refused_and_the_session_stays_as_it_was(name, talk, open_session):
    changes, message = BAD[name]
    session, twin = open_session(), open_session()
    run(session, talk, [5] * 2)
    run(twin, talk, [5] * 2)
    arguments = talk.turn(session, 5)
    with pytest.raises(ValueError, match=message):
        session.step(**{**arguments, **changes})
    np.testing.assert_array_equal(session.step(**arguments), twin.step(**arguments))


@pytest.mark.slow
def test_motion_that_is_not_finite_never_leaves_the_session(talk, open_session, make_network):
    network = make_network()
    with torch.no_grad():
        network.head.output.bias.fill_(float("nan"))
    session = open_session(using=network)
    with pytest.raises(FloatingPointError, match="turn at frame 0 is not finite"):
        run(session, talk, [5])
    assert session.next_frame == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, r"SamplingConfig\.steps is 0"),
        ({"steps": 1001}, "1001 steps, expected at most 1000"),
        ({"temperature": -1.0}, r"SamplingConfig\.temperature is -1\.0"),
        ({"history": "half"}, r"SamplingConfig\.history is 'half', expected one of masked, filled"),
        ({"history": "filled"}, "past frames"),
        ({"window_frames": 60}, "the window is 60 frames, expected 5 to the model's 30"),
        ({"rollback_turns": 0}, "keeps 0 turns"),
        ({"seed": -1}, "the seed is -1"),
    ],
)
def test_option_that_makes_no_sense_is_refused(options, message, open_session):
    with pytest.raises(ValueError, match=message):
        open_session(**options)
