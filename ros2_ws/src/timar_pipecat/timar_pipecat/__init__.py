"""The head as a transport of Pipecat bots (docs/voice-bots.md)."""

from timar_pipecat.follower import HeadFollower
from timar_pipecat.transport import HeadTransport

__all__ = ["HeadFollower", "HeadTransport"]
