"""Messages between the audio nodes and the view's page: station/sound and station/voice."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import numpy.typing as npt
from timar_common.base_node import BaseNode
from timar_common.clock import NS_PER_S
from timar_msgs.msg import StationVoice

from timar_audio.page_sound import PageSound


def read_page_sound(node: BaseNode, message: Any) -> PageSound:
    """Read a StationSound.

    Raises:
        ValueError: It cannot be true.
    """
    return PageSound(
        page=message.page,
        rate_hz=message.sample_rate,
        first_frame=message.first_frame,
        frames=message.frames,
        samples=np.frombuffer(message.samples, np.int16),
        end_ns=node.monotonic_ns(message.header),
        output_latency_ms=message.output_latency_ms,
        late_frames=message.late_frames,
        dropped_frames=message.dropped_frames,
    )


def voice_message(
    node: BaseNode, sound: PageSound, first_frame: int, samples: npt.NDArray[np.int16]
) -> StationVoice:
    """Return the message with the voice that answers a page's sound."""
    due_ns = sound.end_ns + (first_frame - sound.end_frame) * NS_PER_S // sound.rate_hz
    return StationVoice(
        header=node.header(due_ns, "station"),
        page=sound.page,
        sample_rate=sound.rate_hz,
        first_frame=first_frame,
        samples=array("h", samples.tobytes()),
    )
