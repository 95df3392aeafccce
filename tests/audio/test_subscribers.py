"""Whether everybody is there."""

from __future__ import annotations

import dataclasses

from timar_audio.subscribers import missing_subscribers


@dataclasses.dataclass
class Publisher:
    count: int

    def get_subscription_count(self) -> int:
        return self.count


def test_topics_that_lack_listeners_are_named_with_both_numbers():
    wanted = {"a": (Publisher(1), 2), "b": (Publisher(3), 2), "c": (Publisher(0), 1)}
    assert missing_subscribers(wanted) == "1 of 2 to a and 0 of 1 to c"


def test_nothing_is_missing_when_all_are_there():
    assert missing_subscribers({"a": (Publisher(2), 2), "b": (Publisher(0), 0)}) == ""
