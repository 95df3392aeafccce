"""Audio messages of other ROS packages (audio_common_msgs, foxglove_msgs), read and written by their fields.

Two packages are both called audio_common_msgs, and only one can be installed:

- **ros-drivers**: `AudioData` is bytes and nothing else, `AudioDataStamped` adds a header; what they mean
  stands in `AudioInfo`, on a topic of its own every five seconds. The stamp is the first sample's.
- **mgonzs13**: `AudioData` has an array for each sample format, one of them filled; `AudioInfo` says which,
  with channels and rate; `Audio` holds both, `AudioStamped` adds a header, stamped before the device is read.

ROS4HRI (REP-155) uses the `AudioData` of ros-drivers for `/humans/voices/<id>/audio`. Foxglove's `RawAudio`
says
what it holds; an `Int16MultiArray`, a `Float32MultiArray` or a `UInt8MultiArray` says nothing. Messages are
told apart by their fields, so those of a bag read with other classes do as well.

Sources: ros-drivers/audio_common (branch ros2), mgonzs13/audio_common 4.0.10, REP-155, foxglove_msgs 3.
"""

from __future__ import annotations

import dataclasses
from array import array
from typing import Any

import numpy as np
import numpy.typing as npt
from timar_common.pcm import float_to_int16
from timar_common.wav_header import read_pcm_header

from timar_audio.mpeg_stream import MpegStream, is_mpeg

GSTREAMER_FORMATS = {
    "S8": "i1", "U8": "u1", "S16LE": "<i2", "S16BE": ">i2", "S32LE": "<i4", "S32BE": ">i4",
    "F32LE": "<f4", "F32BE": ">f4", "F64LE": "<f8", "F64BE": ">f8",
}  # fmt: skip
"""What AudioInfo.sample_format of ros-drivers may be -> NumPy's name for it."""
PORTAUDIO_FORMATS = {
    1: "float32_data",
    2: "int32_data",
    8: "int16_data",
    16: "int8_data",
    32: "uint8_data",
}
"""What AudioInfo.format of mgonzs13 may be (PortAudio's numbers) -> the field that holds the samples."""
PORTAUDIO_INT16 = 8
FOXGLOVE_FORMATS = {"pcm-s16": "S16LE"}
"""What RawAudio.format may be -> GStreamer's name for it."""
RATES_HZ = (1_000, 384_000)
MAX_CHANNELS = 64


@dataclasses.dataclass(frozen=True)
class Layout:
    """What plain bytes of sound mean."""

    sample_format: str
    """As GStreamer names it."""
    channels: int
    rate_hz: int

    def __post_init__(self) -> None:
        if self.sample_format not in GSTREAMER_FORMATS:
            raise ValueError(
                f"the sound's sample_format is {self.sample_format!r}, expected one of "
                f"{', '.join(GSTREAMER_FORMATS)}"
            )
        _check(self.channels, self.rate_hz)

    @classmethod
    def parse(cls, text: str) -> Layout | None:
        """Read what a person says: "S16LE,44100,2" is format, rate [Hz] and channels; "" is nothing.

        Raises:
            ValueError: It is neither.
        """
        if not text.strip():
            return None
        parts = [part.strip() for part in text.split(",")]
        if len(parts) != 3 or not all(part.isdecimal() for part in parts[1:]):
            raise ValueError(
                f"a sound layout is {text!r}, expected FORMAT,RATE,CHANNELS such as S16LE,16000,1"
            )
        return cls(parts[0].upper(), int(parts[2]), int(parts[1]))


@dataclasses.dataclass(frozen=True)
class ExternalAudio:
    """A run of sound that came in a message."""

    samples: npt.NDArray[np.float32]
    """(n, channels) in [-1, 1]."""
    rate_hz: int
    first_ros_ns: int | None = None
    """ROS time of the first sample [ns]; None when the message has no stamp."""
    lost_frames: int = 0
    """How much its sender knows that was lost just before these samples [frames]."""

    @property
    def duration_s(self) -> float:
        """Its length [s]."""
        return self.samples.shape[0] / self.rate_hz


def info_topic(topic: str) -> str:
    """Return the name of ros-drivers' AudioInfo topic, which stands beside its audio topic."""
    return "/".join([*topic.split("/")[:-1], "audio_info"])


