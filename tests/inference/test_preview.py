"""Previews: made of what is known, after the turn was shown, never at a turn's cost, and without a trace."""

import threading
import time

import numpy as np
import pytest
from timar_common.messages import encode
from timar_inference.turn_jobs import Decision, TurnRequest

WAIT_S = 30.0
MEASURED = ("queue_ms", "speech_ms", "backbone_ms", "head_ms", "compute_ms")


def turns_of(jobs):
    return [job for job in jobs if isinstance(job, TurnRequest)]


@pytest.mark.parametrize(("asked", "frames"), [(-1, 5), (3, 3), (12, 12)])
def test_preview_knows_the_speech_planned_for_the_frames_after_its_turn(make_stage, asked, frames):
    stage = make_stage(preview_frames=asked)
    stage.plan(0, np.arange(16_000) % 999)
    (turn,) = turns_of(stage.hear_until(0, 1920))
    planned = np.round(turn.preview.agent_speech * 32768).astype(int)
    assert planned.tolist() == [n % 999 for n in range(6400, 6400 + 640 * frames)]
    assert turn.preview.due_ns == turn.due_ns + 200_000_000
    # The next turn's sound is complete one turn after this one's was.
    assert turn.preview.by_ns == stage.clock() + 200_000_000


def test_no_preview_is_asked_for_when_it_is_off(make_stage, make_runner):
    stage = make_stage(preview_frames=0)
    runner, session = make_runner(stage)
    start, turn = stage.hear_until(0, 1920)
    runner.run(start)
    runner.run(turn)
    assert turn.preview is None
    assert runner.preview(turn) is None
    assert runner.counters.previews_dropped == 0
    assert session.calls[-1] == ("step", 0)


def test_preview_belongs_to_the_frames_after_its_turn_and_is_no_decision(make_stage, make_runner):
    stage = make_stage()
    runner, session = make_runner(stage, step_ms=20.0)
    start, turn = stage.hear_until(0, 1920)
    runner.run(start)
    first = runner.run(turn)
    preview = runner.preview(turn)
    assert preview.is_preview
    assert not first.shown.is_preview
    assert (preview.first_frame, preview.motion.shape, preview.revision) == (10, (5, 56), 0)
    assert preview.conversation_id == first.entry.conversation_id
    assert preview.header.stamp == turn.due_ns + 200_000_000
    assert preview.compute_ms == pytest.approx(20.0)
    assert session.calls[-2:] == [("step", 0), ("preview", 5)]
    (following,) = turns_of(stage.hear_until(1920, 5120))
    assert runner.run(following).entry.sequence == first.entry.sequence + 1
    measured = runner.measurements()
    assert (measured["preview_p50_ms"], measured["compute_p50_ms"]) == pytest.approx((20.0, 20.0))
    assert (runner.counters.previews, runner.counters.previews_dropped) == (1, 0)


def test_preview_is_left_out_when_the_next_turn_would_have_to_wait(make_stage, make_runner):
    """A turn took 120 ms of the 200 ms until the next one's sound is there: a guess would take as long."""
    stage = make_stage()
    runner, session = make_runner(stage, step_ms=120.0)
    start, turn = stage.hear_until(0, 1920)
    runner.run(start)
    runner.run(turn)
    assert runner.preview(turn) is None
    assert session.calls[-1] == ("step", 0)
    assert (runner.counters.previews, runner.counters.previews_dropped) == (0, 1)
    session.step_ms = 60.0
    (following,) = turns_of(stage.hear_until(1920, 5120))
    runner.run(following)
    assert runner.preview(following) is not None
    assert runner.preview(following, is_busy=True) is None
    assert (runner.counters.previews, runner.counters.previews_dropped) == (1, 2)


def test_one_stall_of_the_machine_costs_no_more_than_its_own_preview(make_stage, make_runner):
    stage = make_stage()
    runner, session = make_runner(stage, step_ms=5.0)
    dropped = []
    for number, job in enumerate(stage.hear_until(0, 640 * 40)):
        if isinstance(job, TurnRequest):
            stage.clock.now_ns = job.ready_ns
        session.step_ms = 198.0 if number == 3 else 5.0
        runner.run(job)
        session.step_ms = 5.0
        if isinstance(job, TurnRequest) and runner.preview(job) is None:
            dropped.append(number)
    assert runner.counters.previews >= 6
    assert dropped == [3]


