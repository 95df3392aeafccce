"""WAV headers that lie about their length, as programs leave them that write into a pipe or are killed."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import BinaryIO

UNKNOWN_SIZES = (0, 0xFFFFFFFF)
"""What stands in a header whose writer did not know the length."""
_LARGEST = 0xFFFFFFFE
_EXTENSIBLE = 0xFFFE
_PCM_FORMATS = {
    (1, 8): "U8", (1, 16): "S16LE", (1, 32): "S32LE", (3, 32): "F32LE", (3, 64): "F64LE",
}  # fmt: skip
"""A WAV header's format tag and bits -> GStreamer's name for it."""


class WavHeader:
    """Where a WAV file's samples begin, and how many bytes of them there are against what the header says.

    Args:
        path: Any file.

    Attributes:
        promised_bytes: Size of the whole file by its header; None when it does not say or is no WAV file.
        data_bytes: Size of the samples where the header is wrong about it; None where it is right.
        warning: What was wrong, for a person; empty when nothing was.
    """

    def __init__(self, path: Path) -> None:
        self.promised_bytes: int | None = None
        self.data_bytes: int | None = None
        self.warning = ""
        self._size_offset = 0
        with path.open("rb") as file:
            head = file.read(12)
            if len(head) == 12 and head[:4] == b"RIFF" and head[8:] == b"WAVE":
                self._read(file, struct.unpack("<I", head[4:8])[0], path)

    def open(self, path: Path) -> BinaryIO:
        """Open the file as if its header said how long the samples are."""
        patch = struct.pack("<I", min(self.data_bytes or 0, _LARGEST))
        return io.BufferedReader(_PatchedFile(path, self._size_offset, patch))

    def _read(self, file: BinaryIO, riff_size: int, path: Path) -> None:
        there = file.seek(0, io.SEEK_END)
        self.promised_bytes = None if riff_size in UNKNOWN_SIZES else riff_size + 8
        end = there if self.promised_bytes is None else min(there, self.promised_bytes)
        found = _find_data(file, there)
        if found is None:
            return
        begin, size = found
        self._size_offset = begin - 4
        if size == 0 and there > begin:
            self.data_bytes = there - begin
        elif begin + size < end and not _is_chunk(file, begin + size, end):
            self.data_bytes = end - begin
            self.warning = (
                f"{path} says that it holds {size} bytes of sound, and {self.data_bytes} follow; all are read"
            )


class _PatchedFile(io.RawIOBase):
    """A file with four of its bytes replaced."""

    def __init__(self, path: Path, offset: int, patch: bytes) -> None:
        self._file = path.open("rb", buffering=0)
        self._offset, self._patch = offset, patch

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        begin = self._file.tell()
        count = self._file.readinto(buffer) or 0
        for at in range(max(begin, self._offset), min(begin + count, self._offset + len(self._patch))):
            buffer[at - begin] = self._patch[at - self._offset]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _find_data(file: BinaryIO, end: int) -> tuple[int, int] | None:
    """Return where the samples begin and how many bytes the header says; None when there is no such chunk."""
    at = 12
    while at + 8 <= end:
        file.seek(at)
        name, size = struct.unpack("<4sI", file.read(8))
        if name == b"data":
            return at + 8, size
        at += 8 + size + size % 2
    return None


def _is_chunk(file: BinaryIO, at: int, end: int) -> bool:
    """Tell whether a chunk begins here, or one byte later: a chunk of odd size is padded."""
    for begin in (at, at + 1):
        file.seek(begin)
        head = file.read(8)
        if end - begin < 8:
            return True  # A byte or two of padding.
        name, size = struct.unpack("<4sI", head)
        if all(32 <= byte < 127 for byte in name) and begin + 8 + size <= end + 1:
            return True
    return False


def read_pcm_header(data: bytes) -> tuple[int, str, int, int] | None:
    """Read the header that a stream of WAV begins with, whatever it says of the length.

    Returns:
        Where the samples begin [bytes], their format as GStreamer names it, channels, rate [Hz]; None where
        there is no such header.

    Raises:
        ValueError: The samples are in a format that is not plain.
    """
    if len(data) < 12 or data[:4] not in (b"RIFF", b"RF64") or data[8:12] != b"WAVE":
        return None
    at, found = 12, ("", 0, 0)
    while at + 8 <= len(data):
        name, size = struct.unpack("<4sI", data[at : at + 8])
        if name == b"data":
            break
        if name == b"fmt " and at + 24 <= len(data):
            tag, channels, rate_hz, _, _, bits = struct.unpack("<HHIIHH", data[at + 8 : at + 24])
            if tag == _EXTENSIBLE and at + 34 <= len(data):
                tag = struct.unpack("<H", data[at + 32 : at + 34])[0]
            if (tag, bits) not in _PCM_FORMATS:
                raise ValueError(
                    f"a stream of WAV holds format {tag} with {bits} bits, expected plain samples of "
                    f"{', '.join(_PCM_FORMATS.values())}"
                )
            found = _PCM_FORMATS[tag, bits], channels, rate_hz
        at += 8 + size + size % 2
    if not found[0] or at + 8 > len(data):
        raise ValueError("a stream of WAV begins with a header that breaks off")
    return at + 8, *found
