"""Runner and worker: every job accounted for, late and hopeless turns told apart, nothing dies silently."""

import threading
import time

import numpy as np
import pytest
from timar_common.cancellation import check_cancelled
from timar_inference.turn_jobs import Decision, StartConversation, TurnRequest

WAIT_S = 30.0


def talk(stage, runner, first_sample, end_sample):
    """Run every job at the moment its sound arrives."""
    outcomes = []
    for first in range(first_sample, end_sample, 320):
        outcomes += [runner.run(job) for job in stage.hear_until(first, first + 320)]
    return outcomes


def test_turn_in_time_is_generated_and_logged_with_all_it_was_made_from(make_stage, make_runner):
    stage = make_stage(seed=3)
    runner, session = make_runner(stage, step_ms=30.0)
    stage.plan(0, np.full(16_000, 5), revision=2)
    reset, turn = talk(stage, runner, 0, 1920)
    assert (reset.entry.decision, reset.entry.first_frame, reset.entry.sequence) == (Decision.RESET, 5, 0)
    entry = turn.entry
    assert (entry.decision, entry.sequence, entry.first_frame, entry.frames) == (Decision.GENERATE, 1, 5, 5)
    assert (entry.user_first_sample, entry.user_end_sample) == (-1280, 1920)
    assert (entry.agent_first_sample, entry.agent_end_sample) == (3200, 6400)
    assert (entry.planned_revision, entry.seed, entry.user_motion_valid.size) == (2, 3, 0)
    assert (entry.engine, entry.model_sha256) == ("fake-float32", "0" * 64)
    assert not entry.is_late
    assert entry.compute_ms == pytest.approx(30.0)
    assert entry.queue_ms == 0.0
    assert (entry.speech_ms, entry.backbone_ms, entry.head_ms) == (1.0, 2.0, 3.0)
    assert turn.motion.shape == (5, 56)
    assert session.calls[1:] == [("reset", 3), ("step", 0)]
    assert runner.measurements()["compute_p50_ms"] == pytest.approx(30.0)
    assert runner.measurements()["real_time_factor"] == pytest.approx(0.15)


def test_turn_finished_after_its_first_frame_was_due_is_late_and_shown(make_stage, make_runner):
    stage = make_stage(publication_ms=2.0)
    runner, session = make_runner(stage, step_ms=78.5)
    turn = talk(stage, runner, 0, 1920)[1]
    assert turn.entry.is_late
    assert turn.motion is not None
    session.step_ms = 77.5
    assert not talk(stage, runner, 1920, 5120)[0].entry.is_late
    assert (runner.counters.late, runner.counters.skipped, runner.counters.generated) == (1, 0, 2)


def test_turn_whose_frames_are_all_past_is_committed_unsampled_and_none_is_skipped(make_stage, make_runner):
    stage = make_stage()
    runner, session = make_runner(stage)
    before = talk(stage, runner, 0, 16_000)[1:]
    stage.clock.move_to_sample(32_000)
    stage.hear(32_000 - 320, np.ones(320))
    after = [runner.run(job) for job in stage.jobs()]
    frames = [outcome.entry.first_frame for outcome in before + after]
    assert frames == list(range(5, frames[-1] + 1, 5))
    decisions = [outcome.entry.decision for outcome in after]
    hopeless = decisions.count(Decision.COMMIT_SKIPPED)
    assert hopeless == 4
    assert decisions == [Decision.COMMIT_SKIPPED] * hopeless + [Decision.GENERATE] * (len(after) - hopeless)
    assert all(outcome.motion is None for outcome in after[:hopeless])
    assert runner.counters.skipped == hopeless
    assert [outcome.entry.sequence for outcome in before + after] == list(range(1, 1 + len(before + after)))
    committed = [frame for name, frame in session.calls if name in ("step", "commit")]
    assert committed == list(range(0, committed[-1] + 1, 5))


def test_engine_that_is_too_slow_falls_behind_by_less_than_two_turns(make_stage, make_runner):
    """Each turn takes 300 ms of the 200 ms there are: committing the hopeless ones must keep up."""
    stage = make_stage()
    runner, _ = make_runner(stage, step_ms=300.0)
    outcomes, sample = [], 0
    while sample < 16_000 * 20:
        sample += 320
        stage.clock.now_ns = max(stage.clock.now_ns, 5_000_000_000 + sample * 62_500)
        stage.hear(sample - 320, np.ones(320))
        while stage.clock.now_ns < 5_000_000_000 + (sample + 320) * 62_500:
            job = stage.scheduler.next_job(stage.clock())
            if job is None:
                break
            outcomes.append(runner.run(job))
    turns = [outcome for outcome in outcomes if outcome.entry.decision != Decision.RESET]
    frames = [outcome.entry.first_frame for outcome in turns]
    assert frames == list(range(5, frames[-1] + 1, 5))
    assert frames[-1] > 25 * 20 - 15
    assert runner.counters.skipped > 10
    assert runner.counters.late == runner.counters.generated


