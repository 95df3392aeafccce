"""Speech source that says a tone every two seconds: what plans the agent's audio ahead of the clock."""

import numpy as np
from timar_audio.playback_config import PlaybackConfig
from timar_audio.speech import SpeechSource

PERIOD = 32_000
"""Two seconds on the conversation clock (16 kHz) [samples]."""


class Metronome(SpeechSource):
    """Plans a tone of 100 ms at every multiple of two seconds of the conversation."""

    def __init__(self, config: PlaybackConfig) -> None:
        seconds = np.arange(1600) / 16_000
        self._tone = np.rint(8000 * np.sin(2 * np.pi * 440 * seconds)).astype(np.int16)
        self._planned_end = 0

    def next_chunk(
        self, planned_end: int, earliest_sample: int, samples: int
    ) -> tuple[int, np.ndarray] | None:
        """Return the next tone and its position; it is planned up to two seconds ahead of its time."""
        position = max(planned_end, earliest_sample, self._planned_end)
        first = -(-position // PERIOD) * PERIOD
        if first > planned_end + PERIOD:
            return None
        self._planned_end = first + self._tone.size
        return first, self._tone
