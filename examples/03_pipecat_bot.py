"""A Pipecat bot that speaks and listens through the head: docs/voice-bots.md.

Start the head with `make run ARGS="websocket:=true"`. Set OPENAI_API_KEY, or OPENAI_BASE_URL for a server of
your own; any other service of Pipecat goes in its place.
"""

import asyncio
import os

from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.openai.stt import OpenAISTTService
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies
from pipecat.workers.runner import WorkerRunner
from timar_pipecat import HeadTransport


async def main() -> None:
    """Talk until Ctrl-C."""
    head = HeadTransport()
    service = {"api_key": os.environ.get("OPENAI_API_KEY"), "base_url": os.environ.get("OPENAI_BASE_URL")}
    prompt = OpenAILLMService.Settings(system_instruction="You are a robot's head. Answer in two sentences.")
    turns = LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies())  # the head's own
    user, assistant = LLMContextAggregatorPair(LLMContext(), user_params=turns)
    stt, tts = OpenAISTTService(**service), OpenAITTSService(**service)
    llm = OpenAILLMService(**service, settings=prompt)
    runner = WorkerRunner()
    pipeline = Pipeline([head.input(), stt, user, llm, tts, head.output(), assistant])
    await runner.add_workers(PipelineWorker(pipeline, idle_timeout_secs=None))
    await runner.run()


asyncio.run(main())
