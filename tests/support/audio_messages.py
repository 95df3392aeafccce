"""Messages of audio as components take them, and what components publish."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from timar_common.component import Output, Publish
from timar_common.messages import Header, Message, new

BEGAN_NS = 5_000_000_000
BLOCK = 320
NS_PER_SAMPLE = 62_500


def audio_chunk(position: int, sound: np.ndarray, began_ns: int = BEGAN_NS, **changes: object) -> Message:
    """Return a block of audio at a position of a conversation that began at an instant."""
    fields = {
        "header": Header(began_ns + position * NS_PER_SAMPLE),
        "sample_rate": 16_000,
        "first_sample": position,
        "samples": sound,
    }
    return new("AudioChunk", **(fields | changes))


def published(outputs: Iterable[Output], topic: str) -> list[Message]:
    """Return the messages of one topic."""
    return [output.message for output in outputs if isinstance(output, Publish) and output.topic == topic]
