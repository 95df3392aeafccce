"""A bot's speech on its way to playback: in order, no faster than it is heard, each with one end."""

from __future__ import annotations

import numpy as np
import pytest
from timar_websocket.protocol import DoneMessage, HeardMessage, SpeakMessage, StartedMessage
from timar_websocket.relay import (
    CHUNK_S,
    GIVEN_UP_AFTER_NS,
    MAX_BUFFERED_S,
    MAX_UTTERANCES,
    WINDOW_S,
    CancelUtterance,
    HandOn,
    OpenUtterance,
    SpeechRelay,
    Step,
)

NOW = 10**9
FINISHED, CANCELED, INTERRUPTED, FAILED = range(4)


def pcm(seconds: float, rate_hz: int = 16_000, channels: int = 1) -> bytes:
    return np.full(round(seconds * rate_hz) * channels, 1000, "<i2").tobytes()


def begun(relay: SpeechRelay, name: str, seconds: float, rate_hz: int = 16_000) -> list[Step]:
    """Begin an utterance, send all of its sound, and end it."""
    steps = relay.begin(SpeakMessage(name, rate_hz), NOW)
    return [*steps, *relay.append(pcm(seconds, rate_hz), NOW), *relay.end(NOW)]


def handed_s(steps: list[Step]) -> float:
    return sum(step.samples.size / step.rate_hz for step in steps if isinstance(step, HandOn))


def test_an_utterance_waits_for_playback_and_is_then_handed_on_whole() -> None:
    relay = SpeechRelay("bot")
    assert begun(relay, "hello", 1.2, 24_000) == [OpenUtterance("bot-1", 24_000)]
    steps = relay.on_accepted("bot-1", NOW)
    assert [step.samples.size for step in steps] == [12_000, 12_000, 4_800]
    assert [step.is_last for step in steps] == [False, False, True]
    assert relay.on_feedback("bot-1", 4000, 900_000, NOW) == [
        StartedMessage("hello", 0.25),
        HeardMessage("hello", 0.25),
    ]
    assert relay.on_result("bot-1", FINISHED, 19_200, "", NOW) == [
        HeardMessage("hello", 1.2),
        DoneMessage("hello", "finished", 1.2),
    ]
    assert relay.is_idle


def test_no_more_is_handed_on_than_will_be_heard_in_the_next_seconds() -> None:
    """A minute of speech came at once and playback refused it as more than it takes."""
    relay = SpeechRelay("bot")
    begun(relay, "story", 90.0)
    given_s = handed_s(relay.on_accepted("bot-1", NOW))
    assert given_s == pytest.approx(WINDOW_S)
    for heard_s in np.arange(0.1, 90.0, 0.1):
        steps = relay.on_feedback("bot-1", round(16_000 * heard_s), 900_000, NOW)
        given_s += handed_s(steps)
        assert given_s == pytest.approx(min(90.0, heard_s + WINDOW_S), abs=0.01)
        assert all(step.samples.size <= CHUNK_S * 16_000 for step in steps if isinstance(step, HandOn))
    assert given_s == pytest.approx(90.0)


def test_what_playback_wants_bounds_what_is_handed_on() -> None:
    relay = SpeechRelay("bot")
    relay.begin(SpeakMessage("a", 16_000), NOW)
    relay.append(pcm(0.1), NOW)
    relay.on_accepted("bot-1", NOW)
    assert relay.on_feedback("bot-1", 0, 3200, NOW) == []
    assert handed_s(relay.append(pcm(1.0), NOW)) == pytest.approx(0.2)
    assert handed_s(relay.on_feedback("bot-1", 1600, 16_000, NOW)) == pytest.approx(0.8)


def test_utterances_are_handed_on_one_after_the_other() -> None:
    relay = SpeechRelay("bot")
    assert begun(relay, "first", 1.0) == [OpenUtterance("bot-1", 16_000)]
    assert begun(relay, "second", 1.0) == []
    steps = relay.on_accepted("bot-1", NOW)
    assert [type(step) for step in steps] == [HandOn, HandOn, OpenUtterance]
    assert handed_s(relay.on_accepted("bot-2", NOW)) == pytest.approx(1.0)


def test_channels_become_their_mean() -> None:
    relay = SpeechRelay("bot")
    relay.begin(SpeakMessage("stereo", 48_000, channels=2), NOW)
    relay.append(np.array([1000, 3000, -5, 6], "<i2").tobytes(), NOW)
    (piece,) = relay.on_accepted("bot-1", NOW)
    np.testing.assert_array_equal(piece.samples, [2000, 0])


@pytest.mark.parametrize(("channels", "data"), [(1, b"abc"), (2, b"abcdef")])
def test_sound_that_is_no_whole_samples_is_refused_with_what_was_expected(channels: int, data: bytes) -> None:
    relay = SpeechRelay("bot")
    relay.begin(SpeakMessage("odd", 16_000, channels), NOW)
    with pytest.raises(ValueError, match=f"{len(data)} bytes, expected a multiple of {2 * channels}"):
        relay.append(data, NOW)


def test_sound_without_an_utterance_is_refused() -> None:
    relay = SpeechRelay("bot")
    with pytest.raises(ValueError, match="send a message of type speak first"):
        relay.append(pcm(0.1), NOW)
    begun(relay, "over", 0.1)
    with pytest.raises(ValueError, match="speak first"):
        relay.append(pcm(0.1), NOW)


