"""Voice activity detectors behind one interface: a frame of sound in, the probability of speech out."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import webrtcvad
from timar_common.clock import SAMPLE_RATE_HZ

WEBRTC_FRAMES_MS = (10, 20, 30)


class VoiceDetector(Protocol):
    """What voice activity asks of a detector; one instance per voice, for detectors remember."""

    frame_samples: int
    """Length of the frames it takes [samples at 16 kHz]."""

    def probability(self, frame: npt.NDArray[np.int16]) -> float:
        """Return the probability that a frame is speech, 0 or 1 from a detector that only decides.

        Args:
            frame: (frame_samples,) int16; frames come in order, without gaps.
        """


class WebRtcDetector:
    """WebRTC's detector: Gaussian mixtures over six bands, about 1 ms of work per second of sound.

    Args:
        aggressiveness: 0 (hears the most, and the most noise) to 3 (only what is clearly speech).
        frame_ms: 10, 20 or 30 [ms].
    """

    def __init__(self, aggressiveness: int = 2, frame_ms: int = 20) -> None:
        if frame_ms not in WEBRTC_FRAMES_MS:
            raise ValueError(
                f"frame_ms is {frame_ms}, expected 10, 20 or 30: webrtcvad takes no other frames"
            )
        if aggressiveness not in range(4):
            raise ValueError(f"aggressiveness is {aggressiveness}, expected 0 (lenient) to 3 (strict)")
        self.frame_samples = frame_ms * SAMPLE_RATE_HZ // 1000
        self._vad = webrtcvad.Vad(aggressiveness)

    def probability(self, frame: npt.NDArray[np.int16]) -> float:
        """Return 1 for speech and 0 for anything else."""
        if frame.shape != (self.frame_samples,) or frame.dtype != np.int16:
            raise ValueError(
                f"a frame is {self.frame_samples} int16 samples, got {frame.dtype} of shape {frame.shape}"
            )
        return float(self._vad.is_speech(frame.tobytes(), SAMPLE_RATE_HZ))
