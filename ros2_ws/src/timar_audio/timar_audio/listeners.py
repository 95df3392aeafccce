"""Whether those who are to hear a conversation from its first sample are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Publisher(Protocol):
    """What is asked of a publisher."""

    def get_subscription_count(self) -> int:
        """Return how many subscriptions have matched."""


def missing_listeners(wanted: Mapping[str, tuple[Publisher, int]]) -> str:
    """Say which topics lack listeners, as words for a sentence; empty when none does.

    Args:
        wanted: Topic name -> its publisher and how many subscriptions it is to have.
    """
    return " and ".join(
        f"{publisher.get_subscription_count()} of {count} to {topic}"
        for topic, (publisher, count) in wanted.items()
        if publisher.get_subscription_count() < count
    )
