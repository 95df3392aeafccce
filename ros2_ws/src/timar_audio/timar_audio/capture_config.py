"""Parameters of the capture node."""

from __future__ import annotations

import dataclasses

from timar_common.clock import SAMPLES_PER_MS
from timar_common.config import check, number, option
from timar_common.resample import MIX

from timar_audio.external_audio import Layout


@dataclasses.dataclass(frozen=True)
class CaptureConfig:
    """The capture node."""

    source: str = option(
        "microphone",
        "Where the user's sound comes from; browser: the view's page; topic: another node, in messages of "
        "audio_common_msgs, foxglove_msgs or std_msgs.",
        choices=("microphone", "file", "browser", "topic"),
    )
    device: str = option(
        "", "Microphone by name (a part of it is enough) or index; empty: the system's default."
    )
    file: str = option("", "Sound file that plays the user, when source is file; silence follows its end.")
    topic: str = option("audio", "Topic of another node's microphone, when source is topic.")
    topic_layout: str = option(
        "",
        "What the topic's plain bytes mean where nothing beside them says so: format, rate in Hz, "
        "channels, such as S16LE,16000,1.",
    )
    channel: int = number(
        MIX, "Channel of the source, from 0; -1 mixes all (of a microphone, the first two).", -1, 63
    )
    native_rate_hz: int = number(
        0, "Rate the microphone is opened at; 0: the device's own.", 0, 384_000, "Hz"
    )
    buffer_ms: int = number(
        100, "Device buffer: for so long the process may be held up without losing audio.", 20, 2000, "ms"
    )
    block_ms: int = number(20, "Length of a published block.", 10, 100, "ms")
    wait_for_subscribers: int = number(
        0,
        "A file starts only when user/audio has so many subscriptions; a microphone never waits.",
        0,
        100,
        formerly=("wait_for_listeners",),
    )
    wait_for_raw_subscribers: int = number(
        0,
        "The same for subscriptions to user/audio_raw, which is the clock of playback.",
        0,
        100,
        formerly=("wait_for_raw_listeners",),
    )
    wait_for_nodes: int = number(
        0, "A file also waits until so many nodes are configured (publish /diagnostics).", 0, 100
    )
    wait_timeout_s: float = number(
        10.0, "After so long a file starts without them, with a warning.", 0.0, 300.0, "s"
    )
    vanished_after_ms: int = number(
        800, "A microphone that brings nothing for so long is gone.", 100, 60_000, "ms"
    )
    first_sound_within_ms: int = number(
        5000, "How long a microphone may take to its first sound.", 100, 60_000, "ms"
    )
    reopen_every_ms: int = number(500, "A microphone that is gone is looked for so often.", 100, 60_000, "ms")
    device_latency_ms: float = number(
        0.0, "From sound to device counter, taken off every stamp; see `timar audio check`.", 0.0, 500.0, "ms"
    )
    echo_suppression: str = option(
        "auto",
        "How the head's own speech is taken out of user/audio; auto: filter once a loudspeaker plays it, "
        "but not out of a file; hardware: the microphone does it itself; webrtc: deprecated name of filter.",
        choices=("auto", "none", "filter", "hardware", "webrtc"),
    )
    echo_tail_ms: int = number(
        640,
        "Echo that is modelled, from the loudspeaker's buffer to the reverberation's end.",
        20,
        2000,
        "ms",
    )
    echo_wait_ms: int = number(
        120, "How long a block of user/audio waits for agent/audio of its place.", 0, 500, "ms"
    )

    def __post_init__(self) -> None:
        check(self)
        if self.source == "file" and not self.file:
            raise ValueError("source is 'file' but file is empty; give the path of a WAV file as file")
        Layout.parse(self.topic_layout)

    @property
    def block_samples(self) -> int:
        """Length of a published block [samples]."""
        return self.block_ms * SAMPLES_PER_MS
