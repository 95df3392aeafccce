"""Pipecat transport of the head: its input is what the head hears, its output is what the head says."""

from __future__ import annotations

from pipecat.processors.frame_processor import FrameProcessor
from pipecat.transports.base_transport import BaseTransport, TransportParams
from timar_websocket.client import HeadClient

from timar_pipecat.head_input import HeadInput
from timar_pipecat.head_output import HeadOutput


class HeadTransport(BaseTransport):
    """Put `input()` first into a pipeline and `output()` before the assistant's context aggregator.

    Args:
        head: Connection to the head; None: the head of this user on this machine.
        params: Of these the input's count: filter, rate, passthrough.
    """

    def __init__(self, head: HeadClient | None = None, params: TransportParams | None = None) -> None:
        super().__init__()
        self.head = head or HeadClient()
        self._input = HeadInput(self.head, params or TransportParams(audio_in_enabled=True))
        self._output = HeadOutput(self.head)

    def input(self) -> FrameProcessor:
        """Return the processor that brings the user's sound and turns."""
        return self._input

    def output(self) -> FrameProcessor:
        """Return the processor through which the bot speaks."""
        return self._output
