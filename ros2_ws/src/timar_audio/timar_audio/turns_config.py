"""Parameters of the turns node: voice activity detector, hysteresis, speech turns, end-of-turn model."""

from __future__ import annotations

import dataclasses

from timar_common.config import number, option

from timar_audio.activity import ActivityConfig
from timar_audio.background import BackgroundConfig
from timar_audio.vad import SileroDetector, VoiceDetector, WebRtcDetector


@dataclasses.dataclass(frozen=True)
class TurnsConfig(ActivityConfig):
    """The turns node; the hysteresis of voice activity is the same for both speakers."""

    detector: str = option("webrtc", "Voice activity detector.", choices=("webrtc", "silero"))
    frame_ms: int = number(
        20, "Length of webrtcvad's frames: 10, 20 or 30; Silero's are 32 ms.", 10, 30, "ms"
    )
    aggressiveness: int = number(
        2, "webrtcvad: 0 hears the most, and the most noise; 3 only what is clearly speech.", 0, 3
    )
    above_background_db: float = number(
        1.0, "webrtcvad: speech is at least so much above the background.", 0.0, 60.0, "dB"
    )
    above_background_spreads: float = number(
        2.0, "webrtcvad: and at least so many times the background's spread; both 0: off.", 0.0, 20.0
    )
    motion_noise_file: str = option(
        "", "What timar audio calibrate-motion-noise wrote: the servos' own noise is no speech; empty: off."
    )
    motion_wait_ms: int = number(
        60, "With it, how long the user's sound waits for joint_states of its time.", 0, 500, "ms"
    )
    pause_ms: int = number(
        500, "A pause so long ends a speech turn; at least hang_ms counts.", 20, 5000, "ms"
    )
    end_of_turn: str = option(
        "",
        "Model that judges whether the user's turn is complete: smart_turn, an installed name or "
        "module:Class; empty: pause_ms alone.",
    )
    end_of_turn_file: str = option(
        "", "File of smart_turn (ONNX); empty: that of the installed package pipecat-ai."
    )
    end_threshold: float = number(0.5, "Probability from which the model's word is that it is.", 0.0, 1.0)
    min_pause_ms: int = number(
        200, "With a model: it is asked after so long a pause; a complete turn ends then.", 20, 5000, "ms"
    )
    max_pause_ms: int = number(
        2000,
        "No pause is longer, neither for a model nor for noise that may become speech.",
        20,
        20_000,
        "ms",
    )
    barge_in_ms: int = number(
        160,
        "Who speaks so long into a pause has the floor; without interruption_check, into the agent's speech.",
        60,
        5000,
        "ms",
    )
    interruption_check: bool = option(
        True, "Whether the user's speech into the agent's is told from back-channels, coughs and laughs."
    )
    lower_after_ms: int = number(
        80,
        "So much speech of the user lowers the agent's voice; it goes on when no start comes.",
        20,
        1000,
        "ms",
    )
    join_ms: int = number(
        400, "Sounds of the user that are no further apart are judged as one: 'no, stop'.", 0, 2000, "ms"
    )
    sure_probability: float = number(
        0.95, "Probability of an interruption from which the agent's voice pauses before 0.45 s.", 0.0, 1.0
    )
    pause_probability: float = number(0.5, "And from which it pauses at 0.45 s or later.", 0.0, 1.0)
    interrupt_probability: float = number(
        0.5, "And from which a sound that is over was an interruption.", 0.0, 1.0
    )
    interrupt_after_ms: int = number(
        800, "A sure interruption that goes on so long ends what the agent says.", 100, 10_000, "ms"
    )
    longest_backchannel_ms: int = number(
        1000,
        "No back-channel is longer; laughter and coughs may last three times as long.",
        300,
        10_000,
        "ms",
    )
    long_probability: float = number(
        0.08, "Probability from which a longer sound was an interruption: laughter has less.", 0.0, 1.0
    )
    resume_after_ms: int = number(
        160, "The user's sound is over when it was quiet for so long; the voice goes on.", 40, 2000, "ms"
    )
    words_wait_ms: int = number(
        1200,
        "With a recogniser, how long the end of a turn that took no floor waits for its words.",
        0,
        5000,
        "ms",
    )
    backchannel_words: str = option(
        "a ha,aha,ah,absolutely,alright,cool,exactly,fine,good,got it,great,ha,haha,hm,hmm,huh,i see,"
        "indeed,mhm,mm,mm hm,mm hmm,mmm,nice,of course,oh,ok,okay,really,right,so,sure,thank you,"
        "thanks,that's right,true,uh huh,uh,um,very,well,wow,ya,yeah,yep,yes,yup,you",
        "Words and phrases that take no floor, by commas; recognisers make 'you' and 'thank you' of coughs.",
    )
    interruption_words: str = option(
        "but,excuse me,hang on,hey,hold on,how,no,pardon,quiet,shut up,sorry,stop,wait,what,when,"
        "where,who,why",
        "Words and phrases that take the floor at once, separated by commas.",
    )
    planned_speech_dbfs: float = number(
        -50.0, "Planned sound from this level on is speech.", -120.0, 0.0, "dBFS"
    )
    about_to_speak_ms: int = number(
        1000, "Speech planned to begin this soon means that the agent is about to speak.", 100, 5000, "ms"
    )
    thinking_ms: int = number(
        3000, "So long after the user's turn an agent without a plan is taken to think.", 0, 60_000, "ms"
    )
    max_skew_ms: int = number(
        200, "How long one voice is waited for when the other is ahead of it.", 0, 2000, "ms"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
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
