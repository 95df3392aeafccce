"""Runs a recorded conversation again through the same cores as the nodes, in the bag's own time.

Nothing here reads a clock or depends on how fast the machine is: the same bag, model, seed, engine build and
thread count give the same bytes.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits
from timar_audio.floor import Speaker
from timar_bag.bag import BagMessage, BagReader
from timar_bag.bag_time import BagTime
from timar_bag.out_bag import OutBag
from timar_bag.source import INPUTS, Source
from timar_bag.truth import KNOWN_TOPICS
from timar_common.user_motion import user_motion_from
from timar_inference.conversation import Conversation
from timar_inference.decisions import MotionRun, Outcome
from timar_inference.runner import Runner
from timar_inference.runtime import Runtime, open_runtime

from timar_replay.desk import Desk, TimedSession, VirtualClock
from timar_replay.follow import Follower
from timar_replay.replay_settings import ReplaySettings
from timar_replay.replayer import Replayer

MADE = ("voice_activity", "turn_events", "floor", "agent/motion", "turn_log", "joint_trajectory")
"""What the replay makes itself."""
NAME = "replay"
"""Begin of the conversation ids; fixed, for the ids of live nodes are random."""
ONE_THREAD = functools.partial(threadpool_limits, limits=1, user_api="blas")
"""For a block whose small matrices a second thread would only wait for: the machine's number of cores then
changes neither bytes nor speed. The engine's own threads are not meant."""


@dataclasses.dataclass
class ReplayReport:
    """What a replay did."""

    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    """Messages written, by topic."""
    losses: list[str] = dataclasses.field(default_factory=list)
    """One sentence for each thing that was missing, damaged or refused."""
    engine: str = ""
    model_sha256: str = ""
    span_s: float = 0.0
    """From the bag's first message to its last [s]."""
    agreement: dict[str, Any] = dataclasses.field(default_factory=dict)
    """When following a log: how the outcome compares with what was published; see `follow`."""


def replay(
    bag: Path,
    out: Path,
    settings: ReplaySettings | None = None,
    runtime: Runtime | None = None,
    advance: Callable[[int], None] = lambda receive_ns: None,
) -> ReplayReport:
    """Replay a bag into a new one.

    Args:
        bag: A rosbag2 folder or file; a damaged one is replayed as far as it can be read.
        out: Folder of the new bag; it must not exist yet.
        settings: Of the nodes, and of time.
        runtime: A model opened with `settings.inference` to use again; opened here unless given.
        advance: Told the ROS time of arrival [ns] of each message, for a progress bar.

    Raises:
        FileNotFoundError: There is no bag or no model.
        ValueError: Nothing in the bag can be replayed, or a setting does not fit.
        RuntimeError: The engine cannot run, or makes numbers that are not finite.
        OSError: The new bag cannot be written.
    """
    settings = settings or ReplaySettings()
    runtime = runtime or open_runtime(settings.inference)
    report = ReplayReport(engine=runtime.identity.engine, model_sha256=runtime.identity.model_sha256)
    with BagReader(bag, settings.namespace) as reader:
        source = Source(reader, settings.user_sound, settings.agent_sound)
        if not source.has("user/audio"):
            raise ValueError(
                f"{bag} has neither user/audio nor user/audio_raw, nor sound in a type of audio_common_msgs; "
                "without the user's sound there is no clock to replay on"
            )
        target = OutBag(out, reader.namespace).open((*INPUTS, *MADE))
        try:
            with ONE_THREAD():
                _run(source, target, settings, runtime, report, advance)
        finally:
            target.close()
        report.losses += reader.losses
    report.counts = dict(sorted(target.counts.items()))
    return report


def _run(
    source: Source,
    target: OutBag,
    settings: ReplaySettings,
    runtime: Runtime,
    report: ReplayReport,
    advance: Callable[[int], None],
) -> None:
    time = BagTime()
    replayer: Replayer
    wanted = [*INPUTS, "joint_states"]
    if settings.is_following:
        replayer = Follower(settings, runtime, time, target)
        wanted += ["turn_log", "agent/motion"]
    else:
        recorded_ms = source.recorded_compute_ms() if settings.policy.kind == "recorded" else []
        replayer = Scheduler(settings, runtime, time, target, recorded_ms, source.has_joint_states)
    refused: dict[str, str] = {}
    refusals: Counter[str] = Counter()
    first_ns = last_ns = None
    for entry, data in source.messages(wanted, replayer.reads):
        advance(entry.receive_ns)
        first_ns = entry.receive_ns if first_ns is None else first_ns
        last_ns = entry.receive_ns
        now_ns = time.arrive(entry.receive_ns)
        try:
            replayer.take(entry, now_ns)
        except ValueError as error:
            refusals[entry.topic] += 1
            refused.setdefault(entry.topic, " ".join(str(error).split()))
        if entry.topic in INPUTS and data is not None:
            target.write_bytes(entry.topic, time.ros_ns(now_ns), data)
        elif entry.topic in INPUTS:
            message = target.make.converted(entry.message, KNOWN_TOPICS[entry.topic].type_name)
            target.write(entry.topic, time.ros_ns(now_ns), message)
    if first_ns is None or last_ns is None:
        raise ValueError(f"{source.path} holds no message that could be replayed: nothing was recorded")
    replayer.finish()
    report.span_s = (last_ns - first_ns) / 1e9
    report.losses += source.notes + source.losses() + time.losses() + replayer.losses()
    report.losses += [
        f"{count} messages of {topic} were refused, the first because {refused[topic]}"
        for topic, count in refusals.items()
    ]
    if isinstance(replayer, Follower):
        report.agreement = replayer.agreement()


