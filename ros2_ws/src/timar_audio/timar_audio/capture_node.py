"""The ears: publish what a microphone or a file brings on user/audio_raw and user/audio."""

from __future__ import annotations

import functools
import threading
import time
from array import array
from typing import Any, ClassVar

import numpy as np
from timar_common.base_node import BaseNode, run
from timar_common.clock import NS_PER_S, SAMPLE_RATE_HZ
from timar_common.diagnostics import Level, Report
from timar_common.restarts import Belongs, ConversationWatch
from timar_msgs.msg import AudioChunk

from timar_audio.blocks import check_block
from timar_audio.capture import Capture, CaptureConfig, SoundBlock
from timar_audio.echo import EchoStage, WebRtcSuppressor
from timar_audio.foreign_topic_node import ForeignTopic
from timar_audio.health import HealthConfig, InputHealth
from timar_audio.listeners import missing_listeners
from timar_audio.microphone import MicrophoneSource
from timar_audio.sources import FileSource, Sound, SoundSource

_BURST_BLOCKS = 5


class CaptureNode(BaseNode):
    """Read the source in a thread of its own, so that neither callbacks nor diagnostics hold it up."""

    NAME: ClassVar[str] = "capture"
    Config: ClassVar[type] = CaptureConfig

    def build(self) -> None:
        """Make the publishers and the core; the source is opened by its thread."""
        self._raw = self.create_topic_publisher("user/audio_raw")
        self._clean = self.create_topic_publisher("user/audio")
        self._capture = Capture(self.config.block_samples)
        self._health = InputHealth(HealthConfig())
        self._failure = ""
        self._outages = 0
        self._lock = threading.Lock()
        self._watch = ConversationWatch()
        self._foreign: ForeignTopic | None = None
        if self.config.source == "topic":
            self._foreign = ForeignTopic(self, self.config)
        self._echo: EchoStage | None = None
        if self.config.echo_suppression == "webrtc":
            suppressor = WebRtcSuppressor(self.config.block_samples, self.config.echo_tail_ms)
            self._echo = EchoStage(suppressor, self.config.echo_wait_ms)
            self.create_topic_subscription("agent/audio", self._on_agent_audio)

    def start(self) -> None:
        """Open the source and begin to read it.

        A source that cannot be opened at all refuses the start; one that dies later is told in diagnostics.
        """
        self._failure = ""
        source = self._source()
        self._say(source.open())
        self.run_in_thread(functools.partial(self._pump, source), "capture")

    def report(self) -> Report:
        """Add a dead source to what the core says."""
        report = self._capture.report()
        report.values["source"] = self.config.source
        report.values["block_ms"] = self.config.block_ms
        report.values["outages"] = self._outages
        parts = [self._health.report()] if self.config.source != "file" else []
        if self._foreign is not None:
            report.values["messages_dropped"] = self._foreign.source.dropped
            report.values["odd_stamps"] = self._foreign.source.odd_stamps
        for part in parts + ([self._echo.report()] if self._echo is not None else []):
            report.values |= part.values
            report.worsen(part.level, part.message)
        if self._failure:
            report.worsen(Level.ERROR, self._failure)
        return report

    def _source(self) -> SoundSource:
        config = self.config
        if config.source == "file":
            return FileSource(config.file, config.block_samples, config.channel, self._say)
        if self._foreign is not None:
            return self._foreign.source
        return MicrophoneSource(
            config.device,
            config.channel,
            config.native_rate_hz,
            config.buffer_ms,
            config.vanished_after_ms,
            config.first_sound_within_ms,
        )

    def _pump(self, source: SoundSource) -> None:
        is_file = self.config.source == "file"
        try:
            if is_file:
                self._await_listeners()
            while not self.ending.is_set():
                try:
                    self._take(source.read())
                except OSError as error:
                    self._tell_failure(error)
                    if is_file:
                        return
                    self._await_microphone(source)
        except ValueError as error:
            self._tell_failure(error)
        finally:
            source.close()

    def _take(self, sounds: list[Sound]) -> None:
        for sound in sounds:
            self._health.push(sound.samples)
            self._publish_all(self._capture.push(sound))

    def _publish_all(self, blocks: list[SoundBlock]) -> None:
        """Publish blocks; many at once (after an outage) at a pace that overflows nobody's queue."""
        for number, block in enumerate(blocks, start=1):
            self._publish(block)
            if number % _BURST_BLOCKS == 0:
                self.ending.wait(0.01)

    def _tell_failure(self, error: Exception) -> None:
        self._failure = str(error)
        self.get_logger().error(self._failure)

    def _await_microphone(self, source: SoundSource) -> None:
        """Look for a microphone that is gone until it is back; the clock goes on with silence meanwhile."""
        self._outages += 1
        source.close()
        next_try_ns = time.monotonic_ns()
        while not self.ending.wait(self.config.block_ms / 1000):
            now_ns = time.monotonic_ns()
            self._publish_all(self._capture.fill_until(now_ns))
            if now_ns < next_try_ns:
                continue
            next_try_ns = now_ns + self.config.reopen_every_ms * 1_000_000
            try:
                said = source.open()
            except (OSError, ValueError):
                continue  # still gone: that was said when it went, and diagnostics repeat it
            self._failure = ""
            self._say(f"{said}; it is back")
            return

    def _await_listeners(self) -> None:
        wanted = {
            "user/audio": (self._clean, self.config.wait_for_listeners),
            "user/audio_raw": (self._raw, self.config.wait_for_raw_listeners),
        }
        deadline_ns = time.monotonic_ns() + round(self.config.wait_timeout_s * NS_PER_S)
        while not self.ending.wait(0.01):
            listeners = missing_listeners(wanted)
            nodes = self._count_configured_nodes()
            if not listeners and nodes >= self.config.wait_for_nodes:
                return
            if time.monotonic_ns() > deadline_ns:
                came = f"only {listeners} listeners" if listeners else f"only {nodes} nodes"
                self.get_logger().warning(
                    f"{came} came within {self.config.wait_timeout_s:g} s; the file starts without the others"
                )
                return

    def _count_configured_nodes(self) -> int:
        """Return how many nodes of this robot publish their health, which they do once configured."""
        infos = self.get_publishers_info_by_topic("/diagnostics")
        return len({info.node_name for info in infos if info.node_namespace == self.get_namespace()})

    def _publish(self, block: SoundBlock) -> None:
        message = self._message(block)
        self._raw.publish(message)
        if self._echo is None:
            self._clean.publish(message)
            return
        with self._lock:
            self._publish_clean(self._echo.push_user(block, time.monotonic_ns()))

    def _publish_clean(self, blocks: list[SoundBlock]) -> None:
        for block in blocks:
            self._clean.publish(self._message(block))

    def _message(self, block: SoundBlock) -> AudioChunk:
        heard_ns = block.monotonic_ns - round(self.config.device_latency_ms * 1_000_000)
        return AudioChunk(
            header=self.header(heard_ns, "microphone"),
            sample_rate=SAMPLE_RATE_HZ,
            first_sample=block.first_sample,
            filled_samples=block.filled_samples,
            samples=array("h", block.samples.tobytes()),
        )

    def _on_agent_audio(self, message: Any) -> None:
        samples = np.frombuffer(message.samples, np.int16)
        check_block(message.sample_rate, message.first_sample, samples.size, message.filled_samples)
        belongs = self._watch.observe(message.first_sample, samples.size, self.monotonic_ns(message.header))
        if belongs is Belongs.OLD:
            return
        with self._lock:
            if belongs is Belongs.NEW:
                self._echo.restart()
            self._publish_clean(self._echo.push_agent(message.first_sample, samples, time.monotonic_ns()))

    def _say(self, sentence: str) -> None:
        self.get_logger().info(sentence)


def main() -> int:
    """Run the node until a signal."""
    return run([CaptureNode])
