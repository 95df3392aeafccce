"""Audio devices through PortAudio: listing, selection by name, and one stream that can be reopened."""

from __future__ import annotations

import contextlib
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any, Literal

Kind = Literal["input", "output"]
_WORDS = {"input": "microphone", "output": "loudspeaker"}
_REMEDY = {"input": "plug one in, or give source:=file", "output": "plug one in, or set sink to null"}
_RATE_PARAMETER = {"input": "native_rate_hz", "output": "speaker_rate_hz"}


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
        """Let PortAudio list the devices again, if no stream is open; tell whether it did.

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


class DeviceStream:
    """One device's stream, which can be opened again when the device is back.

    Args:
        kind: Which way it is used.
        device: Name (a part of it is enough), index, or empty for the system's default.
        rate_hz: Rate to open it at; 0 takes the device's own [Hz].
        buffer_s: Length of PortAudio's buffer [s].
        portaudio: The `sounddevice` module, or what stands in for it in tests; None imports it on opening.
    """

    def __init__(self, kind: Kind, device: str, rate_hz: int, buffer_s: float, portaudio: Any = None) -> None:
        self.name = f"{_WORDS[kind]} {device!r}" if device else f"the default {_WORDS[kind]}"
        """As messages call it."""
        self.rate_hz = rate_hz
        """Rate at which it is open [Hz]."""
        self._kind, self._device, self._wanted_rate_hz = kind, device, rate_hz
        self._buffer_s = buffer_s
        self._portaudio = portaudio
        self._stream: Any = None
        self._was_open = False

    @property
    def stream(self) -> Any:
        """PortAudio's stream.

        Raises:
            OSError: It is not open.
        """
        if self._stream is None:
            raise OSError(f"{self.name} is not open; call open() first")
        return self._stream

    def open(self, count_channels: Callable[[int], int]) -> int:
        """Open the device and start its stream.

        Args:
            count_channels: Given how many channels the device has, returns how many to open.

        Returns:
            How many channels are open.

        Raises:
            OSError: There is no such device or it cannot be opened; the message says what to do.
        """
        if self._portaudio is None:
            self._portaudio = import_portaudio()
        pa = self._portaudio
        if self._was_open:
            OPEN_STREAMS.refresh(pa)
        info = find_device(pa, self._device, self._kind)
        self.name = f"{_WORDS[self._kind]} {str(info['name'])!r}"
        self.rate_hz = self._wanted_rate_hz or round(info["default_samplerate"])
        channels = count_channels(int(info[f"max_{self._kind}_channels"]))
        make = pa.RawInputStream if self._kind == "input" else pa.RawOutputStream
        try:
            self._stream = make(
                samplerate=self.rate_hz,
                device=info["index"],
                channels=channels,
                dtype="int16",
                latency=self._buffer_s,
            )
            OPEN_STREAMS.add()
            self._stream.start()
        except pa.PortAudioError as error:
            self.close()
            raise OSError(
                f"{self.name} cannot be opened at {self.rate_hz} Hz with {channels} channel(s): {error}; is "
                f"another program using it, or does it need another {_RATE_PARAMETER[self._kind]}?"
            ) from error
        self._was_open = True
        return channels

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Turn an error of PortAudio into one that says that the device has vanished.

        Raises:
            OSError: The device is gone.
        """
        try:
            yield
        except self._portaudio.PortAudioError as error:
            raise OSError(f"{self.name} has vanished: {error}; plug it in again") from error

    def close(self) -> None:
        """Release the device; safe more than once, and for one that has vanished."""
        stream, self._stream = self._stream, None
        if stream is not None:
            OPEN_STREAMS.remove()
            stream.close(ignore_errors=True)
