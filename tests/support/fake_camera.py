"""A camera for tests."""

from __future__ import annotations

import time

import cv2
import numpy as np


class FakeCapture:
    """A cv2.VideoCapture whose plug can be pulled."""

    WAIT_S = 0.01
    """Until the next picture."""

    def __init__(
        self, is_there: bool = True, stamp_ms: float | None = None, frame: np.ndarray | None = None
    ) -> None:
        self.is_there = is_there
        self.stamp_ms = stamp_ms
        """Of every picture; None: 25 ms ago, as a good driver says."""
        self.frame = np.full((48, 64, 3), 9, np.uint8) if frame is None else frame

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.is_there

    def set(self, key: int, value: float) -> bool:
        return True

    def get(self, key: int) -> float:
        if key == cv2.CAP_PROP_POS_MSEC:
            return time.monotonic_ns() / 1e6 - 25.0 if self.stamp_ms is None else self.stamp_ms
        return 30.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        time.sleep(self.WAIT_S)
        return (True, self.frame) if self.is_there else (False, None)

    def release(self) -> None:
        pass
