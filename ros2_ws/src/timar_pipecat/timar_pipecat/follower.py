"""Lets the head follow speech that is heard elsewhere: by another transport's loudspeaker or network."""

from __future__ import annotations

import asyncio
import collections

from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputAudioRawFrame,
    StartFrame,
    SystemFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from timar_websocket.client import BotSpeech, HeadClient


class HeadFollower(FrameProcessor):
    """Put it before another transport's `output()`: its sound goes to the head as well, and on.

    The head begins about 0.35 s after sound came (`start_lead_ms` of playback, and the way there). What the
    other transport takes longer than that to be heard is `hold_s`; what it takes less is `delay_s`.

    Args:
        head: Connection to the head, whose playback has no loudspeaker (`sink: "null"`).
        hold_s: How much later than it could the head begins [s], 0..5.
        delay_s: How much later everything goes on to the other transport [s].
    """

    def __init__(self, head: HeadClient | None = None, hold_s: float = 0.0, delay_s: float = 0.0) -> None:
        super().__init__()
        self._head = head or HeadClient(is_listening=False)
        self._hold_s = hold_s
        self._delay_s = delay_s
        self._speech: BotSpeech | None = None
        self._context: str | None = None
        self._waiting: collections.deque[tuple[float, Frame]] = collections.deque()
        self._passing: asyncio.Task[None] | None = None
        self._has_come = asyncio.Event()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Copy sound to the head; pass everything on, late by `delay_s`."""
        await super().process_frame(frame, direction)
        if isinstance(frame, StartFrame):
            await self.push_frame(frame, direction)
            try:
                await self._head.connect()
            except OSError as error:
                await self.push_error(str(error), exception=error)  # the bot is heard without its face
            self._passing = self._passing or self.create_task(self._pass())
            return
        if isinstance(frame, (InterruptionFrame, CancelFrame)):
            self._speech = None
            self._head.clear()
            self._waiting = collections.deque(item for item in self._waiting if not item[1].interruptible)
        if isinstance(frame, SystemFrame) or direction is FrameDirection.UPSTREAM:
            await self.push_frame(frame, direction)
            return
        if isinstance(frame, OutputAudioRawFrame):
            self._copy(frame)
        elif isinstance(frame, (TTSStoppedFrame, EndFrame)) and self._speech is not None:
            self._speech.end()
            self._speech = None
        self._waiting.append((asyncio.get_running_loop().time() + self._delay_s, frame))
        self._has_come.set()

    async def cleanup(self) -> None:
        """Leave the head."""
        if self._passing is not None:
            await self.cancel_task(self._passing)
            self._passing = None
        await self._head.close()
        await super().cleanup()

    def _copy(self, frame: OutputAudioRawFrame) -> None:
        context = frame.context_id if isinstance(frame, TTSAudioRawFrame) else None
        if self._speech is None or self._speech.is_done or context != self._context:
            self._context = context
            self._speech = self._head.begin(frame.sample_rate, frame.num_channels, self._hold_s)
        self._speech.write(frame.audio)

    async def _pass(self) -> None:
        while True:
            while self._waiting:
                due_s = self._waiting[0][0]
                if (early_s := due_s - asyncio.get_running_loop().time()) > 0.0:
                    await asyncio.sleep(early_s)
                    continue  # an interruption may have emptied the queue meanwhile
                await self.push_frame(self._waiting.popleft()[1])
            self._has_come.clear()
            await self._has_come.wait()
