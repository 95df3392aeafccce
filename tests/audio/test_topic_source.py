"""Another node's microphone: its messages on the conversation's clock, a lost one filled."""

from __future__ import annotations

import numpy as np
import pytest
from timar_audio.adapters import AudioCommonConfig, VoiceTracker
from timar_audio.capture import Capture
from timar_audio.external_audio import ExternalAudio
from timar_audio.topic_source import TopicSource

CHUNK = 512
CHUNK_NS = CHUNK * 62_500
START_NS = 5_000_000_000


class Sender:
    """A foreign microphone in a time of its own."""

    def __init__(self, *, is_stamped: bool, channel: int = -1) -> None:
        self.now_ns = START_NS
        self.source = TopicSource("audio", channel, 800, 5000, clock=lambda: self.now_ns)
        self.capture = Capture(320)
        self.blocks: list = []
        self._is_stamped = is_stamped
        self._sent = 0
        self._rng = np.random.default_rng(0)
        self.source.open()

    def send(self, messages: int, *, lose: int = 0, held_up_ms: float = 0.0) -> None:
        """Send so many messages after losing some; those held up all arrive at the end."""
        self._sent += lose
        waiting = []
        for _ in range(messages):
            places = np.arange(self._sent * CHUNK, (self._sent + 1) * CHUNK)
            samples = ((places % 20_000 + 100) / 32_768).astype(np.float32)
            first_ns = START_NS + self._sent * CHUNK_NS
            waiting.append((ExternalAudio(samples[:, None], 16_000), first_ns))
            self._sent += 1
            self.now_ns = first_ns + CHUNK_NS
            if not held_up_ms:
                self._deliver(waiting)
        self.now_ns += round(held_up_ms * 1e6)
        self._deliver(waiting)

    def _deliver(self, waiting: list) -> None:
        for sound, first_ns in waiting:
            jitter_ns = round(self._rng.exponential(1e6))
            self.source.push(sound, first_ns if self._is_stamped else None, self.now_ns + jitter_ns)
            for part in self.source.read():
                self.blocks += self.capture.push(part)
        waiting.clear()

    def heard(self) -> np.ndarray:
        return np.concatenate([block.samples for block in self.blocks])


@pytest.mark.parametrize("is_stamped", [True, False])
def test_every_sample_comes_once_and_is_stamped_in_its_time(is_stamped):
    sender = Sender(is_stamped=is_stamped)
    sender.send(200)
    sound = sender.heard()
    np.testing.assert_array_equal(sound, np.arange(sound.size) % 20_000 + 100)
    errors_ms = [(b.monotonic_ns - START_NS - b.first_sample * 62_500) / 1e6 for b in sender.blocks[100:]]
    assert np.abs(errors_ms).max() < 3.0


@pytest.mark.parametrize("is_stamped", [True, False])
@pytest.mark.parametrize("lost", [1, 5])
def test_lost_messages_are_filled_with_silence_of_their_length(is_stamped, lost):
    sender = Sender(is_stamped=is_stamped)
    sender.send(200)
    sender.send(200, lose=lost)
    assert sender.capture.samples_lost == pytest.approx(lost * CHUNK, abs=0.25 * CHUNK)
    last = sender.blocks[-1]
    truth_ms = (last.monotonic_ns - START_NS - last.first_sample * 62_500) / 1e6
    assert abs(truth_ms) < 5.0


@pytest.mark.parametrize("is_stamped", [True, False])
def test_messages_that_were_only_held_up_fill_nothing(is_stamped):
    sender = Sender(is_stamped=is_stamped)
    sender.send(100)
    for _ in range(5):
        sender.send(10, held_up_ms=150.0)
        sender.send(30)
    assert sender.capture.samples_lost == 0
    sound = sender.heard()
    np.testing.assert_array_equal(sound, np.arange(sound.size) % 20_000 + 100)


def test_a_topic_that_falls_silent_is_gone_until_it_sounds_again():
    sender = Sender(is_stamped=True)
    sender.send(20)
    sender.now_ns += 900_000_000
    with pytest.raises(OSError, match=r"'audio' brought no sound for 0\.9 s; is its node running"):
        sender.source.read()
    sender.source.close()
    with pytest.raises(OSError, match="still brings no sound"):
        sender.source.open()
    sender.source.push(ExternalAudio(np.zeros((CHUNK, 1), np.float32), 16_000), None, sender.now_ns)
    assert sender.source.open() == "topic 'audio' as microphone"
    assert sum(part.samples.size for part in sender.source.read()) == CHUNK


