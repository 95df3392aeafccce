"""Measure talking with the head, over a virtual microphone and loudspeaker, by the processes of `make talk`.

    make bench-talk                                  # about six minutes; writes benchmarks/results/talk.md
    python benchmarks/bench_talk.py --turns 4        # to try it; writes no result

A synthetic user (espeak-ng) asks; the head's answers are measured on the conversation's clock, by what the
microphone heard and what the loudspeaker was given (topics user/audio_raw and agent/audio). Every third
answer is interrupted. Once on a machine as it is, once beside a process that computes at equal priority.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import rclpy
from harness import RESULTS, parser_of, percentiles, print_page, running, table, when, write_page
from rclpy.experimental.events_executor import EventsExecutor
from timar_bringup.composer import ros_environment
from timar_common.base_node import message_type, qos_of
from timar_common.topics import TOPICS
from timar_common.wav import read_wav, write_wav
from virtual_sound import VirtualSound  # beside the tests; harness says where

RATE_HZ = 16_000
LOUD = 300
"""Samples above this are speech, not the noise of the way [of 32768]."""
QUESTIONS = (
    "Hello, how are you today?",
    "I went to the mountains with my brother last weekend.",
    "What can you do?",
    "I am learning to play the piano.",
    "Do you like music?",
    "What can you do for me?",
)
INTERRUPTION = "No, stop. Wait a moment please."
LOOK_S = 0.05
"""How often a condition is looked at: looking takes time from the head that is measured [s]."""
EAR = "ear"
"""The sink that stands for the loudspeaker; nothing of it reaches the microphone."""


class Line:
    """One voice on the conversation's clock, and the ROS time of its blocks."""

    def __init__(self) -> None:
        self._loud: list[np.ndarray] = []
        """The places of the loud samples of each block that has any."""
        self.first_sample = -1
        self.end_sample = 0
        self.times: list[tuple[int, int]] = []
        """(first sample, ROS time [ns]) of every block."""

    def push(self, message: object) -> None:
        """Take a block in; blocks come in order."""
        samples = np.frombuffer(message.samples, np.int16)
        if self.first_sample < 0:
            self.first_sample = self.end_sample = message.first_sample
        fresh = samples[max(0, self.end_sample - message.first_sample) :]
        self.end_sample = message.first_sample + samples.size
        loud = np.flatnonzero(np.abs(fresh.astype(np.int32)) > LOUD)
        if loud.size:
            self._loud.append(loud + self.end_sample - fresh.size)
        stamp = message.header.stamp
        self.times.append((message.first_sample, stamp.sec * 1_000_000_000 + stamp.nanosec))

    def loud(self, since: int = 0) -> np.ndarray:
        """Return the places of all loud samples from a place on."""
        newest = list(itertools.takewhile(lambda block: block[-1] >= since, reversed(self._loud)))
        places = np.concatenate([np.zeros(0, int), *reversed(newest)])
        return places[places >= since]

    @property
    def newest_loud(self) -> int:
        """The place of the newest loud sample."""
        return int(self._loud[-1][-1]) if self._loud else -1

    def ros_ns(self, sample: int) -> int:
        """Return the ROS time of a sample."""
        first, stamp_ns = min(self.times, key=lambda block: abs(block[0] - sample))
        return stamp_ns + round((sample - first) * 1e9 / RATE_HZ)