def test_an_utterance_without_sound_is_finished_and_playback_never_hears_of_it() -> None:
    relay = SpeechRelay("bot")
    relay.begin(SpeakMessage("empty", 16_000), NOW)
    assert relay.end(NOW) == [DoneMessage("empty", "finished", 0.0)]
    assert relay.is_idle


def test_a_new_utterance_ends_the_one_before_it() -> None:
    relay = SpeechRelay("bot")
    relay.begin(SpeakMessage("first", 16_000), NOW)
    relay.append(pcm(0.1), NOW)
    relay.begin(SpeakMessage("second", 16_000), NOW)
    (piece,) = relay.on_accepted("bot-1", NOW)
    assert piece.is_last


def test_an_interruption_ends_what_waits_and_leaves_out_what_still_comes() -> None:
    relay = SpeechRelay("bot")
    begun(relay, "heard", 20.0)
    relay.on_accepted("bot-1", NOW)
    relay.begin(SpeakMessage("waiting", 16_000), NOW)
    relay.append(pcm(1.0), NOW)
    assert relay.on_result("bot-1", INTERRUPTED, 8000, "", NOW) == [
        StartedMessage("heard", 0.5),
        HeardMessage("heard", 0.5),
        DoneMessage("heard", "interrupted", 0.5),
        DoneMessage("waiting", "interrupted", 0.0),
    ]
    assert relay.append(pcm(1.0), NOW) == []
    assert relay.late_bytes == 32_000
    assert relay.end(NOW) == []
    assert begun(relay, "next", 0.5) == [OpenUtterance("bot-3", 16_000)]


def test_clear_ends_at_once_what_playback_does_not_know_and_cancels_the_rest() -> None:
    relay = SpeechRelay("bot")
    begun(relay, "said", 20.0)
    relay.on_accepted("bot-1", NOW)
    begun(relay, "waiting", 1.0)
    assert relay.clear(NOW) == [CancelUtterance("bot-1"), DoneMessage("waiting", "canceled", 0.0)]
    assert relay.on_feedback("bot-1", 1600, 900_000, NOW)[-1] == HeardMessage("said", 0.1)
    assert relay.on_result("bot-1", CANCELED, 3200, "", NOW)[-1] == DoneMessage("said", "canceled", 0.2)
    assert relay.is_idle


def test_clear_before_playback_has_answered_cancels_when_it_does() -> None:
    relay = SpeechRelay("bot")
    begun(relay, "said", 1.0)
    assert relay.clear(NOW) == []
    assert relay.on_accepted("bot-1", NOW) == [CancelUtterance("bot-1")]
    assert relay.on_result("bot-1", CANCELED, 0, "", NOW) == [DoneMessage("said", "canceled", 0.0)]


def test_an_utterance_that_playback_refuses_has_failed_and_the_next_is_asked_for() -> None:
    relay = SpeechRelay("bot")
    begun(relay, "first", 1.0)
    begun(relay, "second", 1.0)
    assert relay.on_refused("bot-1", "no playback", NOW) == [
        DoneMessage("first", "failed", 0.0, "no playback"),
        OpenUtterance("bot-2", 16_000),
    ]


def test_when_playback_tells_nothing_any_more_the_utterance_fails_within_two_seconds() -> None:
    relay = SpeechRelay("bot")
    begun(relay, "said", 3.0)
    relay.on_accepted("bot-1", NOW)
    relay.on_feedback("bot-1", 16_000, 900_000, NOW)
    assert relay.tick(NOW + GIVEN_UP_AFTER_NS) == []
    cancel, done = relay.tick(NOW + GIVEN_UP_AFTER_NS + 1)
    assert cancel == CancelUtterance("bot-1")
    assert (done.outcome, done.heard_s) == ("failed", 1.0)
    assert "gave no sign for 2 s" in done.message


def test_a_held_utterance_is_asked_for_when_its_time_has_come() -> None:
    relay = SpeechRelay("bot")
    relay.begin(SpeakMessage("late", 16_000, hold_s=0.4), NOW)
    assert relay.append(pcm(0.5), NOW) == []
    assert relay.tick(NOW + 399_000_000) == []
    assert relay.tick(NOW + 400_000_000) == [OpenUtterance("bot-1", 16_000)]


def test_a_bot_that_floods_fails_its_utterance_and_keeps_its_connection() -> None:
    relay = SpeechRelay("bot")
    relay.begin(SpeakMessage("flood", 8000), NOW)
    steps: list[Step] = []
    for _ in range(round(MAX_BUFFERED_S / 60.0) + 1):
        steps += relay.append(pcm(60.0, 8000), NOW)
    assert steps[-1] == DoneMessage("flood", "failed", 0.0, "more than 600 s of speech wait to be said")
    for number in range(MAX_UTTERANCES):
        relay.begin(SpeakMessage(f"{number}", 8000), NOW)
        relay.append(pcm(0.01, 8000), NOW)
    (refused,) = [s for s in relay.begin(SpeakMessage("more", 8000), NOW) if isinstance(s, DoneMessage)]
    assert refused.outcome == "failed"
    assert relay.append(pcm(0.01, 8000), NOW) == []
