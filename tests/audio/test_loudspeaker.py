"""The agent's samples stay on the microphone's counter though the loudspeaker has a crystal of its own."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from timar_audio.loudspeaker import Loudspeaker, SpeakerDrive
from timar_audio.playback_config import PlaybackConfig
from timar_common.clock import SampleClock
from timar_common.diagnostics import Level

START_NS = 3_000_000_000
RATE_HZ = 48_000
CAPACITY = 2880


class Voice:
    """Hands out sound made from its place, without a pause, and follows a microphone's clock."""

    def __init__(self, sound=lambda places: np.ones(places.size, np.int16)) -> None:
        self.clock = SampleClock()
        self.place = 0
        self.passed_over = 0
        self._sound = sound

    def give(self, samples: int) -> tuple[int, np.ndarray]:
        first = self.place
        self.place += samples
        return first, self._sound(np.arange(first, self.place))

    def give_from(self, first_sample: int) -> None:
        self.passed_over += max(0, first_sample - self.place)
        self.place = max(self.place, first_sample)


class PlaceResampler:
    """Instead of sound, the place in the conversation that each frame is made from."""

    def __init__(self, voice: Voice) -> None:
        self._end = float(voice.place)
        self._next = float(voice.place)

    def push(self, samples: np.ndarray, ratio: float) -> np.ndarray:
        self._end += samples.size
        count = int((self._end - self._next) / ratio)
        places = self._next + ratio * np.arange(count)
        self._next += ratio * count
        return places


class Room:
    """A microphone and a loudspeaker, each with its own error, in simulated time."""

    def __init__(self, drive: SpeakerDrive, voice: Voice, user_ppm: float, speaker_ppm: float) -> None:
        self.drive, self.voice = drive, voice
        self.user_hz = 16_000 * (1 + user_ppm * 1e-6)
        self.speaker_hz = RATE_HZ * (1 + speaker_ppm * 1e-6)
        self.seconds = 0.0
        self._rng = np.random.default_rng(0)

    def true_sample_of_frame(self, frame: float) -> float:
        return frame / self.speaker_hz * self.user_hz

    def run(
        self, seconds: float, step_s: float = 0.02, jitter_s: float = 0.001
    ) -> list[tuple[int, np.ndarray]]:
        written = []
        end = self.seconds + seconds
        while self.seconds < end:
            self.seconds += step_s + self._rng.uniform(0, jitter_s)
            stamp_ns = START_NS + round((self.seconds + self._rng.normal(0, jitter_s)) * 1e9)
            self.voice.clock.observe(int(self.seconds * self.user_hz), stamp_ns)
            played = int(self.seconds * self.speaker_hz)
            room = min(CAPACITY, CAPACITY - (self.drive.written_frames - played))
            if room <= 0:
                continue
            late_ns = round(self._rng.exponential(0.3 * jitter_s) * 1e9)
            self.drive.observe(played, START_NS + round(self.seconds * 1e9) + late_ns)
            first = self.drive.written_frames
            written.append((first, self.drive.render(room, self.voice)))
        return written


@pytest.mark.slow
@pytest.mark.parametrize(("user_ppm", "speaker_ppm"), [(200, -200), (-200, 200), (0, 200)])
def test_an_hour_at_200_ppm_stays_within_2_ms(user_ppm, speaker_ppm):
    voice = Voice()
    drive = SpeakerDrive(RATE_HZ, make_resampler=lambda _: PlaceResampler(voice))
    room = Room(drive, voice, user_ppm, speaker_ppm)
    room.run(10.0)
    errors = []
    for _ in range(60):
        for first, places in room.run(60.0, step_s=0.05):
            errors.append(places[0] - room.true_sample_of_frame(first))
    assert np.abs(errors).max() < 32  # 2 ms
    assert drive.jumps == 1
    assert voice.passed_over < 16_000


def test_clicks_leave_the_loudspeaker_at_their_sample_through_the_real_resampler():
    voice = Voice(clicks)
    drive = SpeakerDrive(RATE_HZ)
    room = Room(drive, voice, 150, -250)
    room.run(5.0)
    first = drive.written_frames
    sound = np.concatenate([frames for _, frames in room.run(60.0)])
    peaks = [int(np.abs(part).argmax()) + start for start, part in parts_with_a_click(sound)]
    samples = np.array([room.true_sample_of_frame(first + peak) for peak in peaks])
    errors = (samples - 4000 + 4000) % 8000 - 4000
    assert len(peaks) >= 115
    assert np.abs(errors).max() < 32  # 2 ms
    assert np.abs(sound).max() > 0.4


