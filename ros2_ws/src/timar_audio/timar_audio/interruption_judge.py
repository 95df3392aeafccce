"""Networks that judge whether a short sound of the user over the agent's voice wants the floor.

Three of one hidden layer, fitted by ``benchmarks/fit_interruptions.py``: one for the first 0.30 s of a sound
that goes on, one for its first 0.45 s, one for all that was heard later or until it ended.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from timar_audio.interruption_features import COUNT, HOP, HOP_S, Floats, describe, loud_part, power_of

MODEL = Path(__file__).with_name("interruption_model.npz")
STAGES_S = {"early": 0.30, "middle": 0.45, "whole": 0.0}
"""How much of a sound each network takes; 0: all there is [s]."""


@dataclasses.dataclass(frozen=True)
class UserSound:
    """A sound of the user over the agent's voice, as far as it was heard."""

    length_s: float
    """From its first to its last loud 10 ms."""
    quiet_s: float
    """Since the last."""
    probability: float
    """That he wants the floor; -1 while it is shorter than the first network takes and not over."""


@dataclasses.dataclass(frozen=True)
class InterruptionNetwork:
    """One hidden layer of rectified units; probability by the logistic function."""

    hidden: Floats
    """(COUNT + 1, units) weights, the last row biases."""
    output: Floats
    """(units + 1,) weights, the last one the bias."""

    def __post_init__(self) -> None:
        if self.hidden.shape != (COUNT + 1, self.output.size - 1):
            raise ValueError(
                f"a network has hidden weights of shape {self.hidden.shape} and {self.output.size} outputs' "
                f"weights, expected ({COUNT + 1}, n) and n + 1; fit it again"
            )

    def logit(self, description: Floats) -> float:
        """Return the log odds that the user wants the floor.

        Args:
            description: (COUNT,), as `describe` returns it.
        """
        units = np.maximum(description @ self.hidden[:-1] + self.hidden[-1], 0.0)
        return float(units @ self.output[:-1] + self.output[-1])


@functools.cache
def load_networks(path: Path = MODEL) -> dict[str, InterruptionNetwork]:
    """Return the networks by stage.

    Raises:
        ValueError: The file's networks do not fit the features.
        OSError: It cannot be read.
    """
    with np.load(path, allow_pickle=False) as arrays:
        return {
            stage: InterruptionNetwork(
                arrays[f"{stage}_hidden"].astype(np.float64), arrays[f"{stage}_output"].astype(np.float64)
            )
            for stage in STAGES_S
        }


class InterruptionJudge:
    """Judge one sound after another as it goes on.

    Args:
        over_after_s: A sound that was quiet for so long is over [s].
    """

    def __init__(self, over_after_s: float) -> None:
        self._over_after_s = over_after_s
        self._networks = load_networks()
        self._asked: tuple[int, int] | None = None
        self._probability = -1.0

    def hear(
        self,
        first_sample: int,
        samples: npt.NDArray[np.int16],
        begins: int,
        louder_db: float,
        quiet_s: float,
    ) -> UserSound:
        """Return what a sound is by now.

        Args:
            first_sample: Where the detector found its start; one that begins elsewhere is another.
            samples: (n,) from `begins` before there to now.
            begins: How much of what was before is in `samples` [samples].
            louder_db: By how much it is louder than the user's speech elsewhere; 0 where that is unknown.
            quiet_s: For how long the detector has found no speech.
        """
        power = power_of(samples)
        first, end = loud_part(power, min(begins // HOP, power.shape[0] - 1))
        length_s, quiet_s = (end - first) * HOP_S, max(quiet_s, (power.shape[0] - end) * HOP_S)
        stage = "whole"
        if quiet_s < self._over_after_s:
            lengths_s = [(name, needs_s) for name, needs_s in STAGES_S.items() if needs_s]
            stage = next((name for name, needs_s in reversed(lengths_s) if length_s >= needs_s), "")
            if length_s >= 2 * STAGES_S["early"]:
                stage = "whole"
        if not stage or end == first:
            return UserSound(length_s, quiet_s, -1.0)
        asked = (first_sample, round(10 * length_s) if stage == "whole" else -len(stage))
        if asked != self._asked or quiet_s >= self._over_after_s:
            frames = round(STAGES_S[stage] / HOP_S) or end - first
            description = describe(power[first : min(end, first + frames)])
            logit = self._networks[stage].logit(description) + level_logit(louder_db)
            self._asked, self._probability = asked, 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, logit))))
        return UserSound(length_s, quiet_s, self._probability)


def level_logit(louder_db: float) -> float:
    """Return what level says: who is much quieter than usual hardly wants the floor. Set by hand."""
    return 0.2 * min(0.0, max(-20.0, louder_db + 6.0))
