"""A pytest plugin: a microphone that exists nowhere but in a private PulseAudio.

Mark the test `sound`, take the fixture `virtual_sound`, read the device `pulse`, in this process or a child.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

SINK = "room"


class VirtualSound:
    """A private PulseAudio daemon with one null sink; what is played into it is what the microphone hears.

    Args:
        folder: A folder of its own, with a short path (it holds a socket).
        rate_hz: The sink's rate [Hz]; sound of this rate, one channel and 16 bits passes bit for bit.
    """

    def __init__(self, folder: pathlib.Path, rate_hz: int = 16_000) -> None:
        self.rate_hz = rate_hz
        self._folder = folder
        self._socket = folder / "native"
        self._daemon: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs so that PortAudio's device `pulse` is this one."""
        return {
            "XDG_RUNTIME_DIR": str(self._folder),
            "PULSE_RUNTIME_PATH": str(self._folder),
            "PULSE_STATE_PATH": str(self._folder),
            "PULSE_SERVER": f"unix:{self._socket}",
            "PULSE_SINK": SINK,
            "PULSE_SOURCE": f"{SINK}.monitor",
            "PULSE_COOKIE": str(self._folder / "cookie"),
        }

    def start(self, timeout_s: float = 60.0) -> None:
        """Start the daemon and wait until it answers."""
        script = self._folder / "default.pa"
        script.write_text(
            f"load-module module-native-protocol-unix socket={self._socket} auth-anonymous=1\n"
            f"load-module module-null-sink sink_name={SINK} rate={self.rate_hz} channels=1\n"
        )
        command = ["pulseaudio", "-n", "-F", str(script), "--daemonize=no", "--exit-idle-time=-1"]
        command += ["--use-pid-file=no", "--log-target=stderr"]
        log = self._folder / "log"
        with log.open("wb") as errors:
            self._daemon = subprocess.Popen(command, env=os.environ | self.environment, stderr=errors)
        deadline = time.monotonic() + timeout_s
        while self._pactl("info").returncode:
            if time.monotonic() > deadline or self._daemon.poll() is not None:
                self.stop()
                raise RuntimeError(f"pulseaudio did not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End the daemon; what reads from it sees its device vanish."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait()
            self._daemon = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the daemon where it stands, as a machine that hangs would; then let it go on."""
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._daemon.send_signal(signal.SIGCONT)

    def unplug(self) -> None:
        """Take the device away; the daemon goes on."""
        self._require("unload-module", "module-null-sink")

    def plug_in(self, rate_hz: int = 0) -> None:
        """Bring a device of the same name back, at its own rate or another [Hz]."""
        rate = f"rate={rate_hz or self.rate_hz}"
        self._require("load-module", "module-null-sink", f"sink_name={SINK}", rate, "channels=1")

    def _require(self, *arguments: str) -> None:
        done = self._pactl(*arguments)
        if done.returncode:
            raise RuntimeError(f"pactl {' '.join(arguments)} failed: {done.stderr.decode()}")

    def play(self, path: pathlib.Path) -> subprocess.Popen[bytes]:
        """Begin to play a sound file into the microphone.

        PulseAudio swallows the first tens of milliseconds of a stream: begin the file with silence.
        """
        command = ["paplay", f"--device={SINK}", str(path)]
        return subprocess.Popen(command, env=os.environ | self.environment)

    def _pactl(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["pactl", *arguments], env=os.environ | self.environment, capture_output=True, timeout=60
        )


@pytest.fixture
def virtual_sound(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[VirtualSound]:
    """Run a virtual device; the parameter, if any, is its rate [Hz]."""
    sound = VirtualSound(tmp_path_factory.mktemp("pa"), getattr(request, "param", 16_000))
    for name, value in sound.environment.items():
        monkeypatch.setenv(name, value)
    sound.start()
    _look_again()
    yield sound
    sound.stop()


def _look_again() -> None:
    """Let a PortAudio that was opened before the daemon (MediaPipe opens it as well) see the device."""
    portaudio = sys.modules.get("sounddevice")
    if portaudio is not None:
        portaudio._terminate()
        portaudio._initialize()
