"""Parameters of the capture node."""

from __future__ import annotations

import dataclasses

from timar_common.clock import SAMPLES_PER_MS
from timar_common.config import check, number, option
from timar_common.resample import MIX

from timar_audio.external_audio import GSTREAMER_FORMATS, Layout


@dataclasses.dataclass(frozen=True)
class CaptureConfig:
    """The capture node."""

    source: str = option(
        "microphone",
        "Where the user's sound comes from; topic: from another node, in messages of audio_common_msgs.",
        choices=("microphone", "file", "topic"),
    )
    device: str = option(
        "", "Microphone by name (a part of it is enough) or index; empty: the system's default."
    )
    file: str = option("", "Sound file that plays the user, when source is file; silence follows its end.")
    topic: str = option("audio", "Topic of another node's microphone, when source is topic.")
    topic_format: str = option(
        "S16LE",
        "What the bytes of ros-drivers' AudioData mean while no audio_info came.",
        choices=tuple(GSTREAMER_FORMATS),
    )
    topic_rate_hz: int = option(
        16_000, "Their rate, while none came.", unit="Hz", minimum=1_000, maximum=384_000
    )
    topic_channels: int = option(1, "Their channels, while none came.", minimum=1, maximum=64)
    channel: int = option(
        MIX,
        "Channel of microphone, file or topic, from 0; -1 mixes all (of a microphone, the first two).",
        minimum=-1,
        maximum=63,
    )
    native_rate_hz: int = option(
        0, "Rate the microphone is opened at; 0: the device's own.", unit="Hz", minimum=0, maximum=384_000
    )
    buffer_ms: int = option(
        100,
        "The device's own buffer: for so long this process may be held up without losing sound.",
        unit="ms",
        minimum=20,
        maximum=2000,
    )
    block_ms: int = option(20, "Length of a published block.", unit="ms", minimum=10, maximum=100)
    wait_for_listeners: int = option(
        0,
        "A file starts only when so many subscriptions to user/audio have matched; a microphone never waits.",
        minimum=0,
        maximum=100,
    )
    wait_for_raw_listeners: int = option(
        0,
        "The same for subscriptions to user/audio_raw, which is the clock of playback.",
        minimum=0,
        maximum=100,
    )
    wait_for_nodes: int = option(
        0,
        "A file also waits until so many nodes are configured, the body among them; seen by /diagnostics.",
        minimum=0,
        maximum=100,
    )
    wait_timeout_s: float = option(
        10.0,
        "After so long a file starts without them, with a warning.",
        unit="s",
        minimum=0.0,
        maximum=300.0,
    )
    vanished_after_ms: int = option(
        800, "A microphone that brings nothing for so long is gone.", unit="ms", minimum=100, maximum=60_000
    )
    first_sound_within_ms: int = option(
        5000, "How long a microphone may take to its first sound.", unit="ms", minimum=100, maximum=60_000
    )
    reopen_every_ms: int = option(
        500, "A microphone that is gone is looked for so often.", unit="ms", minimum=100, maximum=60_000
    )
    device_latency_ms: float = option(
        0.0,
        "From the ear to the device's counter, subtracted from every stamp; `timar audio check` measures it.",
        unit="ms",
        minimum=0.0,
        maximum=500.0,
    )
    echo_suppression: str = option(
        "none",
        "How the head's own voice is taken out of user/audio; hardware: the microphone does it itself.",
        choices=("none", "webrtc", "hardware"),
    )
    echo_tail_ms: int = option(
        320,
        "Echo that is modelled, from the loudspeaker's buffer to the end of the room's answer.",
        unit="ms",
        minimum=20,
        maximum=2000,
    )
    echo_wait_ms: int = option(
        40,
        "How long a block of user/audio waits for agent/audio of its place.",
        unit="ms",
        minimum=0,
        maximum=500,
    )

    def __post_init__(self) -> None:
        check(self)

    @property
    def block_samples(self) -> int:
        """Length of a published block [samples]."""
        return self.block_ms * SAMPLES_PER_MS

    @property
    def topic_layout(self) -> Layout:
        """What plain bytes on the topic mean until their node says so."""
        return Layout(self.topic_format, self.topic_channels, self.topic_rate_hz)
