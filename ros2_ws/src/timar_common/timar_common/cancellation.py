"""Cancellation of long work from another thread: a token that the work looks at between its parts."""

from __future__ import annotations

import concurrent.futures
import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

R = TypeVar("R")


class WorkCancelledError(Exception):
    """Work was cancelled before its end; what it would have changed is as before."""


class Cancellation:
    """Whether one piece of work is still wanted; any thread may cancel it.

    Work that runs within `scope` finds it as `CURRENT` and calls `check` between its parts; a computation
    that can be interrupted from outside runs within `interrupting`.
    """

    def __init__(self) -> None:
        self.gives_way = False
        """Set by the work when its result is out: what follows may be cancelled by anything urgent."""
        self._lock = threading.RLock()
        self._is_cancelled = False
        self._interrupt: Callable[[], None] | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether the work is not wanted any more."""
        return self._is_cancelled

    def cancel(self) -> None:
        """Let the work end at its next look; safe more than once."""
        with self._lock:
            self._is_cancelled = True
            if self._interrupt is not None:
                self._interrupt()

    def check(self) -> None:
        """Go on, or end here.

        Raises:
            WorkCancelledError: The work is not wanted any more.
        """
        if self._is_cancelled:
            raise WorkCancelledError("the work was cancelled")

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Let the work in the block, in this thread, find this as `CURRENT`."""
        token = CURRENT.set(self)
        try:
            yield
        finally:
            CURRENT.reset(token)

    @contextlib.contextmanager
    def interrupting(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Call `interrupt`, in the thread that cancels, when that happens during the block.

        Raises:
            WorkCancelledError: The work was cancelled before; or during the block, which then failed.
        """
        with self._lock:
            self.check()
            self._interrupt = interrupt
        try:
            yield
        except Exception as error:
            if self._is_cancelled:
                raise WorkCancelledError("the work was cancelled") from error
            raise
        finally:
            with self._lock:
                self._interrupt = None


CURRENT: contextvars.ContextVar[Cancellation | None] = contextvars.ContextVar("cancellation", default=None)
"""The cancellation of the work that this thread does; None: it cannot be cancelled."""


def run_interruptibly(work: Callable[[], R]) -> R:
    """Do work in a thread of its own while this one takes signals, whose handlers may cancel it.

    A computation in the main thread would let no handler run before its end.

    Raises:
        Whatever `work` raises.
    """
    done: concurrent.futures.Future[R] = concurrent.futures.Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            done.set_result(context.run(work))
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="interruptible", daemon=True).start()
    while not done.done():
        # A wait without an end would let no handler run either.
        concurrent.futures.wait([done], timeout=0.05)
    return done.result()


def check_cancelled() -> None:
    """Go on, or end here if this thread's work was cancelled.

    Raises:
        WorkCancelledError: It was.
    """
    cancellation = CURRENT.get()
    if cancellation is not None:
        cancellation.check()
