"""The bag a replay writes: the recorded inputs as they were, and what the cores made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from timar_audio.floor import Speaker
from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.messages import Header, Message, encode, new, standard_types

from timar_bag.bag_writer import BagWriter
from timar_bag.truth import KNOWN_TOPICS

FRAME_IDS = {Speaker.USER: "microphone", Speaker.AGENT: "loudspeaker"}


class OutBag:
    """Write messages of the known topics; use it in a ``with`` block.

    Args:
        path: The bag's folder; it must not exist yet.
        namespace: Put before every relative topic.
    """

    def __init__(self, path: Path, namespace: str = "") -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self._writer = BagWriter(path, standard_types())
        self._names = {name: name if name.startswith("/") else f"{namespace}/{name}" for name in KNOWN_TOPICS}
        self._last_ns = 0

    def open(self, topics: Iterable[str] | None = None) -> OutBag:
        """Make the bag with some topics, all unless named.

        Raises:
            ValueError: The folder exists already.
            OSError: It cannot be made.
        """
        names = KNOWN_TOPICS if topics is None else topics
        self._writer.open((self._names[name], KNOWN_TOPICS[name]) for name in names)
        return self

    def write(self, topic: str, receive_ns: int, message: Message) -> bytes:
        """Add a message, its stamp in ROS time, at a ROS time of arrival [ns]; return its bytes."""
        data = encode(message, int)
        self.write_bytes(topic, receive_ns, data)
        return data

    def write_bytes(self, topic: str, receive_ns: int, data: bytes) -> None:
        """Add a serialized message at a ROS time of arrival [ns]; never before the one written last."""
        self._last_ns = max(self._last_ns, receive_ns)
        self._writer.write(self._names[topic], self._last_ns, data)
        self.counts[topic] += 1

    def close(self) -> None:
        """Write index and metadata."""
        self._writer.close()


def audio_chunk(
    first_sample: int, samples: npt.NDArray[np.int16], header: Header, filled_samples: int = 0
) -> Message:
    """Return a timar_msgs/AudioChunk.

    Args:
        first_sample: Index of samples[0] on the conversation clock.
        samples: (n,) mono at 16 kHz.
        header: Instant of samples[0], and whose sound it is (`FRAME_IDS`).
        filled_samples: How many of them are silence that stands for lost sound.
    """
    return new(
        "AudioChunk",
        header=header,
        sample_rate=SAMPLE_RATE_HZ,
        first_sample=first_sample,
        filled_samples=filled_samples,
        samples=samples,
    )
