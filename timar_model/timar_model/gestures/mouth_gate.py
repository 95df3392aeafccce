"""Shuts the mouth while the agent's own voice is silent, and opens it for speech, as people do."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class MouthGateConfig:
    """When the mouth opens and shuts, in frames of 40 ms."""

    opens_before_frames: int = 3
    """The mouth begins to open so long before the first sound."""
    shuts_after_frames: int = 4
    """It is shut so long after the last sound, less what the pause still counts as speech."""
    closed_pause_frames: int = 7
    """A pause shorter than this is part of the speech: the mouth does not chatter."""


class MouthGate:
    """Gain of the jaw's opening, 1 during speech and 0 in silence, with minimum-jerk transitions.

    It is a function of the agent's voice activity around a frame: some frames before it, and the planned
    speech after it. So it has no memory beyond those frames, and a preview is what the next turn will be.
    """

    def __init__(self, config: MouthGateConfig | None = None) -> None:
        self.config = config or MouthGateConfig()
        cfg = self.config
        self.past_frames = cfg.closed_pause_frames + cfg.shuts_after_frames
        """Frames of activity before the first gain that `gains` takes."""
        self.ahead_frames = cfg.closed_pause_frames + cfg.opens_before_frames
        """Frames of activity after the last gain that `gains` takes."""
        self._opening = _minimum_jerk(cfg.opens_before_frames)
        self._shutting = 1.0 - _minimum_jerk(cfg.shuts_after_frames)

    def gains(self, speaks: npt.NDArray[np.bool_]) -> Array:
        """Return the gains (n,) of frames.

        Args:
            speaks: (past_frames + n + ahead_frames,) whether the agent speaks, around those frames.
        """
        cfg = self.config
        closed = _without_pauses(speaks, cfg.closed_pause_frames)
        gains = closed.astype(np.float64)
        for before, gain in enumerate(reversed(self._opening), start=1):
            gains[:-before] = np.maximum(gains[:-before], gain * closed[before:])
        for after, gain in enumerate(self._shutting, start=1):
            gains[after:] = np.maximum(gains[after:], gain * closed[:-after])
        return gains[self.past_frames : len(gains) - self.ahead_frames]


def _minimum_jerk(frames: int) -> Array:
    """Return the way from 0 to 1 at the frames between, (frames,), both ends left out."""
    share = np.arange(1, frames + 1) / (frames + 1)
    way: Array = share**3 * (10.0 - 15.0 * share + 6.0 * share**2)
    return way


def _without_pauses(speaks: npt.NDArray[np.bool_], shorter_than: int) -> npt.NDArray[np.bool_]:
    """Return the activity with pauses between two sounds filled that are shorter than so many frames."""
    frames = np.arange(len(speaks))
    last = np.maximum.accumulate(np.where(speaks, frames, -len(speaks) - shorter_than))
    following = np.where(speaks, frames, 2 * len(speaks) + shorter_than)
    upcoming = np.minimum.accumulate(following[::-1])[::-1]
    filled: npt.NDArray[np.bool_] = speaks | (upcoming - last - 1 < shorter_than)
    return filled
