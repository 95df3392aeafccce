"""Mutations that respect structure: bytes, text by tokens, npz by arrays, messages by fields."""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

Edit = tuple[int, int, int]
"""Which mutation, where, and with what: any three numbers from 0 to 2^32 - 1."""
Mutate = Callable[[bytes, Sequence[Edit]], bytes]

_WORDS32 = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_NUMBERS = (
    "0", "-0", "1", "-1", "nan", ".nan", "NaN", "inf", "-.inf", "1e309", "1e-320", "255", "65536",
    "2147483648", "-9223372036854775809", "1_000", "0x10", "010", "3.3.3", "1,5", "12:30:00", "''", "null",
    "true", "[]", "{}",
)  # fmt: skip
_TEXTS = (
    "\t",
    "\0",
    "\ufeff",
    "é",
    "😀",
    "\u202e",
    "\r",
    "#",
    ": ",
    "- ",
    "<",
    "&",
    "'",
    '"',
    "*a",
    "&a",
    "!!python/x",
    "2026-13-45",
    "&a [*a]",
    "&a {b: *a}",
    "9" * 5000,
    "[" * 3000,
    "{a: " * 3000,
    "<a>" * 3000,
)
_TOKEN = re.compile(rb"[-+]?\d[\d.eE+-]*|\w+|\s+|[^\w\s]")
_NUMBER = re.compile(rb"[-+]?\d[\d.eE+-]*")


def mutate_bytes(data: bytes, edits: Sequence[Edit]) -> bytes:
    """Change bits, bytes, lengths and order, or cut."""
    changed = bytearray(data)
    for kind, where, what in edits:
        if not changed:
            return bytes(changed)
        at = where % len(changed)
        span = slice(at, at + 1 + what % 64)
        match kind % 8:
            case 0:
                changed[at] ^= 1 << (what % 8)
            case 1:
                changed[at] = what & 0xFF
            case 2:
                changed[at : at + 4] = struct.pack("<I", _WORDS32[what % len(_WORDS32)])
            case 3:
                del changed[span]
            case 4:
                changed[at:at] = changed[span]
            case 5:
                changed[at:at] = struct.pack("<I", what) * (1 + what % 5)
            case 6:
                del changed[at:]
            case 7:
                other = what % len(changed)
                changed[at : at + 8], changed[other : other + 8] = (
                    changed[other : other + 8],
                    changed[at : at + 8],
                )
    return bytes(changed)


def mutate_text(data: bytes, edits: Sequence[Edit]) -> bytes:
    """Change numbers, words and lines; now and then bytes."""
    for kind, where, what in edits:
        if kind % 9 == 8:
            data = mutate_bytes(data, [(what % 7, where, what)])
            continue
        tokens = _TOKEN.findall(data)
        lines = data.split(b"\n")
        if not tokens:
            return data
        at, line = where % len(tokens), where % len(lines)
        match kind % 9:
            case 0 | 1:
                numbers = [index for index, token in enumerate(tokens) if _NUMBER.fullmatch(token)]
                if numbers:
                    tokens[numbers[where % len(numbers)]] = _NUMBERS[what % len(_NUMBERS)].encode()
                data = b"".join(tokens)
            case 2:
                tokens[at] = tokens[what % len(tokens)]
                data = b"".join(tokens)
            case 3:
                tokens[at] = _TEXTS[what % len(_TEXTS)].encode()
                data = b"".join(tokens)
            case 4:
                del tokens[at]
                data = b"".join(tokens)
            case 5:
                del lines[line]
                data = b"\n".join(lines)
            case 6:
                lines.insert(what % len(lines), lines[line])
                data = b"\n".join(lines)
            case 7:
                lines[line] = b" " * (what % 9) + lines[line].lstrip()
                data = b"\n".join(lines)
    return data