def test_history_is_the_same_whether_turns_came_late_or_not(make_stage, make_runner):
    """What follows a stretch of unsampled turns is what would have followed without the stall."""
    motions = []
    for is_stalled in (False, True):
        stage = make_stage()
        runner, _ = make_runner(stage)
        talk(stage, runner, 0, 8000)
        jobs = stage.hear_until(8000, 16_000)
        stage.clock.move_to_sample(60_000 if is_stalled else 9000)
        for job in jobs:
            runner.run(job)
        assert runner.counters.skipped == (len(jobs) if is_stalled else 0)
        motions.append(talk(stage, runner, 16_000, 19_200)[-1].motion)
    assert motions[0].tobytes() == motions[1].tobytes()


def test_take_back_restores_the_session_and_makes_the_turn_again(make_stage, make_runner):
    stage = make_stage()
    runner, session = make_runner(stage)
    stage.plan(0, np.full(32_000, 5))
    outcomes = talk(stage, runner, 0, 16_000 - 1280)
    stage.plan(16_640, np.zeros(0), revision=1)
    back, again = (runner.run(job) for job in stage.jobs())
    assert (back.entry.decision, back.entry.first_frame, back.entry.revision) == (Decision.ROLLBACK, 25, 1)
    assert (again.entry.decision, again.entry.first_frame, again.entry.revision) == (Decision.GENERATE, 25, 1)
    assert session.calls[-2:] == [("rollback", 20), ("step", 20)]
    assert not np.array_equal(again.motion, outcomes[-1].motion)
    assert runner.counters.rollbacks == 1


def test_turn_that_does_not_follow_is_refused(make_stage, make_runner):
    stage = make_stage()
    runner, _ = make_runner(stage)
    start, _skipped, turn = stage.hear_until(0, 6400)[:3]
    runner.run(start)
    with pytest.raises(RuntimeError, match="starts at frame 10, but the session stands at 5"):
        runner.run(turn)


def test_job_of_a_conversation_that_ended_is_refused(make_stage, make_runner):
    stage = make_stage()
    runner, _ = make_runner(stage)
    _, turn = stage.hear_until(0, 1920)
    runner.run(StartConversation("another", 0, 5))
    with pytest.raises(RuntimeError, match="another"):
        runner.run(turn)


def test_motion_that_is_not_finite_is_never_passed_on(make_stage, make_runner):
    stage = make_stage()
    runner, session = make_runner(stage)
    session.step = lambda *_, **__: np.full((5, 56), np.nan, np.float32)
    start, turn = stage.hear_until(0, 1920)
    runner.run(start)
    with pytest.raises(RuntimeError, match="not finite"):
        runner.run(turn)


def test_rotation_beyond_half_a_turn_is_limited_and_counted(make_stage, make_runner):
    stage = make_stage()
    runner, session = make_runner(stage)
    original = session.step
    session.step = lambda *a, **k: original(*a, **k) * 0 + np.float32(4.0)
    motion = talk(stage, runner, 0, 1920)[1].motion
    assert np.abs(motion[:, 50:]).max() <= np.pi
    assert (motion[:, :50] == 4.0).all()
    assert runner.counters.rotations_limited == 30


class Gate:
    """A runner that waits until it is let through, and keeps what it ran."""

    def __init__(self) -> None:
        self.ran = []
        self.is_running = threading.Event()
        self.open = threading.Event()

    def run(self, job, clock, is_busy):
        self.is_running.set()
        assert self.open.wait(WAIT_S)
        self.ran.append(job)
        return iter(())


def wait_for(condition):
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it did not happen within the time allowed"
        time.sleep(0.001)


def test_full_queue_refuses_and_counts_and_the_conversation_keeps_its_turns(make_stage, make_worker):
    stage, gate = make_stage(), Gate()
    worker = make_worker(gate, 3, scheduler=stage.scheduler)
    for first in range(0, 32_000, 320):
        stage.clock.move_to_sample(first + 320)
        stage.hear(first, np.ones(320))
        worker.feed(stage.clock())
        if first == 0:
            assert gate.is_running.wait(WAIT_S)
    assert worker.waiting == 3
    assert not worker.submit(stage.jobs()[0], stage.clock())
    assert worker.counters.dropped == 1
    gate.open.set()


def test_turns_held_back_by_a_full_queue_all_come_in_order(make_stage, make_worker):
    stage, gate = make_stage(), Gate()
    worker = make_worker(gate, 2, scheduler=stage.scheduler)
    stage.clock.move_to_sample(16_000)
    stage.hear(0, np.ones(16_000))
    worker.feed(stage.clock())
    gate.open.set()

    def is_done():
        worker.feed(stage.clock())
        return len(gate.ran) == 6

    wait_for(is_done)
    assert [job.first_frame for job in gate.ran[1:]] == [5, 10, 15, 20, 25]
    assert worker.counters.dropped == 0


