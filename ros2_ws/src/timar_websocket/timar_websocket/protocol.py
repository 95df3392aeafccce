"""Messages of the WebSocket: JSON objects told apart by `type`; binary messages are 16-bit PCM."""

from __future__ import annotations

from typing import Literal

import msgspec

VERSION = 1
USER_RATE_HZ = 16_000
"""Rate of the user's sound, one channel [Hz]."""
MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 192_000
MAX_CHANNELS = 8
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""A minute of stereo at 48 kHz is 11.5 MB."""
OUTCOMES = ("finished", "canceled", "interrupted", "failed")
"""In the order of timar_msgs/Speak."""
INTENTS = ("listening", "thinking", "about_to_speak", "speaking")
"""In the order of timar_msgs/AgentIntent."""
FLOORS = ("idle", "user", "agent", "both")
"""In the order of timar_msgs/FloorState."""

Outcome = Literal["finished", "canceled", "interrupted", "failed"]
Intent = Literal["listening", "thinking", "about_to_speak", "speaking"]


# From a bot.


class SpeakMessage(msgspec.Struct, tag="speak", forbid_unknown_fields=True):
    """Begin an utterance; the binary messages that follow are its sound."""

    id: str
    """The bot's own name for it; comes back with what is said about it."""
    sample_rate: int
    channels: int = 1
    hold_s: float = 0.0
    """How much later than it could the head begins, for sound that is heard elsewhere [s], 0..5."""

    def __post_init__(self) -> None:
        _check_range("sample_rate", self.sample_rate, MIN_RATE_HZ, MAX_RATE_HZ)
        _check_range("channels", self.channels, 1, MAX_CHANNELS)
        _check_range("hold_s", self.hold_s, 0, 5)


class EndMessage(msgspec.Struct, tag="end", forbid_unknown_fields=True):
    """All sound of the utterance has been sent."""


class ClearMessage(msgspec.Struct, tag="clear", forbid_unknown_fields=True):
    """Stop what this bot says, and drop what waits."""


class IntentMessage(msgspec.Struct, tag="intent", forbid_unknown_fields=True):
    """What the bot does now; counts for `hold_s`, 0..60, 0 for the head's default [s]."""

    intent: Intent
    hold_s: float = 0.0

    def __post_init__(self) -> None:
        _check_range("hold_s", self.hold_s, 0, 60)


class ListenMessage(msgspec.Struct, tag="listen", forbid_unknown_fields=True):
    """Send the user's sound from now on."""


FromBot = SpeakMessage | EndMessage | ClearMessage | IntentMessage | ListenMessage


# From the head.


class HelloMessage(msgspec.Struct, tag="hello"):
    """The first message."""

    version: int = VERSION
    user_sample_rate: int = USER_RATE_HZ


class UserAudioMessage(msgspec.Struct, tag="user_audio"):
    """Where the next binary message begins on the conversation's clock; those after it follow it."""

    first_sample: int


class StartedMessage(msgspec.Struct, tag="started"):
    """The first sound of an utterance is heard."""

    id: str
    ago_s: float
    """For how long already [s]."""


class HeardMessage(msgspec.Struct, tag="heard"):
    """How much of an utterance was heard so far [s]."""

    id: str
    heard_s: float


class DoneMessage(msgspec.Struct, tag="done"):
    """An utterance is over; each has exactly one."""

    id: str
    outcome: Outcome
    heard_s: float
    """How much of it was heard [s]."""
    message: str = ""
    """Why it failed."""


class TurnMessage(msgspec.Struct, tag="turn"):
    """A change in a speech turn, as timar_msgs/TurnEvent."""

    speaker: str
    """user or agent"""
    kind: str
    """start, end, backchannel, lowered, paused, resumed, interrupted, judged"""
    speech_turn: int
    first_sample: int
    end_sample: int
    decision_delay_s: float
    probability: float = -1.0


class FloorMessage(msgspec.Struct, tag="floor"):
    """Who holds the floor: idle, user, agent or both."""

    state: str
    since_sample: int


class HeadIntentMessage(msgspec.Struct, tag="head_intent"):
    """What the head does: listening, thinking, about_to_speak or speaking."""

    intent: str


class ErrorMessage(msgspec.Struct, tag="error"):
    """What the bot sent and could not be taken; the connection goes on."""

    message: str


FromHead = (
    HelloMessage | UserAudioMessage | StartedMessage | HeardMessage | DoneMessage | TurnMessage
    | FloorMessage | HeadIntentMessage | ErrorMessage
)  # fmt: skip

_FROM_BOT = msgspec.json.Decoder(FromBot)
_FROM_HEAD = msgspec.json.Decoder(FromHead)


def encode(message: FromBot | FromHead) -> str:
    """Return a message as text."""
    return msgspec.json.encode(message).decode()


def decode_from_bot(text: str) -> FromBot:
    """Read a bot's message.

    Raises:
        ValueError: It is none; the message says what is wrong.
    """
    try:
        return _FROM_BOT.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"{text[:80]!r} is no message of this protocol: {error}") from None


def decode_from_head(text: str) -> FromHead | None:
    """Read the head's message; None for one that a later version has and this one does not know."""
    try:
        return _FROM_HEAD.decode(text)
    except msgspec.ValidationError:
        return None


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, expected {low}..{high}")
