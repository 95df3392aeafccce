"""The head as audio input and output of LiveKit Agents (docs/voice-bots.md)."""

from timar_livekit.audio_io import HeadAudioInput, HeadAudioOutput
from timar_livekit.session import attach_head

__all__ = ["HeadAudioInput", "HeadAudioOutput", "attach_head"]
