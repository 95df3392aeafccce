"""Start condition of a file: all who are to receive it from its first sample have subscribed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from timar_common.clock import NS_PER_S


def missing_subscribers(wanted: Mapping[str, tuple[Any, int]]) -> str:
    """Say which topics lack subscribers, as words for a sentence; empty when none does.

    Args:
        wanted: Topic name -> its publisher (with `get_subscription_count`) and how many subscriptions it is
            to have.
    """
    return " and ".join(
        f"{publisher.get_subscription_count()} of {count} to {topic}"
        for topic, (publisher, count) in wanted.items()
        if publisher.get_subscription_count() < count
    )


class StartCondition:
    """Whether a file may start: all subscribers and nodes are there, or the time to wait for them is over.

    Args:
        wanted: As for `missing_subscribers`.
        timeout_s: So long is waited from `now_ns` on [s].
        now_ns: CLOCK_MONOTONIC [ns].
        nodes: How many nodes are to be configured.
        count_nodes: Returns how many are.
    """

    def __init__(
        self,
        wanted: Mapping[str, tuple[Any, int]],
        timeout_s: float,
        now_ns: int,
        nodes: int = 0,
        count_nodes: Callable[[], int] = int,
    ) -> None:
        self._wanted, self._nodes, self._count_nodes = wanted, nodes, count_nodes
        self._timeout_s = timeout_s
        self._deadline_ns = now_ns + round(timeout_s * NS_PER_S)
        self.warning = ""
        """Who was missing when the time was over."""

    def is_met(self, now_ns: int) -> bool:
        """Tell whether to start now; `warning` then says whether somebody is missing."""
        missing = missing_subscribers(self._wanted)
        nodes = self._count_nodes()
        if not missing and nodes >= self._nodes:
            return True
        if now_ns <= self._deadline_ns:
            return False
        came = f"{missing} subscribers" if missing else f"{nodes} of {self._nodes} nodes"
        self.warning = f"only {came} came within {self._timeout_s:g} s; the file starts without the others"
        return True
