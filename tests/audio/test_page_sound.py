"""The browser's page as microphone and loudspeaker, simulated: crystals, lost blocks, a page that changes."""

from __future__ import annotations

import numpy as np
import pytest
from timar_audio.capture import Capture
from timar_audio.page_sound import MAX_BUFFER_MS, PageLoudspeaker, PageSound, PageSource
from timar_audio.playback import Playback
from timar_audio.playback_config import PlaybackConfig

RATE_HZ = 48_000
BLOCK = 1024
START_NS = 7_000_000_000


class Page:
    """A page of its own crystal, whose blocks come with the jitter of a browser."""

    def __init__(self, ppm: float = 0.0, rate_hz: int = RATE_HZ) -> None:
        self.rate_hz, self.counter, self.name = rate_hz, 0, "first"
        self._ns_per_frame = 1e9 / rate_hz / (1 + ppm * 1e-6)
        self._rng = np.random.default_rng(0)

    def block(self, samples: np.ndarray | None = None, **fields: object) -> tuple[PageSound, int]:
        """Return the next block, and when it comes [ns]."""
        first, self.counter = self.counter, self.counter + BLOCK
        end_ns = START_NS + round(self.counter * self._ns_per_frame)
        jitter_ns = round(self._rng.uniform(0, 6e6))
        if samples is None:
            samples = (np.arange(first, self.counter) % 20_000 + 100).astype(np.int16)
        sound = PageSound(self.name, self.rate_hz, first, BLOCK, samples, end_ns + jitter_ns, **fields)
        return sound, end_ns + jitter_ns + round(self._rng.uniform(1e6, 8e6))

    def true_ns(self, frame: float) -> float:
        return START_NS + frame * self._ns_per_frame


class Hearing:
    """The source with capture behind it."""

    def __init__(self) -> None:
        self.now_ns = START_NS
        self.source = PageSource(800, 5000, clock=lambda: self.now_ns)
        self.capture = Capture(320)
        self.blocks: list = []
        self.source.open()

    def hear(self, sound: PageSound, arrived_ns: int) -> None:
        self.now_ns = arrived_ns
        self.source.push_page(sound, arrived_ns)
        for part in self.source.read():
            self.blocks += self.capture.push(part)

    def samples(self) -> np.ndarray:
        return np.concatenate([block.samples for block in self.blocks])


def test_sound_at_16_khz_comes_sample_for_sample_and_a_lost_block_is_silence_of_its_length():
    page, hearing = Page(rate_hz=16_000), Hearing()
    for number in range(200):
        sound, arrived_ns = page.block()
        if number not in (50, 51, 120):
            hearing.hear(sound, arrived_ns)
    heard = hearing.samples()
    expected = np.arange(heard.size) % 20_000 + 100
    for lost in (50, 51, 120):
        expected[lost * BLOCK : (lost + 1) * BLOCK] = 0
    np.testing.assert_array_equal(heard, expected)
    assert hearing.capture.samples_lost == 3 * BLOCK
    assert sum(block.filled_samples for block in hearing.blocks) == 3 * BLOCK


