"""Child processes and stop signals: a process ends with its parent, and by SIGINT and SIGTERM alike.

A shell hands SIGINT down as ignored to what it starts with ``&``, and a process that is killed cannot end its
children. Nothing here relies on what a process inherits.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import importlib
import multiprocessing
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

START_REFUSED = 78
"""Exit status of a process that cannot run as it was told to (EX_CONFIG of sysexits.h)."""
RESTARTS_VARIABLE = "TIMAR_RESTARTS"
"""Tells a process of the graph how often it was started again."""
SHOW_STACKS = signal.SIGUSR2
"""Makes a process of nodes write the stacks of its threads to its log, whatever holds its interpreter."""
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)
_RESET_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)


def own_restarts() -> int:
    """Return how often this process was started again by who supervises it."""
    text = os.environ.get(RESTARTS_VARIABLE, "")
    return int(text) if text.isdigit() else 0


@contextlib.contextmanager
def stop_signals(stop: Callable[[signal.Signals], object]) -> Iterator[None]:
    """Call `stop` on SIGINT, SIGTERM and SIGHUP while the block runs, whatever was inherited.

    SIGHUP that is ignored stays so: that is what ``nohup`` is for. Outside the main thread, where Python
    allows no handler, nothing changes.
    """
    previous: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                previous[number] = signal.signal(number, lambda found, _frame: stop(signal.Signals(found)))
    try:
        yield
    finally:
        for number, handler in previous.items():
            # None: the handler was not set by Python and cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def start_child(command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a process that gets SIGTERM when this one ends, with every signal as by default.

    Call it in the main thread: the kernel ties a child's life to the thread that made it. In another thread
    the child's signals are reset, and only a child that calls `end_with_parent` ends with this process.

    Args:
        command: The program and its arguments.
        options: Of `subprocess.Popen`.
    """
    parent = os.getpid()
    is_tied = threading.current_thread() is threading.main_thread()

    def prepare() -> None:
        for number in _RESET_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        if is_tied:
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
            if os.getppid() != parent:
                os._exit(1)

    return subprocess.Popen(list(command), preexec_fn=prepare, **options)


def end_with_parent(pid: int | None = None, within_s: float = 0.0) -> None:
    """End this process when another one has ended, however that came about.

    A process under ``nohup`` (SIGHUP is ignored) outlives who started it, and so does one whose parent is the
    first process of the machine.

    Args:
        pid: Whom to watch; default: the parent.
        within_s: Time between SIGTERM, which lets this process clean up, and SIGKILL [s]; 0: SIGKILL at once.
    """
    if pid is None:
        pid = os.getppid()
        if pid == 1 or signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
            return

    def watch() -> None:
        _wait_for_end(pid)
        if within_s > 0:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(within_s)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()


def _wait_for_end(pid: int) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except OSError:  # A kernel before 5.3, or a container that does not allow it.
        while Path(f"/proc/{pid}").exists():
            time.sleep(1.0)
        return
    select.select([handle], [], [])


@contextlib.contextmanager
def process_pool(
    workers: int | None,
    context: BaseContext,
    prepare: Callable[..., object] | None = None,
    arguments: tuple[Any, ...] = (),
) -> Iterator[concurrent.futures.ProcessPoolExecutor]:
    """Give a pool of worker processes that end with this one, and at once when the block is left by an error.

    Args:
        workers: How many; None: one per core.
        context: How they are started.
        prepare: Called in each worker first, with `arguments`.
        arguments: Of `prepare`.
    """
    before = set(multiprocessing.active_children())
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, context, initializer=_begin_worker, initargs=(os.getpid(), prepare, arguments)
    )
    try:
        yield pool
    except BaseException:
        # Neither the job at hand nor those that wait are wanted any more.
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in set(multiprocessing.active_children()) - before:
            worker.kill()
        raise
    pool.shutdown()


@contextlib.contextmanager
def pool_or_cluster(workers: int, cluster: str, preload: str) -> Iterator[Any]:
    """Give an executor: processes of this machine, or the workers of a Dask cluster.

    Args:
        workers: Processes on this machine.
        cluster: Address of a Dask scheduler, whose workers need to see the same paths; empty: this machine.
        preload: Module that processes of this machine are forked from.

    Raises:
        RuntimeError: A cluster is asked for and Dask is not installed.
    """
    if not cluster:
        # Forked from a process that has only imported, which takes longer than opening a model; threads of an
        # engine would not survive a fork.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([preload])
        with process_pool(workers, context) as pool:
            yield pool
        return
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise RuntimeError(
            "a cluster was named, but Dask is not installed; pip install distributed, or leave --dask out"
        ) from error
    with distributed.Client(cluster) as client:
        yield client.get_executor()


def _begin_worker(parent: int, prepare: Callable[..., object] | None, arguments: tuple[Any, ...]) -> None:
    # Ctrl-C in a terminal reaches every process; the parent ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent(parent)
    if prepare is not None:
        prepare(*arguments)