class Stage:
    """Listens to the graph."""

    def __init__(self) -> None:
        rclpy.init()
        self.user, self.agent = Line(), Line()
        self.jaw: list[tuple[int, float]] = []
        self.events: list[tuple[int, int, float]] = []
        self.lowered: list[tuple[int, float]] = []
        """Where speech into the answer began, and how much later the voice was lowered [s]."""
        self.came_ns: dict[str, int] = {}
        """When the newest of a kind came, ROS time [ns]: a turn's end, its words, an answer's first sound."""
        self._utterance = ""
        self._node = rclpy.create_node("bench_talk")
        callbacks: dict[str, Callable] = {
            "user/audio_raw": self.user.push,
            "agent/audio": self.agent.push,
            "turn_events": self._on_event,
            "joint_states": self._on_joints,
            "user/words": self._on_words,
            "agent/speech": self._on_speech,
        }
        for name, callback in callbacks.items():
            topic = TOPICS[name]
            self._node.create_subscription(message_type(topic.type_name), name, callback, qos_of(topic))
        self._executor = EventsExecutor()
        self._executor.add_node(self._node)

    def _on_event(self, event: object) -> None:
        place = event.end_sample if event.kind == event.END else event.first_sample
        self.events.append((event.kind if event.speaker == event.USER else -1, place, event.decision_delay_s))

        if event.kind == event.LOWERED:
            self.lowered.append((event.first_sample, event.decision_delay_s))
        if event.kind == event.END and event.speaker == event.USER:
            self.came_ns["end"] = time.time_ns()

    def _on_words(self, message: object) -> None:
        if message.is_final:
            self.came_ns["words"] = time.time_ns()

    def _on_speech(self, message: object) -> None:
        if message.utterance_id != self._utterance:
            self._utterance, self.came_ns["voice"] = message.utterance_id, time.time_ns()

    def _on_joints(self, message: object) -> None:
        if "jaw" in message.name:
            stamp = message.header.stamp
            position_rad = message.position[list(message.name).index("jaw")]
            self.jaw.append((stamp.sec * 1_000_000_000 + stamp.nanosec, position_rad))

    def spin(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Take messages in until a condition holds; return whether it did."""
        end_s, look_s = time.monotonic() + seconds, 0.0
        while (now_s := time.monotonic()) < end_s:
            if now_s >= look_s:
                look_s = now_s + LOOK_S
                if until():
                    return True
            self._executor.spin_once(timeout_sec=0.02)
        return until()

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.try_shutdown()


def spoken(text: str, path: Path) -> None:
    """Write a synthetic user's line after 0.3 s of silence, which PulseAudio swallows a part of."""
    subprocess.run(["espeak-ng", "-v", "en-us+f3", "-s", "160", "-w", str(path), text], check=True)
    write_wav(path, np.pad(read_wav(path), (round(0.3 * RATE_HZ), round(0.1 * RATE_HZ))))


@contextlib.contextmanager
def busy(is_wanted: bool) -> Iterator[None]:
    """Compute beside it, in one process of equal priority."""
    if not is_wanted:
        yield
        return
    with running([sys.executable, "-c", "while True: pass"], signal.SIGKILL):
        yield


def sound_process_s() -> float:
    """Return the processor time that the newest process of sound has used [s]."""
    newest = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"turns_node" in (folder / "cmdline").read_bytes():
                newest = max(newest, int(folder.name))
    fields = Path(f"/proc/{newest}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def converse(sound: VirtualSound, folder: Path, turns: int, arguments: list[str]) -> dict[str, list[float]]:
    """Talk with the head, and return what was measured [s]."""
    found: dict[str, list[float]] = {}
    ready, lines = threading.Event(), []

    def follow(process: subprocess.Popen[str]) -> None:
        for line in process.stdout:
            lines.append(line)
            if "Say something" in line:
                ready.set()

    command = [
        sys.executable,
        "-m",
        "timar_bringup.talk",
        "--headless",
        "device:=pulse",
        "speaker:=pulse",
    ]
    stage = Stage()
    began_s = time.monotonic()
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    try:
        with running([*command, *arguments], **options) as talk:
            threading.Thread(target=follow, args=(talk,), daemon=True).start()
            if not stage.spin(120.0, ready.is_set):
                raise RuntimeError("the head was not ready within 120 s:\n" + "".join(lines[-20:]))
            found["start"] = [time.monotonic() - began_s]
            stage.spin(2.0)
            used_s, since_s = sound_process_s(), time.monotonic()
            for turn, text in zip(range(turns), itertools.cycle(QUESTIONS), strict=False):
                one_turn(stage, sound, folder, text, found, is_interrupted=turn % 3 == 2)
            found["sound process"] = [(sound_process_s() - used_s) / (time.monotonic() - since_s)]
    finally:
        stage.close()
    if "unanswered" in found:
        sys.stderr.write(
            "the head's last lines, for it left questions without an answer:\n" + "".join(lines[-30:])
        )
    return found


def one_turn(
    stage: Stage,
    sound: VirtualSound,
    folder: Path,
    text: str,
    found: dict[str, list[float]],
    *,
    is_interrupted: bool,
) -> None:
    """Ask, wait for the answer and perhaps interrupt it."""
    path = folder / "line.wav"
    spoken(text, path)
    heard_from = stage.user.end_sample
    stage.came_ns.clear()
    player = sound.play(path)
    while player.poll() is None:
        stage.spin(0.05)
    stage.spin(0.3)
    question = stage.user.loud(heard_from)
    if not question.size:
        raise RuntimeError("the microphone heard nothing of the question; is the sound server too busy?")
    last = int(question[-1])
    if np.any(stage.agent.loud(int(question[0])) < last):
        found.setdefault("early", []).append(1.0)
    if not stage.spin(15.0, lambda: stage.agent.loud(last).size > RATE_HZ // 4):
        found.setdefault("unanswered", []).append(1.0)
        return
    first = int(stage.agent.loud(last)[0])
    found.setdefault("answer", []).append((first - last) / RATE_HZ)
    times_ns = [*(stage.came_ns.get(name) for name in ("end", "words", "voice")), stage.agent.ros_ns(first)]
    for name, begin_ns, end_ns in zip(("words", "voice", "lead"), times_ns, times_ns[1:], strict=False):
        if begin_ns is not None and end_ns is not None:
            found.setdefault(name, []).append((end_ns - begin_ns) * 1e-9)
    ends = [delay_s for kind, _, delay_s in stage.events if kind == 1]
    if ends:
        found.setdefault("end of turn", []).append(ends[-1])
    if is_interrupted:
        interrupt(stage, sound, folder / "stop.wav", found)
    # The answer, if there is one to what interrupted, is heard to its end.
    quiet = (4 if is_interrupted else 2) * RATE_HZ
    stage.spin(30.0, lambda: stage.agent.newest_loud < stage.agent.end_sample - quiet)


def interrupt(stage: Stage, sound: VirtualSound, path: Path, found: dict[str, list[float]]) -> None:
    """Interrupt the answer and measure when it is silent and the mouth closed."""
    spoken(INTERRUPTION, path)
    stage.spin(1.0)
    place = stage.user.end_sample
    player = sound.play(path)
    stage.spin(3.0)
    player.wait()
    user, agent = stage.user.loud(place), stage.agent.loud(place)
    begins = int(user[0])
    lowered = [delay_s for at, delay_s in stage.lowered if at > begins - RATE_HZ // 2]
    found.setdefault("lowered", []).extend(lowered[:1])
    # Silent is what stays so for 0.3 s.
    after = agent[agent > begins]
    gaps = np.flatnonzero(np.diff(after) > round(0.3 * RATE_HZ))
    if not after.size:
        return
    silent = int(after[gaps[0]] if gaps.size else after[-1])
    found.setdefault("silent", []).append((silent - begins) / RATE_HZ)
    silent_ns = stage.agent.ros_ns(silent)
    rest_rad = min(position for _, position in stage.jaw)
    wide_rad = max(position for _, position in stage.jaw)
    closed = [
        at
        for at, position in stage.jaw
        if at >= silent_ns and position < rest_rad + 0.15 * (wide_rad - rest_rad)
    ]
    if closed:
        found.setdefault("mouth", []).append((closed[0] - silent_ns) * 1e-9)


ROWS = (
    ("start → can be talked with", "start", "12"),
    ("user's last word → agent heard (Whisper tiny.en, built-in dialogue, Piper)", "answer", "1.6 / 2.3"),
    ("of which end of turn (decision)", "end of turn", "0.30 where a model is sure"),
    ("of which turn's end → words", "words", ""),
    ("of which words → first sound of the voice", "voice", ""),
    ("of which first sound → heard", "lead", "0.32"),
    ("interruption begins → voice lowered (decision)", "lowered", "0.25 / 0.35"),
    ("interruption begins → silent", "silent", "0.45 / 0.60"),
    ("voice silent → mouth closed", "mouth", "0.10"),
)


def described(found: dict[str, list[float]]) -> list[str]:
    """Return a table of p50 / p95."""
    rows = []
    for title, name, wanted in ROWS:
        values = found.get(name, [])
        numbers = " / ".join(f"{v:.2f}" for v in percentiles(values, 50, 95)) if values else "none"
        rows.append((title, numbers, len(values), wanted))
    rows.append(("sound process, share of a core", f"{found['sound process'][0]:.2f}", 1, "0.20"))
    rows.append(
        (
            "questions into which the head spoke",
            f"{len(found.get('early', []))}",
            len(found.get("answer", [])),
            "0",
        )
    )
    rows.append(("turns without an answer", len(found.get("unanswered", [])), "", "0"))
    return table(("", "p50 / p95 [s]", "measured", "wanted [s]"), rows)


def main() -> int:
    """Measure, and write the page."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "--turns", type=int, default=0, help="of each run (default: 12, and then a page is written)"
    )
    parser.add_argument("--only", choices=("idle", "busy"), help="one of the two runs")
    parser.add_argument("more", nargs="*", metavar="name:=value", help="launch arguments for timar talk")
    typed = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", str(101 + os.getpid() % 100))
    os.environ.update(ros_environment(os.environ))
    began = when()
    lines = [
        "# Talking with the head",
        "",
        f"`make bench-talk`, {began}.",
        "",
        *(__doc__ or "").splitlines()[5:],
    ]
    with tempfile.TemporaryDirectory(prefix="pa") as name:
        folder = Path(name)
        sound = VirtualSound(folder)
        os.environ.update(sound.environment)
        sound.start()
        load = ["pactl", "load-module", "module-null-sink", f"sink_name={EAR}", "rate=48000", "channels=1"]
        subprocess.run(load, check=True, stdout=subprocess.DEVNULL)
        os.environ["PULSE_SINK"] = EAR
        try:
            for name, title in (("idle", "A machine as it is"), ("busy", "Beside one busy process")):
                if typed.only in (None, name):
                    with busy(name == "busy"):
                        found = converse(sound, folder, typed.turns or 12, typed.more)
                    lines += ["", f"## {title}", *described(found)]
        finally:
            sound.stop()
    if typed.turns or typed.only or typed.more:
        print_page(lines)
    else:
        write_page(RESULTS / "talk.md", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
