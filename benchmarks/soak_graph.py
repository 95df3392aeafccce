"""The whole graph at real time while everything around it breaks: does it always come back, and never jump?

    make soak-graph                                  # an hour
    make soak-graph ARGS="--seconds 600 --seed 3"

Microphone (a private PulseAudio), perception on a video, twelve simulated servos on a bus in a process of
their own, recorder, view with a headless Chromium that looks at it; and faults in a seeded order, one after
the other: the next begins when the graph has recovered from the last one. What is measured is said in
benchmarks/results/chaos.md, which this writes. Ends with 1 when a target was missed.

As root it runs in network and mount namespaces of its own; faults that this machine does not allow are listed
as not run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from chaos_faults import Fault, FaultSchedule, SmallDisk, Surroundings, enter_namespace, hanging_callbacks
from chaos_page import page
from chaos_watch import Flow, PlanWatch, ProcessUsage, Recovery, SoundWatch, recovery
from harness import RESULTS, ROOT, example_clip, example_voice, parser_of, when, write_page
from headless_browser import HeadlessBrowser, find_browser
from rclpy.experimental.events_executor import EventsExecutor
from timar_bag.bag import BagReader
from timar_bringup.composer import Composer, ros_environment
from timar_bringup.files import with_urdf
from timar_bringup.graph import Plan, plan, read_arguments
from timar_common.base_node import message_type, qos_of
from timar_common.topics import TOPICS
from timar_common.wav import write_wav
from virtual_sound import SINK, VirtualSound
from wrong_clock import SteppedClock

CALM_S = 3.0
"""All has to flow for so long before a fault counts as recovered from, and the next one begins [s]."""
GIVE_UP_S = 60.0
BEGIN_WITHIN_S = 60.0
VIDEO_HZ, VIDEO_STEPS, VIDEO_PX = 4.0, 8, (320, 240)
VIEW_PORT = 18_700
FLOWS = {
    "user/audio": 1.0,
    "user/motion": 2.0,
    "agent/motion": 1.5,
    "joint_trajectory": 2.0,
    "joint_states": 1.0,
    "page": 4.0,
    "bag": 4.0,
}
"""What comes again and again, and the longest silence that is none [s]."""


@dataclasses.dataclass
class SoakFindings:
    """Everything that a soak has found."""

    seconds: float
    seed: int
    recoveries: list[Recovery]
    not_run: dict[str, str]
    plans: PlanWatch
    sound: SoundWatch
    usage: ProcessUsage
    bus: dict[str, Any]
    restarts: dict[str, int]
    missing_s: float = 0.0
    """Sound that nobody accounts for [s]."""
    stop_s: float = 0.0
    bad_ends: tuple[str, ...] = ()
    orphans: int = 0
    bag: dict[str, Any] = dataclasses.field(default_factory=dict)
    graph_ended: str = ""


class WatchedBus:
    """Simulated servos in a process of their own, with their judge."""

    def __init__(self) -> None:
        command = [sys.executable, str(ROOT / "benchmarks" / "watched_bus.py")]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.port = self._read()

    def tell(self, words: str) -> str:
        """Say a line and return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(words + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


class GraphListener:
    """A node that hears some topics while `watch` is called; a context manager."""

    def __enter__(self) -> GraphListener:
        rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
        self._node, self._executor = rclpy.create_node("soak"), EventsExecutor()
        self._executor.add_node(self._node)
        return self

    def __exit__(self, *_: object) -> None:
        self._node.destroy_node()
        self._executor.shutdown()
        rclpy.try_shutdown()

    def watch(self, seconds: float) -> None:
        """Take messages in for a while."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left_s)

    def subscribe(self, name: str, callback: Callable[[Any], None], raw: bool = False) -> None:
        """Hear a topic of the table; raw: as bytes."""
        topic = TOPICS[name]
        self._node.create_subscription(
            message_type(topic.type_name), topic.name, callback, qos_of(topic), raw=raw
        )


class Looker:
    """A real browser on the page, in a thread: the page comes again whenever what it shows has changed.

    Args:
        flow: Is told.
        url: The page's address.
    """

    def __init__(self, flow: Flow, url: str) -> None:
        self._flow, self._url = flow, url
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.trouble = ""

    def __enter__(self) -> Looker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(20.0)

    def _run(self) -> None:
        # As on a machine of its own: what looks at the head takes no time from it.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 15)
        try:
            with HeadlessBrowser((320, 240)) as browser:
                browser.go_to(self._url)
                shown = ""
                while not self._is_over.wait(1.0):
                    text = browser.evaluate("document.body.innerText")
                    if text != shown:
                        self._flow.take(time.monotonic())
                    shown = text
        except Exception as error:
            self.trouble = f"{type(error).__name__}: {error}"
            raise


class Soak:
    """One run.

    Args:
        folder: For its files.
        seconds: How long, beginning with the first fault.
        seed: Of the schedule.
    """

    def __init__(self, folder: Path, seconds: float, seed: int) -> None:
        self.folder, self.seconds, self.seed = folder, seconds, seed
        self.flows = {name: Flow(name, allowed_s) for name, allowed_s in FLOWS.items()}
        self.plans, self.sound, self.usage = PlanWatch(), SoundWatch(), ProcessUsage()
        self.recoveries: list[Recovery] = []
        self.not_run: dict[str, str] = {}
        if importlib.util.find_spec("mediapipe") is None:
            self._leave_out("user/motion", "perception", "MediaPipe is not installed")
        try:
            find_browser()
        except FileNotFoundError as error:
            self._leave_out("page", "a browser that looks at the view", str(error))
        self.url = ""
        self._log = (folder / "graph.log").open("w", encoding="utf-8")
        self._next_sample_s = self._next_bag_s = 0.0
        self._bag_bytes = -1

    def _leave_out(self, flow: str, what: str, why: str) -> None:
        del self.flows[flow]
        self.not_run[what] = why

    def _leave_out_silent(self, now_s: float) -> None:
        """What does not flow steadily before the first fault on this machine cannot tell of recovery."""
        for name, flow in list(self.flows.items()):
            gaps = [gap for gap in flow.gaps if gap[1] > now_s - BEGIN_WITHIN_S / 2]
            if gaps or not flow.is_flowing(now_s):
                self._leave_out(name, f"{name} as a sign of recovery", "not steady before the first fault")

    def run(self, is_isolated: bool) -> SoakFindings:
        """Start everything, break it for so long, stop it, and return what was found."""
        with contextlib.ExitStack() as stack:
            bus = WatchedBus()
            stack.callback(bus.close)
            around = Surroundings(
                dict, bus.tell, self._sound(stack), self._clock(), self._disk(is_isolated), is_isolated
            )
            environment = ros_environment(os.environ) | hanging_callbacks(self.folder)
            environment |= around.clock.environment if around.clock else {}
            os.environ.update({key: environment[key] for key in ("ROS_AUTOMATIC_DISCOVERY_RANGE",)})
            bag = (around.disk.folder if around.disk else self.folder) / "bag"
            composer = stack.enter_context(Composer(self._plan(bus.port, bag), self._take_line, environment))
            around.pids = lambda: composer.pids
            faults = FaultSchedule(around, random.Random(self.seed))
            stack.callback(faults.end)
            watcher = stack.enter_context(GraphListener())
            self._subscribe(watcher)
            run = _Running(self, composer, watcher, bag)
            run.until(lambda: bool(self.url), 2 * BEGIN_WITHIN_S, "the page's address")
            looker = None
            if "page" in self.flows:
                looker = stack.enter_context(Looker(self.flows["page"], self.url))
            try:
                run.until(run.is_calm, BEGIN_WITHIN_S, "a graph in which all flows")
            except TimeoutError:
                self._leave_out_silent(time.monotonic())
            began_s = time.monotonic()
            for fault in faults.schedule():
                if time.monotonic() - began_s >= self.seconds or run.ended:
                    break
                self.recoveries.append(run.suffer(fault))
                self._say(time.monotonic() - began_s, self.recoveries[-1])
            lasted_s = time.monotonic() - began_s
            judgement = json.loads(bus.tell("judge"))
            self.usage.sample(composer.pids)
            found = SoakFindings(
                lasted_s, self.seed, self.recoveries, self.not_run | faults.not_run, self.plans, self.sound,
                self.usage, judgement, composer.restarts, self.sound.unaccounted_s, graph_ended=run.ended,
            )  # fmt: skip
            faults.end()
            pids = list(composer.pids.values())
            stopped_s = time.monotonic()
            composer.stop()
            found.stop_s = time.monotonic() - stopped_s
            found.bad_ends = tuple(composer.bad_ends())
            found.orphans = sum(Path(f"/proc/{pid}").exists() for pid in pids)
            found.bag = read_bag(bag)
            if looker is not None and looker.trouble:
                sys.stdout.write(f"browser: {looker.trouble}\n")
        return found

    def _say(self, at_s: float, one: Recovery) -> None:
        state = f"{one.took_s:5.1f} s, last: {one.last or 'nothing stopped'}"
        sys.stdout.write(
            f"{at_s:6.0f} s  {one.kind} ({one.hit}): {state if one.is_back else 'NOT BACK: ' + one.last}\n"
        )
        sys.stdout.flush()

    # What is around the graph.

    def _sound(self, stack: contextlib.ExitStack) -> VirtualSound | None:
        if shutil.which("pulseaudio") is None:
            return None
        folder = Path(tempfile.mkdtemp(prefix="pa"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        sound = VirtualSound(folder)
        os.environ.update(sound.environment)
        sound.start()
        stack.callback(sound.stop)
        # A user who begins to speak again whenever the device is back.
        loop = f"while :; do paplay --device={SINK} '{example_clip(1)}'; sleep 0.2; done"
        talker = subprocess.Popen(["bash", "-c", loop], start_new_session=True, stderr=subprocess.DEVNULL)
        stack.callback(talker.wait)
        stack.callback(os.killpg, talker.pid, signal.SIGKILL)
        return sound

    def _clock(self) -> SteppedClock | None:
        return SteppedClock(self.folder) if shutil.which("cc") else None

    def _disk(self, is_isolated: bool) -> SmallDisk | None:
        return SmallDisk(self.folder / "disk", round(100 + 0.5 * self.seconds)) if is_isolated else None

    def _plan(self, port: str, bag: Path) -> Plan:
        agent, params = self.folder / "agent.wav", self.folder / "params.yaml"
        voice = example_voice(2)
        write_wav(agent, np.tile(voice, int(np.ceil((self.seconds + 300) * 16_000 / voice.size))))
        params.write_text(
            f"/**/driver:\n  ros__parameters: {{driver: hardware, port: {port}}}\n"
            "/**/recorder:\n  ros__parameters: {min_free_mb: 10.0}\n"
            "/**/inference:\n  ros__parameters: {turn_frames: 5, margin_frames: 6}\n",
            encoding="utf-8",
        )
        has_sound = shutil.which("pulseaudio") is not None
        source = ["device:=pulse"] if has_sound else ["source:=file", f"user_file:={agent}"]
        typed = [*source, f"agent_file:={agent}", "sink:=null", "record:=true", f"out:={bag}", "view:=true"]
        typed += [f"view_port:={VIEW_PORT}", f"params:={params}"]
        if "user/motion" not in self.flows:
            return plan(with_urdf(read_arguments(typed)))
        graph = plan(with_urdf(read_arguments([*typed, "perception:=true"])))
        video = {"source": "file", "file": str(draw_video(self.folder / "user.mp4", self.seconds))}
        nodes = (
            dataclasses.replace(one, parameters=video) if one.node.name == "perception" else one
            for one in graph.nodes
        )
        return dataclasses.replace(graph, nodes=tuple(nodes))

    # What is seen of it.

    def _take_line(self, process: str, line: str) -> None:
        self._log.write(f"{time.monotonic():.3f} [{process}] {line}\n")
        self._log.flush()
        self.sound.read_line(line)
        if process == "view" and (address := re.search(r"shown at (http://\S+)", line)):
            self.url = address.group(1)

    def _subscribe(self, watcher: GraphListener) -> None:
        def flowing(name: str) -> Callable[[object], None]:
            flow = self.flows[name]
            return lambda _: flow.take(time.monotonic())

        for name in self.flows.keys() & {"user/motion", "agent/motion", "joint_states"}:
            watcher.subscribe(name, flowing(name), raw=True)

        blocks, plans = self.flows["user/audio"], self.flows["joint_trajectory"]

        def on_sound(message: Any) -> None:
            blocks.take(time.monotonic())
            stamp = message.header.stamp
            stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
            self.sound.take(message.first_sample, len(message.samples), message.filled_samples, stamp_ns)

        def on_plan(message: Any) -> None:
            plans.take(time.monotonic())
            self.plans.take(message)

        watcher.subscribe("user/audio", on_sound)
        watcher.subscribe("joint_trajectory", on_plan)

    def look(self, composer: Composer, bag: Path) -> None:
        """Look at what does not come by itself: processes and the bag."""
        now_s = time.monotonic()
        if now_s >= self._next_sample_s:
            self._next_sample_s = now_s + 5.0
            self.usage.sample({**composer.pids, "composer and watch": os.getpid()})
        if now_s >= self._next_bag_s:
            self._next_bag_s = now_s + 0.5
            size = sum(path.stat().st_size for path in bag.rglob("*.mcap"))
            if size > self._bag_bytes and "bag" in self.flows:
                self.flows["bag"].take(now_s)
            self._bag_bytes = size


class _Running:
    """A graph that runs, and what the soak does with it."""

    def __init__(self, soak: Soak, composer: Composer, watcher: GraphListener, bag: Path) -> None:
        self._soak, self._composer, self._watcher, self._bag = soak, composer, watcher, bag
        self._calm_since_s: float | None = None
        self.ended = ""

    def go_on(self, seconds: float) -> None:
        """Let time pass."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s and not self.ended:
            self._watcher.watch(0.05)
            ended = self._composer.poll()
            self.ended = ended.sentence() if ended else ""
            self._soak.look(self._composer, self._bag)
            now_s = time.monotonic()
            if not all(flow.is_flowing(now_s) for flow in self._soak.flows.values()):
                self._calm_since_s = None
            elif self._calm_since_s is None:
                self._calm_since_s = now_s

    def is_calm(self) -> bool:
        """Tell whether everything has been flowing for a while."""
        since_s = self._calm_since_s
        return since_s is not None and time.monotonic() - since_s >= CALM_S and self._composer.are_ready

    def until(self, condition: Callable[[], bool], within_s: float, what: str) -> None:
        """Let time pass until a condition holds.

        Raises:
            TimeoutError: It did not come to hold.
        """
        end_s = time.monotonic() + within_s
        while not condition():
            if self.ended or time.monotonic() > end_s:
                silent = [f.name for f in self._soak.flows.values() if not f.is_flowing(time.monotonic())]
                raise TimeoutError(
                    f"{what} did not come within {within_s:g} s {self.ended}; silent: {', '.join(silent)}; "
                    f"the log is {self._soak.folder / 'graph.log'}"
                )
            self.go_on(0.1)

    def suffer(self, fault: Fault) -> Recovery:
        """Let a fault happen and wait for recovery, which is judged."""
        restarts = dict(self._composer.restarts)
        began_s = time.monotonic()
        hit = fault.begin()
        if fault.lasts_s:
            self.go_on(fault.lasts_s)
            fault.lift()
        counts_from_s = (time.monotonic() if fault.lasts_s else began_s) + fault.allowed_s
        # The silence that the flows allow must have passed before they can say anything.
        self.go_on(max(0.0, began_s + CALM_S - time.monotonic()))

        def is_over() -> bool:
            is_restarted = not fault.restarts or self._composer.restarts[hit] > restarts[hit]
            return is_restarted and self.is_calm()

        with contextlib.suppress(TimeoutError):
            self.until(is_over, GIVE_UP_S, "recovery")
        flows = self._soak.flows.values()
        return recovery(fault.kind, hit, began_s, counts_from_s, flows, time.monotonic())


def draw_video(path: Path, seconds: float) -> Path:
    """Draw a user who nods, for as long as needed."""
    import cv2
    from portrait import portrait
    from projected_face import CAMERA

    steps = []
    for k in range(VIDEO_STEPS):
        neck = (0.2 * np.sin(2 * np.pi * k / VIDEO_STEPS), 0.0, 0.0)
        steps.append(cv2.resize(portrait("astronaut").draw(CAMERA, neck)[:, :, ::-1], VIDEO_PX))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), VIDEO_HZ, VIDEO_PX)
    for k in range(round((seconds + 300) * VIDEO_HZ)):
        writer.write(steps[k % len(steps)])
    writer.release()
    return path


