"""The slot for a model that judges whether a person has said all he wanted to say. Pure.

A pause tells little: people stop to think. A model hears the turn so far and says how likely it is complete;
a turn that is ends sooner than by the pause alone, one that is not is waited for longer.
"""

from __future__ import annotations

import importlib
import time
from typing import Protocol

import numpy as np
import numpy.typing as npt
from timar_common.diagnostics import Percentiles

LONGEST_HEARD_S = 8
"""What a model is given at most: the last so many seconds of the turn [s]."""


class EndOfTurn(Protocol):
    """What turns asks of a model; made without arguments, once, before the first sound."""

    def probability(self, samples: npt.NDArray[np.int16]) -> float:
        """Return how likely the turn is complete, 0..1.

        It is asked once in every pause of the user's turn, `min_pause_ms` after his last speech, in the
        thread that follows both voices: an answer should take less than 50 ms.

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


def load_end_of_turn(name: str) -> EndOfTurn:
    """Make the model that a parameter names.

    Args:
        name: ``module:Class``.

    Raises:
        ValueError: The name has another form, or there is no such module or class.
        OSError: The model cannot be made; what it says is in the message.
    """
    module_name, separator, class_name = name.partition(":")
    if not (separator and module_name and class_name):
        raise ValueError(
            f"end_of_turn is {name!r}, expected module:Class, for example my_robot.turns:MyModel"
        )
    try:
        model_type = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"end_of_turn is {name!r} and cannot be found: {error}; is it installed?") from error
    try:
        model: EndOfTurn = model_type()
    except Exception as error:
        raise OSError(f"end_of_turn {name!r} cannot be made: {error}") from error
    return model
