"""Plays a person's recorded motion along with their voice, as a face tracker would tell of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from timar_common.clock import FRAMES_PER_SECOND, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from timar_common.config import check, option
from timar_common.diagnostics import Report
from timar_common.user_motion import SeenFrames, check_user_motion

from timar_bag.dualtalk import read_track
from timar_bag.make_bag import Track


@dataclasses.dataclass(frozen=True)
class MotionPlayerConfig:
    """The motion player node."""

    file: str = option(
        "", "Recorded motion of the user (npz: exp (T, 50), pose (T, 6) neck and jaw, 25 frames a second)."
    )
    delay_ms: int = option(
        20,
        "From a frame's instant, its first sample, until it is told: camera and tracking.",
        unit="ms",
        minimum=0,
        maximum=2000,
    )
    run_frames: int = option(
        1,
        "Frames in a message; a turn takes only what came before its sound was whole.",
        unit="frames",
        minimum=1,
        maximum=250,
    )
    catch_up_s: float = option(
        2.0,
        "After a gap in the sound, frames older than this are left out.",
        unit="s",
        minimum=0.0,
        maximum=60.0,
    )

    def __post_init__(self) -> None:
        check(self)


class MotionPlayer:
    """Give out each frame once, as soon as the conversation clock has reached it and never before.

    Args:
        track: The whole motion; its frame 0 belongs to sample 0 of the conversation.
        config: Delay and length of runs.
    """

    def __init__(self, track: Track, config: MotionPlayerConfig) -> None:
        self.config = config
        self.frames_told = 0
        self.frames_left_out = 0
        """Frames that were too old when the clock had reached them, because it leapt."""
        self._track = track
        self._delay_samples = config.delay_ms * SAMPLE_RATE_HZ // 1000
        self._next_frame: int | None = None

    def restart(self) -> None:
        """Begin anew: the conversation's counter did."""
        self._next_frame = None

    def hear(self, first_sample: int, samples: int) -> list[SeenFrames]:
        """Take in that a block of the user's sound was captured; return the runs known by its end, in order.

        Args:
            first_sample: Its place on the conversation clock [samples], >= 0.
            samples: Its length [samples], > 0.

        Raises:
            ValueError: There can be no such block; nothing has changed then.
        """
        if first_sample < 0 or samples <= 0:
            raise ValueError(
                f"a block of {samples} samples starts at sample {first_sample}, expected one or more samples "
                "at 0 or later"
            )
        if self._next_frame is None:
            self._next_frame = -(-first_sample // SAMPLES_PER_FRAME)
        end_frame = min(self._known_until(first_sample + samples), len(self._track.motion))
        self._leave_out_before(end_frame - round(self.config.catch_up_s * FRAMES_PER_SECOND))
        runs = []
        while self._next_frame < end_frame:
            first, end = self._next_frame, min(self._next_frame + self.config.run_frames, end_frame)
            is_whole = end - first == self.config.run_frames or end == len(self._track.motion)
            if not is_whole:
                break
            self._next_frame = end
            self.frames_told += end - first
            runs.append(SeenFrames(first, self._track.motion[first:end], self._track.valid[first:end]))
        return runs

    def _known_until(self, end_sample: int) -> int:
        """Return one past the newest frame whose picture is taken and tracked when a sample is due.

        A picture is taken at its frame's first sample, which must have been captured as well.
        """
        tracked = (end_sample - self._delay_samples) // SAMPLES_PER_FRAME + 1
        begun = (end_sample - 1) // SAMPLES_PER_FRAME + 1
        return max(0, min(tracked, begun))

    def _leave_out_before(self, frame: int) -> None:
        if self._next_frame is not None and frame > self._next_frame:
            self.frames_left_out += frame - self._next_frame
            self._next_frame = frame

    def report(self) -> Report:
        """Say how far the motion was told."""
        return Report(
            values={
                "frames": len(self._track.motion),
                "frames_told": self.frames_told,
                "frames_left_out": self.frames_left_out,
            }
        )


def load_motion(path: Path) -> Track:
    """Read a motion file and look at every number that is marked as seen.

    Raises:
        ValueError: It cannot be played; the message names the file and says what is wrong.
    """
    if not str(path.name):
        raise ValueError("file is empty, expected the path of a motion file (npz with exp and pose)")
    if not path.is_file():
        raise ValueError(f"there is no motion file {path}; expected an npz with exp (T, 50) and pose (T, 6)")
    track = read_track(path)
    if not len(track.motion):
        raise ValueError(f"{path} holds no frame, so there is no motion to play")
    try:
        check_user_motion(track.motion, track.valid)
    except ValueError as error:
        raise ValueError(f"{path}, {error}") from error
    return track
