"""Capture node: the capture component behind a microphone, a file or another node's audio topic."""

from __future__ import annotations

import functools

from timar_common.base_node import run
from timar_common.clock import NS_PER_S
from timar_common.component_node import ComponentNode
from timar_common.diagnostics import Report

from timar_audio.blocks import AudioBlock
from timar_audio.capture_component import CaptureComponent
from timar_audio.external_topic_node import ExternalTopic
from timar_audio.microphone import MicrophoneSource
from timar_audio.sources import FileSource, SoundSource
from timar_audio.subscribers import StartCondition

_BURST_BLOCKS = 5
_BURST_PAUSE_S = 0.01
_HANGS_AFTER_NS = NS_PER_S
"""A source answers within a tenth of a second; PortAudio may never do so when its sound server dies [ns]."""


class CaptureNode(ComponentNode):
    """Reads the source in a thread of its own, so that neither callbacks nor diagnostics hold it up."""

    component_type = CaptureComponent
    component: CaptureComponent

    def build(self) -> None:
        """Make the component, and follow another node's topic if that is the source."""
        super().build()
        self._asked_ns: int | None = None
        """Since when the source is asked for audio and has not answered [ns]."""
        self._external: ExternalTopic | None = None
        if self.config.source == "topic":
            self._external = ExternalTopic(self, self.config)

    def start(self) -> None:
        """Open the source and begin to read it.

        A source that cannot be opened at all refuses the start; one that dies later is reported in
        diagnostics.
        """
        super().start()
        source = self._source()
        self._log_info(source.open())
        self.run_in_thread(functools.partial(self._read, source), "capture")

    def report(self) -> Report:
        """Add what the external topic counts, and a source that does not answer."""
        self._check_answer()
        report = super().report()
        if self._external is not None:
            report.values["messages_dropped"] = self._external.source.dropped
            report.values["odd_stamps"] = self._external.source.odd_stamps
        return report

    def _check_answer(self) -> None:
        """Report a source that hangs: its own thread cannot."""
        asked_ns = self._asked_ns
        hangs_ns = 0 if asked_ns is None else self.now_ns() - asked_ns
        is_hanging = hangs_ns > self.config.vanished_after_ms * 1_000_000 + _HANGS_AFTER_NS
        if is_hanging and not self.component.failure:
            name = f"{self.config.source} {self.config.device!r}"
            self._report_failure(
                OSError(f"{name} has vanished: its driver has not answered for {hangs_ns / NS_PER_S:.1f} s")
            )

    def _source(self) -> SoundSource:
        config = self.config
        if config.source == "file":
            return FileSource(config, self._log_info)
        if self._external is not None:
            return self._external.source
        return MicrophoneSource(config)

    def _read(self, source: SoundSource) -> None:
        is_file = self.config.source == "file"
        try:
            if is_file:
                self._await_subscribers()
            while not self.ending.is_set():
                try:
                    self._asked_ns = self.now_ns()
                    sounds = source.read()
                    self._asked_ns, self.component.failure = None, ""
                    for sound in sounds:
                        self._publish_blocks(self.component.blocks_of(sound))
                except OSError as error:
                    self._asked_ns = None
                    self._report_failure(error)
                    if is_file:
                        return
                    self._reopen(source)
        except ValueError as error:
            self._report_failure(error)
        finally:
            source.close()

    def _publish_blocks(self, blocks: list[AudioBlock]) -> None:
        """Publish blocks; many at once (after an outage) at a pace that overflows nobody's queue."""
        for number, block in enumerate(blocks, start=1):
            self.host.call(self.component.publish, block)
            if number % _BURST_BLOCKS == 0:
                self.ending.wait(_BURST_PAUSE_S)

    def _report_failure(self, error: Exception) -> None:
        self.component.failure = str(error)
        self.get_logger().error(self.component.failure)

    def _reopen(self, source: SoundSource) -> None:
        """Look for a microphone that is gone until it is back; the clock goes on with silence meanwhile."""
        self.component.outages += 1
        source.close()
        next_try_ns = self.now_ns()
        while not self.ending.wait(self.config.block_ms / 1000):
            now_ns = self.now_ns()
            self._publish_blocks(self.component.fill_until(now_ns))
            if now_ns < next_try_ns:
                continue
            next_try_ns = now_ns + self.config.reopen_every_ms * 1_000_000
            try:
                said = source.open()
            except (OSError, ValueError):
                continue  # still gone: that was logged when it went, and diagnostics repeat it
            self.component.failure = ""
            self._log_info(f"{said}; it is back")
            return

    def _await_subscribers(self) -> None:
        wanted = {
            "user/audio": (self.publishers_by_topic["user/audio"], self.config.wait_for_subscribers),
            "user/audio_raw": (
                self.publishers_by_topic["user/audio_raw"],
                self.config.wait_for_raw_subscribers,
            ),
        }
        condition = StartCondition(
            wanted,
            self.config.wait_timeout_s,
            self.now_ns(),
            self.config.wait_for_nodes,
            self._count_configured_nodes,
        )
        while not self.ending.wait(0.01):
            if condition.is_met(self.now_ns()):
                if condition.warning:
                    self.get_logger().warning(condition.warning)
                return

    def _count_configured_nodes(self) -> int:
        """Return how many nodes of this robot publish their health, which they do once configured."""
        infos = self.get_publishers_info_by_topic("/diagnostics")
        return len({info.node_name for info in infos if info.node_namespace == self.get_namespace()})

    def _log_info(self, sentence: str) -> None:
        self.get_logger().info(sentence)


def main() -> int:
    """Run the node until a signal."""
    return run([CaptureNode])
