"""The browser's page as microphone and loudspeaker: both on the frame counter of its audio context.

The view takes the page's sound from the browser and hands it on; here it becomes one more audio source, and
one more place where the voice is heard.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from timar_common.clock import NS_PER_S
from timar_common.diagnostics import Level, Report
from timar_common.pcm import float_to_int16, int16_to_float

from timar_audio.external_audio import ExternalAudio
from timar_audio.loudspeaker import SpeakerDrive
from timar_audio.playback import Playback
from timar_audio.topic_source import TopicSource

RATES_HZ = (8_000, 192_000)
MAX_GAP_S = 60.0
"""A hole longer than this is no loss but another start of the page's counter [s]."""
GONE_AFTER_NS = 800_000_000
"""A page that says nothing for so long plays nothing any more [ns]."""
LATE_STEP_MS, MAX_BUFFER_MS = 20, 600
"""Each time voice came too late the page's buffer becomes so much longer, up to this [ms]."""
REMEDY = "open the address that the view's log prints, and press Start there"


@dataclasses.dataclass(frozen=True)
class PageSound:
    """What one message of station/sound says.

    Raises:
        ValueError: It cannot be true.
    """

    page: str
    """Which page; another one counts anew."""
    rate_hz: int
    first_frame: int
    """Place of the first frame on the page's counter [frames]."""
    frames: int
    """How far the counter went on [frames]."""
    samples: npt.NDArray[np.int16]
    """(frames,) what was heard; (0,) from a page that only plays."""
    end_ns: int
    """When the counter stood at the end of these frames, CLOCK_MONOTONIC [ns]."""
    output_latency_ms: float = 0.0
    """How long after its place on the counter a frame is heard from the page's loudspeaker [ms]."""
    late_frames: int = 0
    """Voice that came too late to be heard, since the page began [frames]."""
    dropped_frames: int = 0
    """Sound that the browser says it lost before it was counted, since the page began [frames]."""

    def __post_init__(self) -> None:
        if not RATES_HZ[0] <= self.rate_hz <= RATES_HZ[1]:
            raise ValueError(f"a page's rate is {self.rate_hz} Hz, expected {RATES_HZ[0]}..{RATES_HZ[1]}")
        if self.first_frame < 0 or not 0 < self.frames <= self.rate_hz:
            raise ValueError(
                f"a page's sound has {self.frames} frames at {self.first_frame}, expected 1..{self.rate_hz} "
                "of them at 0 or later"
            )
        if self.samples.size not in (0, self.frames):
            raise ValueError(f"a page's sound has {self.samples.size} samples of {self.frames} frames")
        if not 0.0 <= self.output_latency_ms <= 2000.0:  # also not a number
            raise ValueError(f"a page's loudspeaker is {self.output_latency_ms} ms late, expected 0..2000")

    @property
    def end_frame(self) -> int:
        """One past its last frame."""
        return self.first_frame + self.frames


