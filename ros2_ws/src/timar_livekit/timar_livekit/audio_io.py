"""Audio input and output of LiveKit Agents that are the head's microphone and voice."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from livekit import rtc
from livekit.agents.voice.io import AudioInput, AudioOutput, AudioOutputCapabilities
from timar_websocket.client import BotSpeech, HeadClient
from timar_websocket.protocol import USER_RATE_HZ

MAX_WAITING = 500
"""So many blocks of sound may wait for a session that does not read: ten seconds."""
FLUSHED_WITHIN_S = 2.0
"""A segment that the user cut is reported when the session has flushed it, or after so long [s]."""


class HeadAudioInput(AudioInput):
    """The user's sound as the head hears it, without its own voice: mono, 16 kHz."""

    def __init__(self, head: HeadClient) -> None:
        super().__init__(label="TIMAR head")
        self._frames: asyncio.Queue[rtc.AudioFrame] = asyncio.Queue(MAX_WAITING)
        self._is_attached = False
        head.on_user_audio(self._put)

    async def __anext__(self) -> rtc.AudioFrame:
        return await self._frames.get()

    def on_attached(self) -> None:
        """Begin to bring sound."""
        self._is_attached = True

    def on_detached(self) -> None:
        """Bring no more, and forget what waits."""
        self._is_attached = False
        while not self._frames.empty():
            self._frames.get_nowait()

    def _put(self, first_sample: int, pcm: bytes) -> None:
        if not self._is_attached:
            return
        if self._frames.full():
            self._frames.get_nowait()  # a session that stands still hears the newest when it goes on
        self._frames.put_nowait(rtc.AudioFrame(pcm, USER_RATE_HZ, 1, len(pcm) // 2))


class HeadAudioOutput(AudioOutput):
    """The agent's voice, said by the head: any rate, any channels, faster than real time.

    Every segment is one utterance of the head, and `playback_position` is what the head's loudspeaker has
    really played of it. It cannot be paused from here: the head itself pauses while it decides whether the
    user interrupts.

    Args:
        head: Connection to the head.
        on_user_interrupts: Called when the head let the user take the floor, before the segment is reported.
    """

    def __init__(self, head: HeadClient, on_user_interrupts: Callable[[], None] = lambda: None) -> None:
        super().__init__(label="TIMAR head", capabilities=AudioOutputCapabilities(pause=False))
        self._head = head
        self._on_user_interrupts = on_user_interrupts
        self._speech: BotSpeech | None = None
        """The segment that is being captured."""
        self._is_flushed = asyncio.Event()
        """Of that segment."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Send sound; the first frame after a flush begins a segment."""
        await super().capture_frame(frame)
        if self._speech is None:
            self._speech, self._is_flushed = self._begin(frame)
        self._speech.write(bytes(frame.data))

    def flush(self) -> None:
        """End the segment."""
        super().flush()
        if self._speech is not None:
            self._speech.end()
            self._speech = None
        self._is_flushed.set()

    def clear_buffer(self) -> None:
        """Silence the head; what was heard until then is reported."""
        self._head.clear()

    def _begin(self, frame: rtc.AudioFrame) -> tuple[BotSpeech, asyncio.Event]:
        speech, is_flushed = self._head.begin(frame.sample_rate, frame.num_channels), asyncio.Event()

        def tell_started() -> None:
            self.on_playback_started(created_at=time.time() - speech.heard_s)

        speech.on_started = tell_started
        task = asyncio.create_task(self._report(speech, is_flushed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return speech, is_flushed

    async def _report(self, speech: BotSpeech, is_flushed: asyncio.Event) -> None:
        done = await speech.done()
        if done.outcome == "interrupted":
            self._on_user_interrupts()
        # A session that is told of the end before it has flushed loses the segment's transcript.
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(is_flushed.wait(), FLUSHED_WITHIN_S)
        self.on_playback_finished(playback_position=done.heard_s, interrupted=done.outcome != "finished")
