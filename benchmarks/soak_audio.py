"""Send an hour of coded sound through a virtual device and the nodes: nothing lost, nothing doubled.

    make soak-audio                                 # an hour, in real time
    python benchmarks/soak_audio.py --seconds 60    # to try it; writes no result

Every sample of the signal tells its own place, so each that is missing, doubled or out of order is seen. It
goes the whole way: a private PulseAudio, PortAudio, the capture node (with turns in the same process), the
topic `user/audio_raw`. A plain recorder (`parec`) listens beside it, so that it can be told who lost what:
what both lack the sound server never had; what only the topic lacks we lost. Writes
benchmarks/results/audio_soak.md.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import rclpy
from harness import RESULTS, node_command, parser_of, processor_s, running, table, when, write_page
from rclpy.qos import HistoryPolicy
from timar_common.base_node import message_type, qos_of
from timar_common.topics import TOPICS
from virtual_sound import SINK, VirtualSound  # beside the tests; harness says where

RATE_HZ = 16_000
CYCLE = 1 << 16
STEP = 2531
"""The signal climbs by this from sample to sample, modulo 2^16; odd: a cycle holds each value once."""
NODES = ("timar_audio.capture_node:CaptureNode", "timar_audio.turns_node:TurnsNode")


def coded_cycle() -> np.ndarray:
    """Return one cycle of the signal, (65536,) int16; repeated for ever it never jumps."""
    return (np.arange(CYCLE, dtype=np.int64) * STEP).astype(np.uint16).view(np.int16)


@dataclasses.dataclass
class CodeReader:
    """Follow the coded signal and count every break in it."""

    heard: int = 0
    """Coded samples."""
    silent: int = 0
    """Samples of silence after the signal began."""
    lost: int = 0
    doubled: int = 0
    breaks: int = 0
    _expected: int | None = None

    def push(self, samples: np.ndarray) -> None:
        """Take (n,) int16 in."""
        places = samples.view(np.uint16).astype(np.int64) * pow(STEP, -1, CYCLE) % CYCLE
        if self._expected is not None and np.array_equal(
            places, (self._expected + np.arange(places.size)) % CYCLE
        ):
            self.heard += places.size
            self._expected = int(places[-1] + 1) % CYCLE
            return
        for place in places.tolist():
            self._one(place)

    def _one(self, place: int) -> None:
        if self._expected is None:
            if place:
                self._expected = (place + 1) % CYCLE
                self.heard += 1
            return
        if place == 0 and self._expected:
            self.silent += 1
            return
        jump = (place - self._expected) % CYCLE
        if jump:
            self.breaks += 1
            self.lost += jump if jump < CYCLE // 2 else 0
            self.doubled += CYCLE - jump if jump >= CYCLE // 2 else 0
        self.heard += 1
        self._expected = (place + 1) % CYCLE


@dataclasses.dataclass
class ReceivedTopic:
    """What came on user/audio_raw."""

    code: CodeReader = dataclasses.field(default_factory=CodeReader)
    messages: int = 0
    filled: int = 0
    """Samples of silence that capture put where it knew of a loss, and said so."""
    missing: int = 0
    repeated: int = 0
    _end: int | None = None

    def push(self, message: object) -> None:
        """Take a message in: its place must follow the last one's."""
        samples = np.frombuffer(message.samples, np.int16)
        if self._end is not None:
            self.missing += max(0, message.first_sample - self._end)
            self.repeated += max(0, self._end - message.first_sample)
        self._end = message.first_sample + samples.size
        self.messages += 1
        self.filled += message.filled_samples
        self.code.push(samples)


def feeder(folder: Path) -> list[str]:
    """Return a command that plays the signal for ever, buffered for two seconds."""
    cycle = folder / "cycle.raw"
    cycle.write_bytes(coded_cycle().tobytes())
    pacat = f"pacat --raw --device={SINK} --format=s16le --rate={RATE_HZ} --channels=1 --latency-msec=2000"
    return ["bash", "-c", f"while cat '{cycle}'; do :; done | {pacat}"]


RECORDER = ["parec", "--raw", f"--device={SINK}.monitor", "--format=s16le", f"--rate={RATE_HZ}"]
RECORDER += ["--channels=1", "--latency-msec=500"]


def read_into(code: CodeReader, process: subprocess.Popen) -> None:
    """Follow what PulseAudio's own tool records, in a thread."""

    def read() -> None:
        rest = b""
        while data := process.stdout.read1(32_000):
            data = rest + data
            whole = len(data) // 2 * 2
            rest = data[whole:]
            code.push(np.frombuffer(data[:whole], np.int16))

    threading.Thread(target=read, daemon=True).start()