class ExternalStream:
    """Read the messages of sound of one topic, in their order.

    What plain bytes mean is taken from the AudioInfo beside them, from a WAV header among them, or from
    what a person said; MP3 is known by its frames. It is never guessed.

    Args:
        topic: Its name, for messages.
        layout: What plain bytes mean, as a person says (`Layout.parse`); empty: what comes has to say it.
        option: What a person sets to say so, for messages.

    Raises:
        ValueError: The layout is none.
    """

    def __init__(self, topic: str, layout: str = "", option: str = "topic_layout") -> None:
        self._topic, self._layout, self._option = topic, Layout.parse(layout), option
        self._mpeg: MpegStream | None = None

    def describe(self, info: Any) -> None:
        """Take an AudioInfo of ros-drivers in.

        Raises:
            ValueError: The sound is coded as nothing that is read, or its layout is none that is known.
        """
        coding = info.coding_format.lower()
        if coding == "mp3":
            self._mpeg = self._mpeg or MpegStream()
        elif coding in ("wave", "wav", "raw", ""):
            self._layout, self._mpeg = (
                Layout(info.sample_format, int(info.channels), int(info.sample_rate)),
                None,
            )
        else:
            raise ValueError(
                f"the sound of {self._topic} is coded as {info.coding_format!r}, expected wave, raw "
                "or mp3; start its audio_capture with format:=wave"
            )

    def read(self, message: Any) -> ExternalAudio:
        """Read a message of sound; it may hold no samples yet (a header, a part of an MP3 frame).

        Args:
            message: AudioData, AudioDataStamped (ros-drivers); Audio, AudioStamped (mgonzs13); RawAudio
                (Foxglove); UInt8MultiArray, Int16MultiArray, Float32MultiArray.

        Raises:
            ValueError: It is another message, its sound is not what it says, or nothing says what it is.
        """
        body = message.audio if hasattr(message, "audio") else message
        if hasattr(body, "audio_data"):
            samples, rate_hz = _typed(body.audio_data, body.info), int(body.info.rate)
        elif hasattr(body, "number_of_channels"):
            samples, rate_hz = _foxglove(body)
        elif hasattr(body, "data") and not isinstance(body.data, (str, bool, int, float)):
            samples, rate_hz = self._plain(body)
        else:
            raise ValueError(
                f"a message of type {type(message).__name__} holds no sound that is known here; known are "
                "AudioData and AudioDataStamped of ros-drivers' audio_common_msgs, Audio and AudioStamped of "
                "mgonzs13's, RawAudio of foxglove_msgs, and arrays of std_msgs"
            )
        if not np.isfinite(samples).all():
            raise ValueError("the sound holds numbers that are not finite")
        return ExternalAudio(samples, rate_hz, _stamp_ns(message))

    def _plain(self, body: Any) -> tuple[npt.NDArray[np.float32], int]:
        values = np.asarray(body.data)
        if hasattr(getattr(body, "layout", None), "data_offset"):
            values = values[body.layout.data_offset :]
        data = values.tobytes()
        if values.dtype == np.uint8:
            header = read_pcm_header(data)
            if header is not None:
                begin, self._layout = header[0], Layout(*header[1:])
                data = data[begin:]
                if not data:
                    return np.zeros((0, self._layout.channels), np.float32), self._layout.rate_hz
            elif self._mpeg is None and self._layout is None and is_mpeg(data):
                self._mpeg = MpegStream()
            if self._mpeg is not None:
                return self._mpeg.push(data)
        if self._layout is None:
            raise ValueError(
                f"{self._topic} brings {values.nbytes} bytes a message and nothing says what they mean: no "
                f"audio_info beside it, no WAV header; say it by {self._option}, such as "
                "S16LE,16000,1 (format, rate in Hz, channels)"
            )
        kind = np.dtype(GSTREAMER_FORMATS[self._layout.sample_format])
        if values.dtype not in (np.uint8, kind):
            raise ValueError(
                f"{self._topic} holds {values.dtype}, and its layout says "
                f"{self._layout.sample_format}; say what "
                f"it is by {self._option}"
            )
        return _from_bytes(data, self._layout), self._layout.rate_hz


