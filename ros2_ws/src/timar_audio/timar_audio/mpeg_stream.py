"""Streaming MP3 decoder: bytes in pieces of any size, samples as soon as their frame is whole.

libsndfile decodes whole files. So each run of new frames is decoded as a short file: a Xing frame that says
how many frames follow, the frames before the new ones that their bit reservoir and overlap lean on, and they.

Source: ISO/IEC 11172-3 and 13818-3 (frame header, layer III); the Xing frame as LAME writes it.
"""

from __future__ import annotations

import collections
import dataclasses
import io

import numpy as np
import numpy.typing as npt
import soundfile

# Layer III bitrates by their index [kbit/s], of MPEG 1 and of MPEG 2 and 2.5.
_BITRATES = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_RATES_HZ = (44_100, 48_000, 32_000)
_MPEG_1, _RESERVED, _LAYER_3, _MONO = 3, 1, 1, 3
_RESERVOIR_BYTES = 511
"""So far a frame reaches back for bits, over as many frames as it takes: of variable bitrate, dozens."""
_OVERLAP_FRAMES = 2
"""So many frames' sound goes on into the next."""
_XING_BITRATE = 9
"""Index of a bitrate whose frame has room for a Xing header at every rate."""
_LARGEST_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class MpegFrame:
    """The header of a frame of MPEG audio, layer III."""

    header: int
    """Its four bytes."""
    rate_hz: int
    channels: int
    samples: int
    """A channel."""
    size: int
    """With the header [bytes]."""

    @property
    def is_mpeg_1(self) -> bool:
        """Whether it is MPEG 1, not 2 or 2.5."""
        return self.header >> 19 & 3 == _MPEG_1

    @property
    def side_information(self) -> tuple[int, int]:
        """Where its side information begins and ends, behind header and checksum."""
        begin = 4 if self.header >> 16 & 1 else 6
        is_mono = self.channels == 1
        return begin, begin + ((17 if is_mono else 32) if self.is_mpeg_1 else (9 if is_mono else 17))


def read_frame(data: bytes | bytearray, at: int = 0) -> MpegFrame | None:
    """Return the frame whose header stands at an index; None where none can."""
    header = int.from_bytes(data[at : at + 4], "big")
    version, bitrate, rate = header >> 19 & 3, header >> 12 & 15, header >> 10 & 3
    is_layer_3 = len(data) >= at + 4 and header >> 21 == 0x7FF and header >> 17 & 3 == _LAYER_3
    if not is_layer_3 or version == _RESERVED or rate == 3 or bitrate in (0, 15):
        return None
    is_mpeg_1 = version == _MPEG_1
    rate_hz = _RATES_HZ[rate] >> (0 if is_mpeg_1 else 1 if version == 2 else 2)
    samples = 1152 if is_mpeg_1 else 576
    kbit = _BITRATES[not is_mpeg_1][bitrate]
    size = samples // 8 * kbit * 1000 // rate_hz + (header >> 9 & 1)
    return MpegFrame(header, rate_hz, 1 if header >> 6 & 3 == _MONO else 2, samples, size)


def is_mpeg(data: bytes) -> bool:
    """Tell whether bytes begin with whole frames of MP3: two that agree, or one that fills them."""
    first = read_frame(data)
    if first is None:
        return False
    second = read_frame(data, first.size)
    return len(data) == first.size or (second is not None and second.rate_hz == first.rate_hz)