def mutate_npz(data: bytes, edits: Sequence[Edit]) -> bytes:
    """Change an archive's arrays: type, shape, values, names; the last edit may change its bytes."""
    with np.load(io.BytesIO(data)) as file:
        arrays = {name: file[name] for name in file.files}
    for kind, where, what in edits:
        if not arrays:
            break
        name = sorted(arrays)[where % len(arrays)]
        array = arrays[name]
        match kind % 9:
            case 0:
                arrays[name] = array.T
            case 1:
                dtype = ("f2", "f8", "i1", "u8", "c8", "U4", "S3", "?", "M8[s]", ">f4")[what % 10]
                arrays[name] = _cast(array, dtype)
            case 2:
                arrays[name] = array[: what % (len(array) + 1)] if array.ndim else array
            case 3:
                if array.ndim and array.nbytes < 1 << 20:
                    arrays[name] = np.repeat(array, 1 + what % 11, axis=0)
            case 4:
                if array.size and array.dtype.kind == "f":
                    array = array.copy()
                    array.flat[what % array.size] = (np.nan, np.inf, -1e38, 7.0, 200.0)[what % 5]
                    arrays[name] = array
            case 5:
                arrays[name] = array.reshape(-1) if what % 2 else array[None]
            case 6:
                del arrays[name]
            case 7:
                arrays[("fps", "valid", "extra", "exp", "pose")[what % 5]] = array
            case 8:
                arrays[name] = array[..., : what % (array.shape[-1] + 1)] if array.ndim else np.array(what)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    kind, where, what = edits[-1]
    return mutate_bytes(buffer.getvalue(), [edits[-1]]) if what % 4 == 0 else buffer.getvalue()


def mutate_zip_of_text(data: bytes, edits: Sequence[Edit]) -> bytes:
    """Change the text files of an archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    for number, edit in enumerate(edits):
        name = sorted(files)[edit[(number + 1) % 3] % len(files)]
        files[name] = mutate_text(files[name], [edit])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def mutate_fields(message: Any, edits: Sequence[Edit]) -> Any:
    """Change numbers, words, arrays and lists in a ROS message, however deep; returns the message."""
    for kind, where, what in edits:
        places = list(_leaves(message))
        if not places:
            return message
        owner, key, value = places[where % len(places)]
        if isinstance(value, np.ndarray):
            changed: Any = _changed_array(value, kind, what)
        elif isinstance(value, bool):
            changed = not value
        elif isinstance(value, str):
            changed = ("", "x" * (what % 5000), "\ufffd\u202e", "nan", value + " ", value.upper())[kind % 6]
        elif isinstance(value, float):
            changed = (np.nan, np.inf, -np.inf, 1e308, -1e-320, -value, 0.0, float(what))[kind % 8]
        elif isinstance(value, list):
            changed = (value[: what % (len(value) + 1)], value * 2, value[::-1], [])[kind % 4]
        else:
            changed = (0, 1, 2**31 - 1, 127, 255, -1, what, -value)[kind % 8]
        if isinstance(owner, list):
            owner[key] = changed
        else:
            setattr(owner, key, changed)
    return message


def _leaves(owner: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Yield (object or list, name or index, value) of everything in a message that can be changed."""
    items = enumerate(owner) if isinstance(owner, list) else list(vars(owner).items())
    for key, value in items:
        if hasattr(value, "__msgtype__"):
            yield from _leaves(value)
        elif key != "__msgtype__":
            yield owner, key, value
            if isinstance(value, list):
                yield from _leaves(value)


def _changed_array(array: np.ndarray, kind: int, what: int) -> np.ndarray:
    array = array.copy()
    match kind % 5:
        case 0:
            return array[: what % (array.size + 1)]
        case 1:
            return np.tile(array, what % 4)
        case 2 if array.size and array.dtype.kind == "f":
            array[what % array.size] = (np.nan, np.inf, -np.inf, 1e30, -1e-38)[what % 5]
        case 2 | 3 if array.size:
            array[what % array.size] = array.dtype.type(what % 120)
        case _:
            return array[::-1].copy()
    return array


def _cast(array: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        try:
            return array.astype(dtype)
        except (TypeError, ValueError, RuntimeError):  # The last for times as a text that is too short.
            return np.zeros(array.shape, dtype)
