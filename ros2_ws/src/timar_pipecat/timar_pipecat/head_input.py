"""What the head hears, as Pipecat frames: the user's sound, voice activity and turns."""

from __future__ import annotations

import asyncio

from pipecat.audio.utils import create_stream_resampler
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    ProposedUserStartedSpeakingFrame,
    ProposedUserStoppedSpeakingFrame,
    StartFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_transport import TransportParams
from timar_websocket.client import HeadClient, UserTurns
from timar_websocket.protocol import USER_RATE_HZ, FromHead, TurnMessage

MAX_WAITING = 500
"""So many blocks of sound and turns may wait for a pipeline that does not read: ten seconds."""


class HeadInput(BaseInputTransport):
    """Pushes the user's sound, and proposes the user's turns as the head found them.

    `ExternalUserTurnStrategies` of the user aggregator takes its turns; with other strategies they are the
    bot's own, found in the head's sound. A back-channel of the user proposes nothing.
    """

    def __init__(self, head: HeadClient, params: TransportParams) -> None:
        super().__init__(params)
        self._head = head
        self._turns = UserTurns()
        self._waiting: asyncio.Queue[bytes | TurnMessage] = asyncio.Queue(MAX_WAITING)
        self._resampler = create_stream_resampler()
        self._forwarding: asyncio.Task[None] | None = None
        head.on_user_audio(lambda _, pcm: self._put(pcm))
        head.on_message(self._on_message)

    async def start(self, frame: StartFrame) -> None:
        """Connect to the head."""
        await super().start(frame)
        try:
            await self._head.connect()
        except OSError as error:
            await self.push_error(str(error), exception=error, force_treat_as_permanent=True)
            return
        if self._forwarding is None:
            self._forwarding = self.create_task(self._forward())
        await self.set_transport_ready(frame)

    async def stop(self, frame: EndFrame) -> None:
        """Bring nothing more."""
        await self._stop_forwarding()
        await super().stop(frame)

    async def cancel(self, frame: CancelFrame) -> None:
        """Bring nothing more."""
        await self._stop_forwarding()
        await super().cancel(frame)

    async def cleanup(self) -> None:
        """Leave the head."""
        await self._stop_forwarding()
        await self._head.close()
        await super().cleanup()

    async def _stop_forwarding(self) -> None:
        if self._forwarding is not None:
            await self.cancel_task(self._forwarding)
            self._forwarding = None

    def _on_message(self, message: FromHead) -> None:
        if isinstance(message, TurnMessage):
            self._put(message)

    def _put(self, item: bytes | TurnMessage) -> None:
        if self._forwarding is None:
            return
        if self._waiting.full():
            self._waiting.get_nowait()  # a pipeline that stands still hears the newest when it goes on
        self._waiting.put_nowait(item)

    async def _forward(self) -> None:
        while True:
            item = await self._waiting.get()
            if isinstance(item, bytes):
                pcm = await self._resampler.resample(item, USER_RATE_HZ, self.sample_rate)
                if pcm:
                    await self.push_audio_frame(InputAudioRawFrame(pcm, self.sample_rate, 1))
                continue
            for frame in self._frames_of(item):
                await self.push_frame(frame)

    def _frames_of(self, event: TurnMessage) -> list[Frame]:
        frames: list[Frame] = []
        changes = self._turns.push(event)
        if event.speaker == "user" and event.kind == "start":
            frames.append(VADUserStartedSpeakingFrame(start_secs=event.decision_delay_s))
        elif event.speaker == "user" and event.kind == "end":
            frames.append(VADUserStoppedSpeakingFrame(stop_secs=event.decision_delay_s))
        if "started" in changes:
            frames.append(ProposedUserStartedSpeakingFrame())
        if "stopped" in changes:
            frames.append(ProposedUserStoppedSpeakingFrame())
        return frames
