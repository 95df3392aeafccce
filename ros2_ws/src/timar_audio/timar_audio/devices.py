"""Sound devices through PortAudio: which there are, and which one is meant."""

from __future__ import annotations

import threading
import types
from typing import Any, Literal

Kind = Literal["input", "output"]
_WORDS = {"input": "microphone", "output": "loudspeaker"}
_REMEDY = {"input": "plug one in, or give source:=file", "output": "plug one in, or set sink to null"}


def import_portaudio() -> types.ModuleType:
    """Import sounddevice, which loads PortAudio.

    Raises:
        OSError: The library is not installed.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise OSError(
            f"no sound device can be used: {error}; install PortAudio (apt install libportaudio2) and the "
            "Python package sounddevice"
        ) from error
    module: types.ModuleType = sounddevice
    return module


class OpenStreams:
    """How many streams of this process are open: PortAudio may look for devices again only when none is."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    def add(self) -> None:
        """Count one more."""
        with self._lock:
            self._count += 1

    def remove(self) -> None:
        """Count one less."""
        with self._lock:
            self._count -= 1

    def refresh(self, portaudio: Any) -> bool:
        """Let PortAudio list the devices anew, if no stream is open; tell whether it did.

        It lists them once, so one that is plugged in again under another number is not seen otherwise.
        """
        with self._lock:
            if self._count:
                return False
            # sounddevice has no public name for these two; there is no other way to see new devices.
            portaudio._terminate()
            portaudio._initialize()
            return True


OPEN_STREAMS = OpenStreams()


def list_devices(portaudio: Any, kind: Kind) -> dict[int, dict[str, Any]]:
    """Return PortAudio's description of every device of a kind, by index."""
    return {
        index: dict(info)
        for index, info in enumerate(portaudio.query_devices())
        if int(info.get(f"max_{kind}_channels", 0)) > 0
    }


def find_device(portaudio: Any, device: str, kind: Kind) -> dict[str, Any]:
    """Return PortAudio's description of a device.

    Args:
        portaudio: The `sounddevice` module.
        device: Name or a part of it, index as digits, or empty for the default.
        kind: Which way it is to be used.

    Raises:
        OSError: There is none, or none of this name; the message lists those that are there.
    """
    there = list_devices(portaudio, kind)
    if not there:
        raise OSError(f"there is no {_WORDS[kind]} on this machine; {_REMEDY[kind]}")
    wanted: int | str | None = int(device) if device.isdecimal() else device or None
    try:
        info = dict(portaudio.query_devices(wanted, kind))
    except (ValueError, portaudio.PortAudioError) as error:
        names = "; ".join(f"{index}: {info['name']}" for index, info in there.items())
        raise OSError(f"there is no {_WORDS[kind]} {device!r} ({error}); those here are {names}") from error
    info.setdefault("index", wanted)
    return info