class Scheduler(Replayer):
    """Schedule turns anew, as the inference node would on a machine of the policy's speed."""

    def __init__(
        self,
        settings: ReplaySettings,
        runtime: Runtime,
        time: BagTime,
        out: OutBag,
        recorded_compute_ms: list[float],
        has_joint_states: bool,
    ) -> None:
        super().__init__(settings, time, out)
        clock = VirtualClock()
        session = TimedSession(runtime.session, clock, settings.policy.durations(recorded_compute_ms))
        self._conversation = Conversation(settings.inference, runtime.alignment, NAME)
        self._runner = Runner(session, runtime.identity, clock.now_ns)
        self._desk = Desk(self._runner, settings.inference.queue_turns, clock, self._deliver, self._show)
        self._has_joint_states = has_joint_states
        self._handlers["joint_states"] = self._on_joint_states

    def take(self, entry: BagMessage, now_ns: int) -> None:
        """Take a message that comes now [monotonic ns]."""
        self._advance(now_ns)
        super().take(entry, now_ns)

    def finish(self) -> None:
        """Finish the turns at hand and end every speech turn."""
        self._desk.finish()
        self._ears.finish(self._time.now_ns)

    def losses(self) -> list[str]:
        """Say what the sound lacked."""
        counters = self._conversation.counters()
        found = []
        if counters.samples_lost:
            found.append(
                f"{counters.samples_lost} samples of the user's sound are missing; silence stands there"
            )
        if counters.samples_repeated:
            found.append(
                f"{counters.samples_repeated} samples of the user's sound came again and were left out"
            )
        return found

    def _advance(self, now_ns: int) -> None:
        while (tick_ns := self._body.next_tick_ns(now_ns)) is not None:
            self._desk.advance(tick_ns)
            self._body.tick()
        self._desk.advance(now_ns)

    def _on_user(self, message: Any, now_ns: int) -> None:
        samples, stamped_ns = self._placed("user/audio", message)
        if not self._has_joint_states:
            self._body.start({}, now_ns)
        self._conversation.push_user(
            message.first_sample,
            samples,
            sample_rate_hz=message.sample_rate,
            stamp_ns=stamped_ns,
            now_ns=now_ns,
            filled_samples=message.filled_samples,
        )
        self._hear(Speaker.USER, message, samples, stamped_ns, now_ns)
        self._desk.feed(self._conversation, now_ns)

    def _on_plan(self, message: Any, now_ns: int) -> None:
        self._conversation.push_plan(
            message.first_sample,
            np.asarray(message.samples, np.int16),
            sample_rate_hz=message.sample_rate,
            revision=getattr(message, "revision", 0),
            now_ns=now_ns,
        )
        self._desk.feed(self._conversation, now_ns)

    def _on_motion(self, message: Any, now_ns: int) -> None:
        motion, valid = user_motion_from(message)
        self._conversation.push_motion(int(message.first_frame), motion, valid)

    def _on_joint_states(self, message: Any, now_ns: int) -> None:
        self._body.start(dict(zip(message.name, message.position, strict=False)), now_ns)

    def _deliver(self, finished_ns: int, outcome: Outcome) -> None:
        shown = outcome.shown
        if shown is not None:
            self._write_motion(finished_ns, shown)
        make, at_ns = self._out.make, self._time.ros_ns(finished_ns)
        self._out.write("turn_log", at_ns, make.turn_log(outcome.entry, make.header(at_ns, "head")))
        if shown is not None:
            self._body.move(shown, finished_ns)

    def _show(self, finished_ns: int, preview: MotionRun) -> None:
        self._write_motion(finished_ns, preview)
        self._body.move(preview, finished_ns)

    def _write_motion(self, finished_ns: int, run: MotionRun) -> None:
        make = self._out.make
        header = make.header(self._time.ros_ns(run.due_ns), "head")
        self._out.write("agent/motion", self._time.ros_ns(finished_ns), make.head_motion(run, header))