def parts_with_a_click(sound: np.ndarray) -> list[tuple[int, np.ndarray]]:
    loud = np.flatnonzero(np.abs(sound) > 0.3)
    starts = loud[np.r_[True, np.diff(loud) > 4800]]
    return [(int(start), sound[start : start + 480]) for start in starts if start + 480 < sound.size]


def test_the_rate_is_never_bent_by_more_than_can_be_heard():
    voice = Voice()
    ratios = []

    class Spy(PlaceResampler):
        def push(self, samples: np.ndarray, ratio: float) -> np.ndarray:
            ratios.append(ratio * RATE_HZ / 16_000)
            return super().push(samples, ratio)

    drive = SpeakerDrive(RATE_HZ, make_resampler=lambda _: Spy(voice))
    Room(drive, voice, 300, -300).run(60.0, jitter_s=0.004)
    assert np.abs(np.array(ratios) - 1).max() <= 3.0e-3
    assert np.abs(np.array(ratios[-500:]) - 1.0006).max() < 5e-4


def test_until_both_clocks_are_known_there_is_silence():
    drive = SpeakerDrive(RATE_HZ)
    assert not drive.render(480, Voice()).any()
    assert drive.written_frames == 480


class PortAudioError(Exception):
    """As sounddevice's."""


class FakeOutput:
    """A device that plays what it was given, and says when it had nothing."""

    latency = 0.06

    def __init__(self, audio: FakePortAudio, samplerate: int, **_: object) -> None:
        self._audio, self._rate_hz = audio, samplerate
        audio.output = self
        self._started_ns = audio.now_ns
        self._written = self._lost = 0
        self._has_run_dry = False

    def start(self) -> None:
        if self._audio.refuses:
            raise PortAudioError("Device unavailable")

    @property
    def write_available(self) -> int:
        if self._audio.is_gone:
            raise PortAudioError("Host error")
        played = (self._audio.now_ns - self._started_ns) * self._rate_hz // 1_000_000_000 - self._lost
        if self._written and played > self._written:
            self._lost += played - self._written
            self._has_run_dry = True
            played = self._written
        return CAPACITY if not self._written else CAPACITY - (self._written - played)

    def write(self, data: bytes) -> bool:
        if not self._written:
            self._started_ns = self._audio.now_ns
        self._written += len(data) // 2
        self._audio.heard.append(np.frombuffer(data, np.int16))
        has_run_dry, self._has_run_dry = self._has_run_dry, False
        return has_run_dry

    def close(self, ignore_errors: bool) -> None:
        self._audio.is_closed = True


