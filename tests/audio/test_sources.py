"""Files in real time: on time, in order, without drift, whenever they are asked."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from timar_audio.capture_config import CaptureConfig
from timar_audio.sources import FileSource, PacedFile
from timar_common.wav import SoundFile

START_NS = 123_456_789


@pytest.fixture(scope="module")
def ramp(tmp_path_factory):
    path = tmp_path_factory.mktemp("ramp") / "ramp.wav"
    soundfile.write(path, np.arange(1, 16_001, dtype=np.int16), 16_000)
    return path


@settings(deadline=None, max_examples=60)
@given(steps=st.lists(st.integers(0, 300_000_000), min_size=1, max_size=40))
def test_whenever_it_is_asked_every_due_block_comes_once_and_none_early(ramp, steps):
    paced = PacedFile(SoundFile(ramp), 320, START_NS)
    now_ns, sounds = START_NS, []
    for step_ns in steps:
        now_ns += step_ns
        sounds += paced.take(now_ns)
        assert len(sounds) == (now_ns - START_NS) * 16_000 // 1_000_000_000 // 320
        assert all(sound.monotonic_ns <= now_ns for sound in sounds)
    heard = np.concatenate([sound.samples for sound in sounds]) if sounds else np.zeros(0)
    wanted = np.arange(1, heard.size + 1)
    np.testing.assert_array_equal(heard, np.where(wanted <= 16_000, wanted, 0))


def test_a_day_later_a_block_is_due_on_the_nanosecond(ramp):
    paced = PacedFile(SoundFile(ramp), 320, START_NS)
    blocks = 2000
    for _ in range(blocks):
        due_ns = paced.next_due_ns
        (sound,) = paced.take(due_ns)
        assert sound.monotonic_ns == due_ns
    assert paced.next_due_ns == START_NS + (blocks + 1) * 20_000_000


def test_a_very_late_call_is_answered_in_parts_and_loses_nothing(ramp):
    paced = PacedFile(SoundFile(ramp), 320, START_NS)
    late_ns = START_NS + 2_000_000_000
    counts = [len(paced.take(late_ns, limit=30)) for _ in range(5)]
    assert counts == [30, 30, 30, 10, 0]


def test_silence_follows_a_file_and_is_said_once(ramp):
    now_ns = [START_NS]
    said: list[str] = []

    def sleep(seconds: float) -> None:
        now_ns[0] += round(seconds * 1e9) + 1

    source = FileSource(
        CaptureConfig(file=str(ramp)), said.append, lambda _: None, clock=lambda: now_ns[0], sleep=sleep
    )
    source.open()
    sounds = [sound for _ in range(80) for sound in source.read()]
    samples = np.concatenate([sound.samples for sound in sounds])
    np.testing.assert_array_equal(samples[:16_000], np.arange(1, 16_001))
    assert samples.size == 80 * 320
    assert not samples[16_000:].any()
    assert said == ["ramp.wav ended after 1.00 s; silence follows"]


def test_a_truncated_file_is_said_when_it_is_opened(tmp_path):
    path = tmp_path / "cut.wav"
    soundfile.write(path, 0.3 * np.sin(np.arange(16_000)), 16_000)
    path.write_bytes(path.read_bytes()[:20_000])
    said: list[str] = []
    source = FileSource(CaptureConfig(file=str(path)), lambda _: None, said.append)
    source.open()
    source.close()
    assert len(said) == 1
    assert "cut short" in said[0]


def test_a_file_source_without_a_file_says_what_to_give():
    with pytest.raises(ValueError, match="source is 'file' but file is empty; give the path of a WAV file"):
        CaptureConfig(source="file")


def test_a_closed_source_cannot_be_read(ramp):
    source = FileSource(CaptureConfig(file=str(ramp)), lambda _: None, lambda _: None)
    with pytest.raises(OSError, match=r"not open; call open\(\) first"):
        source.read()
