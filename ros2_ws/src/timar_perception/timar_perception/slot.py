"""A place for one thing between two threads: a newer one takes the older one's place."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

_Thing = TypeVar("_Thing")


class NewestSlot(Generic[_Thing]):
    """Hold the newest thing until it is taken."""

    def __init__(self) -> None:
        self.passed_over = 0
        """Things that a newer one took the place of."""
        self._thing: _Thing | None = None
        self._is_full = threading.Condition()

    def put(self, thing: _Thing) -> None:
        """Put a thing in, in the place of one that nobody took."""
        with self._is_full:
            self.passed_over += self._thing is not None
            self._thing = thing
            self._is_full.notify()

    def take(self, timeout_s: float) -> _Thing | None:
        """Wait for a thing and take it out; None when none came in time, or the slot was closed [s]."""
        with self._is_full:
            self._is_full.wait_for(lambda: self._thing is not None, timeout_s)
            thing, self._thing = self._thing, None
            return thing

    def close(self) -> None:
        """Drop what is held."""
        with self._is_full:
            self._thing = None
            self._is_full.notify_all()
