"""Run sounds of the user over the agent's voice through detector, rules and networks, as the node does.

Used by ``bench_turns.py`` and by tests: faster than real time, without processes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from timar_audio.floor import Kind, Speaker, TurnEvent
from timar_audio.turns import Turns
from timar_audio.turns_config import TurnsConfig
from timar_common.pcm import float_to_int16

RATE_HZ, BLOCK = 16_000, 320
AT = 3 * RATE_HZ
"""Where the user's sound begins [samples]."""


@dataclasses.dataclass(frozen=True)
class Reaction:
    """What the agent's voice did; times are of decisions, from where the user's sound really began [s]."""

    lowered_s: float | None
    paused_s: float | None
    """None: it was not paused before it was interrupted or went on."""
    resumed_s: float | None
    interrupted_s: float | None

    @property
    def silent_s(self) -> float | None:
        """When the voice fell silent: paused or interrupted."""
        return min((at for at in (self.paused_s, self.interrupted_s) if at is not None), default=None)


def react(
    sound: np.ndarray, agent: np.ndarray, config: TurnsConfig, seed: int, noise_dbfs: float = -62.0
) -> Reaction:
    """Return how the agent's voice reacts to a sound of the user.

    Args:
        sound: (n,) float at 16 kHz, at its level in the microphone.
        agent: (m,) int16, longer than `AT` and the sound.
        config: Of the turns.
        seed: Of the room's noise.
        noise_dbfs: Its level.
    """
    random = np.random.default_rng(seed)
    length = min(agent.size, AT + sound.size + RATE_HZ)
    user = 10 ** (noise_dbfs / 20) * random.standard_normal(length)
    user[AT : AT + sound.size] += sound[: length - AT]
    blocks, events = float_to_int16(user), []
    turns = Turns(config, is_planned=lambda sample: sample < length)
    for place in range(0, length - BLOCK + 1, BLOCK):
        for speaker, samples in ((Speaker.AGENT, agent), (Speaker.USER, blocks)):
            events += turns.push(speaker, place, samples[place : place + BLOCK]).events
    return Reaction(*(
        _first_s(events, kind) for kind in (Kind.LOWERED, Kind.PAUSED, Kind.RESUMED, Kind.INTERRUPTED)
    ))  # fmt: skip


def _first_s(events: Sequence[TurnEvent], kind: Kind) -> float | None:
    """Return when an event of a kind was decided first, after the user's sound began [s]."""
    found = (e.decided_sample for e in events if e.kind is kind and e.decided_sample > AT)
    decided = next(found, None)
    return None if decided is None else (decided - AT) / RATE_HZ
