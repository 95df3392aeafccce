"""What the agent is taken to do: listen, think, be about to speak, speak."""

from __future__ import annotations

import numpy as np
import pytest
from timar_audio.intent import Intent, IntentRules, Source
from timar_audio.turns_component import TurnsComponent
from timar_audio.turns_config import TurnsConfig
from timar_common.messages import Header, Message, constants, new

BLOCK = 320
SPEECH = (8000 * np.sin(np.arange(16_000) / 4)).astype(np.int16)


@pytest.fixture
def rules() -> IntentRules:
    return IntentRules(TurnsConfig())


def intents(rules: IntentRules, first_s: float, end_s: float) -> dict[float, tuple[Intent, Source]]:
    """Return by time [s] what was news."""
    found = {}
    for block in range(round(first_s * 50), round(end_s * 50)):
        decision = rules.step(block * BLOCK)
        if decision is not None:
            found[block / 50] = (decision.intent, decision.source)
    return found


def test_planned_speech_makes_the_agent_about_to_speak_then_speaking_then_listening(rules) -> None:
    rules.plan.add(32_000, SPEECH, 0)
    assert intents(rules, 0.0, 4.0) == {
        0.0: (Intent.LISTENING, Source.RULES),
        1.0: (Intent.ABOUT_TO_SPEAK, Source.RULES),
        2.0: (Intent.SPEAKING, Source.RULES),
        3.0: (Intent.LISTENING, Source.RULES),
    }


def test_a_short_pause_in_the_plan_belongs_to_the_speech_and_a_long_one_does_not(rules) -> None:
    rules.plan.add(0, SPEECH, 0)
    rules.plan.add(16_000 + 6400, SPEECH, 0)
    rules.plan.add(38_400 + 48_000, SPEECH, 0)
    news = [intent for intent, _ in intents(rules, 0.0, 8.0).values()]
    assert news == [
        Intent.SPEAKING, Intent.LISTENING, Intent.ABOUT_TO_SPEAK, Intent.SPEAKING, Intent.LISTENING,
    ]  # fmt: skip


def test_silence_in_the_plan_is_no_speech(rules) -> None:
    rules.plan.add(16_000, np.zeros(16_000, np.int16), 0)
    assert list(intents(rules, 0.0, 3.0).values()) == [(Intent.LISTENING, Source.RULES)]


def test_speech_that_is_withdrawn_is_not_waited_for(rules) -> None:
    rules.plan.add(16_000, SPEECH, 0)
    assert intents(rules, 0.5, 0.6) == {0.5: (Intent.ABOUT_TO_SPEAK, Source.RULES)}
    rules.plan.add(16_000, np.zeros(0, np.int16), 1)
    rules.plan.add(16_000, SPEECH, 0)
    assert list(intents(rules, 0.6, 2.0).values()) == [(Intent.LISTENING, Source.RULES)]


def test_after_the_user_s_turn_the_agent_thinks_for_a_while_but_not_after_a_back_channel(rules) -> None:
    rules.user_started()
    assert list(intents(rules, 0.0, 1.0).values()) == [(Intent.LISTENING, Source.RULES)]
    rules.user_ended(16_000, is_backchannel=False)
    assert intents(rules, 1.0, 6.0) == {
        1.0: (Intent.THINKING, Source.RULES),
        4.0: (Intent.LISTENING, Source.RULES),
    }
    rules.user_started()
    rules.user_ended(16_000 * 7, is_backchannel=True)
    assert intents(rules, 7.0, 8.0) == {}


def test_a_dialogue_s_word_counts_until_it_runs_out_and_speech_overrules_it(rules) -> None:
    intents(rules, 0.0, 1.0)
    rules.request(Intent.THINKING, 0.5, 16_000)
    assert intents(rules, 1.0, 2.0) == {
        1.0: (Intent.THINKING, Source.DIALOGUE),
        1.5: (Intent.LISTENING, Source.RULES),
    }
    rules.request(Intent.ABOUT_TO_SPEAK, 0.0, 32_000)
    rules.plan.add(40_000, SPEECH, 0)
    news = intents(rules, 2.0, 4.5)
    assert [entry for entry in news.values()] == [
        (Intent.ABOUT_TO_SPEAK, Source.DIALOGUE),
        (Intent.SPEAKING, Source.RULES),
        (Intent.LISTENING, Source.RULES),
    ]


@pytest.mark.parametrize(("intent", "hold_s", "words"), [(7, 0.0, "intent is 7"), (1, 61.0, "61 s")])
def test_a_word_that_cannot_be_is_refused(rules, intent: int, hold_s: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rules.request(intent, hold_s, 0)


def block(first: int) -> Message:
    header = Header(10**9 + first * 62_500, "microphone")
    samples = np.zeros(BLOCK, np.int16)
    return new("AudioChunk", header=header, sample_rate=16_000, first_sample=first, samples=samples)


def test_the_component_says_when_an_intent_began_and_where_the_speech_ends() -> None:
    component, found = TurnsComponent(TurnsConfig()), []
    plan = new("PlannedAudio", sample_rate=16_000, first_sample=24_000, samples=SPEECH)
    component.handle("agent/audio_planned", plan, 0)
    wish = new("AgentIntent", intent=constants("AgentIntent")["THINKING"], hold_s=0.2)
    for first in range(0, 48_000, BLOCK):
        outputs = list(component.handle("user/audio", block(first), 0))
        if first == 3200:
            outputs += component.handle("agent/intent_request", wish, 0)
        found += [output.message for output in outputs if output.topic == "agent/intent"]
    assert [message.intent for message in found] == [
        Intent.LISTENING, Intent.THINKING, Intent.LISTENING, Intent.ABOUT_TO_SPEAK, Intent.SPEAKING,
        Intent.LISTENING,
    ]  # fmt: skip
    speaking = found[4]
    assert (speaking.since_sample, speaking.speech_first_sample) == (24_000, 24_000)
    assert speaking.speech_end_sample == 40_000
    assert speaking.header.stamp == 10**9 + 24_000 * 62_500
    assert found[1].source == Source.DIALOGUE


def test_intents_are_numbered_as_in_the_message() -> None:
    numbers = constants("AgentIntent")
    assert {member.name: int(member) for kind in (Intent, Source) for member in kind} == numbers