def read_bag(folder: Path) -> dict[str, Any]:
    """Read a bag to its end; what keeps it from that is under ``error``."""
    try:
        with BagReader(folder) as reader:
            count = sum(1 for _ in reader.raw_messages())
            parts = len(list(folder.rglob("*.mcap")))
            return {"messages": count, "parts": parts, "issues": list(reader.issues)}
    except (OSError, ValueError) as error:
        return {"error": str(error)}


@contextlib.contextmanager
def working_folder(keep: Path | None) -> Iterator[Path]:
    """Give a folder that is kept when it was named."""
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="timar-chaos-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def main() -> int:
    """Soak, write the page, and return 1 when a target was missed."""
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0, help="how long [s] (default: 3600)")
    parser.add_argument("--seed", type=int, default=0, help="of the schedule (default: 0)")
    parser.add_argument("--folder", type=Path, help="new folder in which log and bag are kept")
    parser.add_argument("--out", type=Path, default=RESULTS / "chaos.md")
    arguments = parser.parse_args()
    is_isolated = enter_namespace()
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    began = when()
    with working_folder(arguments.folder and arguments.folder.absolute()) as folder:
        found = Soak(folder, arguments.seconds, arguments.seed).run(is_isolated)
    lines, is_missed = page(found, began)
    write_page(arguments.out, lines)
    return int(is_missed)


if __name__ == "__main__":
    sys.exit(main())
