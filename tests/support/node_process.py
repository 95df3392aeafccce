"""Run nodes of the product in a process of their own, as the composer does."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

PATIENCE_S = 60.0
"""What an idle machine does in a second may take a busy one so long; only a failing test waits for it [s]."""


@contextlib.contextmanager
def running_nodes(components: Sequence[str], parameters: Mapping[str, object]) -> Iterator[list[str]]:
    """Run nodes until the block ends; their log is in the list then.

    Args:
        components: ``module:Class`` of each node.
        parameters: Value by parameter, or by ``node:parameter``.
    """
    command = [sys.executable, "-m", "timar_common.base_node", *components, "--ros-args"]
    for key, value in parameters.items():
        command += ["-p", f"{key}:={value}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log: list[str] = []
    try:
        yield log
        process.send_signal(signal.SIGINT)
        log.append(process.communicate(timeout=PATIENCE_S)[1])
        assert process.returncode == 0, log[0]
    finally:
        process.kill()
        process.wait()
