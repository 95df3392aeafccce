"""Replays a recorded conversation: the nodes' own components run on the bag's messages, in the bag's time.

Nothing here reads a clock or depends on how fast the machine is (unless compute time is to be measured): the
same bag, model, seed, engine build and thread count give the same bytes.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits
from timar_audio.turns_component import TurnsComponent
from timar_bag.bag import BagMessage, BagReader
from timar_bag.bag_time import BagTime
from timar_bag.bag_writer import TopicBagWriter
from timar_bag.graph_inputs import INPUTS, GraphInputs
from timar_bag.ground_truth import KNOWN_TOPICS
from timar_common.clock import NOMINAL_NS_PER_SAMPLE
from timar_common.component import Component
from timar_common.messages import Message, converted, encode, with_monotonic_header
from timar_inference.inference_component import InferenceComponent
from timar_inference.runtime import Runtime, open_runtime
from timar_retargeting.retargeting_component import RetargetingComponent

from timar_replay.bag_host import BagHost
from timar_replay.log_follower import RECORDED_LOG, RECORDED_MOTION, LogFollower
from timar_replay.replay_settings import ReplaySettings

MADE = (
    "voice_activity",
    "turn_events",
    "floor",
    "agent/intent",
    "agent/motion",
    "turn_log",
    "joints_held_by",
    "joint_trajectory",
)
"""What the replay makes itself."""
NAME = "replay"
"""Begin of the conversation ids; fixed, for the ids of live nodes are random."""
VOICES = ("user/audio", "agent/audio")
OF_THE_PRESENT = (*VOICES, "agent/motion", "joint_states")
"""Topics whose stamps are near their arrival; where they are not, they are another clock's."""
ONE_THREAD = functools.partial(threadpool_limits, limits=1, user_api="blas")
"""For a block whose small matrices a second thread would only wait for: the machine's number of cores then
changes neither bytes nor speed. The engine's own threads are not meant."""


@dataclasses.dataclass
class ReplayReport:
    """What a replay did."""

    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    """Messages written, by topic."""
    issues: list[str] = dataclasses.field(default_factory=list)
    """One sentence for each thing that was missing, damaged or rejected."""
    engine: str = ""
    model_sha256: str = ""
    span_s: float = 0.0
    """From the bag's first message to its last [s]."""
    agreement: dict[str, Any] = dataclasses.field(default_factory=dict)
    """When following a log: how the outcome compares with what was published; see `log_follower`."""


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
        source = GraphInputs(reader, settings.user_sound, settings.agent_sound, settings.sound_layout)
        if not source.has("user/audio"):
            raise ValueError(
                f"{bag} has neither user/audio nor user/audio_raw, nor sound in a type of "
                "audio_common_msgs or foxglove_msgs; a "
                "UInt8MultiArray is named by --user-sound; without the user's sound there is no "
                "clock to replay on"
            )
        target = TopicBagWriter(out, reader.namespace).open((*INPUTS, *MADE))
        try:
            with ONE_THREAD():
                _Replay(source, target, settings, runtime, report).run(advance)
        finally:
            target.close()
        report.issues += reader.issues
    report.counts = dict(sorted(target.counts.items()))
    return report


class _Replay:
    """One replay: the bag's messages into the host, what the host's components publish into the new bag."""

    def __init__(
        self,
        source: GraphInputs,
        target: TopicBagWriter,
        settings: ReplaySettings,
        runtime: Runtime,
        report: ReplayReport,
    ) -> None:
        self._source, self._target, self._report = source, target, report
        self._time = BagTime()
        self._follower: LogFollower | None = None
        recorded_ms = source.recorded_compute_ms() if settings.policy.kind == "recorded" else []
        inference: Component
        if settings.is_following:
            inference = self._follower = LogFollower(settings.inference, runtime)
        else:
            inference = InferenceComponent(settings.inference, runtime, NAME)
        self._inference = inference
        self._retargeting = RetargetingComponent(settings.retargeting)
        self._host = BagHost(
            [inference, TurnsComponent(settings.turns), self._retargeting],
            self._write,
            settings.policy.durations_ns(recorded_ms),
        )

    def run(self, advance: Callable[[int], None]) -> None:
        """Replay from the first message to the last."""
        first_ns = last_ns = None
        wanted = [*INPUTS, "joint_states", *(("turn_log", "agent/motion") if self._follower else ())]
        for entry, data in self._source.messages(wanted, {*self._host.reads, "turn_log", "agent/motion"}):
            advance(entry.receive_ns)
            now_ns = self._time.arrive(entry.receive_ns)
            if first_ns is None:
                first_ns = entry.receive_ns
                self._start(now_ns)
            last_ns = entry.receive_ns
            if data is None and entry.topic in KNOWN_TOPICS:
                # Made up for, or recorded by another definition of its type.
                type_name = KNOWN_TOPICS[entry.topic].type_name
                entry = entry._replace(message=converted(entry.message, type_name))
            self._copy(entry, data, now_ns)
            self._give(entry, now_ns)
        if first_ns is None or last_ns is None:
            raise ValueError(
                f"{self._source.path} holds no message that could be replayed: nothing was recorded"
            )
        self._host.finish(self._time.now_ns)
        self._report.span_s = (last_ns - first_ns) / 1e9
        self._report.issues += [
            *self._source.notes, *self._source.issues(), *self._time.issues(), *self._host.issues(),
            *self._sound_lost(),
        ]  # fmt: skip
        if self._follower is not None:
            self._report.issues += self._follower.issues()
            self._report.agreement = self._follower.agreement.content()

    def _start(self, now_ns: int) -> None:
        self._host.start(now_ns)
        if not self._source.has_joint_states:
            self._host.deliver("joint_states", self._retargeting.neutral_joint_states(now_ns), now_ns)

    def _give(self, entry: BagMessage, now_ns: int) -> None:
        """Give a recorded message to the components, its stamp on the replay's time."""
        topic = {"turn_log": RECORDED_LOG, "agent/motion": RECORDED_MOTION}.get(entry.topic, entry.topic)
        if topic not in self._host.reads:
            self._host.advance(now_ns)
            return
        message = entry.message

        def stamped(wire_ns: int) -> int:
            if entry.topic not in OF_THE_PRESENT:
                return self._time.monotonic_ns(wire_ns)
            # A block of sound cannot have come before its end, whatever its stamp says.
            samples = len(message.samples) if entry.topic in VOICES else 0
            return self._time.stamped(entry.topic, wire_ns, round(samples * NOMINAL_NS_PER_SAMPLE))

        self._host.deliver(topic, with_monotonic_header(message, stamped), now_ns)

    def _copy(self, entry: BagMessage, data: bytes | None, now_ns: int) -> None:
        """Write an input again as it was."""
        if entry.topic not in INPUTS:
            return
        at_ns = self._time.ros_ns(now_ns)
        if data is not None:
            self._target.write_bytes(entry.topic, at_ns, data)
        else:
            self._target.write(entry.topic, at_ns, entry.message)

    def _write(self, topic: str, at_ns: int, message: Message) -> None:
        self._target.write_bytes(topic, self._time.ros_ns(at_ns), encode(message, self._time.ros_ns))

    def _sound_lost(self) -> list[str]:
        values = self._inference.report().values
        found = []
        if lost := values.get("samples_lost"):
            found.append(f"{lost} samples of the user's sound are missing; silence stands there")
        if repeated := values.get("samples_repeated"):
            found.append(f"{repeated} samples of the user's sound came again and were left out")
        return found
