"""Command `timar audio`: list sound devices, check a microphone, calibrate the servos' noise."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.signal
from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.diagnostics import Level

from timar_audio.capture import Capture
from timar_audio.capture_config import CaptureConfig
from timar_audio.devices import import_portaudio, list_devices
from timar_audio.health import HealthConfig, InputHealth
from timar_audio.levels import level_dbfs, peak_dbfs
from timar_audio.loudspeaker import Loudspeaker
from timar_audio.microphone import MicrophoneSource
from timar_audio.motion_noise import to_yaml
from timar_audio.playback import Playback
from timar_audio.playback_config import PlaybackConfig
from timar_audio.speech import SpeechQueue

_SWEEP_AT_S = 3.0
_SWEEP_S = 0.5
_LONGEST_ROUND_TRIP_S = 1.0
_FRAME = SAMPLE_RATE_HZ // 50


@dataclasses.dataclass(frozen=True)
class MicrophoneCheck:
    """What a check found."""

    level_dbfs: float
    peak_dbfs: float
    noise_floor_dbfs: float
    """The level that a tenth of all 20 ms stay below."""
    rate_error_ppm: float
    samples_lost: int
    complaint: str
    """What is wrong with the microphone, empty when nothing is."""
    round_trip_ms: float | None = None
    """From the loudspeaker's due time to the microphone's stamp; None when it was not heard."""


def main(argv: list[str]) -> int:
    """List sound devices, check levels, noise, rate and round trip, and learn the servos' noise."""
    parser = argparse.ArgumentParser(prog="timar audio", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("devices", help="list microphones and loudspeakers as `device` names them")
    check = commands.add_parser("check", help="listen to a microphone for a while and say how it is")
    check.add_argument("--device", default="", help="microphone by name or index; default: the system's")
    check.add_argument("--seconds", type=float, default=5.0, help="how long to listen [s] (default: 5)")
    check.add_argument("--rate", type=int, default=0, help="rate to open both at [Hz]; default: their own")
    check.add_argument(
        "--speaker", nargs="?", const="", help="play a sweep on this loudspeaker and measure the round trip"
    )
    noise = commands.add_parser(
        "calibrate-motion-noise", help="move each joint of a running head and learn how loud it is; be silent"
    )
    noise.add_argument("--out", default="motion_noise.yaml", help="file to write (default: %(default)s)")
    noise.add_argument("--seconds", type=float, default=10.0, help="how long to move [s] (default: 10)")
    noise.add_argument("--namespace", default="", help="namespace of the robot's topics")
    noise.add_argument("--wait", type=float, default=20.0, help="how long to wait for it [s] (default: 20)")
    arguments = parser.parse_args(argv)
    try:
        if arguments.command == "calibrate-motion-noise":
            return calibrate_motion_noise(
                arguments.out, arguments.seconds, arguments.namespace, arguments.wait
            )
        if arguments.command == "devices":
            sys.stdout.write(describe_devices(import_portaudio()))
            return 0
        if not 1.0 <= arguments.seconds <= 3600.0:
            raise ValueError(f"--seconds is {arguments.seconds:g}, expected 1 to 3600")
        measured = measure(arguments.device, arguments.rate, arguments.seconds, arguments.speaker)
    except (OSError, ValueError, RuntimeError) as error:
        sys.stderr.write(f"timar audio: {error}\n")
        return 1
    sys.stdout.write(describe(measured, arguments.speaker is not None))
    return 1 if measured.complaint else 0


def calibrate_motion_noise(out: str, seconds: float, namespace: str, wait_s: float) -> int:
    """Let the head move, and write down how loud each joint is."""
    if not 6.0 <= seconds <= 600.0:
        raise ValueError(f"--seconds is {seconds:g}, expected 6 to 600")
    from timar_audio.motion_noise_node import calibrate  # needs ROS 2, which the other commands do not

    sys.stdout.write(f"each joint moves; please be silent for {seconds:g} s\n")
    sys.stdout.flush()
    noise = calibrate(namespace, seconds, wait_s)
    Path(out).write_text(to_yaml(noise), encoding="utf-8")
    sys.stdout.write(f"noise floor without motion {noise.noise_floor_dbfs:.1f} dBFS; at 1 rad/s:\n")
    for name in noise.joints:
        sys.stdout.write(f"  {name:20} {noise.level_dbfs({name: 1.0}):6.1f} dBFS\n")
    sys.stdout.write(f"written to {out}; give it to turns as motion_noise_file\n")
    return 0


def describe_devices(portaudio: Any) -> str:
    """Return one line for each device, the default ones marked."""
    lines = []
    default = tuple(portaudio.default.device)
    for place, (kind, title) in enumerate((("input", "microphones"), ("output", "loudspeakers"))):
        found = list_devices(portaudio, kind)  # type: ignore[arg-type]
        lines.append(f"{title}:" if found else f"{title}: none")
        for index, info in found.items():
            mark = "*" if index == default[place] else " "
            lines.append(
                f" {mark} {index:3}: {info['name']} ({info[f'max_{kind}_channels']} channels, "
                f"{info['default_samplerate']:.0f} Hz)"
            )
    return "\n".join(
        [*lines, "* is the system's default; give a name, a part of it, or the number as device", ""]
    )


def describe(measured: MicrophoneCheck, has_speaker: bool) -> str:
    """Return what a check found, with what to do about it."""
    rows = [
        ("level", f"{measured.level_dbfs:.1f} dBFS (speech at the usual place: about -30 to -15)"),
        ("peak", f"{measured.peak_dbfs:.1f} dBFS (below -3)"),
        ("noise floor", f"{measured.noise_floor_dbfs:.1f} dBFS (below -55 is a quiet room)"),
        ("rate error", f"{measured.rate_error_ppm:+.0f} ppm (within 200; a longer check knows it better)"),
        ("lost", f"{measured.samples_lost} samples (0)"),
    ]
    if has_speaker:
        trip = measured.round_trip_ms
        rows.append(
            ("round trip", "the sweep was not heard: is the loudspeaker on, the microphone near?")
            if trip is None
            else ("round trip", f"{trip:.1f} ms (capture's device_latency_ms may take it out of the stamps)")
        )
    rows.append(("microphone", measured.complaint or "well"))
    return "".join(f"{name:12} {text}\n" for name, text in rows)


def measure(device: str, rate_hz: int, seconds: float, speaker: str | None) -> MicrophoneCheck:
    """Listen, play a sweep meanwhile if there is a loudspeaker, and measure.

    Raises:
        OSError: A device is missing or cannot be opened.
    """
    source = MicrophoneSource(CaptureConfig(device=device, native_rate_hz=rate_hz))
    queue = SpeechQueue(4 * SAMPLE_RATE_HZ, 0)
    config = PlaybackConfig(device=speaker or "", speaker_rate_hz=rate_hz)
    playback = Playback(config, queue)
    lock = threading.Lock()
    loudspeaker = None if speaker is None else Loudspeaker(config, playback, lock)
    capture, health = Capture(_FRAME), InputHealth(HealthConfig())
    blocks: list[npt.NDArray[np.int16]] = []
    said_at: int | None = None
    has_asked = False
    source.open()
    try:
        with _writing(loudspeaker, playback):
            end_s = time.monotonic() + seconds + (_SWEEP_AT_S + 1.0 if loudspeaker else 0.0)
            while time.monotonic() < end_s:
                for sound in source.read():
                    health.push(sound.samples)
                    for block in capture.push(sound):
                        blocks.append(block.samples)
                        with lock:
                            now_ns = time.monotonic_ns()
                            playback.observe_user(block.first_sample, _FRAME, block.monotonic_ns, now_ns)
                            planned, _ = playback.advance(now_ns)
                            if loudspeaker and not has_asked and len(blocks) * 0.02 > _SWEEP_AT_S:
                                has_asked = True
                                queue.add("sweep", SAMPLE_RATE_HZ, sweep(), is_last=True, now_ns=now_ns)
                        if planned:
                            said_at = planned[0].first_sample if said_at is None else said_at
    finally:
        source.close()
    heard = np.concatenate([np.zeros(0, np.int16), *blocks])
    return _summary(heard, capture, health, said_at)


def sweep() -> npt.NDArray[np.int16]:
    """Return the test sound: 300 Hz to 6 kHz, easily found again in any room."""
    places = np.arange(round(_SWEEP_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    sound = scipy.signal.chirp(places, 300.0, _SWEEP_S, 6000.0) * scipy.signal.windows.tukey(places.size, 0.1)
    return np.rint(8000 * sound).astype(np.int16)


def find_sweep(heard: npt.NDArray[np.int16], said_at: int) -> float | None:
    """Return how long after its place the sweep is heard [ms], None when it is not."""
    template = sweep().astype(np.float64)
    part = heard[said_at : said_at + template.size + round(_LONGEST_ROUND_TRIP_S * SAMPLE_RATE_HZ)]
    if part.size <= template.size:
        return None
    found = np.abs(scipy.signal.correlate(part.astype(np.float64), template, "valid", method="fft"))
    if found.max() < 8 * np.median(found):
        return None
    return float(1000 * found.argmax() / SAMPLE_RATE_HZ)


@contextlib.contextmanager
def _writing(speaker: Loudspeaker | None, playback: Playback) -> Iterator[None]:
    """Write to the loudspeaker from a thread while the block runs."""
    if speaker is None:
        yield
        return
    ended = threading.Event()

    def write() -> None:
        try:
            while not ended.is_set():
                speaker.write()
        except OSError as error:
            sys.stderr.write(f"timar audio: {error}\n")
        finally:
            speaker.close()

    speaker.open()
    playback.has_loudspeaker = True
    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=2.0)


def _summary(
    heard: npt.NDArray[np.int16], capture: Capture, health: InputHealth, said_at: int | None
) -> MicrophoneCheck:
    levels = [level_dbfs(frame) for frame in heard[: heard.size // _FRAME * _FRAME].reshape(-1, _FRAME)]
    report = health.report()
    return MicrophoneCheck(
        level_dbfs=level_dbfs(heard),
        peak_dbfs=peak_dbfs(heard),
        noise_floor_dbfs=float(np.percentile(levels, 10)) if levels else level_dbfs(heard),
        rate_error_ppm=capture.clock.rate_error_ppm,
        samples_lost=capture.samples_lost,
        complaint=report.message if report.level is not Level.OK else "",
        round_trip_ms=None if said_at is None else find_sweep(heard, said_at),
    )