class MpegStream:
    """Decode a stream of MP3 frames."""

    def __init__(self) -> None:
        self.skipped_bytes = 0
        """What was no frame: the stream was joined inside one, or pieces were lost."""
        self._pending = bytearray()
        self._context: collections.deque[bytes] = collections.deque()
        self._format: tuple[int, int] = (0, 0)

    def push(self, data: bytes) -> tuple[npt.NDArray[np.float32], int]:
        """Take bytes in and decode the frames that are whole now.

        Returns:
            (n, channels) samples, and their rate [Hz]; n = 0 when no frame is whole yet.

        Raises:
            ValueError: For a megabyte there was no frame, or the frames cannot be decoded.
        """
        self._pending += data
        found, new = None, list[bytes]()
        while (frame := self._next_frame()) is not None:
            if found is not None and (frame.rate_hz, frame.channels) != (found.rate_hz, found.channels):
                break  # It is decoded with the next piece.
            found = frame
            new.append(bytes(self._pending[: frame.size]))
            del self._pending[: frame.size]
        if self.skipped_bytes > _LARGEST_BYTES and found is None:
            raise ValueError(f"{self.skipped_bytes} bytes hold no frame of MP3; is the sound coded so?")
        if found is None:
            return np.zeros((0, 1), np.float32), 0
        self.skipped_bytes = 0
        if self._format != (found.rate_hz, found.channels):
            self._format = (found.rate_hz, found.channels)
            self._context.clear()
        sound = [frame for frame in new if not _is_xing(frame)]
        samples = _decode(list(self._context), sound, found)
        self._context.extend(sound)
        self._forget()
        return samples, found.rate_hz

    def _forget(self) -> None:
        """Keep what the next frame may need: the overlapping ones, and the reservoir that these lean on."""
        held = 0
        for number, data in enumerate(reversed(self._context), start=1):
            frame = read_frame(data)
            if number > _OVERLAP_FRAMES and frame is not None:
                held += len(data) - frame.side_information[1]
            if held >= _RESERVOIR_BYTES:
                break
        else:
            return
        while len(self._context) > number:
            self._context.popleft()

    def _next_frame(self) -> MpegFrame | None:
        """Drop what is no frame; return the first one that is whole."""
        while len(self._pending) >= 4:
            frame = read_frame(self._pending)
            if frame is not None:
                return frame if len(self._pending) >= frame.size else None
            end = self._pending.find(b"\xff", 1)
            skipped = end if end > 0 else len(self._pending)
            self.skipped_bytes += skipped
            del self._pending[:skipped]
        return None


def _decode(context: list[bytes], new: list[bytes], frame: MpegFrame) -> npt.NDArray[np.float32]:
    """Return the (n, channels) samples of the new frames; silence where their context is missing."""
    wanted = len(new) * frame.samples
    if not new:
        return np.zeros((0, frame.channels), np.float32)
    frames = _with_reservoir([*context, *new])
    content = _xing_frame(frame, len(frames)) + b"".join(frames)
    try:
        decoded, _ = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise ValueError(f"{len(new)} frames of MP3 cannot be decoded ({error})") from error
    samples = np.zeros((wanted, frame.channels), np.float32)
    tail = np.nan_to_num(decoded[-wanted:, : frame.channels])
    samples[wanted - len(tail) :, : tail.shape[1]] = tail
    return samples


def _with_reservoir(frames: list[bytes]) -> list[bytes]:
    """Return frames of which those are silent that need bits of an earlier one that is not there.

    libmpg123 would complain of them on standard error. What they hold for later ones is kept.
    """
    held, found = 0, []
    for data in frames:
        frame = read_frame(data)
        if frame is None:
            continue
        begin, end = frame.side_information
        shift = 7 if frame.is_mpeg_1 else 8
        needed = int.from_bytes(data[begin : begin + 2], "big") >> shift
        # How far it reaches back stays: the next one's reservoir is counted from there.
        silent = (needed << shift).to_bytes(2, "big").ljust(end - begin, b"\0")
        found.append(data if needed <= held else data[:begin] + silent + data[end:])
        held += len(data) - end
    return found


def _is_xing(data: bytes) -> bool:
    frame = read_frame(data)
    return frame is not None and data[frame.side_information[1] :][:4] in (b"Xing", b"Info")


def _xing_frame(like: MpegFrame, frames: int) -> bytes:
    """Return a frame that says how many follow; without a checksum, without padding."""
    header = like.header & ~(0xF << 12 | 1 << 9) | _XING_BITRATE << 12 | 1 << 16
    frame = read_frame(header.to_bytes(4, "big"))
    if frame is None:
        raise ValueError(f"0x{like.header:08x} is no header of MP3")
    body = header.to_bytes(4, "big").ljust(frame.side_information[1], b"\0") + b"Xing"
    return (body + (1).to_bytes(4, "big") + frames.to_bytes(4, "big")).ljust(frame.size, b"\0")