@pytest.mark.parametrize("compute_ms", [10.0, 45.0, 70.0, 95.0, 130.0])
def test_no_turn_starts_later_because_of_previews(make_stage, make_runner, compute_ms):
    starts = []
    for preview_frames in (0, -1):
        stage = make_stage(preview_frames=preview_frames)
        runner, _ = make_runner(stage, step_ms=compute_ms)
        started_ns, guesses = [], 0
        for number in range(500):
            heard_ns = 5_000_000_000 + (number + 1) * 20_000_000
            stage.clock.now_ns = max(stage.clock.now_ns, heard_ns)
            stage.hear(320 * number, np.ones(320))
            for job in stage.jobs():
                started_ns.append(stage.clock())
                runner.run(job)
                guesses += isinstance(job, TurnRequest) and runner.preview(job) is not None
        starts.append(started_ns)
        assert guesses == 0 if preview_frames == 0 or compute_ms > 100 else guesses > 40
    assert starts[0] == starts[1]


def test_preview_that_is_not_finite_is_never_passed_on(make_stage, make_runner):
    stage = make_stage()
    runner, session = make_runner(stage)
    start, turn = stage.hear_until(0, 1920)
    runner.run(start)
    runner.run(turn)
    session.preview = lambda _, by: np.full((5, 56), np.inf, np.float32)
    with pytest.raises(RuntimeError, match=r"frame 10, expected .* finite"):
        runner.preview(turn)


def wait_for(condition):
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it did not happen within the time allowed"
        time.sleep(0.001)


def test_worker_shows_a_turn_before_it_guesses_on(make_stage, make_runner, make_worker):
    stage = make_stage()
    runner, session = make_runner(stage)
    calls_before, previews = [], []

    def take(message):
        if getattr(message, "is_preview", False):
            previews.append(message)
        else:
            calls_before.append(session.calls[-1])

    worker = make_worker(runner, 8, take)
    for job in stage.hear_until(0, 1920):
        worker.submit(job, stage.clock())
    wait_for(lambda: previews)
    assert [name for name, _ in calls_before] == ["reset", "step", "step"]
    assert previews[0].first_frame == 10


def test_worker_guesses_nothing_while_another_turn_waits(make_stage, make_runner, make_worker):
    stage = make_stage()
    runner, _ = make_runner(stage)
    previews, is_open = [], threading.Event()
    outcomes = []

    def take(message):
        assert is_open.wait(WAIT_S)
        if hasattr(message, "sequence"):
            outcomes.append(message)
        elif message.is_preview:
            previews.append(message)

    worker = make_worker(runner, 8, take)
    for job in stage.hear_until(0, 6400):
        worker.submit(job, stage.clock())
    stage.clock.move_to_sample(1920)
    is_open.set()
    wait_for(lambda: previews)
    assert [each.first_frame for each in outcomes] == [5, 5, 10]
    assert [preview.first_frame for preview in previews] == [15]
    assert runner.counters.previews_dropped == 1


def test_previews_leave_no_trace_in_turns_or_log(open_small, make_talk):
    """With the real session, over a take-back too: every decision and every number as without previews."""
    found = []
    for preview_frames in (0, -1, 3, 9):
        talk = make_talk(open_small(), preview_frames=preview_frames)
        outcomes = talk.hear(0, 16_000 - 1280)
        talk.plan(16_640, 16_640, 1)
        outcomes += talk.run() + talk.hear(16_000 - 1280, 48_000)
        for each in outcomes:
            vars(each.entry).update(dict.fromkeys(MEASURED, 0.0))
        entries = [encode(each.entry, int) for each in outcomes]
        motion = [None if each.motion is None else each.motion.tobytes() for each in outcomes]
        found.append((entries, motion))
        assert Decision.ROLLBACK in [each.entry.decision for each in outcomes]
        assert (talk.runner.counters.previews > 10) == bool(preview_frames)
    for entries, motion in found[1:]:
        assert entries == found[0][0]
        assert motion == found[0][1]


def test_preview_is_close_to_the_turn_it_stands_for(open_small, make_talk):
    """Both draw the same noise and know the same past; noise of their own would put them far apart."""
    talk = make_talk(open_small())
    outcomes = talk.hear(0, 48_000)
    made = {each.entry.first_frame: each.motion for each in outcomes if each.motion is not None}
    pairs = [(guess.motion, made[guess.first_frame]) for guess in talk.previews if guess.first_frame in made]
    assert len(pairs) > 10
    error = np.mean([np.square(guess - turn).mean() for guess, turn in pairs])
    between = np.mean([np.square(guess - pairs[k - 3][1]).mean() for k, (guess, _) in enumerate(pairs)])
    assert 0 < error < 0.5 * between
