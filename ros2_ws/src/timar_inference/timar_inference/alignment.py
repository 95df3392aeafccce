"""Which samples and frames a turn is made from."""

from __future__ import annotations

import dataclasses
import math

from timar_common.clock import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

MS_PER_FRAME = 1e3 * SAMPLES_PER_FRAME / SAMPLE_RATE_HZ


@dataclasses.dataclass(frozen=True)
class Alignment:
    """Where the two voices of a turn stand against each other.

    A turn that starts at frame f takes the agent's planned frames [f, f + F) and the user's frames
    [f - m - P, f - m), where m is the margin and P the length of the turn before (see "One clock" in
    docs/architecture.md). So user blocks follow each other without a gap for turns of any lengths.

    Shown late, a turn takes both voices of its own frames [f, f + F) instead, and is seen when they were
    heard and the margin is over.
    """

    turn_frames: int
    """Length of a turn [frames]."""
    margin_frames: int
    """How long before its first frame is seen a turn stops listening [frames]."""
    is_shown_late: bool = False
    """Whether the motion waits for the user's block of the same frames, and so comes behind the voice."""

    def __post_init__(self) -> None:
        if self.turn_frames < 1 or self.margin_frames < 0:
            raise ValueError(
                f"a turn of {self.turn_frames} frames with a margin of {self.margin_frames} cannot be; "
                "expected at least 1 frame and a margin of 0 or more"
            )

    @property
    def delay_frames(self) -> int:
        """How far the motion stands behind the agent's voice [frames]; 0 unless it is shown late."""
        return self.turn_frames + self.margin_frames if self.is_shown_late else 0

    @property
    def turn_fill_ms(self) -> float:
        """The longest that a sample waits for its turn's last one [ms]."""
        return MS_PER_FRAME * self.turn_frames

    @property
    def reaction_floor_ms(self) -> float:
        """The longest that a sample waits to be seen, however fast the computer [ms]."""
        return MS_PER_FRAME * (self.turn_frames + self.margin_frames)

    def with_way(self, way_ms: float) -> Alignment:
        """Return the same with a margin that leaves so much more time [ms], in whole frames."""
        return dataclasses.replace(self, margin_frames=self.margin_frames + math.ceil(way_ms / MS_PER_FRAME))

    def first_turn(self, first_sample: int) -> int:
        """Return the first frame of the first turn of a user first heard at `first_sample`.

        It is the first turn boundary whose user block holds sound that was heard; an earlier one would be
        due before it could be made.
        """
        if self.is_shown_late:
            return self.turn_frames * (first_sample // (SAMPLES_PER_FRAME * self.turn_frames))
        listens_until = first_sample + SAMPLES_PER_FRAME * self.margin_frames
        return self.turn_frames * (listens_until // (SAMPLES_PER_FRAME * self.turn_frames) + 1)

    def user_range(self, first_frame: int, user_frames: int) -> tuple[int, int]:
        """Return the user's frames [first, end) for a turn that takes `user_frames` of them."""
        end_frame = first_frame + user_frames if self.is_shown_late else first_frame - self.margin_frames
        return end_frame - user_frames, end_frame
