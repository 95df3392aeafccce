"""What the turns node can be told: of its detector, of activity, of speech turns."""

from __future__ import annotations

import dataclasses

from timar_common.config import check, option

from timar_audio.activity import ActivityConfig
from timar_audio.background import BackgroundConfig
from timar_audio.vad import SileroDetector, VoiceDetector, WebRtcDetector


@dataclasses.dataclass(frozen=True)
class TurnsConfig:
    """The turns node."""

    detector: str = option("webrtc", "Voice activity detector.", choices=("webrtc", "silero"))
    frame_ms: int = option(
        20,
        "Length of webrtcvad's frames: 10, 20 or 30; Silero's are 32 ms.",
        unit="ms",
        minimum=10,
        maximum=30,
    )
    aggressiveness: int = option(
        2,
        "webrtcvad: 0 hears the most, and the most noise; 3 only what is clearly speech.",
        minimum=0,
        maximum=3,
    )
    above_background_db: float = option(
        1.0,
        "webrtcvad: speech is at least so much above the background.",
        unit="dB",
        minimum=0.0,
        maximum=60.0,
    )
    above_background_spreads: float = option(
        2.0,
        "webrtcvad: and at least so many times by how much the background wanders; both 0: off.",
        minimum=0.0,
        maximum=20.0,
    )
    threshold: float = option(
        0.5, "Probability from which a frame counts as speech.", minimum=0.01, maximum=0.99
    )
    min_level_dbfs: float = option(
        -65.0, "A frame below this level is never speech.", unit="dBFS", minimum=-120.0, maximum=0.0
    )
    motion_noise_file: str = option(
        "", "What timar audio calibrate-motion-noise wrote: the servos' own noise is no speech; empty: off."
    )
    motion_wait_ms: int = option(
        60,
        "With it, how long the user's sound waits for joint_states of its time.",
        unit="ms",
        minimum=0,
        maximum=500,
    )
    start_ms: int = option(
        140, "So much speech, less the pauses in it, makes a start.", unit="ms", minimum=10, maximum=1000
    )
    hang_ms: int = option(
        240, "So much without speech makes an end of activity.", unit="ms", minimum=20, maximum=3000
    )
    resume_ms: int = option(
        40, "So much speech on end, while stopping, is speech again.", unit="ms", minimum=10, maximum=1000
    )
    pause_ms: int = option(
        500,
        "A pause so long ends a speech turn; at least hang_ms counts.",
        unit="ms",
        minimum=20,
        maximum=5000,
    )
    end_of_turn: str = option(
        "", "Model that judges whether the user's turn is complete, as module:Class; empty: pause_ms alone."
    )
    end_threshold: float = option(
        0.5, "Probability from which the model's word is that it is.", minimum=0.0, maximum=1.0
    )
    min_pause_ms: int = option(
        300,
        "With a model: it is asked after so long a pause, and a complete turn ends at once.",
        unit="ms",
        minimum=20,
        maximum=5000,
    )
    max_pause_ms: int = option(
        2000,
        "No pause is waited out longer: neither for a model nor for a noise that may become speech.",
        unit="ms",
        minimum=20,
        maximum=20_000,
    )
    barge_in_ms: int = option(
        280,
        "Who speaks so long into the other's turn takes the floor; less is a back-channel.",
        unit="ms",
        minimum=60,
        maximum=5000,
    )
    max_skew_ms: int = option(
        200,
        "How long one voice is waited for when the other is ahead of it.",
        unit="ms",
        minimum=0,
        maximum=2000,
    )

    def __post_init__(self) -> None:
        check(self)
        WebRtcDetector(self.aggressiveness, self.frame_ms)
        if not max(self.pause_ms, self.min_pause_ms) <= self.max_pause_ms:
            raise ValueError(
                f"max_pause_ms is {self.max_pause_ms}, expected at least pause_ms ({self.pause_ms}) and "
                f"min_pause_ms ({self.min_pause_ms})"
            )

    def make_detector(self) -> VoiceDetector:
        """Return a detector for one voice.

        Raises:
            OSError: It is not installed.
        """
        if self.detector == "silero":
            return SileroDetector()
        background = None
        if self.above_background_db or self.above_background_spreads:
            background = BackgroundConfig(self.above_background_db, self.above_background_spreads)
        return WebRtcDetector(self.aggressiveness, self.frame_ms, background)

    @property
    def activity(self) -> ActivityConfig:
        """The part that concerns one voice."""
        return ActivityConfig(
            self.threshold, self.min_level_dbfs, self.start_ms, self.hang_ms, self.resume_ms
        )
