"""Capture node: the capture component behind a microphone, a file, the browser's page or another topic."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from timar_common.base_node import run
from timar_common.clock import NS_PER_S
from timar_common.component_node import ComponentNode
from timar_common.diagnostics import Report

from timar_audio.blocks import AudioBlock
from timar_audio.capture_component import CaptureComponent
from timar_audio.external_topic_node import ExternalTopic
from timar_audio.microphone import MicrophoneSource
from timar_audio.page_sound import PageSource
from timar_audio.page_topic_node import read_page_sound
from timar_audio.sources import FileSource, Sound, SoundSource
from timar_audio.subscribers import StartCondition

_BURST_BLOCKS = 5
_BURST_PAUSE_S = 0.01
_ANSWERS_WITHIN_MS = 200
"""A source answers within a tenth of a second; PortAudio may hang when its sound server does [ms]."""


class CaptureNode(ComponentNode):
    """Reads the source in a thread of its own, so that neither callbacks nor diagnostics hold it up.

    A second thread continues the clock with silence while the source is gone: a source may hang in any call.
    """

    component_type = CaptureComponent
    component: CaptureComponent

    def build(self) -> None:
        """Make the component, and follow another node's topic if that is the source."""
        super().build()
        self._capture_lock = threading.Lock()
        """Held from what was captured to its last block published, so that blocks go out in order."""
        self._external: ExternalTopic | None = None
        if self.config.source == "topic":
            self._external = ExternalTopic(self, self.config)
        self._page: PageSource | None = None
        if self.config.source == "browser":
            self._page = PageSource(self.config.vanished_after_ms, self.config.first_sound_within_ms)
            self.create_topic_subscription("station/sound", self._take_page_sound)

    def start(self) -> None:
        """Open the source and begin to read it.

        A source that cannot be opened at all refuses the start; one that dies later is reported in
        diagnostics.
        """
        super().start()
        source = self._source()
        self._log_info(source.open())
        self._asked_ns: int | None = None
        """Since when the source has not answered; None when it is not asked [ns]."""
        self._captured_ns = self.now_ns()
        """When audio came last [ns]."""
        self._is_filled = False
        """Whether silence stands already for what the source holds."""
        self.run_in_thread(functools.partial(self._read, source, self.ending), "capture")
        if self.config.source != "file":
            self.run_in_thread(functools.partial(self._continue_clock, self.ending), "capture clock")

    def report(self) -> Report:
        """Add what the external topic or the page counts."""
        report = super().report()
        source = self._page or (self._external.source if self._external is not None else None)
        if source is not None:
            report.values["messages_dropped"] = source.dropped
            report.values["odd_stamps"] = source.odd_stamps
        if self._page is not None:
            report.values["page_dropped_frames"] = self._page.dropped_frames
        return report

    def _take_page_sound(self, message: Any) -> None:
        self._page.push_page(read_page_sound(self, message), self.now_ns())

    def _source(self) -> SoundSource:
        config = self.config
        if config.source == "file":
            return FileSource(config, self._log_info, self._log_warning)
        if self._external is not None:
            return self._external.source
        if self._page is not None:
            return self._page
        return MicrophoneSource(config)

    def _read(self, source: SoundSource, ending: threading.Event) -> None:
        is_file = self.config.source == "file"
        try:
            if is_file:
                self._await_subscribers()
            while not ending.is_set():
                try:
                    sounds = self._captured(source)
                    if sounds:
                        self._captured_ns, self.component.failure = self.now_ns(), ""
                    for sound in sounds:
                        self._publish_blocks(functools.partial(self.component.blocks_of, sound))
                except OSError as error:
                    if ending.is_set():
                        return
                    self._report_failure(error)
                    if is_file:
                        return
                    self._reopen(source, ending)
        except ValueError as error:
            self._report_failure(error)
        finally:
            source.close()

    def _captured(self, source: SoundSource) -> list[Sound]:
        """Read the source; what it held while silence took its place comes too late.

        Raises:
            OSError: It is gone, or did not answer for too long.
        """
        self._is_filled = False
        self._asked_ns = asked_ns = self.now_ns()
        try:
            sounds = source.read()
        finally:
            self._asked_ns = None
        if self._is_filled and self._hangs(asked_ns):
            raise self._hanging(asked_ns)
        return sounds

    def _publish_blocks(self, take: Callable[[], list[AudioBlock]]) -> None:
        """Publish blocks; many at once (after an outage) at a pace that overflows nobody's queue."""
        with self._capture_lock:
            for number, block in enumerate(take(), start=1):
                self.host.call(self.component.publish, block)
                if number % _BURST_BLOCKS == 0:
                    self.ending.wait(_BURST_PAUSE_S)

    def _continue_clock(self, ending: threading.Event) -> None:
        """Fill with silence what the source does not bring, whatever its own thread is held up in."""
        is_gone = False
        while not ending.wait((self.config.block_ms if is_gone else _ANSWERS_WITHIN_MS) / 1000):
            # Twice in a row: after this whole process was held up the source's own thread comes first.
            was_gone, is_gone = is_gone, self._hangs(self._captured_ns)
            if not (was_gone and is_gone):
                continue
            asked_ns = self._asked_ns
            if asked_ns is not None and self._hangs(asked_ns):
                self._report_failure(self._hanging(asked_ns))
            try:
                self._is_filled = True
                self._publish_blocks(self._silence)
            except ValueError as error:
                self._report_failure(error)
                return

    def _silence(self) -> list[AudioBlock]:
        return self.component.fill_until(self.now_ns())

    def _hangs(self, since_ns: int) -> bool:
        """Return whether a source that was heard last at `since_ns` is gone, and did not say so itself."""
        limit_ms = self.config.vanished_after_ms + _ANSWERS_WITHIN_MS
        return self.now_ns() - since_ns > limit_ms * 1_000_000

    def _hanging(self, asked_ns: int) -> OSError:
        name = f"{self.config.source} {self.config.device!r}"
        hangs_s = (self.now_ns() - asked_ns) / NS_PER_S
        return OSError(f"{name} has vanished: its driver has not answered for {hangs_s:.1f} s")

    def _report_failure(self, error: Exception) -> None:
        """Log why the source is gone, once for each time."""
        if not self.component.failure:
            self.get_logger().error(str(error))
            self.component.failure = str(error)

    def _reopen(self, source: SoundSource, ending: threading.Event) -> None:
        """Look for a source that is gone until it is back; what it captures then is placed by its time."""
        self.component.outages += 1
        self._captured_ns = 0
        self._publish_blocks(self._silence)
        source.close()
        while not ending.is_set():
            try:
                said = source.open()
            except (OSError, ValueError):  # still gone: the log has it, and diagnostics repeat it
                ending.wait(self.config.reopen_every_ms / 1000)
                continue
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

    def _log_warning(self, sentence: str) -> None:
        self.get_logger().warning(sentence)


def main() -> int:
    """Run the node until a signal."""
    return run([CaptureNode])