class PageSource(TopicSource):
    """The page's microphone: numbered, so that what was lost on the way is known to the frame.

    Args:
        vanished_after_ms: When it brings nothing for so long it counts as gone [ms].
        first_sound_within_ms: So long it may take to its first sound [ms].
        clock: Machine time [ns]; replaced in tests.
    """

    def __init__(
        self,
        vanished_after_ms: int,
        first_sound_within_ms: int,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__("station/sound", -1, vanished_after_ms, first_sound_within_ms, clock=clock)
        self.name, self.remedy = "the browser's page", REMEDY
        self.dropped_frames = 0
        """What the browser says it lost before it was counted, over all pages [frames]."""
        self._page = ""
        self._end_frame = 0
        self._page_dropped = 0

    def push_page(self, sound: PageSound, arrived_ns: int) -> None:
        """Take a message in; from any thread. A page that only plays brings none."""
        if not sound.samples.size:
            return
        gap = sound.first_frame - self._end_frame
        if sound.page != self._page or gap > MAX_GAP_S * sound.rate_hz:
            self._page, self._page_dropped, gap = sound.page, 0, 0
            self.begin_anew()
        elif gap < 0:
            raise ValueError(
                f"the page's sound begins at frame {sound.first_frame}, which came already; expected "
                f"{self._end_frame} or later"
            )
        self._end_frame = sound.end_frame
        self.dropped_frames += max(0, sound.dropped_frames - self._page_dropped)
        self._page_dropped = sound.dropped_frames
        samples = int16_to_float(sound.samples)[:, None]
        audio = ExternalAudio(samples, sound.rate_hz, lost_frames=gap)
        self.push(audio, sound.end_ns - round(audio.duration_s * NS_PER_S), arrived_ns)


class PageLoudspeaker:
    """Decide what the page that is the station plays next, by frames of its own counter.

    Each report of the page is answered with the voice up to `buffer_ms` after where its counter stands now.
    Frames have places, so what comes too late is left out by the page and moves nothing.

    Args:
        voice: What is played: its `clock`, `give` and `give_from` are used; hold its host's lock.
        buffer_ms: How far ahead the page is given the voice [ms].
    """

    def __init__(self, voice: Playback, buffer_ms: int) -> None:
        self._voice = voice
        self._first_buffer_ms = buffer_ms
        self._buffer_ms = buffer_ms
        self._page = ""
        self._rate_hz = 0
        self._end_frame = 0
        self._late_frames = 0
        self._reported_ns: int | None = None
        self._drive: SpeakerDrive | None = None

    def follow(self, sound: PageSound, now_ns: int) -> tuple[int, npt.NDArray[np.int16]]:
        """Return what the page is to play, with the frame of its counter at which it begins."""
        is_new = sound.page != self._page or sound.rate_hz != self._rate_hz
        if self._drive is None or is_new or sound.first_frame < self._end_frame:
            self._page, self._rate_hz = sound.page, sound.rate_hz
            self._drive = SpeakerDrive(sound.rate_hz)
            self._late_frames, self._buffer_ms = sound.late_frames, self._first_buffer_ms
        drive = self._drive
        self._end_frame, self._reported_ns = sound.end_frame, now_ns
        if sound.late_frames > self._late_frames:
            self._late_frames = sound.late_frames
            self._buffer_ms = min(self._buffer_ms + LATE_STEP_MS, MAX_BUFFER_MS)
        drive.observe(sound.end_frame, sound.end_ns + round(sound.output_latency_ms * 1e6))
        stands_at = sound.end_frame + max(0, now_ns - sound.end_ns) * sound.rate_hz // NS_PER_S
        drive.skip_to(stands_at)
        first_frame = drive.written_frames
        frames = stands_at + self._buffer_ms * sound.rate_hz // 1000 - first_frame
        if frames <= 0:
            return first_frame, np.zeros(0, np.int16)
        return first_frame, float_to_int16(drive.render(min(frames, sound.rate_hz), self._voice))

    def is_playing(self, now_ns: int) -> bool:
        """Tell whether a page plays the voice."""
        return self._reported_ns is not None and now_ns - self._reported_ns < GONE_AFTER_NS

    def report(self, now_ns: int) -> Report:
        """Say how well the page keeps the conversation's time."""
        report = Report(values={"loudspeaker": "the browser's page", "page_buffer_ms": self._buffer_ms})
        if self._drive is not None:
            report.values["speaker_error_ms"] = self._drive.error_ms
            report.values["speaker_rate_ppm"] = self._drive.rate_difference_ppm
            report.values["speaker_jumps"] = max(0, self._drive.jumps - 1)
            report.values["speaker_late_ms"] = 1000 * self._late_frames / self._rate_hz
        if not self.is_playing(now_ns):
            report.worsen(Level.WARN, f"no page plays the voice; {REMEDY}")
        return report
