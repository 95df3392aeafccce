"""A genuine Pipecat pipeline with a synthesiser of tones, run by .venv/voice-bots; writes one JSON object.

python pipecat_scenarios.py        # TIMAR_HEAD is the head's address
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

import numpy as np
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    Frame,
    InterruptionFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TTSService
from pipecat.workers.runner import WorkerRunner
from timar_pipecat import HeadFollower, HeadTransport
from timar_websocket.client import HeadClient
from timar_websocket.protocol import DoneMessage, FromHead, StartedMessage

SECONDS_PER_WORD = 0.25
PATIENCE_S = 30.0


class ToneVoice(TTSService):
    """A quarter of a second of tone for each word, at the rate, with the channels and stalls it is set to."""

    def __init__(self) -> None:
        settings = TTSSettings(model=None, voice=None, language=None)
        super().__init__(push_start_frame=True, push_stop_frames=True, settings=settings)
        self.rate_hz, self.channels, self.stall_s = 24_000, 1, 0.0

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        for word in text.split() if text != "silence" else ():
            time_s = np.arange(round(SECONDS_PER_WORD * self.rate_hz)) / self.rate_hz
            tone = (8000 * np.sin(2 * np.pi * 300.0 * time_s)).astype("<i2")
            pcm = np.repeat(tone, self.channels).tobytes()
            yield TTSAudioRawFrame(pcm, self.rate_hz, self.channels, context_id=context_id)
            await asyncio.sleep(self.stall_s if word == "stall" else 0.0)


class Watcher(FrameProcessor):
    """Counts what passes behind the assistant's aggregator."""

    def __init__(self) -> None:
        super().__init__()
        self.started = self.stopped = 0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self.started += isinstance(frame, BotStartedSpeakingFrame)
        self.stopped += isinstance(frame, BotStoppedSpeakingFrame)
        await self.push_frame(frame, direction)


class Bot:
    """The pipeline, and what a script does with it."""

    def __init__(self) -> None:
        self.head = HeadClient()
        self.head.on_message(self._on_message)
        self.done: list[DoneMessage] = []
        self.context = LLMContext()
        self.voice, self.watcher = ToneVoice(), Watcher()
        transport = HeadTransport(self.head)
        _, assistant = LLMContextAggregatorPair(self.context)
        self.worker = PipelineWorker(
            Pipeline([transport.input(), self.voice, transport.output(), assistant, self.watcher]),
            idle_timeout_secs=None,
        )

    def said(self) -> list[str]:
        return [message["content"] for message in self.context.messages]

    async def say(self, *texts: str) -> None:
        for text in texts:
            await self.worker.queue_frame(TTSSpeakFrame(text))

    async def say_to_the_end(self, text: str) -> dict:
        """Say something and return what the pipeline and the head tell about it."""
        done, stopped, said = len(self.done), self.watcher.stopped, len(self.said())
        await self.say(text)
        await until(lambda: self.watcher.stopped > stopped and len(self.done) > done)
        await until(lambda: len(self.said()) > said)
        return {"text": self.said()[-1], **told(self.done[-1])}

    def _on_message(self, message: FromHead) -> None:
        if isinstance(message, DoneMessage):
            self.done.append(message)


def told(done: DoneMessage) -> dict:
    return {"outcome": done.outcome, "heard_s": round(done.heard_s, 3)}


async def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError("the scenario did not go on")
        await asyncio.sleep(0.01)


async def play(bot: Bot) -> dict:
    """Play every scenario and return what came of it."""
    found: dict = {}
    for rate_hz, channels in ((8000, 1), (16_000, 1), (24_000, 1), (48_000, 1), (48_000, 2)):
        bot.voice.rate_hz, bot.voice.channels = rate_hz, channels
        found[f"say {rate_hz} {channels}"] = await bot.say_to_the_end("one two three")
    bot.voice.rate_hz, bot.voice.channels = 24_000, 1

    speaks = bot.watcher.started
    await bot.say("one two three four five six seven eight nine ten eleven twelve")
    await until(lambda: bot.watcher.started > speaks)
    await asyncio.sleep(1.1)
    done, said, begin_s = len(bot.done), len(bot.said()), time.monotonic()
    await bot.worker.queue_frame(InterruptionFrame())
    await until(lambda: len(bot.done) > done and len(bot.said()) > said)
    found["interrupted"] = {
        "text": bot.said()[-1],
        **told(bot.done[-1]),
        "took_s": time.monotonic() - begin_s,
    }
    found["resumed"] = await bot.say_to_the_end("then thirteen fourteen")

    done = len(bot.done)
    await bot.say("first of two", "second of two")
    await until(lambda: len(bot.done) >= done + 2 and bot.said()[-1] == "second of two")
    found["two"] = {"text": bot.said()[-2:], "heard_s": [one.heard_s for one in bot.done[-2:]]}

    started = bot.watcher.started
    await bot.say("silence")
    found["after an empty one"] = await bot.say_to_the_end("four five")
    found["after an empty one"]["started"] = bot.watcher.started - started

    bot.voice.stall_s = 1.0
    found["stalled"] = await bot.say_to_the_end("one stall three")
    return found


class OtherLoudspeaker(FrameProcessor):
    """Another transport's output: notes when the first sound reaches it."""

    def __init__(self) -> None:
        super().__init__()
        self.first_s = 0.0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            self.first_s = self.first_s or time.monotonic()
        await self.push_frame(frame, direction)


async def follow(hold_s: float, delay_s: float) -> dict:
    """Let the head follow speech that is played elsewhere, and return when either began after it came."""
    head, begun_s, started_s = HeadClient(is_listening=False), [], []

    def on_message(message: FromHead) -> None:
        if isinstance(message, StartedMessage):
            started_s.append(time.monotonic() - message.ago_s)

    head.on_message(on_message)
    voice, speaker = ToneVoice(), OtherLoudspeaker()
    follower = HeadFollower(head, hold_s, delay_s)
    worker = PipelineWorker(Pipeline([voice, follower, speaker]), idle_timeout_secs=None)
    running = await start(worker)
    await until(lambda: head.is_connected)
    began = head.begin
    head.begin = lambda *sound: (begun_s.append(time.monotonic()), began(*sound))[1]
    await worker.queue_frame(TTSSpeakFrame("one two three four"))
    await until(lambda: bool(started_s) and speaker.first_s > 0.0)
    await running()
    return {"head_s": started_s[0] - begun_s[0], "speaker_s": speaker.first_s - begun_s[0]}


async def start(worker: PipelineWorker) -> Callable[[], Awaitable[None]]:
    """Run a pipeline, and return what ends it."""
    runner = WorkerRunner()
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())

    async def end() -> None:
        await runner.cancel()
        await running

    return end


async def main() -> None:
    bot = Bot()
    end = await start(bot.worker)
    await until(lambda: bot.head.is_connected)
    found = await play(bot)
    await end()
    found["followed"] = await follow(hold_s=0.0, delay_s=0.3)
    found["followed later"] = await follow(hold_s=0.4, delay_s=0.0)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
