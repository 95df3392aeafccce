"""Ears and body of a replay: the cores of the turns and retargeting nodes, writing what these publish."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from timar_audio.blocks import check_block
from timar_audio.floor import Kind, Speaker
from timar_audio.turns import Turns
from timar_audio.turns_config import TurnsConfig
from timar_bag.bag_time import BagTime
from timar_bag.messages import FRAME_IDS
from timar_bag.out_bag import OutBag
from timar_common.clock import NOMINAL_NS_PER_SAMPLE
from timar_common.restarts import Belongs, ConversationWatch
from timar_description import find_joint_map
from timar_inference.decisions import MotionRun
from timar_retargeting.config import RetargetingConfig
from timar_retargeting.idle_behavior import IdleBehavior
from timar_retargeting.motion_timeline import MotionFrames
from timar_retargeting.retargeting_core import RetargetingCore
from timar_retargeting.robot import load_robot
from timar_retargeting.signals import Neutral
from timar_retargeting.trajectory_planner import Plan

TICK_NS = 50_000_000
"""The retargeting node lets time pass so often [ns]."""


@dataclasses.dataclass
class _Newest:
    """Where the newest block of a voice lies, on both clocks."""

    sample: int = 0
    monotonic_ns: int = 0


class Ears:
    """Voice activity, speech turns and floor from both voices."""

    def __init__(self, config: TurnsConfig, time: BagTime, out: OutBag, body: BodyRoom) -> None:
        self._turns = Turns(config)
        self._watch = ConversationWatch()
        self._body = body
        self._time, self._out = time, out
        self._newest = {speaker: _Newest() for speaker in Speaker}

    def hear(
        self,
        speaker: Speaker,
        first_sample: int,
        samples: npt.NDArray[np.int16],
        *,
        sample_rate_hz: int,
        filled_samples: int,
        stamp_ns: int,
        now_ns: int,
    ) -> None:
        """Take a block of one voice in and write what it decided.

        Raises:
            ValueError: The block cannot be true.
        """
        check_block(sample_rate_hz, first_sample, samples.size, filled_samples)
        belongs = self._watch.observe(first_sample, samples.size, stamp_ns)
        if belongs is Belongs.OLD:
            return
        if belongs is Belongs.NEW:
            self.finish(now_ns)
            self._turns = self._turns.anew()
            self._newest = {who: _Newest() for who in Speaker}
        decisions = self._turns.push(speaker, first_sample, samples, filled_samples)
        self._newest[speaker] = _Newest(first_sample, stamp_ns)
        self._write(decisions, speaker, now_ns)

    def finish(self, now_ns: int) -> None:
        """End every speech turn that is still going on."""
        self._write(self._turns.finish(), Speaker.USER, now_ns)

    def _write(self, decisions: Any, speaker: Speaker, now_ns: int) -> None:
        make, at_ns = self._out.make, self._time.ros_ns(now_ns)
        for who, frame in decisions.activity:
            header = make.header(self._stamp(who, frame.first_sample), FRAME_IDS[who])
            self._out.write("voice_activity", at_ns, make.voice_activity(who, frame, header))
        for event in decisions.events:
            header = make.header(self._stamp(event.speaker, event.event_sample), FRAME_IDS[event.speaker])
            self._out.write("turn_events", at_ns, make.turn_event(event, header))
            if event.kind in (Kind.START, Kind.BARGE_IN):
                self._body.take_floor(event.speaker is Speaker.AGENT, now_ns)
        for change in decisions.floor:
            header = make.header(self._stamp(speaker, change.since_sample))
            self._out.write("floor", at_ns, make.floor(change, header))

    def _stamp(self, speaker: Speaker, sample: int) -> int:
        newest = self._newest[speaker]
        since_ns = round((sample - newest.sample) * NOMINAL_NS_PER_SAMPLE)
        return self._time.ros_ns(newest.monotonic_ns + since_ns)


class BodyRoom:
    """Motion to joint trajectories, as the retargeting node makes them."""

    def __init__(self, config: RetargetingConfig, time: BagTime, out: OutBag) -> None:
        robot = load_robot(find_joint_map(config.robot))
        neutral = None
        if config.neutral_neck_rad:
            x, y, z = config.neutral_neck_rad
            neutral = Neutral((x, y, z), robot.neutral.jaw_rad)
        life = IdleBehavior(config.idle(), config.seed)
        self._body = RetargetingCore(robot, config.planning(), life, neutral, config.neutral_estimate())
        self._body.warm_up()
        self._time, self._out = time, out
        self._next_tick_ns = 0

    @property
    def joint_names(self) -> tuple[str, ...]:
        """The robot's joints in the order of every trajectory."""
        return self._body.robot.joint_names

    def start(self, measured_rad: dict[str, float], now_ns: int) -> None:
        """Take over joints where they were measured; those not measured stand at neutral."""
        if self._body.is_started:
            return
        offsets = self._body.robot.offsets_rad
        names = self._body.robot.joint_names
        positions = np.array(
            [measured_rad.get(name, float(offset)) for name, offset in zip(names, offsets, strict=True)]
        )
        self._next_tick_ns = now_ns + TICK_NS
        self._write(self._body.start(positions, now_ns), now_ns)

    def next_tick_ns(self, until_ns: int) -> int | None:
        """Return when time is to pass next, if that is due until then [ns]."""
        is_due = self._body.is_started and self._next_tick_ns <= until_ns
        return self._next_tick_ns if is_due else None

    def tick(self) -> None:
        """Let time pass to the next tick."""
        now_ns, self._next_tick_ns = self._next_tick_ns, self._next_tick_ns + TICK_NS
        self._write(self._body.tick(now_ns), now_ns)

    def move(self, run: MotionRun, now_ns: int) -> None:
        """Follow a run of frames.

        Raises:
            ValueError: The motion is due too far from now.
        """
        motion = MotionFrames(
            run.conversation_id,
            run.first_frame,
            run.due_ns,
            run.revision,
            run.motion.astype(np.float64),
            run.is_preview,
        )
        self._write(self._body.on_motion(motion, now_ns), now_ns)

    def take_floor(self, is_agent: bool, now_ns: int) -> None:
        """Begin to speak, or to listen."""
        self._write(self._body.take_floor(is_agent, now_ns), now_ns)

    def look_at(self, message: Any, now_ns: int) -> None:
        """Look at a point (geometry_msgs/PointStamped).

        Raises:
            ValueError: Its frame is another than the eyes', or it cannot be looked at.
        """
        point_m = (message.point.x, message.point.y, message.point.z)
        self._write(self._body.look_at(point_m, message.header.frame_id, now_ns), now_ns)

    def aim(self, message: Any, now_ns: int) -> None:
        """Move joints by hand (sensor_msgs/JointState).

        Raises:
            ValueError: A joint is unknown, or a position is not finite.
        """
        targets = dict(zip(message.name, message.position, strict=True))
        self._write(self._body.move_by_hand(targets, now_ns), now_ns)

    def _write(self, plan: Plan | None, now_ns: int) -> None:
        if plan is None:
            return
        make = self._out.make
        header = make.header(self._time.ros_ns(self._body.time_ns(plan.first_index)))
        message = make.trajectory(plan, self._body.robot.joint_names, header)
        self._out.write("joint_trajectory", self._time.ros_ns(now_ns), message)
