"""An agent of LiveKit Agents that speaks and listens through the head, without a room: docs/voice-bots.md.

Start the head with `make run ARGS="websocket:=true"`. Set OPENAI_API_KEY, or OPENAI_BASE_URL for a server of
your own; any other plugin of LiveKit goes in its place.
"""

import asyncio
import contextlib
import os

from livekit.agents import Agent, AgentSession, TurnHandlingOptions
from livekit.plugins import openai
from timar_livekit import attach_head
from timar_websocket.client import HeadClient


async def main() -> None:
    """Talk until Ctrl-C."""
    service = {"api_key": os.environ.get("OPENAI_API_KEY"), "base_url": os.environ.get("OPENAI_BASE_URL")}
    session = AgentSession(
        stt=openai.STT(**service, use_realtime=False),
        llm=openai.LLM(**service),
        tts=openai.TTS(**service, response_format="pcm"),
        # The turns are the head's, and so is going on after a false alarm.
        turn_handling=TurnHandlingOptions(
            turn_detection="manual", interruption={"resume_false_interruption": False}
        ),
    )
    async with HeadClient() as head:
        attach_head(session, head)
        await session.start(Agent(instructions="You are a robot's head. Answer in two sentences."))
        await asyncio.Event().wait()


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