def read_sound(message: Any, layout: str = "") -> ExternalAudio:
    """Read one message of sound by itself, as `ExternalStream.read` does."""
    return ExternalStream("the topic", layout).read(message)


def fill_audio_data(message: Any, samples: npt.NDArray[np.int16]) -> Any:
    """Put mono sound into an AudioData of either package, and return it.

    Args:
        message: An empty AudioData.
        samples: (n,) int16.
    """
    if hasattr(message, "int16_data"):
        message.int16_data = array("h", samples.tobytes())
    else:
        message.data = array("B", samples.astype("<i2").tobytes())
    return message


def fill_info(message: Any, rate_hz: int, samples: int) -> Any:
    """Describe mono 16-bit sound in an AudioInfo of either package, and return it.

    Args:
        message: An empty AudioInfo.
        rate_hz: Rate of the sound [Hz].
        samples: How many samples a message brings.
    """
    message.channels = 1
    if hasattr(message, "rate"):
        message.format, message.rate, message.chunk = PORTAUDIO_INT16, rate_hz, samples
        return message
    message.sample_rate, message.sample_format, message.coding_format = rate_hz, "S16LE", "wave"
    message.bitrate = 16 * rate_hz
    return message


def to_int16_mono(sound: ExternalAudio) -> npt.NDArray[np.int16]:
    """Return the mean of its channels as (n,) int16, at its own rate."""
    return float_to_int16(sound.samples.mean(axis=1, dtype=np.float32))


def _stamp_ns(message: Any) -> int | None:
    """Return a header's stamp, or Foxglove's, [ns]; one that was never set is none."""
    if hasattr(message, "header"):
        stamp = message.header.stamp
    elif hasattr(message, "timestamp"):
        stamp = message.timestamp
    else:
        return None
    return (int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)) or None


def _foxglove(message: Any) -> tuple[npt.NDArray[np.float32], int]:
    if message.format not in FOXGLOVE_FORMATS:
        raise ValueError(f"RawAudio is in format {message.format!r}, expected {', '.join(FOXGLOVE_FORMATS)}")
    layout = Layout(
        FOXGLOVE_FORMATS[message.format], int(message.number_of_channels), int(message.sample_rate)
    )
    return _from_bytes(np.asarray(message.data).tobytes(), layout), layout.rate_hz


def _from_bytes(data: bytes, layout: Layout) -> npt.NDArray[np.float32]:
    raw = np.frombuffer(data, np.uint8)
    kind = np.dtype(GSTREAMER_FORMATS[layout.sample_format])
    frame = kind.itemsize * layout.channels
    if not raw.size or raw.size % frame:
        raise ValueError(
            f"a message holds {raw.size} bytes, expected a multiple of {frame} ({layout.channels} channels "
            f"of {layout.sample_format}, {layout.rate_hz} Hz) above 0; is that what it holds?"
        )
    return _scaled(raw.view(kind)).reshape(-1, layout.channels)


def _typed(audio_data: Any, info: Any) -> npt.NDArray[np.float32]:
    _check(int(info.channels), int(info.rate))
    field = PORTAUDIO_FORMATS.get(int(info.format))
    if field is None:
        raise ValueError(
            f"the sound's format is {info.format}, expected one of PortAudio's "
            f"{', '.join(map(str, PORTAUDIO_FORMATS))}"
        )
    values = np.array(getattr(audio_data, field), dtype=np.dtype(field.removesuffix("_data")))
    if not values.size or values.size % info.channels:
        raise ValueError(
            f"{field} holds {values.size} samples, expected a multiple of {info.channels} channels above 0"
        )
    return _scaled(values).reshape(-1, int(info.channels))


def _scaled(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Bring any sample format to [-1, 1]; unsigned ones have their zero in the middle."""
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    half = float(1 << (8 * values.dtype.itemsize - 1))
    zero = half if values.dtype.kind == "u" else 0.0
    return ((values.astype(np.float64) - zero) / half).astype(np.float32)


def _check(channels: int, rate_hz: int) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        raise ValueError(f"the sound has {channels} channels, expected 1..{MAX_CHANNELS}")
    if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1]:
        raise ValueError(f"the sound's rate is {rate_hz} Hz, expected {RATES_HZ[0]}..{RATES_HZ[1]}")
