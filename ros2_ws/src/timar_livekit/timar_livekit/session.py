"""Ties an AgentSession of LiveKit Agents to the head: sound, turns, transcript and what the agent does."""

from __future__ import annotations

import contextlib
from typing import Any

from livekit.agents import AgentSession, AgentStateChangedEvent
from livekit.agents.voice.transcription import TranscriptSynchronizer
from timar_websocket.client import HeadClient, UserTurns
from timar_websocket.protocol import FromHead, TurnMessage

from timar_livekit.audio_io import HeadAudioInput, HeadAudioOutput

THINKING_S = 10.0


def attach_head(session: AgentSession[Any], head: HeadClient) -> None:
    """Let a session speak and listen through the head; call it before `session.start`.

    With `turn_detection="manual"` the turns are the head's: a user who takes the floor interrupts the agent,
    the end of his turn is committed, and a back-channel is neither. With any other the session finds turns in
    the head's sound by itself; a user whom the head gave the floor interrupts then, too.

    Args:
        session: A session that was not started.
        head: A connected client.
    """

    def interrupt() -> None:
        with contextlib.suppress(RuntimeError):  # it says nothing, or nothing that may be interrupted
            session.interrupt()

    # It keeps the transcript in step with the sound, so that the context holds what was said.
    synchronizer = TranscriptSynchronizer(
        next_in_chain_audio=HeadAudioOutput(head, interrupt), next_in_chain_text=session.output.transcription
    )
    session.input.audio = HeadAudioInput(head)
    session.output.audio = synchronizer.audio_output
    session.output.transcription = synchronizer.text_output
    turns = UserTurns()

    def on_message(message: FromHead) -> None:
        if not isinstance(message, TurnMessage):
            return
        if message.kind == "paused":
            synchronizer.audio_output.pause()
        elif message.kind == "resumed":
            synchronizer.audio_output.resume()
        changes = turns.push(message)
        if session.turn_detection != "manual":
            return
        if "started" in changes:
            interrupt()
        if "stopped" in changes:
            with contextlib.suppress(RuntimeError):  # the session has not begun or has ended
                session.commit_user_turn()

    def on_agent_state(event: AgentStateChangedEvent) -> None:
        if event.new_state == "thinking":
            head.set_intent("thinking", THINKING_S)

    head.on_message(on_message)
    session.on("agent_state_changed", on_agent_state)
