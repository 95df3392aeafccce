"""End-of-turn model by level: people get quieter towards the end of what they want to say.

A toy that shows the interface: a real model looks at words and intonation.
"""

import numpy as np

FRAME = 800
"""50 ms at 16 kHz [samples]."""


class FallingLevel:
    """Judges a turn complete when its last half second of speech is quieter than the speech before."""

    def probability(self, samples: np.ndarray) -> float:
        """Return how likely the turn is complete, from (n,) int16 samples at 16 kHz, its pause included."""
        frames = samples[: samples.size // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
        levels = np.sqrt((frames**2).mean(axis=1))
        speech = levels[levels > 0.1 * levels.max(initial=0.0)]
        if speech.size < 20:
            return 0.5  # less than a second of speech: nothing to compare
        fall_db = 20.0 * np.log10(speech[:-10].mean() / speech[-10:].mean())
        return float(1.0 / (1.0 + np.exp(-fall_db)))
