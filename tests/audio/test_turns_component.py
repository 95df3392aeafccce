"""The turns component: blocks of both speakers in, voice activity, turn events and floor out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from audio_messages import BEGAN_NS, BLOCK, NS_PER_SAMPLE, audio_chunk, published
from timar_audio.turns_component import TurnsComponent
from timar_audio.turns_config import TurnsConfig
from timar_common.component import Log, Output
from timar_common.messages import Header, Message, new

START, END = 0, 1


def noise_bursts(seconds: float, *spoken: tuple[float, float]) -> np.ndarray:
    """Return quiet noise with loud noise in the given stretches [s], which webrtcvad takes for speech."""
    samples = np.random.default_rng(0).standard_normal(round(seconds * 16_000)) * 3.0
    for start_s, end_s in spoken:
        samples[round(start_s * 16_000) : round(end_s * 16_000)] *= 2000
    return np.clip(samples, -32_768, 32_767).astype(np.int16)


def feed(
    component: TurnsComponent, samples: np.ndarray, topic: str = "user/audio", began_ns: int = BEGAN_NS
) -> list[Output]:
    outputs: list[Output] = []
    for place in range(0, samples.size, BLOCK):
        message = audio_chunk(place, samples[place : place + BLOCK], began_ns)
        outputs += component.handle(topic, message, message.header.stamp + 25_000_000)
    return outputs


def joint_state(at_ns: int, speed_rad_s: float) -> Message:
    return new("sensor_msgs/msg/JointState", header=Header(at_ns), name=["neck"], velocity=[speed_rad_s])


@pytest.fixture
def gated(tmp_path: Path) -> TurnsComponent:
    path = tmp_path / "motion_noise.yaml"
    path.write_text(
        "margin_db: 6.0\nnoise_floor_dbfs: -80.0\njoints:\n  neck: {per_speed: 0.5, per_speed_squared: 0.0}\n"
    )
    return TurnsComponent(TurnsConfig(motion_noise_file=str(path)))


def test_a_turn_is_published_with_the_monotonic_time_of_its_sound():
    component = TurnsComponent(TurnsConfig())
    outputs = feed(component, noise_bursts(3.0, (0.5, 1.5)))
    activity = published(outputs, "voice_activity")
    assert [message.first_sample for message in activity] == list(range(0, 48_000, BLOCK))
    assert {message.header.frame_id for message in activity} == {"microphone"}
    events = published(outputs, "turn_events")
    assert [event.kind for event in events] == [START, END]
    for event, sample in zip(events, (events[0].first_sample, events[1].end_sample), strict=True):
        assert event.header.stamp == BEGAN_NS + sample * NS_PER_SAMPLE
    assert [message.state for message in published(outputs, "floor")] == [1, 0]
    assert component.report().values["starts"] == 1


def test_stop_ends_the_turn_that_is_going_on_and_a_start_after_it_is_as_new():
    component = TurnsComponent(TurnsConfig())
    outputs = feed(component, noise_bursts(2.0, (0.5, 2.0)))
    assert [event.kind for event in published(outputs, "turn_events")] == [START]
    ended = list(component.stop(BEGAN_NS + 2_000_000_000))
    (end,) = published(ended, "turn_events")
    assert (end.kind, end.speech_turn) == (END, 0)
    assert abs(end.end_sample - 32_000) <= BLOCK
    assert [message.state for message in published(ended, "floor")] == [0]
    assert list(component.stop(BEGAN_NS + 2_000_000_000)) == []

    component.start(BEGAN_NS + 3_000_000_000)
    later = feed(component, noise_bursts(2.0, (0.5, 2.0)), began_ns=BEGAN_NS + 3_000_000_000)
    (start,) = published(later, "turn_events")
    assert (start.kind, start.speech_turn) == (START, 1)
    assert not any(isinstance(output, Log) for output in later)


def test_a_restarted_counter_ends_every_turn_and_says_so():
    component = TurnsComponent(TurnsConfig())
    feed(component, noise_bursts(2.0, (0.5, 2.0)))
    outputs = feed(component, noise_bursts(2.0), began_ns=BEGAN_NS + 4_000_000_000)
    assert [event.kind for event in published(outputs, "turn_events")] == [END]
    assert sum(isinstance(output, Log) for output in outputs) == 1
    assert component.report().values["clock_restarts"] == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sample_rate": 48_000}, "sample_rate is 48000"),
        ({"samples": np.zeros(0, np.int16)}, "0 samples"),
        ({"first_sample": -BLOCK}, "first_sample is -320"),
        ({"first_sample": 1 << 50}, "at most"),
        # One broken index alone, its stamp that of its sound, once counted as a restart of the next block.
        ({"first_sample": 1 << 50, "header": Header(BEGAN_NS + 200_000_000)}, "at most"),
        ({"filled_samples": BLOCK + 1}, "filled_samples is 321"),
    ],
)
def test_an_impossible_block_is_rejected_and_changes_nothing(changes, words):
    component = TurnsComponent(TurnsConfig())
    samples = noise_bursts(2.0, (0.5, 1.0))
    wanted = feed(TurnsComponent(TurnsConfig()), samples)
    before = feed(component, samples[: 10 * BLOCK])
    with pytest.raises(ValueError, match=words):
        list(component.handle("user/audio", audio_chunk(10 * BLOCK, samples[:BLOCK], **changes), BEGAN_NS))
    after: list[Output] = []
    for place in range(10 * BLOCK, samples.size, BLOCK):
        after += component.handle("user/audio", audio_chunk(place, samples[place : place + BLOCK]), BEGAN_NS)
    assert before + after == wanted


def test_joint_states_are_read_only_with_a_calibration(gated):
    assert "joint_states" not in TurnsComponent(TurnsConfig()).inputs
    assert "joint_states" in gated.inputs


@pytest.mark.parametrize(("speed_rad_s", "starts"), [(0.0, 1), (2.0, 0)])
def test_the_noise_of_moving_joints_is_no_speech(gated, speed_rad_s, starts):
    samples = noise_bursts(2.0, (0.5, 1.5))
    outputs: list[Output] = []
    for place in range(0, samples.size, BLOCK):
        message = audio_chunk(place, samples[place : place + BLOCK])
        now_ns = message.header.stamp + 25_000_000
        outputs += gated.handle("joint_states", joint_state(message.header.stamp, speed_rad_s), now_ns)
        outputs += gated.handle("user/audio", message, now_ns)
    kinds = [event.kind for event in published(outputs, "turn_events")]
    assert kinds.count(START) == starts
    assert (gated.report().values["motion_gated_blocks"] == 0) == bool(starts)


def test_the_users_audio_waits_for_joint_speeds_but_not_for_ever_and_not_beyond_a_stop(gated):
    samples = np.zeros(BLOCK, np.int16)
    first, second = audio_chunk(0, samples), audio_chunk(BLOCK, samples)
    now_ns = BEGAN_NS + 25_000_000
    assert list(gated.handle("user/audio", first, now_ns)) == []
    assert published(list(gated.handle("agent/audio", audio_chunk(0, samples), now_ns)), "voice_activity")
    assert list(gated.handle("user/audio", second, now_ns + 20_000_000)) == []
    late = list(gated.handle("joint_states", joint_state(BEGAN_NS - 1, 0.0), now_ns + 60_000_000))
    assert [message.first_sample for message in published(late, "voice_activity")] == [0]
    rest = list(gated.stop(now_ns + 61_000_000))
    assert [message.first_sample for message in published(rest, "voice_activity")] == [BLOCK]


def test_joint_states_without_speeds_are_rejected(gated):
    message = new("sensor_msgs/msg/JointState", header=Header(1), name=["neck"], position=[0.0])
    with pytest.raises(ValueError, match="0 velocities for 1 joints"):
        gated.handle("joint_states", message, 2)
