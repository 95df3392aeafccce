"""Plays recorded motion along with its voice: each frame once, when a face tracker would know it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from timar_common.clock import FRAMES_PER_SECOND, SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from timar_common.config import check, option
from timar_common.motion_file import MotionTrack, read_motion
from timar_common.user_motion import check_user_motion


@dataclasses.dataclass(frozen=True)
class MotionPlayerConfig:
    """The motion player node."""

    file: str = option(
        "", "Recorded motion of the user (npz: exp (T, 50), pose (T, 6) neck and jaw, 25 frames a second)."
    )
    delay_ms: int = option(
        20, "From a frame's first sample until it is published: camera and tracking.", unit="ms",
        minimum=0, maximum=2000,
    )  # fmt: skip
    run_frames: int = option(
        1, "Frames in a message; a turn takes only what came before its sound was whole.", unit="frames",
        minimum=1, maximum=250,
    )  # fmt: skip
    catch_up_s: float = option(
        2.0, "After a gap in the sound, frames older than this are left out.", unit="s",
        minimum=0.0, maximum=60.0,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check(self)


class MotionPlayer:
    """Give out each frame once, as soon as the conversation clock has reached it and never before.

    Args:
        track: The whole motion; its frame 0 belongs to sample 0 of the conversation.
        config: Delay and length of runs.
    """

    def __init__(self, track: MotionTrack, config: MotionPlayerConfig) -> None:
        self.frames_published = 0
        self.frames_left_out = 0
        """Frames that were too old when the clock had reached them, because it jumped."""
        self._config, self._track = config, track
        self._delay_samples = config.delay_ms * SAMPLE_RATE_HZ // 1000
        self._next_frame: int | None = None

    def restart(self) -> None:
        """Begin again: the conversation's counter did."""
        self._next_frame = None

    def append(self, first_sample: int, samples: int) -> list[range]:
        """Take in that a block of the user's sound was captured.

        Args:
            first_sample: Its index on the conversation clock [samples], >= 0.
            samples: Its length [samples], > 0.

        Returns:
            Runs of frames of the track that are known by its end, in order.

        Raises:
            ValueError: There can be no such block; nothing has changed then.
        """
        if first_sample < 0 or samples <= 0:
            raise ValueError(
                f"a block of {samples} samples starts at sample {first_sample}, expected one or more samples "
                "at 0 or later"
            )
        next_frame, length = self._next_frame, len(self._track.vector)
        if next_frame is None:
            next_frame = -(-first_sample // SAMPLES_PER_FRAME)
        end_frame = min(self._known_until(first_sample + samples), length)
        oldest = end_frame - round(self._config.catch_up_s * FRAMES_PER_SECOND)
        self.frames_left_out += max(0, oldest - next_frame)
        next_frame = max(next_frame, oldest)
        runs: list[range] = []
        while next_frame < end_frame:
            end = min(next_frame + self._config.run_frames, end_frame)
            if end - next_frame < self._config.run_frames and end < length:
                break  # The run is not whole yet.
            runs.append(range(next_frame, end))
            self.frames_published += end - next_frame
            next_frame = end
        self._next_frame = next_frame
        return runs

    def _known_until(self, end_sample: int) -> int:
        """Return one past the newest frame whose picture is taken and tracked when a sample is due.

        A picture is taken at its frame's first sample, which must have been captured as well.
        """
        tracked = (end_sample - self._delay_samples) // SAMPLES_PER_FRAME + 1
        begun = (end_sample - 1) // SAMPLES_PER_FRAME + 1
        return max(0, min(tracked, begun))


def load_motion(path: Path) -> MotionTrack:
    """Read a motion file and look at every number that is marked as seen.

    Raises:
        ValueError: It cannot be played; the message names the file and says what is wrong.
    """
    if not str(path.name):
        raise ValueError("file is empty, expected the path of a motion file (npz with exp and pose)")
    if not path.is_file():
        raise ValueError(f"there is no motion file {path}; expected an npz with exp (T, 50) and pose (T, 6)")
    track = read_motion(path)
    if not len(track.vector):
        raise ValueError(f"{path} holds no frame, so there is no motion to play")
    try:
        check_user_motion(track.vector, track.valid)
    except ValueError as error:
        raise ValueError(f"{path}, {error}") from error
    return track