def test_stereo_at_48_khz_is_mixed_and_resampled_or_one_channel_picked():
    for channel, wanted in ((-1, 0.25), (1, 0.5)):
        sender = Sender(is_stamped=True, channel=channel)
        stereo = np.repeat(np.array([[0.0, 0.5]], np.float32), 4800, axis=0)
        sender.source.push(ExternalAudio(stereo, 48_000), START_NS, START_NS + 100_000_000)
        samples = np.concatenate([part.samples for part in sender.source.read()])
        assert samples.size == pytest.approx(1600, abs=200)
        assert samples[400:1200] / 32_768 == pytest.approx(wanted, abs=0.01)


def test_a_sender_that_changes_rate_channels_and_block_size_is_followed():
    sender, end_ns = Sender(is_stamped=True), START_NS
    kinds = ((48_000, 2, 480), (16_000, 1, 512), (44_100, 1, 100), (44_100, 6, 4410), (48_000, 2, 960))
    for rate_hz, channels, size in kinds:
        for _ in range(round(2.0 * rate_hz / size)):
            first_ns = end_ns
            places_s = (first_ns - START_NS) / 1e9 + np.arange(size) / rate_hz
            tone = (0.5 * np.sin(2 * np.pi * 200 * places_s)).astype(np.float32)
            end_ns += round(size * 1e9 / rate_hz)
            sender.now_ns = end_ns
            sound = ExternalAudio(np.repeat(tone[:, None], channels, axis=1), rate_hz)
            sender._deliver([(sound, first_ns)])
    heard = sender.heard() / 32_768
    wanted = 0.5 * np.sin(2 * np.pi * 200 * np.arange(heard.size) / 16_000)
    assert heard.size == pytest.approx(16_000 * 2 * len(kinds), abs=800)
    assert sender.capture.samples_lost == 0
    for number in range(len(kinds)):
        part = slice(32_000 * number + 4000, 32_000 * number + 28_000)
        assert np.corrcoef(heard[part], wanted[part])[0, 1] > 0.99, "it stands in its place"


def test_a_channel_that_is_not_there_any_more_does_not_end_the_listening():
    sender = Sender(is_stamped=True, channel=1)
    sender.source.push(ExternalAudio(np.zeros((512, 1), np.float32), 16_000), None, START_NS)
    with pytest.raises(OSError, match=r"topic 'audio': .*channel"):
        sender.source.read()
    sender.source.push(ExternalAudio(np.zeros((512, 2), np.float32), 16_000), None, START_NS)
    sender.source.open()
    assert sum(part.samples.size for part in sender.source.read()) > 0


def test_a_stamp_of_another_clock_is_left_out_and_a_reader_that_sleeps_loses_the_oldest():
    sender = Sender(is_stamped=True)
    sound = ExternalAudio(np.zeros((CHUNK, 1), np.float32), 16_000)
    sender.now_ns += 10_000_000_000
    sender.source.push(sound, 17, sender.now_ns)
    assert sender.source.odd_stamps == 1
    assert sender.source.read()[0].monotonic_ns == sender.now_ns
    for _ in range(503):
        sender.source.push(sound, sender.now_ns, sender.now_ns)
    assert sender.source.dropped == 3


def test_a_voice_has_an_id_while_it_is_heard_and_a_new_one_after_a_long_silence():
    names = iter("abc")
    tracker = VoiceTracker(1.0, lambda: next(names))
    story = []
    for block, is_speaking in enumerate([False] * 5 + [True] * 5 + [False] * 40 + [True] * 2 + [False] * 60):
        if tracker.observe((block + 1) * 320, is_speaking):
            story.append((tracker.voice and tracker.voice.id, tracker.voice and tracker.voice.is_speaking))
    assert story == [("a", True), ("a", False), ("a", True), ("a", False), (None, None)]
    tracker.observe(320, is_speaking=True)  # the clock began anew
    assert tracker.voice.id == "b"


def test_an_adapter_that_would_hear_itself_is_refused():
    with pytest.raises(ValueError, match="must differ: the head would hear or say itself"):
        AudioCommonConfig(user_topic="audio", speech_topic="audio")
