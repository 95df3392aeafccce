"""The ears: publish what a microphone or a file brings on user/audio_raw and user/audio."""

from __future__ import annotations

import threading
import time
from array import array
from typing import ClassVar

from timar_common.clock import NS_PER_S, SAMPLE_RATE_HZ
from timar_common.diagnostics import Level, Report
from timar_common.room_node import RoomNode, run
from timar_msgs.msg import AudioChunk

from timar_audio.capture import Capture, CaptureConfig, SoundBlock
from timar_audio.listeners import missing_listeners
from timar_audio.microphone import MicrophoneSource
from timar_audio.sources import FileSource, SoundSource


class CaptureNode(RoomNode):
    """Read the source in a thread of its own, so that neither callbacks nor diagnostics hold it up."""

    NAME: ClassVar[str] = "capture"
    Config: ClassVar[type] = CaptureConfig

    def build(self) -> None:
        """Make the publishers and the core; the source is opened by its thread."""
        self._raw = self.publish_on("user/audio_raw")
        self._clean = self.publish_on("user/audio")
        self._capture = Capture(self.config.block_samples)
        self._failure = ""
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Open the source and begin to read it.

        A source that cannot be opened at all refuses the start; one that dies later is told in diagnostics.
        """
        self._ended.clear()
        self._failure = ""
        source = self._source()
        self._say(source.open())
        self._thread = threading.Thread(target=self._pump, args=(source,), name="capture", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the reading thread."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
            self._thread = None

    def report(self) -> Report:
        """Add a dead source to what the core says."""
        report = self._capture.report()
        report.values["source"] = self.config.source
        if self._failure:
            report.worsen(Level.ERROR, self._failure)
        return report

    def _source(self) -> SoundSource:
        config = self.config
        if config.source == "file":
            return FileSource(config.file, config.block_samples, config.channel, self._say)
        return MicrophoneSource(
            config.device,
            config.channel,
            config.native_rate_hz,
            config.buffer_ms,
            config.vanished_after_ms,
            config.first_sound_within_ms,
        )

    def _pump(self, source: SoundSource) -> None:
        try:
            if self.config.source == "file":
                self._await_listeners()
            while not self._ended.is_set():
                for sound in source.read():
                    for block in self._capture.push(sound):
                        self._publish(block)
        except (OSError, ValueError) as error:
            self._failure = str(error)
            self.get_logger().error(self._failure)
        finally:
            source.close()

    def _await_listeners(self) -> None:
        wanted = {
            "user/audio": (self._clean, self.config.wait_for_listeners),
            "user/audio_raw": (self._raw, self.config.wait_for_raw_listeners),
        }
        deadline_ns = time.monotonic_ns() + round(self.config.wait_timeout_s * NS_PER_S)
        while not self._ended.wait(0.01):
            listeners = missing_listeners(wanted)
            # A node publishes its health from the end of its configuration on.
            nodes = self.count_publishers("/diagnostics")
            if not listeners and nodes >= self.config.wait_for_nodes:
                return
            if time.monotonic_ns() > deadline_ns:
                came = f"only {listeners} listeners" if listeners else f"only {nodes} nodes"
                self.get_logger().warning(
                    f"{came} came within {self.config.wait_timeout_s:g} s; the file starts without the others"
                )
                return

    def _publish(self, block: SoundBlock) -> None:
        message = AudioChunk(
            header=self.header(block.monotonic_ns, "microphone"),
            sample_rate=SAMPLE_RATE_HZ,
            first_sample=block.first_sample,
            filled_samples=block.filled_samples,
            samples=array("h", block.samples.tobytes()),
        )
        self._raw.publish(message)
        self._clean.publish(message)

    def _say(self, sentence: str) -> None:
        self.get_logger().info(sentence)


def main() -> int:
    """Run the node until a signal."""
    return run([CaptureNode])
