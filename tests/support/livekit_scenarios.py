"""A genuine AgentSession with a synthesiser of tones, run by .venv/voice-bots; writes one JSON object.

python livekit_scenarios.py        # TIMAR_HEAD is the head's address
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable

import numpy as np
from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, Agent, AgentSession, APIConnectOptions, tts
from livekit.agents.voice.io import AudioOutput, PlaybackFinishedEvent
from timar_livekit import attach_head
from timar_websocket.client import HeadClient

SECONDS_PER_WORD = 0.25
PATIENCE_S = 30.0


class ToneVoice(tts.TTS):
    """A quarter of a second of tone for each word, at the rate, with the channels and stalls it is set to."""

    def __init__(self) -> None:
        super().__init__(
            capabilities=tts.TTSCapabilities(streaming=False), sample_rate=24_000, num_channels=1
        )
        self.rate_hz, self.channels, self.stall_s = 24_000, 1, 0.0

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        return ToneStream(tts=self, input_text=text, conn_options=conn_options)


class ToneStream(tts.ChunkedStream):
    """The sound of one text."""

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        voice = self._tts
        output_emitter.initialize(
            request_id="tones",
            sample_rate=voice.rate_hz,
            num_channels=voice.channels,
            mime_type="audio/pcm",
        )
        for word in self._input_text.split():
            time_s = np.arange(round(SECONDS_PER_WORD * voice.rate_hz)) / voice.rate_hz
            tone = (8000 * np.sin(2 * np.pi * 300.0 * time_s)).astype("<i2")
            output_emitter.push(np.repeat(tone, voice.channels).tobytes())
            if word == "stall":
                output_emitter.flush()
                await asyncio.sleep(voice.stall_s)
        output_emitter.flush()


class Watcher:
    """What the session's audio output tells."""

    def __init__(self, output: AudioOutput) -> None:
        self.started = 0
        self.finished: list[PlaybackFinishedEvent] = []
        output.on("playback_started", lambda event: self._start())
        output.on("playback_finished", self.finished.append)

    def _start(self) -> None:
        self.started += 1


def told(event: PlaybackFinishedEvent) -> dict:
    return {"interrupted": event.interrupted, "heard_s": round(event.playback_position, 3)}


async def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError("the scenario did not go on")
        await asyncio.sleep(0.01)


def said(session: AgentSession) -> list[str]:
    return [item.text_content for item in session.history.items if item.type == "message"]


async def play(session: AgentSession, voice: ToneVoice) -> dict:
    """Play every scenario and return what came of it."""
    found: dict = {}
    output = session.output.audio
    watcher = Watcher(output)

    async def say_to_the_end(text: str) -> dict:
        await asyncio.wait_for(session.say(text), PATIENCE_S)
        return {"text": said(session)[-1], **told(watcher.finished[-1])}

    for rate_hz, channels in ((8000, 1), (16_000, 1), (24_000, 1), (48_000, 1), (48_000, 2)):
        voice.rate_hz, voice.channels = rate_hz, channels
        found[f"say {rate_hz} {channels}"] = await say_to_the_end("one two three")
    voice.rate_hz, voice.channels = 24_000, 1

    started = watcher.started
    handle = session.say("one two three four five six seven eight nine ten eleven twelve")
    await until(lambda: watcher.started > started)
    await asyncio.sleep(1.1)
    begin_s = time.monotonic()
    handle.interrupt()
    await asyncio.wait_for(handle, PATIENCE_S)
    found["interrupted"] = {
        "text": said(session)[-1],
        **told(await output.wait_for_playout()),
        "took_s": time.monotonic() - begin_s,
    }
    found["resumed"] = await say_to_the_end("then thirteen fourteen")

    handles = [session.say("first of two"), session.say("second of two")]
    for handle in handles:
        await asyncio.wait_for(handle, PATIENCE_S)
    found["two"] = {
        "text": said(session)[-2:],
        "heard_s": [event.playback_position for event in watcher.finished[-2:]],
    }

    started = watcher.started
    await asyncio.wait_for(session.say(""), PATIENCE_S)
    found["after an empty one"] = await say_to_the_end("four five")
    found["after an empty one"]["started"] = watcher.started - started

    voice.stall_s = 1.0
    found["stalled"] = await say_to_the_end("one stall three")
    return found


async def main() -> None:
    voice = ToneVoice()
    session = AgentSession(tts=voice, turn_handling={"turn_detection": "manual"})
    async with HeadClient() as head:
        attach_head(session, head)
        await session.start(Agent(instructions=""))
        sys.stdout.write(json.dumps(await play(session, voice)) + "\n")
        await session.aclose()


if __name__ == "__main__":
    asyncio.run(main())
