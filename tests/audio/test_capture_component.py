"""The capture component: what a source captured in, user/audio_raw and user/audio out."""

from __future__ import annotations

import numpy as np
import pytest
from audio_messages import BEGAN_NS, BLOCK, NS_PER_SAMPLE, audio_chunk, published
from timar_audio.capture_component import CaptureComponent
from timar_audio.capture_config import CaptureConfig
from timar_audio.sources import Sound
from timar_common.component import Output
from timar_common.diagnostics import Level


def captured(component: CaptureComponent, position: int, samples: np.ndarray) -> list[Output]:
    end = position + samples.size
    now_ns = BEGAN_NS + end * NS_PER_SAMPLE
    blocks = component.blocks_of(Sound(samples, float(end), now_ns))
    return [output for block in blocks for output in component.publish(block, now_ns)]


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(samples) * 3000).astype(np.int16)


def test_both_topics_carry_the_same_block_with_the_time_of_its_sound():
    component = CaptureComponent(CaptureConfig(device_latency_ms=10.0))
    sound = noise(10 * BLOCK)
    outputs = captured(component, 0, sound)
    for topic in ("user/audio_raw", "user/audio"):
        messages = published(outputs, topic)
        assert [message.first_sample for message in messages] == list(range(0, 10 * BLOCK, BLOCK))
        np.testing.assert_array_equal(np.concatenate([m.samples for m in messages]), sound)
        for message in messages:
            heard_ns = BEGAN_NS + message.first_sample * NS_PER_SAMPLE - 10_000_000
            assert abs(message.header.stamp - heard_ns) < 1000


def test_silence_takes_the_place_of_a_source_that_is_gone():
    component = CaptureComponent(CaptureConfig())
    captured(component, 0, noise(10 * BLOCK))
    component.failure, component.outages = "the microphone has vanished", 1
    later_ns = BEGAN_NS + 20 * BLOCK * NS_PER_SAMPLE
    blocks = component.fill_until(later_ns)
    assert [block.filled_samples for block in blocks] == [BLOCK] * 10
    report = component.report()
    assert (report.level, report.message) == (Level.ERROR, "the microphone has vanished")
    assert (report.values["samples_lost"], report.values["outages"]) == (10 * BLOCK, 1)


def test_a_start_after_a_stop_begins_a_conversation_at_sample_0():
    component = CaptureComponent(CaptureConfig())
    for _ in range(2):
        list(component.start(BEGAN_NS))
        (first, *_) = published(captured(component, 0, noise(2 * BLOCK)), "user/audio_raw")
        assert (first.first_sample, first.filled_samples) == (0, 0)
        list(component.stop(BEGAN_NS))


def test_user_audio_waits_for_agent_audio_of_its_position_and_not_for_ever():
    component = CaptureComponent(CaptureConfig(echo_suppression="filter", echo_wait_ms=40))
    assert component.inputs == ("agent/audio",)
    list(component.handle("agent/audio", audio_chunk(0, noise(BLOCK, 1)), BEGAN_NS))
    outputs = captured(component, 0, noise(3 * BLOCK))
    assert len(published(outputs, "user/audio_raw")) == 3
    assert [message.first_sample for message in published(outputs, "user/audio")] == [0]
    matched = component.handle("agent/audio", audio_chunk(BLOCK, noise(BLOCK, 2)), BEGAN_NS)
    assert [message.first_sample for message in published(matched, "user/audio")] == [BLOCK]
    late_ns = BEGAN_NS + 3 * BLOCK * NS_PER_SAMPLE + 41_000_000
    (block,) = component.blocks_of(Sound(noise(BLOCK), 4.0 * BLOCK, late_ns))
    unmatched = component.publish(block, late_ns)
    assert [message.first_sample for message in published(unmatched, "user/audio")] == [2 * BLOCK]
    assert component.report().values["echo_unmatched_blocks"] == 1


def test_a_file_without_a_path_is_refused():
    with pytest.raises(ValueError, match="source is 'file' but file is empty"):
        CaptureConfig(source="file")