def soak(seconds: float, buffer_ms: int, say: bool = True) -> list[str]:
    """Run for so long, and return the result's lines."""
    folder = Path(tempfile.mkdtemp(prefix="pa"))
    sound = VirtualSound(folder)
    os.environ.update(sound.environment)
    sound.start()
    topic, direct = ReceivedTopic(), CodeReader()
    rclpy.init()
    listener = rclpy.create_node("soak")
    wanted = TOPICS["user/audio_raw"]
    qos = qos_of(wanted)
    qos.history = HistoryPolicy.KEEP_ALL  # a listener that is held up must not be what loses sound
    listener.create_subscription(message_type(wanted.type_name), wanted.name, topic.push, qos)
    loads: list[float] = []
    try:
        microphone = {"capture__source": "microphone", "capture__device": "pulse"}
        rates = {"capture__native_rate_hz": RATE_HZ, "capture__buffer_ms": buffer_ms}
        nodes = node_command(*NODES, **microphone, **rates)
        with (
            running(feeder(folder), signal.SIGKILL),
            running(RECORDER, signal.SIGKILL, stdout=subprocess.PIPE) as recorder,
            running(nodes) as head,
        ):
            read_into(direct, recorder)
            wait_for(listener, lambda: topic.code.heard > 5 * RATE_HZ and direct.heard > 0, 30.0)
            began_s, busy_s, next_s = time.monotonic(), processor_s(head.pid), time.monotonic()
            while time.monotonic() - began_s < seconds:
                rclpy.spin_once(listener, timeout_sec=0.1)
                if time.monotonic() >= next_s:
                    loads.append(os.getloadavg()[0])
                    next_s += 60.0
                    if say:
                        done_s = time.monotonic() - began_s
                        sys.stdout.write(f"{done_s:6.0f} s: topic {topic}, parec {direct}\n")
                        sys.stdout.flush()
            took_s = time.monotonic() - began_s
            busy_s = processor_s(head.pid) - busy_s
    finally:
        listener.destroy_node()
        rclpy.try_shutdown()
        sound.stop()
    return described(topic, direct, took_s, busy_s, loads, buffer_ms)


def wait_for(listener: object, condition: object, timeout_s: float) -> None:
    """Spin until a condition holds.

    Raises:
        TimeoutError: It did not come to hold.
    """
    end_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError(f"no coded sound came within {timeout_s:g} s; the lines above say why")
        rclpy.spin_once(listener, timeout_sec=0.1)


def described(
    topic: ReceivedTopic, direct: CodeReader, took_s: float, busy_s: float, loads: list[float], buffer_ms: int
) -> list[str]:
    """Return the result as a page."""
    rows = [
        ("coded samples heard", topic.code.heard, direct.heard),
        ("lost", topic.code.lost, direct.lost),
        ("doubled", topic.code.doubled, direct.doubled),
        ("breaks in the order", topic.code.breaks, direct.breaks),
        ("silence where the player had nothing", topic.code.silent - topic.filled, direct.silent),
        ("silence that capture put and reported", topic.filled, "–"),
        ("samples of messages that never came", topic.missing, "–"),
        ("samples of messages that came twice", topic.repeated, "–"),
    ]
    return [
        "# An hour of coded sound" if took_s >= 3600 else f"# {took_s:.0f} s of coded sound",
        "",
        f"{when()}; {took_s:.0f} s in real time, {topic.messages} messages, `buffer_ms` {buffer_ms}. Made by "
        "`benchmarks/soak_audio.py`.",
        *table(["samples at 16 kHz", "`user/audio_raw`", "`parec` beside it"], rows),
        f"Capture and turns, one process, one voice: {100 * busy_s / took_s:.1f} % of a core; load of the "
        f"machine {np.mean(loads):.1f} (mean), {max(loads):.1f} (highest), that of everything on it.",
    ]


def main() -> int:
    """Soak, and write the page when it was an hour or more."""
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0, help="how long [s] (default: 3600)")
    parser.add_argument("--buffer-ms", type=int, default=100, help="capture's buffer_ms (default: 100)")
    arguments = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    lines = soak(arguments.seconds, arguments.buffer_ms)
    if arguments.seconds >= 3600:
        write_page(RESULTS / "audio_soak.md", lines)
    else:
        sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
