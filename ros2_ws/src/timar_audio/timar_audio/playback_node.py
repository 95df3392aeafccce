"""The voice: plan the agent's speech on the conversation clock and publish what was heard."""

from __future__ import annotations

import time
from array import array
from typing import Any, ClassVar

from timar_common.clock import NS_PER_S, SAMPLE_RATE_HZ
from timar_common.diagnostics import Report
from timar_common.room_node import RoomNode, run
from timar_msgs.msg import AudioChunk, PlannedAudio

from timar_audio.blocks import check_block
from timar_audio.listeners import missing_listeners
from timar_audio.playback import FileSpeech, HeardBlock, NoSpeech, PlannedChunk, Playback, PlaybackConfig
from timar_audio.wav import SoundFile


class PlaybackNode(RoomNode):
    """Follow the clock of user/audio_raw; every block of it moves the agent's voice on by as much."""

    NAME: ClassVar[str] = "playback"
    Config: ClassVar[type] = PlaybackConfig

    def build(self) -> None:
        """Open the file, make the core and the topics."""
        self._file: SoundFile | None = None
        self._speech: FileSpeech | None = None
        self._has_said_end = False
        if self.config.source == "file":
            self._speech = self._open_file()
        self._playback = Playback(self.config, self._speech or NoSpeech())
        self._planned = self.publish_on("agent/audio_planned")
        self._heard = self.publish_on("agent/audio")
        self._is_listening = False
        self.every(self.config.free_run_after_ms / 1000, self._advance)

    def start(self) -> None:
        """Join the clock, a file as soon as it has its listeners.

        Who is not yet matched misses what is planned and heard. Capture waits for this node's subscription
        in turn, so that a conversation from files begins when everybody listens.
        """
        self._deadline_ns = time.monotonic_ns() + round(self.config.wait_timeout_s * NS_PER_S)
        if self._speech is None:
            self._join()
        else:
            self.every(0.02, self._join_when_heard)

    def release(self) -> None:
        """Close the file."""
        if getattr(self, "_file", None) is not None:
            self._file.close()
            self._file = None

    def report(self) -> Report:
        """Say what the core says."""
        return self._playback.report()

    def _open_file(self) -> FileSpeech:
        if not self.config.file:
            raise ValueError("source is 'file' but file is empty; give the path of a WAV file as file")
        self._file = SoundFile(self.config.file, self.config.channel)
        self.get_logger().info(self._file.description())
        for warning in self._file.warnings:
            self.get_logger().warning(warning)
        return FileSpeech(self._file)

    def _join(self) -> None:
        if not self._is_listening:
            self._is_listening = True
            self.listen_to("user/audio_raw", self._on_user_audio)

    def _join_when_heard(self) -> None:
        if self._is_listening:
            return
        wanted = {
            "agent/audio": (self._heard, self.config.wait_for_listeners),
            "agent/audio_planned": (self._planned, self.config.wait_for_plan_listeners),
        }
        missing = missing_listeners(wanted)
        if missing and time.monotonic_ns() < self._deadline_ns:
            return
        if missing:
            self.get_logger().warning(
                f"only {missing} listeners came within {self.config.wait_timeout_s:g} s; "
                "the file starts without the others"
            )
        self._join()

    def _on_user_audio(self, message: Any) -> None:
        check_block(message.sample_rate, message.first_sample, len(message.samples), message.filled_samples)
        now_ns = time.monotonic_ns()
        self._playback.observe_user(
            message.first_sample, len(message.samples), self.monotonic_ns(message.header), now_ns
        )
        self._advance()

    def _advance(self) -> None:
        planned, heard = self._playback.advance(time.monotonic_ns())
        for chunk in planned:
            self._publish_planned(chunk)
        for block in heard:
            self._publish_heard(block)
        if self._speech is not None and self._speech.has_ended and not self._has_said_end:
            self._has_said_end = True
            self.get_logger().info(f"{self.config.file} is planned to its end; silence follows")

    def _publish_planned(self, chunk: PlannedChunk) -> None:
        first_ns = self._playback.clock.monotonic_ns(chunk.first_sample)
        self._planned.publish(
            PlannedAudio(
                header=self.header(first_ns, "loudspeaker"),
                sample_rate=SAMPLE_RATE_HZ,
                first_sample=chunk.first_sample,
                revision=chunk.revision,
                samples=array("h", chunk.samples.tobytes()),
            )
        )

    def _publish_heard(self, block: HeardBlock) -> None:
        self._heard.publish(
            AudioChunk(
                header=self.header(block.monotonic_ns, "loudspeaker"),
                sample_rate=SAMPLE_RATE_HZ,
                first_sample=block.first_sample,
                samples=array("h", block.samples.tobytes()),
            )
        )


def main() -> int:
    """Run the node until a signal."""
    return run([PlaybackNode])