class SoundServer(FakeOutput):
    """Buffers as much again as it reports, and begins to play some time after both buffers are full."""

    begins_after_ns = 0
    _begins_ns: int | None = None

    @property
    def write_available(self) -> int:
        played = 0
        if self._begins_ns is not None:
            played = max(0, (self._audio.now_ns - self._begins_ns) * self._rate_hz // 1_000_000_000)
        return min(CAPACITY, 2 * CAPACITY - (self._written - played))

    def write(self, data: bytes) -> bool:
        self._written += len(data) // 2
        if self._begins_ns is None and self._written >= 2 * CAPACITY:
            self._begins_ns = self._audio.now_ns + self.begins_after_ns
        self._audio.heard.append(np.frombuffer(data, np.int16))
        return False

    def heard_ns(self, frame: int) -> int:
        return self._begins_ns + frame * 1_000_000_000 // self._rate_hz


class FakePortAudio:
    PortAudioError = PortAudioError
    make_output: type[FakeOutput] = FakeOutput
    output: FakeOutput

    def __init__(self) -> None:
        self.now_ns = START_NS
        self.refuses = self.is_gone = self.is_closed = False
        self.heard: list[np.ndarray] = []

    def query_devices(self, device: object = None, kind: str | None = None) -> object:
        info = {"name": "Horn", "max_output_channels": 2, "max_input_channels": 0,
                "default_samplerate": 48_000.0, "index": 0}  # fmt: skip
        return [info] if kind is None else info

    def RawOutputStream(self, **options: object) -> FakeOutput:  # noqa: N802
        return self.make_output(self, **options)

    def sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


def speaker(audio: FakePortAudio, voice: Voice) -> Loudspeaker:
    return Loudspeaker(
        PlaybackConfig(),
        voice,
        threading.Lock(),
        clock=lambda: audio.now_ns,
        sleep=audio.sleep,
        portaudio=audio,
    )


def play(audio: FakePortAudio, voice: Voice, horn: Loudspeaker, seconds: float) -> None:
    end_ns = audio.now_ns + round(seconds * 1e9)
    while audio.now_ns < end_ns:
        voice.clock.observe((audio.now_ns - START_NS) * 16_000 // 1_000_000_000, audio.now_ns)
        horn.write()
        audio.now_ns += 1_000_000


def clicks(places: np.ndarray) -> np.ndarray:
    return np.where(places % 8000 == 4000, 20_000, 0).astype(np.int16)


@pytest.mark.parametrize("begins_after_ms", [0, 50, 200, 300, 450, 1300])
def test_a_sound_server_that_begins_late_leaves_the_voice_where_it_stands_from_its_first_sound_on(
    begins_after_ms,
):
    """What it took before it began was believed for its clock: the voice moved by 15 ms in six seconds."""
    audio, voice = FakePortAudio(), Voice(clicks)
    audio.make_output = SoundServer
    horn = speaker(audio, voice)
    horn.open()
    audio.output.begins_after_ns = begins_after_ms * 1_000_000
    play(audio, voice, horn, 8.0)
    sound = np.concatenate(audio.heard) / 32_768
    clicks_ms = [
        (audio.output.heard_ns(start + int(np.abs(part).argmax())) - START_NS) / 1e6
        for start, part in parts_with_a_click(sound)
    ]
    late_ms = np.array(clicks_ms) % 500 - 250
    assert len(late_ms) >= 12
    # The buffer that is not reported is a constant delay.
    np.testing.assert_allclose(late_ms, CAPACITY / 48, atol=0.3)
    assert horn.report().values["speaker_jumps"] == 0


@pytest.mark.parametrize(("off_by_ms", "speech_begins_in_ms"), [(10, 2000), (-10, 2000), (10, 3), (-10, 3)])
def test_an_error_is_mended_at_once_in_silence_and_no_sample_of_speech_is_left_out(
    off_by_ms, speech_begins_in_ms
):
    begins, given = 1 << 60, []
    voice = Voice(lambda places: ((places >= begins) & (places < begins + 8000)).astype(np.int16))

    class Spy(PlaceResampler):
        def push(self, samples: np.ndarray, ratio: float) -> np.ndarray:
            given.append(samples)
            return super().push(samples, ratio)

    drive = SpeakerDrive(RATE_HZ, make_resampler=lambda _: Spy(voice))
    room = Room(drive, voice, 0, 0)
    room.run(2.0)
    begins = voice.place + speech_begins_in_ms * 16
    drive.forget()
    drive.observe(
        drive.written_frames - CAPACITY, START_NS + round(room.seconds * 1e9) + off_by_ms * 1_000_000
    )
    drive.render(0, voice)
    drive.render(0, voice)
    is_cut_into = off_by_ms > speech_begins_in_ms
    assert (abs(drive.error_ms) < 0.1) != is_cut_into
    room.run(3.0)
    assert drive.jumps == 1
    assert np.count_nonzero(np.concatenate(given)) == 8000


def test_an_underrun_is_counted_said_and_the_voice_is_on_time_again():
    audio, voice = FakePortAudio(), Voice(lambda places: (places % 16_000).astype(np.int16))
    horn = speaker(audio, voice)
    assert horn.open() == "loudspeaker 'Horn': 48000 Hz, 60 ms until it is heard"
    play(audio, voice, horn, 5.0)
    audio.now_ns += 300_000_000
    play(audio, voice, horn, 5.0)
    report = horn.report()
    assert report.level is Level.WARN
    assert "ran dry 1 times" in report.message
    assert abs(report.values["speaker_error_ms"]) < 2.0
    assert voice.passed_over >= 16_000 * 0.2


def test_a_loudspeaker_that_vanishes_is_told_and_can_be_opened_again():
    audio, voice = FakePortAudio(), Voice()
    horn = speaker(audio, voice)
    horn.open()
    play(audio, voice, horn, 1.0)
    audio.is_gone = True
    with pytest.raises(OSError, match="loudspeaker 'Horn' has vanished"):
        play(audio, voice, horn, 1.0)
    horn.close()
    audio.is_gone = False
    horn.open()
    play(audio, voice, horn, 1.0)


def test_a_busy_loudspeaker_is_refused_with_the_reason():
    audio = FakePortAudio()
    audio.refuses = True
    with pytest.raises(OSError, match=r"'Horn' cannot be opened at 48000 Hz with 1 .*: Device unavailable"):
        speaker(audio, Voice()).open()
    assert audio.is_closed
