"""Capture component: the user's audio on the conversation clock, checked and without echo."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from timar_common.component import Component, Output, Publish
from timar_common.diagnostics import Level, Report
from timar_common.messages import Message
from timar_common.restarts import Belongs

from timar_audio.blocks import AudioBlock, BlockFilter
from timar_audio.capture import Capture
from timar_audio.capture_config import CaptureConfig
from timar_audio.echo import EchoStage, EchoSuppressor
from timar_audio.health import HealthConfig, InputHealth
from timar_audio.sources import Sound


class CaptureComponent(Component):
    """Put what a source captured on user/audio_raw and, with echo suppressed, on user/audio.

    The source (a microphone, a file, another node's topic) is read by a thread of the node: it hands what was
    captured to `blocks_of`, and each block to `publish` under the host's lock. With echo suppression a block
    of user/audio waits for agent/audio of its position.
    """

    NAME = "capture"
    Config = CaptureConfig
    outputs = ("user/audio_raw", "user/audio")

    def __init__(self, config: CaptureConfig) -> None:
        self.config = config
        self.failure = ""
        """Why the source is gone; empty while it is there."""
        self.outages = 0
        """How often it was gone."""
        self._latency_ns = round(config.device_latency_ms * 1_000_000)
        self._reset()
        if self._echo is not None:
            self.inputs = ("agent/audio",)

    def _reset(self) -> None:
        """Begin a conversation: the sample counter at 0, nothing known of echo and microphone."""
        config = self.config
        self._capture = Capture(config.block_samples)
        self._health = InputHealth(HealthConfig())
        self._filter = BlockFilter()
        self._echo: EchoStage | None = None
        is_auto = config.echo_suppression == "auto" and config.source != "file"
        if is_auto or config.echo_suppression in ("filter", "webrtc"):
            suppressor = EchoSuppressor(config.block_samples, config.echo_tail_ms)
            self._echo = EchoStage(suppressor, config.echo_wait_ms, is_on=not is_auto)

    def start(self, now_ns: int) -> Iterable[Output]:
        """Begin a conversation."""
        self.failure = ""
        self._reset()
        return ()

    def blocks_of(self, sound: Sound) -> list[AudioBlock]:
        """Take what the source captured and return the blocks that are full; for the source's thread.

        Raises:
            ValueError: The source's clock is broken; see `Capture.push`.
        """
        self._health.push(sound.samples)
        return self._capture.push(sound)

    def fill_until(self, now_ns: int) -> list[AudioBlock]:
        """Continue the clock with silence while the source is gone; for the source's thread.

        Raises:
            ValueError: Time jumped too far; see `Capture.fill_until`.
        """
        return self._capture.fill_until(now_ns)

    def publish(self, block: AudioBlock, now_ns: int) -> list[Output]:
        """Return the messages that a block brings: itself, and what has no echo any more."""
        raw = self._message("user/audio_raw", block)
        if self._echo is None:
            return [raw, Publish("user/audio", raw.message)]
        return [raw, *self._clean(self._echo.push_user(block, now_ns))]

    def handle(self, topic: str, message: Message, now_ns: int) -> Iterable[Output]:
        """Take a block of agent/audio, whose echo is suppressed.

        Raises:
            ValueError: It cannot be true.
        """
        assert self._echo is not None
        belongs = self._filter.accept(topic, message)
        if belongs is Belongs.OLD:
            return ()
        if belongs is Belongs.NEW:
            self._echo.restart()
        if message.header.frame_id == "loudspeaker":
            self._echo.is_on = True
        return self._clean(self._echo.push_agent(message.first_sample, message.samples, now_ns))

    def report(self) -> Report:
        """Report level, lost audio, the microphone's health and a source that is gone."""
        report = self._capture.report()
        report.values |= {
            "source": self.config.source,
            "block_ms": self.config.block_ms,
            "outages": self.outages,
        }
        parts = [self._health.report()] if self.config.source != "file" else []
        for part in parts + ([self._echo.report()] if self._echo is not None else []):
            report.values |= part.values
            report.worsen(part.level, part.message)
        if self.failure:
            report.worsen(Level.ERROR, self.failure)
        return report

    def _clean(self, blocks: Iterable[AudioBlock]) -> list[Output]:
        return [self._message("user/audio", block) for block in blocks]

    def _message(self, topic: str, block: AudioBlock) -> Publish:
        block = dataclasses.replace(block, monotonic_ns=block.monotonic_ns - self._latency_ns)
        return Publish(topic, block.message("microphone"))
