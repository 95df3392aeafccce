"""What the head says: a bot's sound goes out as it is synthesised, its text goes on when it was heard."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import time

from pipecat.frames.frames import (
    BotSpeakingFrame,
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTransportReadyFrame,
    StartFrame,
    SystemFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from timar_websocket.client import DONE_WITHIN_S, BotSpeech, HeadClient

BOT_SPEAKING_EVERY_S = 0.2
INTERRUPTED_WITHIN_S = 0.5
"""So long an interruption waits for the head to tell how much was heard [s]."""
UNFINISHED_AFTER_S = 0.5
"""Sound from elsewhere than a synthesiser has no end: so long without more ends it [s]."""
THINKING_S = 10.0


@dataclasses.dataclass
class HeardTextFrame(TTSTextFrame, SystemFrame):
    """Text that was heard before an interruption.

    A system frame, so that the interruption, which is one, neither overtakes nor drops it.
    """


@dataclasses.dataclass
class _HeldFrame:
    """A frame that goes on when the sound before it was heard."""

    frame: Frame
    speech: BotSpeech
    from_s: float
    """Where its own sound begins in the speech [s]."""
    until_s: float
    """It goes on when so much of the speech was heard [s]."""


class HeadOutput(FrameProcessor):
    """Says the sound that comes; every other frame goes on when what came before it was heard.

    So the assistant's context holds what was heard: of a sentence that was cut, the words up to the cut, by
    the words' own times where the synthesiser tells them, else by the share of the sentence's sound.
    """

    def __init__(self, head: HeadClient) -> None:
        super().__init__()
        self._head = head
        self._speech: BotSpeech | None = None
        """What is being written now."""
        self._live: list[BotSpeech] = []
        """What was begun and is not over, in its order."""
        self._context: str | None = None
        """The synthesiser's context of the sound that comes now."""
        self._over_context: str | None = None
        """A context that was cut: what still comes of it is left out."""
        self._first_sound_ns = 0
        """On the pipeline's clock, which word times are on, when the first sound of it came [ns]."""
        self._text_end_s = 0.0
        """Where the last sentence ended in it [s]."""
        self._wrote_s = 0.0
        self._held: collections.deque[_HeldFrame] = collections.deque()
        self._releasing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._speaking_s = 0.0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Say sound, hold what belongs to it, and pass on the rest."""
        await super().process_frame(frame, direction)
        if isinstance(frame, StartFrame):
            await self.push_frame(frame, direction)
            await self._start()
        elif isinstance(frame, InterruptionFrame):
            await self._cut()
            await self.push_frame(frame, direction)
        elif isinstance(frame, CancelFrame):
            await self._cut()
            await self._stop()
            await self.push_frame(frame, direction)
        elif isinstance(frame, EndFrame):
            await self._say_to_the_end()
            await self._stop()
            await self.push_frame(frame, direction)
        elif isinstance(frame, SystemFrame) or direction is FrameDirection.UPSTREAM:
            self._set_intent(frame)
            await self.push_frame(frame, direction)
        elif isinstance(frame, OutputAudioRawFrame):
            self._say(frame)
            await self._hold(frame)
        else:
            if isinstance(frame, TTSStoppedFrame):
                self._end_speech()
            await self._hold(frame)

    async def cleanup(self) -> None:
        """Leave the head."""
        await self._stop()
        await self._head.close()
        await super().cleanup()

    async def _start(self) -> None:
        try:
            await self._head.connect()
        except OSError as error:
            await self.push_error(str(error), exception=error, force_treat_as_permanent=True)
            return
        if self._watching is None:
            self._watching = self.create_task(self._watch())
        await self.push_frame(OutputTransportReadyFrame(), FrameDirection.UPSTREAM)

    async def _stop(self) -> None:
        if self._watching is not None:
            await self.cancel_task(self._watching)
            self._watching = None

    def _set_intent(self, frame: Frame) -> None:
        """Let the head show whose turn it is by the bot's own word."""
        if isinstance(frame, UserStartedSpeakingFrame):
            self._head.set_intent("listening")
        elif isinstance(frame, UserStoppedSpeakingFrame):
            self._head.set_intent("thinking", THINKING_S)

    # Sound out.

    def _say(self, frame: OutputAudioRawFrame) -> None:
        context = frame.context_id if isinstance(frame, TTSAudioRawFrame) else None
        if context is not None and context == self._over_context:
            return
        if self._speech is None or context != self._context or self._speech.is_done:
            self._end_speech()
            self._context, self._text_end_s = context, 0.0
            self._first_sound_ns = self.get_clock().get_time()
            self._speech = self._begin(frame)
        self._speech.write(frame.audio)
        self._wrote_s = time.monotonic()

    def _begin(self, frame: OutputAudioRawFrame) -> BotSpeech:
        speech = self._head.begin(frame.sample_rate, frame.num_channels)
        speech.on_started = speech.on_heard = self._changed.set
        self._live.append(speech)
        self._changed.set()
        return speech

    def _end_speech(self) -> None:
        if self._speech is not None:
            self._speech.end()
            self._speech = None

    # Frames that wait until they are heard.

    async def _hold(self, frame: Frame) -> None:
        speech = self._speech or (self._live[-1] if self._live else None)
        if speech is None or (speech.is_done and not self._held):
            await self.push_frame(frame)
            return
        until_s = speech.sent_s
        if frame.pts:
            until_s = max(0.0, (frame.pts - self._first_sound_ns) / 1e9)
        self._held.append(_HeldFrame(frame, speech, self._text_end_s, until_s))
        if isinstance(frame, TTSTextFrame) and not frame.pts:
            self._text_end_s = until_s
        self._changed.set()

    async def _watch(self) -> None:
        """Pass on what was heard, and tell the pipeline when the bot speaks."""
        started: list[BotSpeech] = []
        while True:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), timeout=0.1)
            self._changed.clear()
            self._end_unfinished()
            for speech in list(self._live):
                if speech.heard_s > 0.0 and speech not in started:
                    started.append(speech)
                    await self.broadcast_frame(BotStartedSpeakingFrame)
                await self._tell_speaking(speech)
                await self._release()
                if not speech.is_done:
                    break
                self._live.remove(speech)
                if speech in started:
                    started.remove(speech)
                    await self.broadcast_frame(BotStoppedSpeakingFrame)
                if (await speech.done()).outcome == "interrupted":
                    await self._be_interrupted()

    async def _tell_speaking(self, speech: BotSpeech) -> None:
        now_s = time.monotonic()
        if speech.heard_s > 0.0 and now_s - self._speaking_s >= BOT_SPEAKING_EVERY_S:
            self._speaking_s = now_s
            await self.broadcast_frame(BotSpeakingFrame)

    def _end_unfinished(self) -> None:
        is_synthesised = self._context is not None
        if self._speech and not is_synthesised and time.monotonic() - self._wrote_s > UNFINISHED_AFTER_S:
            self._end_speech()

    async def _release(self, *, is_cut: bool = False) -> None:
        """Pass on the frames whose sound was heard; at a cut also the heard part of the rest."""
        async with self._releasing:
            while self._held:
                held = self._held[0]
                outcome = (await held.speech.done()).outcome if held.speech.is_done else ""
                is_heard = held.speech.heard_s >= held.until_s or outcome == "finished"
                if not (is_heard or outcome or is_cut):
                    return
                self._held.popleft()
                if is_heard and not (is_cut or outcome == "interrupted"):
                    await self.push_frame(held.frame)
                elif isinstance(held.frame, TTSTextFrame):
                    if (text := _heard_text(held)) is not None:
                        await self.push_frame(text)
                elif is_heard or outcome in ("failed", "canceled") or not held.frame.interruptible:
                    # What failed is not followed by an interruption: the response ends in its order.
                    await self.push_frame(held.frame)

    # Ends.

    async def _be_interrupted(self) -> None:
        """The head let the user take the floor: the pipeline is to know."""
        self._over_context = self._context
        self._speech = None
        await self._release(is_cut=True)
        await self.broadcast_interruption()

    async def _cut(self) -> None:
        """Silence the head, and pass on what was heard until then."""
        live = [speech for speech in self._live if not speech.is_done]
        self._over_context, self._speech = self._context, None
        if live:
            self._head.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(
                    asyncio.gather(*(speech.done() for speech in live)), INTERRUPTED_WITHIN_S
                )
        await self._release(is_cut=True)

    async def _say_to_the_end(self) -> None:
        self._end_speech()
        for speech in list(self._live):
            await speech.done()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._release(), DONE_WITHIN_S)


def _heard_text(held: _HeldFrame) -> HeardTextFrame | None:
    """Return the part of a text that was heard, in whole words; None when there is none."""
    frame, heard_s = held.frame, held.speech.heard_s
    assert isinstance(frame, TTSTextFrame)
    words = frame.text.split()
    if heard_s < held.until_s:
        length_s = held.until_s - held.from_s
        share = (heard_s - held.from_s) / length_s if length_s > 0.0 and not frame.pts else 0.0
        words = words[: int(share * len(words))] if share > 0.0 else []
    if not words:
        return None
    text = frame.text if heard_s >= held.until_s else " ".join(words)
    part = HeardTextFrame(text, text_type=frame.text_type, segment_id=frame.segment_id)
    part.context_id, part.append_to_context = frame.context_id, frame.append_to_context
    part.includes_inter_frame_spaces = frame.includes_inter_frame_spaces
    return part
