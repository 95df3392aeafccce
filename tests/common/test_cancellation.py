"""Long work that is not wanted any more ends at its next look; nothing else is cancelled with it."""

import hashlib
import signal
import threading
import time

import pytest
from timar_common.cancellation import (
    CURRENT,
    Cancellation,
    WorkCancelledError,
    check_cancelled,
    run_interruptibly,
)
from timar_common.component import Component, Job
from timar_common.jobs import JobWorker

WAIT_S = 30.0


class NamedJob(Job):
    """A job that knows which others it makes needless."""

    def __init__(self, name, withdrawn=(), is_urgent=False) -> None:
        self.name, self.withdrawn, self.is_urgent = name, withdrawn, is_urgent

    def withdraws(self, waiting):
        return waiting.name in self.withdrawn


class PatientComponent(Component):
    """Its jobs last until they are cancelled or released."""

    NAME = "patient"
    queue_capacity = 4

    def __init__(self, has_result=False) -> None:
        self.has_result = has_result
        self.begun, self.release = threading.Event(), threading.Event()
        self.ended: list[tuple[str, str]] = []

    def work(self, job, clock, is_busy):
        CURRENT.get().gives_way = self.has_result
        self.begun.set()
        try:
            while not self.release.wait(0.001):
                check_cancelled()
        except WorkCancelledError:
            self.ended.append((job.name, "cancelled"))
            raise
        self.ended.append((job.name, "done"))
        return iter(())


@pytest.fixture
def start():
    workers = []

    def make(component):
        worker = JobWorker(component, lambda output: None)
        worker.start()
        workers.append((component, worker))
        worker.submit(NamedJob("first"), 0)
        assert component.begun.wait(WAIT_S)
        return worker

    yield make
    for component, worker in workers:
        component.release.set()
        worker.close(WAIT_S)


def test_job_at_hand_that_a_later_one_withdraws_is_cancelled_and_that_one_done(start):
    component = PatientComponent()
    worker = start(component)
    component.begun.clear()
    worker.submit(NamedJob("second", ["first"], is_urgent=True), 0)
    assert component.begun.wait(WAIT_S)
    component.release.set()
    assert worker.wait_until_idle(WAIT_S)
    assert component.ended == [("first", "cancelled"), ("second", "done")]
    assert (worker.counters.withdrawn, worker.counters.failures) == (1, 0)
    assert worker.take_failure() is None


def test_urgent_job_cancels_what_follows_a_result_but_no_result(start):
    for has_result, ending in ((False, "done"), (True, "cancelled")):
        component = PatientComponent(has_result)
        worker = start(component)
        worker.submit(NamedJob("urgent", is_urgent=True), 0)
        if not has_result:
            time.sleep(0.05)
            component.release.set()
        while not component.ended:
            time.sleep(0.001)
        component.release.set()
        assert worker.wait_until_idle(WAIT_S)
        assert component.ended == [("first", ending), ("urgent", "done")]
        assert worker.counters.withdrawn == 0


def test_closing_cancels_the_job_at_hand(start):
    component = PatientComponent()
    worker = start(component)
    worker.submit(NamedJob("second"), 0)
    worker.close(WAIT_S)
    assert component.ended == [("first", "cancelled")]


def test_interruption_comes_during_the_block_alone():
    cancellation, calls = Cancellation(), []
    with cancellation.interrupting(lambda: calls.append("early")):
        pass

    def interrupted():
        with cancellation.interrupting(lambda: calls.append("now")):
            cancellation.cancel()
            raise RuntimeError("what a computation says that was interrupted")

    with pytest.raises(WorkCancelledError):
        interrupted()
    assert calls == ["now"]
    with pytest.raises(WorkCancelledError), cancellation.interrupting(lambda: calls.append("late")):
        raise AssertionError("what was cancelled begins no more")


def test_error_of_work_that_nobody_cancelled_stays_what_it_is():
    with pytest.raises(RuntimeError, match="on fire"), Cancellation().interrupting(lambda: None):
        raise RuntimeError("the engine is on fire")


def test_work_outside_any_scope_is_never_cancelled():
    check_cancelled()
    cancellation = Cancellation()
    cancellation.cancel()
    with cancellation.scope(), pytest.raises(WorkCancelledError):
        check_cancelled()
    check_cancelled()


def test_a_signal_is_taken_while_interruptible_work_computes_outside_python():
    """A model that is measured at the start computes for seconds in one call; Ctrl-C came after it."""
    cancellation, handled, ended = Cancellation(), [], []

    def handle(*_):
        handled.append(time.monotonic())
        cancellation.cancel()

    def compute():
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000)
        ended.append(time.monotonic())
        check_cancelled()

    previous = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        started = time.monotonic()
        with cancellation.scope(), pytest.raises(WorkCancelledError):
            run_interruptibly(compute)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, previous)
    assert handled[0] - started < 0.7 * (ended[0] - started)


def test_interruptible_work_gives_its_result_or_its_own_error():
    assert run_interruptibly(lambda: 7) == 7
    with pytest.raises(TimeoutError, match="mine"):
        run_interruptibly(lambda: (_ for _ in ()).throw(TimeoutError("mine")))
