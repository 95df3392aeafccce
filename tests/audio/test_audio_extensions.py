"""The example packages of the audio extension points, installed as a third party would install them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from audio_messages import BEGAN_NS, BLOCK, NS_PER_SAMPLE, audio_chunk, published
from example_packages import install_example
from timar_audio.playback_component import PlaybackComponent
from timar_audio.playback_config import PlaybackConfig
from timar_audio.turns_component import TurnsComponent
from timar_audio.turns_config import TurnsConfig
from timar_common.jobs import RealTime


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def install_package(name: str) -> None:
        monkeypatch.syspath_prepend(str(install_example(name, tmp_path)))

    return install_package


def test_an_installed_end_of_turn_model_is_found_by_its_name_and_asked(install):
    with pytest.raises(ValueError, match="end_of_turn is 'falling_level', expected one of"):
        TurnsComponent(TurnsConfig(end_of_turn="falling_level"))
    install("timar_example_end_of_turn")
    component = TurnsComponent(TurnsConfig(end_of_turn="falling_level"))
    sound = np.random.default_rng(0).standard_normal(64_000) * 3.0
    sound[8000:40_000] *= np.linspace(2000, 200, 32_000)
    outputs = []
    for position in range(0, sound.size, BLOCK):
        block = audio_chunk(position, sound[position : position + BLOCK].astype(np.int16))
        outputs += component.handle("user/audio", block, BEGAN_NS)
        if (job := component.next_job(BEGAN_NS)) is not None:  # as a host's worker does
            list(component.work(job, RealTime(), lambda: False))
    assert [event.kind for event in published(outputs, "turn_events")] == [0, 7, 1]
    end = published(outputs, "turn_events")[-1]
    assert end.decision_delay_s <= 0.3  # sooner than by pause_ms
    assert "end_of_turn_p50_ms" in component.report().values


def test_an_installed_speech_source_is_found_by_its_name_and_heard(install):
    install("timar_example_speech_source")
    component = PlaybackComponent(PlaybackConfig(source="metronome"))
    assert component.inputs == ("user/audio_raw",)
    outputs = list(component.start(BEGAN_NS))
    for position in range(0, 80_000, BLOCK):
        block = audio_chunk(position, np.zeros(BLOCK, np.int16))
        now_ns = BEGAN_NS + (position + BLOCK) * NS_PER_SAMPLE
        outputs += component.handle("user/audio_raw", block, now_ns)
    heard = np.concatenate([message.samples for message in published(outputs, "agent/audio")])
    loud = np.flatnonzero(np.abs(heard) > 4000)
    assert {int(place) // 32_000 for place in loud} == {1, 2}
    assert all(place % 32_000 < 1600 for place in loud)
    planned = published(outputs, "agent/audio_planned")
    assert [message.first_sample for message in planned[:2]] == [32_000, 64_000]