@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
def test_at_other_rates_what_follows_a_hole_keeps_its_place(rate_hz):
    page, hearing = Page(rate_hz=rate_hz), Hearing()
    impulse = np.zeros(BLOCK, np.int16)
    impulse[BLOCK // 2] = 30_000
    for number in range(400):
        sound, arrived_ns = page.block(impulse if number == 350 else np.zeros(BLOCK, np.int16))
        if number % 20 != 7:
            hearing.hear(sound, arrived_ns)
    heard = hearing.samples()
    place = (350 * BLOCK + BLOCK // 2) * 16_000 / rate_hz
    assert int(np.abs(heard.astype(int)).argmax()) == pytest.approx(place, abs=1.0)
    assert hearing.capture.samples_lost == pytest.approx(20 * BLOCK * 16_000 / rate_hz, abs=60)


@pytest.mark.parametrize("ppm", [-300.0, 0.0, 200.0])
def test_drift_of_the_pages_clock_is_tracked(ppm):
    page, hearing = Page(ppm), Hearing()
    for _ in range(1500):
        hearing.hear(*page.block())
    assert hearing.capture.clock.rate_error_ppm == pytest.approx(ppm, abs=25.0)
    last = hearing.blocks[-1]
    assert abs(last.monotonic_ns - page.true_ns(last.first_sample * 3)) < 6e6
    assert hearing.capture.samples_lost == 0


def test_a_page_that_is_opened_anew_goes_on_in_its_time():
    page, hearing = Page(), Hearing()
    for _ in range(50):
        hearing.hear(*page.block())
    before = hearing.capture.samples_in
    away_ns = 400_000_000
    again = Page()
    again.name = "second"
    for number in range(50):
        sound, arrived_ns = again.block()
        shift_ns = round(page.true_ns(page.counter)) - START_NS + away_ns
        sound = PageSound("second", RATE_HZ, sound.first_frame, BLOCK, sound.samples, sound.end_ns + shift_ns)
        if number == 0:
            with pytest.raises(OSError, match="was opened anew"):
                hearing.hear(sound, arrived_ns + shift_ns)
            hearing.blocks += hearing.capture.fill_until(arrived_ns + shift_ns)
            hearing.source.close()
            with pytest.raises(OSError, match="still brings no sound"):
                hearing.source.open()
        elif number == 1:
            hearing.source.push_page(sound, arrived_ns + shift_ns)
            hearing.source.open()
            for part in hearing.source.read():
                hearing.blocks += hearing.capture.push(part)
        else:
            hearing.hear(sound, arrived_ns + shift_ns)
    assert before < hearing.capture.samples_in
    # The time away, the block by which the new page was noticed, and what the resampler held.
    assert 0.4 * 16_000 <= hearing.capture.samples_lost <= 0.4 * 16_000 + BLOCK / 3 + 0.04 * 16_000


def test_a_page_that_is_silent_is_gone_with_what_to_do():
    page, hearing = Page(), Hearing()
    hearing.hear(*page.block())
    hearing.now_ns += 900_000_000
    with pytest.raises(OSError, match=r"page brought no sound for 0\.9 s; open the address.*press Start"):
        hearing.source.read()


def test_what_the_browser_says_it_lost_is_counted_over_all_pages():
    page, hearing = Page(), Hearing()
    hearing.hear(*page.block(dropped_frames=30))
    hearing.hear(*page.block(dropped_frames=50))
    page.name = "second"
    hearing.source.push_page(page.block(dropped_frames=7)[0], hearing.now_ns)
    assert hearing.source.dropped_frames == 57


@pytest.mark.parametrize(
    ("fields", "finding"),
    [
        ({"rate_hz": 7_000}, "rate is 7000 Hz, expected 8000..192000"),
        ({"frames": 0}, "has 0 frames"),
        ({"first_frame": -1}, "at -1"),
        ({"samples": np.zeros(5, np.int16)}, "5 samples of 1024 frames"),
        ({"output_latency_ms": float("nan")}, "is nan ms late"),
    ],
)
def test_a_page_sound_that_cannot_be_is_rejected(fields, finding):
    known = {"page": "p", "rate_hz": RATE_HZ, "first_frame": 0, "frames": BLOCK, "end_ns": START_NS}
    with pytest.raises(ValueError, match=finding):
        PageSound(**(known | {"samples": np.zeros(BLOCK, np.int16)} | fields))


class Speaking:
    """Playback on a microphone's clock of its own, with the page as loudspeaker."""

    def __init__(self, page: Page, microphone_ppm: float, latency_ms: float) -> None:
        self.page, self.latency_ms = page, latency_ms
        self.playback = Playback(PlaybackConfig(sink="browser"), self)
        self.playback.has_loudspeaker = True
        self.loudspeaker = PageLoudspeaker(self.playback, 120)
        self.played = np.zeros(0, np.int16)
        self.notes, self.has_ended = (), False
        self._ns_per_sample = 62_500 / (1 + microphone_ppm * 1e-6)
        self._user_end = 0

    def next_chunk(self, planned_end: int, earliest: int, limit: int):
        """Speak an impulse at every second: SpeechSource."""
        first = max(planned_end, earliest)
        samples = np.zeros(limit, np.int16)
        samples[(-first) % 16_000 :: 16_000] = 20_000
        return first, samples

    def run(self, blocks: int, stall: range = range(0)) -> None:
        for number in range(blocks):
            sound, arrived_ns = self.page.block(np.zeros(0, np.int16), output_latency_ms=self.latency_ms)
            while START_NS + (self._user_end + 320) * self._ns_per_sample < arrived_ns:
                first_ns = round(START_NS + self._user_end * self._ns_per_sample)
                self.playback.observe_user(self._user_end, 320, first_ns, arrived_ns)
                self._user_end += 320
                self.playback.advance(arrived_ns)
            if number in stall:
                continue
            first_frame, samples = self.loudspeaker.follow(sound, arrived_ns)
            end = first_frame + samples.size
            if end > self.played.size:
                self.played = np.concatenate([self.played, np.zeros(end - self.played.size, np.int16)])
            self.played[first_frame:end] = samples

    def errors_ms(self, from_s: float) -> np.ndarray:
        """Return by how much each impulse is heard later than the microphone counts its second."""
        peaks = np.nonzero(self.played > 0.5 * self.played.max())[0]
        firsts = peaks[np.insert(np.diff(peaks) > RATE_HZ // 4, 0, True)]
        heard_ns = np.array([self.page.true_ns(frame) for frame in firsts]) + 3e6 + self.latency_ms * 1e6
        seconds = (heard_ns - START_NS) / (16_000 * self._ns_per_sample)
        errors = 1000 * (seconds - np.round(seconds))
        return errors[firsts > from_s * RATE_HZ]


@pytest.mark.parametrize(("page_ppm", "microphone_ppm"), [(0.0, 0.0), (150.0, -150.0)])
def test_voice_leaves_the_page_when_the_microphone_counts_it(page_ppm, microphone_ppm):
    speaking = Speaking(Page(page_ppm), microphone_ppm, latency_ms=35.0)
    speaking.run(1500)
    errors = speaking.errors_ms(from_s=8.0)
    assert errors.size > 20
    assert np.abs(errors).max() < 4.0


def test_a_stall_is_passed_over_and_what_follows_is_in_time():
    speaking = Speaking(Page(), 0.0, latency_ms=20.0)
    speaking.run(1500, stall=range(690, 720))
    assert speaking.playback.samples_missed > 0
    errors = speaking.errors_ms(from_s=17.0)
    assert errors.size > 10
    assert np.abs(errors).max() < 4.0


def test_voice_that_comes_too_late_makes_the_pages_buffer_longer_up_to_a_limit():
    page = Page()
    loudspeaker = PageLoudspeaker(Playback(PlaybackConfig(sink="browser"), None), 120)
    for number in range(60):
        loudspeaker.follow(*page.block(np.zeros(0, np.int16), late_frames=number))
    report = loudspeaker.report(START_NS)
    assert report.values["page_buffer_ms"] == MAX_BUFFER_MS
    assert report.values["speaker_late_ms"] == pytest.approx(59 / 48)
    assert not loudspeaker.is_playing(START_NS + 10_000_000_000)
