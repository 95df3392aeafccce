"""The conversation: turns in order, complete, causal, whatever happens to the sound on its way."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timar_inference.turn_jobs import Rollback, StartConversation, TurnRequest

BLOCK = 320


def turns_of(jobs):
    return [job for job in jobs if isinstance(job, TurnRequest)]


def test_first_turn_is_the_first_boundary_that_has_heard_the_user(make_stage):
    for first_sample, expected in [(0, 5), (1919, 5), (1920, 10), (3199, 10), (16_000 * 3600, 90_005)]:
        stage = make_stage()
        stage.hear(first_sample, np.ones(BLOCK), stamp_ns=stage.clock())
        start = stage.jobs()[0]
        assert isinstance(start, StartConversation)
        assert start.first_frame == expected


def test_turn_is_handed_out_with_the_block_that_completes_it(stage):
    stage.hear_until(0, 1600)
    assert not turns_of(stage.jobs())
    (turn,) = turns_of(stage.hear_until(1600, 1920))
    assert (turn.first_frame, turn.frames) == (5, 5)
    assert (turn.user_first_frame, turn.user_end_frame) == (-2, 3)
    assert turn.ready_ns == stage.clock()
    assert turn.due_ns - turn.ready_ns == 80_000_000


def test_samples_before_the_conversation_are_silence(stage):
    (turn,) = turns_of(stage.hear_until(0, 1920))
    heard = np.round(turn.user_speech * 32768).astype(int)
    assert heard[:1280].tolist() == [0] * 1280
    assert heard[1280:].tolist() == [n % 1000 for n in range(1920)]


@pytest.mark.parametrize("turn_frames", [1, 5, 10, 25])
def test_user_blocks_of_turns_follow_each_other_without_a_gap(make_stage, turn_frames):
    stage = make_stage(turn_frames=turn_frames)
    turns = turns_of(stage.hear_until(0, 16_000 * 5))
    assert turns[-1].user_end_frame > 5 * 25 - turn_frames
    for before, turn in itertools.pairwise(turns):
        assert turn.first_frame == before.first_frame + turn_frames
        assert turn.user_first_frame == before.user_end_frame
        assert turn.user_end_frame == turn.first_frame - 2


def test_agent_speech_of_a_turn_is_the_plan_of_its_own_frames(stage):
    stage.plan(0, np.arange(16_000) % 999)
    turns = turns_of(stage.hear_until(0, 8000))
    planned = np.round(turns[1].agent_speech * 32768).astype(int)
    assert turns[1].first_frame == 10
    assert planned.tolist() == [n % 999 for n in range(6400, 9600)]


def test_lost_sound_is_silence_in_its_place_and_counted(stage):
    stage.hear_until(0, 3200)
    turns = turns_of(stage.hear_until(4160, 6400))
    turn = turns[0]
    heard = np.round(turn.user_speech * 32768).astype(int)
    first = turn.user_first_frame * 640
    assert turn.user_samples_filled == 960
    assert heard[3200 - first : 4160 - first].tolist() == [0] * 960
    assert heard[4160 - first :].tolist() == [n % 1000 for n in range(4160, turn.user_end_frame * 640)]
    assert stage.scheduler.inputs.counters().samples_lost == 960


def fates():
    """What happens to each 20 ms block: it comes, is lost, comes twice, or comes some blocks later."""
    fate = st.sampled_from(["comes"] * 6 + ["lost", "doubled", "late 1", "late 3", "late 20"])
    return st.lists(fate, min_size=40, max_size=150)


def delivery(fates):
    arrivals = []
    for number, fate in enumerate(fates):
        if fate == "lost":
            continue
        arrivals.append((number, number))
        if fate == "doubled":
            arrivals.append((number, number))
        if fate.startswith("late"):
            arrivals[-1] = (number + int(fate.split()[1]), number)
    return sorted(arrivals, key=lambda arrival: arrival[0])


@settings(max_examples=60, deadline=None)
@given(fates=fates(), turn_frames=st.sampled_from([1, 5, 7, 25]), margin=st.integers(0, 4))
def test_no_turn_is_skipped_and_none_hears_the_future(make_stage, fates, turn_frames, margin):
    stage = make_stage(turn_frames=turn_frames, margin_frames=margin)
    turns, heard_end = [], 0
    for arrival, number in delivery(fates):
        stage.clock.move_to_sample(BLOCK * (arrival + 1))
        stage.hear(BLOCK * number, np.full(BLOCK, number + 1))
        heard_end = max(heard_end, BLOCK * (number + 1))
        for turn in turns_of(stage.jobs()):
            turns.append(turn)
            assert 640 * turn.user_end_frame <= heard_end
    boundaries = [turn.first_frame for turn in turns]
    if turns:
        assert boundaries == list(range(boundaries[0], boundaries[-1] + 1, turn_frames))
        # Whatever is complete was handed out.
        assert 640 * (boundaries[-1] + turn_frames - margin) > heard_end
    for turn in turns:
        assert turn.user_end_frame == turn.first_frame - margin
        blocks = np.round(turn.user_speech * 32768).astype(int)
        for offset, value in enumerate(blocks[::BLOCK]):
            place = turn.user_first_frame * 640 + offset * BLOCK
            assert value in (0, place // BLOCK + 1)


def test_numbers_of_the_future_change_nothing_in_a_turn(make_stage):
    first, second = make_stage(), make_stage()
    for stage, loudness in ((first, 1), (second, 9)):
        stage.clock.move_to_sample(16_000)
        block = np.ones(6400)
        block[640 * (5 - 2) :] = loudness
        stage.hear(0, block)
    mine, other = turns_of(first.jobs())[0], turns_of(second.jobs())[0]
    assert mine.user_speech.tobytes() == other.user_speech.tobytes()


def test_backlog_is_handed_out_in_order_after_a_long_silence_of_the_microphone(make_stage):
    stage = make_stage(max_gap_s=60.0)
    before = turns_of(stage.hear_until(0, 16_000))
    stage.clock.move_to_sample(16_000 * 21)
    stage.hear(16_000 * 21 - BLOCK, np.ones(BLOCK))
    after = turns_of(stage.jobs())
    assert after[0].first_frame == before[-1].end_frame
    assert [turn.first_frame for turn in after] == list(
        range(after[0].first_frame, after[-1].first_frame + 1, 5)
    )
    hopeless = [turn for turn in after if turn.useless_ns <= stage.clock()]
    # All but the turn that is being seen now and the one made ahead.
    assert len(after) - len(hopeless) in (1, 2)


def test_deadline_is_the_first_frame_less_what_publication_needs(make_stage):
    stage = make_stage(publication_ms=3.0)
    (turn,) = turns_of(stage.hear_until(0, 1920))
    assert turn.due_ns - turn.deadline_ns == 3_000_000
    assert turn.useless_ns - turn.deadline_ns == 200_000_000


def test_stamp_that_leaps_once_moves_no_motion(stage):
    """The ROS clock stepped while a block was under way: its stamp was written by the old time."""
    stage.hear_until(0, 16_000)
    stage.clock.move_to_sample(16_320)
    stage.hear(16_000, np.ones(BLOCK), stamp_ns=stage.clock() - 30 * 10**9)
    turn = turns_of(stage.hear_until(16_320, 19_200))[0]
    assert turn.due_ns == pytest.approx(5_000_000_000 + 640 * turn.first_frame * 62_500, abs=1e5)
    assert stage.scheduler.clock.jumps == 0


def test_microphone_that_really_leapt_is_followed(stage):
    """Its counter stood still for two seconds and went on as if nothing had been."""
    stage.hear_until(0, 16_000)
    for first in range(16_000, 20_800, BLOCK):
        stage.clock.move_to_sample(first + BLOCK + 32_000)
        stage.hear(first, np.ones(BLOCK), stamp_ns=5_000_000_000 + (first + 32_000) * 62_500)
        turns = turns_of(stage.jobs())
        if turns:
            last = turns[-1]
    assert last.due_ns == pytest.approx(5_000_000_000 + (640 * last.first_frame + 32_000) * 62_500, abs=1e5)


def test_strict_policy_gives_a_turn_up_at_its_first_frame(make_stage):
    stage = make_stage(late_policy="strict")
    (turn,) = turns_of(stage.hear_until(0, 1920))
    assert turn.useless_ns == turn.deadline_ns


def test_user_motion_goes_to_the_turn_that_hears_its_frames(stage):
    stage.hear_until(0, 1600)
    stage.jobs()
    motion = np.zeros((2, 56), np.float32)
    motion[:, 0] = [1, 2]
    stage.see(1, motion, np.array([[True] * 3, [True, False, True]]))
    first, second = turns_of(stage.hear_until(1600, 5120))
    assert first.user_motion[:, 0].tolist() == [0, 0, 0, 1, 2]
    assert first.user_motion_valid[:, 1].tolist() == [False, False, False, True, False]
    assert second.user_motion is None
    assert second.user_motion_valid is None


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"rate": 48_000}, "48000 Hz"),
        ({"first_sample": -320}, "sample -320"),
        ({"first_sample": 16_000 * 3600}, "57600000"),
        ({"samples": np.zeros(0)}, "0 samples"),
        ({"samples": np.zeros(16_001)}, "16001"),
        ({"filled": 321}, "321 of 320"),
        ({"stamp_ns": 1}, "use_sim_time"),
        ({"stamp_ns": 10**18}, "use_sim_time"),
    ],
)
def test_impossible_block_is_refused_and_changes_nothing(make_stage, changes, word):
    stage, untouched = make_stage(), make_stage()
    for each in (stage, untouched):
        each.clock.now_ns += 120 * 10**9
        each.hear(0, np.ones(BLOCK), stamp_ns=each.clock())
    call = {"first_sample": BLOCK, "samples": np.ones(BLOCK), "stamp_ns": stage.clock()} | changes
    first_sample, samples = call.pop("first_sample"), call.pop("samples")
    with pytest.raises(ValueError, match=word):
        stage.hear(first_sample, samples, **call)
    for each in (stage, untouched):
        each.hear(BLOCK, np.full(6400, 3), stamp_ns=each.clock() + 20_000_000)
    mine, other = turns_of(stage.jobs()), turns_of(untouched.jobs())
    assert [turn.user_speech.tobytes() for turn in mine] == [turn.user_speech.tobytes() for turn in other]
    assert [turn.due_ns for turn in mine] == [turn.due_ns for turn in other]
    assert stage.scheduler.inputs.counters() == untouched.scheduler.inputs.counters()


def test_counter_that_starts_anew_begins_a_new_conversation_by_itself(stage):
    """Capture was killed and started again, and the head stood still until somebody called a service."""
    stage.hear_until(0, 16_000 * 5)
    name = stage.scheduler.conversation_id
    old_stamp_ns = stage.clock()
    stage.clock.now_ns += 4 * 10**9
    stage.hear(0, np.ones(BLOCK), stamp_ns=stage.clock())
    (start,) = stage.jobs()
    assert start.first_frame == 5
    assert start.conversation_id == stage.scheduler.conversation_id != name
    # What the old counter still sends is left out.
    end = stage.scheduler.inputs.user.end_sample
    stage.hear(16_000 * 5, np.ones(BLOCK), stamp_ns=old_stamp_ns)
    assert stage.scheduler.inputs.user.end_sample == end


def test_sound_that_was_lost_for_long_begins_a_new_conversation_and_is_not_made_up(make_stage):
    """A link to another machine that was away for a minute silenced the head until somebody reset it."""
    stage = make_stage(max_gap_s=10.0)
    stage.hear_until(0, 16_000 * 2)
    name = stage.scheduler.conversation_id
    jobs = stage.hear_until(16_000 * 11, 16_000 * 12)
    assert stage.scheduler.conversation_id == name, "a gap of 9 s is filled"
    assert sum(turn.user_samples_filled for turn in turns_of(jobs)) > 16_000 * 8
    hour = 16_000 * 3600
    start, *turns = stage.hear_until(hour, hour + 16_000)
    assert isinstance(start, StartConversation)
    assert start.conversation_id == stage.scheduler.conversation_id != name
    assert 0 < len(turns) <= 5
    assert sum(turn.user_samples_filled for turn in turns) == 0


def test_index_that_jumps_while_time_does_not_is_refused(stage):
    stage.hear_until(0, 16_000)
    name = stage.scheduler.conversation_id
    with pytest.raises(ValueError, match="max_gap_s"):
        stage.hear(16_000 * 3600, np.ones(BLOCK), stamp_ns=stage.clock())
    assert stage.scheduler.conversation_id == name


@pytest.mark.parametrize(("way_ms", "frames"), [(0.0, 2), (3.0, 3), (40.0, 3), (41.0, 4)])
def test_way_to_another_machine_is_added_to_the_margin_of_the_next_conversation(make_stage, way_ms, frames):
    stage = make_stage()
    stage.hear_until(0, 6400)
    stage.scheduler.way_ms = way_ms
    (running, *_) = turns_of(stage.hear_until(6400, 16_000))
    assert running.first_frame - running.user_end_frame == 2
    stage.scheduler.restart()
    turn = turns_of(stage.hear_until(16_000, 32_000))[0]
    assert turn.first_frame - turn.user_end_frame == frames
    # What is made must still go back: half of the way.
    assert turn.due_ns - turn.deadline_ns == pytest.approx(2e6 + way_ms * 0.5e6)


def test_margin_that_was_asked_for_stays_whatever_the_way(make_stage):
    stage = make_stage(margin_frames=2, config_margin=2)
    stage.scheduler.way_ms = 200.0
    turn = turns_of(stage.hear_until(0, 16_000))[0]
    assert turn.first_frame - turn.user_end_frame == 2


def test_conversation_that_was_reset_by_hand_begins_once(stage):
    stage.hear_until(0, 16_000 * 5)
    stage.scheduler.restart()
    name = stage.scheduler.conversation_id
    stage.clock.now_ns += 4 * 10**9
    stage.hear(0, np.ones(BLOCK), stamp_ns=stage.clock())
    assert stage.scheduler.conversation_id == name


def test_plan_hours_ahead_is_refused(stage):
    stage.hear_until(0, 3200)
    with pytest.raises(ValueError, match="plan_horizon_s"):
        stage.plan(16_000 * 3600, np.ones(320))


def test_user_motion_of_another_clock_is_refused(stage):
    stage.hear_until(0, 3200)
    with pytest.raises(ValueError, match="1000000"):
        stage.see(10**6, np.zeros((1, 56), np.float32), np.ones((1, 3), bool))


def test_new_conversation_has_a_new_name_and_seed_and_forgets_the_user(make_stage):
    stage = make_stage(seed=40)
    first = turns_of(stage.hear_until(0, 16_000))[0]
    stage.plan(0, np.full(32_000, 5))
    stage.scheduler.restart()
    start, turn = stage.hear_until(16_000, 19_200)[:2]
    assert start.conversation_id != first.conversation_id
    assert (first.seed, start.seed, turn.seed) == (40, 41, 41)
    assert start.first_frame == turn.first_frame == 30
    # The user is silent before the restart; what is planned stays planned.
    assert not turn.user_speech[: 16_000 - 640 * turn.user_first_frame].any()
    assert np.round(turn.agent_speech * 32768).astype(int).tolist() == [5] * 3200
    assert stage.scheduler.inputs.counters().samples_received == 19_200


def test_cut_under_an_unseen_turn_takes_it_back_and_makes_it_again(stage):
    stage.plan(0, np.full(32_000, 5))
    turn = turns_of(stage.hear_until(0, 16_000 - 1280))[-1]
    assert turn.first_frame == 25
    assert turn.due_ns > stage.clock()
    assert turn.final_until_frame == 25
    stage.plan(16_640, np.zeros(0), revision=1)
    rollback, again = stage.jobs()
    assert isinstance(rollback, Rollback)
    assert (rollback.first_frame, rollback.revision, rollback.planned_revision) == (25, 1, 1)
    assert (again.first_frame, again.revision, again.planned_revision) == (25, 1, 1)
    assert again.user_speech.tobytes() == turn.user_speech.tobytes()
    assert np.round(again.agent_speech * 32768).astype(int).tolist() == [5] * 640 + [0] * 2560
    assert turns_of(stage.hear_until(16_000 - 1280, 19_200))[0].first_frame == 30


def test_change_under_a_turn_that_is_seen_waits_for_the_next(stage):
    stage.plan(0, np.full(32_000, 5))
    stage.hear_until(0, 16_000 - 1280)
    stage.clock.move_to_sample(16_000)
    stage.plan(16_640, np.zeros(0), revision=1)
    assert stage.jobs() == []
    assert not turns_of(stage.hear_until(16_000 - 1280, 19_200))[0].agent_speech.any()


def test_plan_said_again_takes_nothing_back(stage):
    stage.plan(0, np.full(32_000, 5))
    stage.hear_until(0, 16_000 - 1280)
    stage.plan(0, np.full(32_000, 5), revision=1)
    stage.plan(20_000, np.full(320, 6), revision=1)
    assert stage.jobs() == []


def test_turns_are_final_at_once_when_nothing_is_taken_back(make_stage):
    stage = make_stage(plan_change="next_turn")
    stage.plan(0, np.full(32_000, 5))
    turn = turns_of(stage.hear_until(0, 16_000 - 1280))[-1]
    assert turn.final_until_frame == 30
    stage.plan(16_000, np.zeros(0), revision=1)
    assert stage.jobs() == []


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 12), st.booleans()), max_size=30),
    st.sampled_from([1, 2, 5]),
)
def test_turns_stay_in_order_through_any_changes_of_the_plan(make_stage, changes, turn_frames):
    stage = make_stage(turn_frames=turn_frames)
    at_block: dict[int, list] = {}
    for block, ahead, is_new in changes:
        at_block.setdefault(block, []).append((ahead, is_new))
    expected, final, revision, value = None, 0, 0, 0

    def check(jobs):
        nonlocal expected, final
        for job in jobs:
            if isinstance(job, Rollback):
                assert final <= job.first_frame < expected
                expected = job.first_frame
            elif isinstance(job, TurnRequest):
                assert expected in (None, job.first_frame)
                assert job.final_until_frame >= final
                expected, final = job.end_frame, job.final_until_frame
                assert (
                    np.round(job.agent_speech * 32768).astype(int).tolist()
                    == plan[640 * job.first_frame : 640 * job.end_frame].tolist()
                )

    plan = np.zeros(640 * 200, int)
    for block in range(100):
        check(stage.hear_until(BLOCK * block, BLOCK * (block + 1)))
        for ahead, is_new in at_block.get(block, []):
            first = BLOCK * (block + 1) + 640 * ahead
            revision += is_new
            value += 1
            if is_new:
                plan[first:] = 0
            plan[first : first + 1600] = value
            stage.plan(first, np.full(1600, value), revision)
            check(stage.jobs())
