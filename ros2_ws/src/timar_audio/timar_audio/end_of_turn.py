"""End-of-turn models: whether a person has said all they wanted to say, judged from the audio so far.

A pause tells little: people stop to think. A model hears the turn so far and says how likely it is complete;
a turn that is ends sooner than by the pause alone, one that is not is waited for longer.
"""

from __future__ import annotations

import functools
import time
from typing import Protocol

import numpy as np
import numpy.typing as npt
from timar_common.diagnostics import Percentiles
from timar_common.extensions import load_extension

LONGEST_HEARD_S = 8
"""What a model is given at most: the last so many seconds of the turn [s]."""


class EndOfTurn(Protocol):
    """What turn taking asks of a model; made without arguments, once, before the first audio."""

    def probability(self, samples: npt.NDArray[np.int16]) -> float:
        """Return how likely the turn is complete, 0..1.

        It is asked once in every pause of the user's turn, `min_pause_ms` after the last speech, in a thread
        of its own: an answer that takes longer than `pause_ms` less that comes too late.

        Args:
            samples: (n,) int16 at 16 kHz, the turn's last `LONGEST_HEARD_S`, its pause included.
        """


class TimedEndOfTurn:
    """A model whose answers are timed; how long it took is reported and changes no decision."""

    def __init__(self, model: EndOfTurn, took_s: Percentiles) -> None:
        self._model, self._took_s = model, took_s

    def probability(self, samples: npt.NDArray[np.int16]) -> float:
        """Ask the model."""
        began_s = time.monotonic()
        probability = self._model.probability(samples)
        self._took_s.add(time.monotonic() - began_s)
        return probability


def load_end_of_turn(name: str, file: str = "") -> EndOfTurn:
    """Make the model that a parameter names.

    Args:
        name: ``smart_turn``, the name of an installed model (entry point group ``timar.end_of_turn``), or
            ``module:Class``.
        file: Of smart_turn; empty: that of the installed package.

    Raises:
        ValueError: There is no such model; the message says which are installed.
        OSError: The model cannot be made; its own message is in this one.
    """
    from timar_audio.smart_turn import SmartTurn

    built_in = {"smart_turn": functools.partial(SmartTurn, file)}
    make = load_extension("timar.end_of_turn", name, built_in, "end_of_turn")
    try:
        model: EndOfTurn = make()
    except Exception as error:
        raise OSError(f"end_of_turn {name!r} cannot be made: {error}") from error
    return model
