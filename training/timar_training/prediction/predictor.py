"""What makes an agent's motion sees a dyad in memory and nothing of its truth."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
import numpy.typing as npt
from timar_common.clock import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME

from ..corpora import dyads
from ..corpora.dyads import AGENT_SPEAKER, USER_SPEAKER, Clip, Motion

FloatArray = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Dyad:
    """One clip in memory, both sides on one frame grid."""

    name: str
    user_voice: FloatArray
    """(640 T,) 16 kHz."""
    agent_voice: FloatArray
    """(640 T,)."""
    user_motion: Motion
    """(T, 56); unseen frames are not valid."""
    agent_motion: Motion | None
    """The truth; None where it was not recorded."""

    @property
    def frames(self) -> int:
        """T."""
        return len(self.agent_voice) // SAMPLES_PER_FRAME

    def without_user_motion(self) -> Dyad:
        """Return it with the user unseen."""
        return dataclasses.replace(self, user_motion=Motion.unseen(self.frames))


def load_dyad(clip: Clip, seconds: float | None = None) -> Dyad:
    """Read a clip, or its first seconds.

    Raises:
        BadClipError: A file cannot be read.
    """
    voices = [dyads.read_voice(clip.voice_path(speaker)) for speaker in (USER_SPEAKER, AGENT_SPEAKER)]
    frames = min(dyads.frames_of(voice) for voice in voices)
    if seconds is not None:
        frames = min(frames, int(seconds * SAMPLE_RATE_HZ) // SAMPLES_PER_FRAME)
    user, agent = (voice[: frames * SAMPLES_PER_FRAME] for voice in voices)
    paths = [clip.motion_path(speaker) for speaker in (USER_SPEAKER, AGENT_SPEAKER)]
    seen, truth = (dyads.read_motion(path).fitted_to(frames) if path.is_file() else None for path in paths)
    return Dyad(clip.name, user, agent, seen or Motion.unseen(frames), truth)


class Predictor(Protocol):
    """Makes the agent's motion of a whole dyad; it never looks at `Dyad.agent_motion`."""

    name: str
    turn_frames: int
    """Its step [frames]; 1 for what has none."""
    delay_frames: int
    """By how much its motion is shown after the voice it belongs to [frames]."""

    def predict(self, dyad: Dyad, seed: int) -> FloatArray:
        """Return (T', 56), T' at most the dyad's frames, frame f made for sample 640 f."""
