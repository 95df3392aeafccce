"""An inference process that was started again takes the conversation up where it was, or says why not."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from audio_messages import BEGAN_NS, BLOCK, NS_PER_SAMPLE, audio_chunk
from timar_common.diagnostics import Level
from timar_common.messages import Header, new
from timar_common.pcm import int16_to_float
from timar_inference.config import InferenceConfig
from timar_inference.inference_component import InferenceComponent
from timar_inference.turn_jobs import StartConversation, TurnRequest

WINDOW_FRAMES = 50
HELD, BACK = 16_000 * 3, 16_000 * 12
"""First sample that the publishers still hold, and what has been heard when inference is back."""
VOICES = np.random.default_rng(0).integers(-9000, 9000, (2, 16_000 * 16)).astype(np.int16)


@pytest.fixture
def component(open_small) -> InferenceComponent:
    runtime = open_small(window_frames=WINDOW_FRAMES)
    config = InferenceConfig()
    component = InferenceComponent(config, runtime, is_restarted=True)
    assert component.hears_past
    component.start(0)
    return component


def time_of(sample: float) -> int:
    return BEGAN_NS + round(sample * NS_PER_SAMPLE)


def plan(component: InferenceComponent, first: int, end: int, now_ns: int) -> None:
    message = new(
        "PlannedAudio",
        header=Header(time_of(first)),
        sample_rate=16_000,
        first_sample=first,
        samples=VOICES[1, first:end],
        revision=3,
    )
    component.handle("agent/audio_planned", message, now_ns)


def come_back(component: InferenceComponent, turn_ns: int = 0) -> tuple[list, list]:
    """Let everything that is held come at once, then what is heard; a job takes so long.

    Returns:
        The jobs, and what was logged.
    """
    jobs, notes = [], []
    for first in range(HELD, BACK, BLOCK):
        component.handle("user/audio", audio_chunk(first, VOICES[0, first : first + BLOCK]), time_of(BACK))
    plan(component, HELD, BACK + 16_000, time_of(BACK))
    now_ns = time_of(BACK)
    for first in range(BACK, BACK + 4 * 16_000 - BLOCK, BLOCK):
        if first % 8_000 == 0 and first + 24_000 <= VOICES.shape[1]:
            plan(component, first + 16_000, first + 24_000, max(now_ns, time_of(first)))
        now_ns = max(now_ns, time_of(first + BLOCK))
        component.handle("user/audio", audio_chunk(first, VOICES[0, first : first + BLOCK]), now_ns)
        while (job := component.next_job(now_ns)) is not None:
            jobs.append(job)
            now_ns += turn_ns
        notes += component.tick(now_ns)
    return jobs, notes


def test_history_begins_a_window_before_and_holds_both_voices(component: InferenceComponent):
    jobs, notes = come_back(component, turn_ns=2_000_000)
    start, *turns = jobs
    assert isinstance(start, StartConversation)
    assert start.conversation_first_sample == pytest.approx(BACK - 640 * WINDOW_FRAMES, abs=4_000)
    refilled = [turn for turn in turns if turn.is_refill]
    assert turns[: len(refilled)] == refilled, "what only fills comes first"
    assert len(refilled) * refilled[0].frames >= 0.9 * WINDOW_FRAMES
    assert len(turns) > len(refilled)
    assert turns[len(refilled)].end_frame * 640 >= BACK
    for one, following in itertools.pairwise(turns):
        assert following.first_frame == one.end_frame
    for turn in refilled[1:]:
        user = VOICES[0, 640 * turn.user_first_frame : 640 * turn.user_end_frame]
        agent = VOICES[1, 640 * turn.first_frame : 640 * turn.end_frame]
        np.testing.assert_array_equal(turn.user_speech, int16_to_float(user))
        np.testing.assert_array_equal(turn.agent_speech, int16_to_float(agent))
    (note,) = notes
    assert note.level is Level.OK
    assert "of history were filled in" in note.text
    assert not component.hears_past


def test_history_that_takes_too_long_is_left_empty_and_said(component: InferenceComponent):
    jobs, notes = come_back(component, turn_ns=300_000_000)
    (note,) = notes
    assert note.level is Level.WARN
    assert "it begins fresh" in note.text
    starts = [job for job in jobs if isinstance(job, StartConversation)]
    assert len(starts) == 2
    after = [job for job in jobs[jobs.index(starts[1]) :] if isinstance(job, TurnRequest)]
    assert after
    assert not any(turn.is_refill for turn in after)


def test_turns_that_only_fill_are_counted_apart(component: InferenceComponent):
    jobs, _ = come_back(component, turn_ns=2_000_000)
    clock = dataclasses.make_dataclass("Clock", ["is_real"])(False)
    clock.now_ns, clock.call = (lambda: time_of(BACK)), lambda function, *a, **k: function(*a, **k)
    for job in jobs[:6]:
        list(component.work(job, clock, lambda: True))
    assert (component.runner.counters.refilled, component.runner.counters.skipped) == (5, 0)
    assert component.report().level is Level.OK


def test_conversation_that_lies_too_far_back_is_given_up_and_a_new_one_begins(open_small):
    """On a full machine inference once fell behind for ever, and the head never moved again."""
    component = InferenceComponent(InferenceConfig(), open_small())
    for first in range(0, 16_000 * 12, BLOCK):
        component.handle("user/audio", audio_chunk(first, VOICES[0, :BLOCK]), time_of(first + BLOCK))
    start, nothing = component.next_job(time_of(BACK)), component.next_job(time_of(BACK))
    assert (type(start), nothing) == (StartConversation, None)
    (note,) = component.tick(time_of(BACK))
    assert note.level is Level.WARN
    assert "does not catch up" in note.text
    component.handle("user/audio", audio_chunk(BACK, VOICES[0, :BLOCK]), time_of(BACK + BLOCK))
    again = component.next_job(time_of(BACK + BLOCK))
    assert isinstance(again, StartConversation)
    assert again.conversation_id != start.conversation_id


def test_first_start_hears_no_past(open_small):
    assert not InferenceComponent(InferenceConfig(), open_small()).hears_past