def test_new_conversation_withdraws_what_waits_and_always_finds_room(make_stage, make_worker):
    stage, gate = make_stage(), Gate()
    worker = make_worker(gate, 2)
    jobs = stage.hear_until(0, 16_000)
    worker.submit(jobs[0], stage.clock())
    assert gate.is_running.wait(WAIT_S)
    assert worker.submit(jobs[1], stage.clock())
    assert worker.submit(jobs[2], stage.clock())
    assert worker.submit(StartConversation("next", 1, 30), stage.clock())
    assert worker.counters.withdrawn == 2
    gate.open.set()
    wait_for(lambda: len(gate.ran) == 2)
    assert gate.ran[1].conversation_id == "next"


def test_error_in_the_worker_is_told_once_and_a_new_conversation_mends_it(
    make_stage, make_runner, make_worker
):
    stage = make_stage()
    runner, session = make_runner(stage)
    outcomes = []
    worker = make_worker(
        runner, 50, lambda message: hasattr(message, "sequence") and outcomes.append(message)
    )
    session.fail_at[5] = ZeroDivisionError("the engine is on fire")
    for job in stage.hear_until(0, 16_000):
        worker.submit(job, stage.clock())
    wait_for(lambda: worker.counters.failures + worker.counters.dropped == 4)
    assert (worker.counters.failures, worker.counters.dropped) == (1, 3)
    failure = worker.take_failure()
    assert failure.message == "ZeroDivisionError: the engine is on fire"
    assert "_fail_if_asked" in failure.trace
    assert worker.take_failure() is None
    stage.scheduler.restart()
    for job in stage.hear_until(16_000, 22_400):
        worker.submit(job, stage.clock())
    wait_for(lambda: len([each for each in outcomes if each.conversation_id == "test-1"]) == 3)
    assert [each.first_frame for each in outcomes] == [5, 5, 30, 30, 35]
    assert [each.sequence for each in outcomes] == [0, 1, 2, 3, 4]


def test_error_while_publishing_is_told_too(make_stage, make_runner, make_worker):
    def refuse(_):
        raise RuntimeError("the topic is gone")

    stage = make_stage()
    worker = make_worker(make_runner(stage)[0], emit=refuse)
    worker.submit(stage.hear_until(0, 320)[0], stage.clock())
    wait_for(lambda: worker.counters.failures == 1)
    assert "the topic is gone" in worker.take_failure().message


def test_feeding_never_waits_for_the_engine(make_stage, make_worker):
    stage, gate = make_stage(), Gate()
    worker = make_worker(gate, scheduler=stage.scheduler)
    stage.clock.move_to_sample(16_000 * 10)
    stage.hear(0, np.ones(16_000))
    started = time.perf_counter()
    for _ in range(100):
        worker.feed(stage.clock())
    assert time.perf_counter() - started < WAIT_S
    gate.open.set()


def test_closing_finishes_the_job_at_hand_and_leaves_the_rest(make_stage, make_worker):
    stage, gate = make_stage(), Gate()
    worker = make_worker(gate)
    for job in stage.hear_until(0, 6400)[:3]:
        worker.submit(job, stage.clock())
    assert gate.is_running.wait(WAIT_S)
    with pytest.raises(RuntimeError, match="did not end"):
        worker.close(0.02)
    gate.open.set()
    worker.close(WAIT_S)
    worker.close(WAIT_S)
    assert len(gate.ran) == 1
    assert not isinstance(gate.ran[0], TurnRequest)


def test_interruption_ends_the_turn_in_computation_and_it_is_made_again(make_stage, make_runner, make_worker):
    """The planned speech is cut while its turn is computed: nobody waits for that turn, or ever sees it."""
    stage = make_stage()
    runner, session = make_runner(stage)
    stage.plan(0, np.full(32_000, 5))
    published, is_running, made = [], threading.Event(), session.step
    worker = make_worker(runner, 50, published.append)

    def never_ends(*arguments, **options):
        is_running.set()
        while True:
            check_cancelled()

    jobs = stage.hear_until(0, 16_000 - 1280)
    for job in jobs[:-1]:
        worker.submit(job, stage.clock())
    assert worker.wait_until_idle(WAIT_S)
    session.step = never_ends
    worker.submit(jobs[-1], stage.clock())
    assert is_running.wait(WAIT_S)
    session.step = made
    stage.plan(16_640, np.zeros(0), revision=1)
    for job in stage.jobs():
        worker.submit(job, stage.clock())
    assert worker.wait_until_idle(WAIT_S)
    entries = [message for message in published if hasattr(message, "decision")]
    assert [entry.decision for entry in entries[-2:]] == [Decision.ROLLBACK, Decision.GENERATE]
    assert [entry.first_frame for entry in entries[-3:]] == [20, 25, 25]
    assert worker.counters.withdrawn == 1
    assert worker.take_failure() is None
