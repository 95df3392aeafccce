"""What the cores decide, written as ROS messages, without ROS."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
from rosbags.typesys.store import Typestore
from timar_audio.activity import Activity
from timar_audio.floor import FloorChange, Speaker, TurnEvent
from timar_common.clock import FRAMES_PER_SECOND, SAMPLE_RATE_HZ
from timar_common.user_motion import PARTS

FRAME_IDS = {Speaker.USER: "microphone", Speaker.AGENT: "loudspeaker"}
NUMBERS = {"bool": np.bool_, "byte": np.uint8, "char": np.uint8} | {
    name: np.dtype(name)
    for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
} | {"float32": np.float32, "float64": np.float64}  # fmt: skip


class MessageMaker:
    """Make messages of a set of types; fields that are not given are zero, empty or false.

    So a field that is added to a message later costs nothing here, and one that went is simply not written.
    """

    def __init__(self, types: Typestore) -> None:
        self.types = types
        self._default = functools.cache(self._made_default)

    def make(self, type_name: str, **fields: Any) -> Any:
        """Return a message; names the type does not have are left out."""
        known = self.types.fielddefs[type_name][1]
        return self.types.types[type_name](
            **{name: fields[name] if name in fields else self._empty(kind) for name, kind in known}
        )

    def header(self, stamp_ns: int, frame_id: str = "") -> Any:
        """Return a std_msgs/Header of a ROS time [ns]."""
        return self.make("std_msgs/msg/Header", stamp=self.time(stamp_ns), frame_id=frame_id)

    def time(self, ns: int) -> Any:
        """Return a builtin_interfaces/Time [ns]."""
        return self.make("builtin_interfaces/msg/Time", sec=ns // 10**9, nanosec=ns % 10**9)

    def serialize(self, message: Any, type_name: str) -> bytes:
        """Return a message as CDR."""
        return bytes(self.types.serialize_cdr(message, type_name))

    def converted(self, message: Any, type_name: str) -> Any:
        """Return a message that was read by another definition of its type as one of ours, field by field."""
        fields = {}
        for name, kind in self.types.fielddefs[type_name][1]:
            if hasattr(message, name):
                fields[name] = self._converted_field(getattr(message, name), kind)
        return self.make(type_name, **fields)

    def audio(self, first_sample: int, samples: npt.NDArray[np.int16], header: Any, filled: int = 0) -> Any:
        """Return a timar_msgs/AudioChunk."""
        return self.make(
            "timar_msgs/msg/AudioChunk",
            header=header,
            sample_rate=SAMPLE_RATE_HZ,
            first_sample=first_sample,
            filled_samples=filled,
            samples=samples,
        )

    def planned(self, first_sample: int, samples: npt.NDArray[np.int16], header: Any, revision: int) -> Any:
        """Return a timar_msgs/PlannedAudio."""
        return self.make(
            "timar_msgs/msg/PlannedAudio",
            header=header,
            sample_rate=SAMPLE_RATE_HZ,
            first_sample=first_sample,
            revision=revision,
            samples=samples,
        )

    def user_motion(
        self, first_frame: int, motion: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], header: Any
    ) -> Any:
        """Return a timar_msgs/UserMotion of (n, 56) motion and (n, 3) validity."""
        rows = {part: motion[:, place].astype(np.float32).ravel() for part, place in PARTS.items()}
        flags = {f"{part}_valid": valid[:, column].copy() for column, part in enumerate(PARTS)}
        return self.make(
            "timar_msgs/msg/UserMotion",
            header=header,
            first_frame=first_frame,
            fps=float(FRAMES_PER_SECOND),
            frames=len(motion),
            **rows,
            **flags,
        )

    def head_motion(self, run: Any, header: Any, **changed: Any) -> Any:
        """Return a timar_msgs/HeadMotion; `changed` fields take the place of the run's."""
        rows = {part: run.motion[:, place].astype(np.float32).ravel() for part, place in PARTS.items()}
        fields = {name: getattr(run, name) for name in RUN_FIELDS}
        return self.make(
            "timar_msgs/msg/HeadMotion",
            header=header,
            fps=float(FRAMES_PER_SECOND),
            frames=len(run.motion),
            **{**fields, **rows, **changed},
        )

    def turn_log(self, entry: Any, header: Any, **changed: Any) -> Any:
        """Return a timar_msgs/TurnLog; `changed` fields take the place of the entry's."""
        timings = {f"{name}_ms": getattr(entry.timings, f"{name}_ms") for name in STAGES}
        fields = {name: getattr(entry, name) for name in ENTRY_FIELDS}
        valid = np.array(entry.user_motion_valid, np.bool_)
        return self.make(
            "timar_msgs/msg/TurnLog",
            header=header,
            **{**fields, **timings, "decision": int(entry.decision), "user_motion_valid": valid, **changed},
        )

    def voice_activity(self, speaker: Speaker, frame: Activity, header: Any) -> Any:
        """Return a timar_msgs/VoiceActivity."""
        return self.make(
            "timar_msgs/msg/VoiceActivity",
            header=header,
            speaker=int(speaker),
            first_sample=frame.first_sample,
            samples=frame.end_sample - frame.first_sample,
            probability=frame.probability,
            is_speaking=frame.is_speaking,
            level_dbfs=frame.level_dbfs,
        )

    def turn_event(self, event: TurnEvent, header: Any) -> Any:
        """Return a timar_msgs/TurnEvent."""
        return self.make(
            "timar_msgs/msg/TurnEvent",
            header=header,
            speaker=int(event.speaker),
            kind=int(event.kind),
            speech_turn=event.speech_turn,
            first_sample=event.first_sample,
            end_sample=event.end_sample,
            decision_delay_s=event.decision_delay_s,
        )

    def floor(self, change: FloorChange, header: Any) -> Any:
        """Return a timar_msgs/FloorState."""
        return self.make(
            "timar_msgs/msg/FloorState",
            header=header,
            state=int(change.state),
            since_sample=change.since_sample,
        )

    def trajectory(self, plan: Any, joint_names: tuple[str, ...], header: Any) -> Any:
        """Return a trajectory_msgs/JointTrajectory of a plan; the header's stamp is its start."""
        curve, step_ns = plan.curve, round(plan.step_s * 1e9)
        point = self.types.types["trajectory_msgs/msg/JointTrajectoryPoint"]
        duration = self.types.types["builtin_interfaces/msg/Duration"]
        effort = np.zeros(0)
        points = [
            point(
                positions=position,
                velocities=velocity,
                accelerations=acceleration,
                effort=effort,
                time_from_start=duration(sec=row * step_ns // 10**9, nanosec=row * step_ns % 10**9),
            )
            for row, (position, velocity, acceleration) in enumerate(
                zip(curve.positions, curve.velocities, curve.accelerations, strict=True)
            )
        ]
        return self.make(
            "trajectory_msgs/msg/JointTrajectory", header=header, joint_names=list(joint_names), points=points
        )

    def _empty(self, kind: Any) -> Any:
        node, detail = int(kind[0]), kind[1]
        if node == BASE:
            return self._default(detail[0])
        if node == NAME:
            return self.make(detail)
        inner, count = detail
        length = count if node == ARRAY else 0
        if int(inner[0]) == BASE and inner[1][0] in NUMBERS:
            return np.zeros(length, NUMBERS[inner[1][0]])
        return [self._empty(inner) for _ in range(length)]

    def _made_default(self, base: str) -> Any:
        return "" if base in ("string", "wstring") else False if base == "bool" else 0

    def _converted_field(self, value: Any, kind: Any) -> Any:
        node, detail = int(kind[0]), kind[1]
        if node == NAME:
            return self.converted(value, detail)
        if node in (ARRAY, SEQUENCE) and int(detail[0][0]) == NAME:
            return [self.converted(item, detail[0][1]) for item in value]
        return value


BASE, NAME, ARRAY, SEQUENCE = 1, 2, 3, 4
"""Kinds of a field in rosbags' type definitions."""
STAGES = ("queue", "speech", "backbone", "head", "compute")
RUN_FIELDS = (
    "conversation_id", "first_frame", "revision", "final_until_frame", "compute_ms", "is_preview",
)  # fmt: skip
ENTRY_FIELDS = (
    "conversation_id", "sequence", "first_frame", "frames", "user_first_sample", "user_end_sample",
    "agent_first_sample", "agent_end_sample", "planned_revision", "user_samples_filled", "seed", "revision",
    "is_late", "engine", "model_sha256",
)  # fmt: skip
