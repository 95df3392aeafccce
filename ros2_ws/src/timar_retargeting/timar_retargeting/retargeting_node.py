"""The retargeting node: agent/motion in, joint_trajectory out, and life when there is no motion."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
from timar_common.base_node import BaseNode, run
from timar_common.diagnostics import Level, Percentiles, Report
from timar_description.find import find_joint_map
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from timar_retargeting.body import Body, Mode, Motion
from timar_retargeting.config import RetargetingConfig
from timar_retargeting.life import Life
from timar_retargeting.planner import Plan
from timar_retargeting.report import limit_values
from timar_retargeting.robot import load_robot
from timar_retargeting.sampler import PlanSampler
from timar_retargeting.signals import Neutral

FRAMES_PER_SECOND = 25.0
PARTS = (("expression", 50), ("jaw", 3), ("neck", 3))


class RetargetingNode(BaseNode):
    """Motion to joints."""

    NAME = "retargeting"
    Config = RetargetingConfig

    def build(self) -> None:
        """Read the robot; wait for its joint states."""
        config: RetargetingConfig = self.config
        robot = load_robot(find_joint_map(config.robot))
        neutral = None
        if config.neutral_neck_rad:
            x, y, z = config.neutral_neck_rad
            neutral = Neutral((x, y, z), robot.neutral.jaw_rad)
        self._new_body = lambda: Body(
            robot, config.body(), Life(config.liveliness(), config.seed), neutral, config.rest()
        )
        self._body = self._new_body()
        self._body.warm_up()
        self._plan_ms = Percentiles()
        self._active_since_ns = 0
        self._open_output(config)
        self.create_topic_subscription("agent/motion", self._on_motion)
        self.create_topic_subscription("turn_events", self._on_turn_event)
        self.create_topic_subscription("look_at", self._on_look_at)
        self.create_topic_subscription("joint_targets", self._on_joint_targets)
        self.create_steady_timer(0.05, self._tick)
        self.create_named_service(Trigger, "stop", self._on_stop)
        self.create_named_service(Trigger, "resume", self._on_resume)

    def _open_output(self, config: RetargetingConfig) -> None:
        self._sampler = PlanSampler()
        self._is_alone = config.output == "joint_states"
        if self._is_alone:
            self._states = self.create_topic_publisher("joint_states")
            self.create_steady_timer(1.0 / config.output_rate_hz, self._send_states)
            return
        self.create_topic_subscription("joint_states", self._on_joint_states)
        if config.output == "positions":
            self._positions = self.create_topic_publisher("position_commands")
            self.create_steady_timer(1.0 / config.output_rate_hz, self._send_positions)
        else:
            self._trajectories = self.create_topic_publisher("joint_trajectory")

    def start(self) -> None:
        """Wait for joint states: the joints may have been moved since."""
        self._body, self._sampler = self._new_body(), PlanSampler()
        self._active_since_ns = time.monotonic_ns()
        if self._is_alone:
            self._publish(self._body.start(self._body.robot.offsets_rad, self._active_since_ns))

    def stop(self) -> None:
        """Bring the head to rest."""
        if self._body.is_started:
            self._publish(self._body.stop(time.monotonic_ns()))

    def report(self) -> Report:
        """Say what the head does, what was late, and what the limits did."""
        body, counters = self._body, self._body.timeline.counters
        report = Report(message=body.mode.value)
        report.values |= {"mode": body.mode.name.lower(), "late_runs": body.late_runs}
        report.values |= {"ignored_runs": body.ignored_runs, **dataclasses.asdict(counters)}
        report.values |= {f"plan_ms_{key}": value for key, value in self._plan_ms.summary().items()}
        if not body.neutral.is_fixed:
            rest = dict(zip(("neck_x", "neck_y", "neck_z", "jaw"), body.neutral.rest.tolist(), strict=True))
            report.values |= {f"rest_rad.{name}": value for name, value in rest.items()}
        if body.is_started:
            report.values |= limit_values(body.planner.report, body.robot.joint_names)
        if counters.refused_frames:
            report.worsen(
                Level.WARN, f"{counters.refused_frames} frames of motion were not finite and left out"
            )
        return report

    def _on_motion(self, message: Any) -> None:
        if abs(message.fps - FRAMES_PER_SECOND) > 1e-3:
            raise ValueError(f"fps is {message.fps:g}, expected {FRAMES_PER_SECOND:g}")
        frames = int(message.frames)
        if not 1 <= frames <= 250:
            raise ValueError(f"frames is {frames}, expected 1 to 250")
        columns = []
        for name, size in PARTS:
            values = np.asarray(getattr(message, name), np.float64)
            if values.size != frames * size:
                raise ValueError(f"{name} has {values.size} numbers, expected {frames} frames x {size}")
            columns.append(values.reshape(frames, size))
        started_ns = time.monotonic_ns()
        motion = Motion(
            message.conversation_id,
            int(message.first_frame),
            self.monotonic_ns(message.header),
            int(message.revision),
            np.concatenate(columns, axis=1),
            bool(message.is_preview),
        )
        plan = self._body.on_motion(motion, started_ns)
        self._publish(plan)
        if plan is not None:
            self._plan_ms.add((time.monotonic_ns() - started_ns) * 1e-6)

    def _on_turn_event(self, message: Any) -> None:
        if message.kind in (message.START, message.BARGE_IN):
            self._publish(self._body.take_floor(message.speaker == message.AGENT, time.monotonic_ns()))

    def _on_look_at(self, message: Any) -> None:
        point = (message.point.x, message.point.y, message.point.z)
        self._publish(self._body.look_at(point, message.header.frame_id, time.monotonic_ns()))

    def _on_joint_targets(self, message: Any) -> None:
        if len(message.name) != len(message.position):
            raise ValueError(
                f"{len(message.name)} joint names came with {len(message.position)} positions; send as many"
            )
        targets = dict(zip(message.name, message.position, strict=True))
        self._publish(self._body.aim(targets, time.monotonic_ns()))

    def _on_joint_states(self, message: Any) -> None:
        if self._body.is_started:
            return
        measured = dict(zip(message.name, message.position, strict=False))
        missing = [name for name in self._body.robot.joint_names if name not in measured]
        if missing:
            raise ValueError(
                f"joint states lack {', '.join(missing)}; check that both nodes use the same robot"
            )
        positions = np.array([measured[name] for name in self._body.robot.joint_names])
        self._publish(self._body.start(positions, time.monotonic_ns()))

    def _tick(self) -> None:
        now_ns = time.monotonic_ns()
        if not self._body.is_started:
            if now_ns - self._active_since_ns > self.config.joint_states_timeout_s * 1e9:
                self.get_logger().warning("no joint states came; taking the head to stand at neutral")
                self._publish(self._body.start(self._body.robot.offsets_rad, now_ns))
            return
        self._publish(self._body.tick(now_ns))

    def _publish(self, plan: Plan | None) -> None:
        if plan is None:
            return
        if self.config.output == "trajectory":
            self._send_trajectory(plan)
        else:
            self._sampler.take(plan)

    def _send_positions(self) -> None:
        now = self._sampler.at(time.monotonic_ns())
        if now is not None:
            self._positions.publish(Float64MultiArray(data=now[0].tolist()))

    def _send_states(self) -> None:
        now_ns = time.monotonic_ns()
        now = self._sampler.at(now_ns)
        if now is not None:
            names = list(self._body.robot.joint_names)
            position, velocity = now[0].tolist(), now[1].tolist()
            self._states.publish(
                JointState(header=self.header(now_ns), name=names, position=position, velocity=velocity)
            )

    def _send_trajectory(self, plan: Plan) -> None:
        curve, step_ns = plan.curve, round(plan.step_s * 1e9)
        rows = zip(
            curve.positions.tolist(), curve.velocities.tolist(), curve.accelerations.tolist(), strict=True
        )
        points = [
            JointTrajectoryPoint(
                positions=positions,
                velocities=velocities,
                accelerations=accelerations,
                time_from_start=Duration(sec=k * step_ns // 10**9, nanosec=k * step_ns % 10**9),
            )
            for k, (positions, velocities, accelerations) in enumerate(rows)
        ]
        self._trajectories.publish(
            JointTrajectory(
                header=self.header(self._body.time_ns(plan.first_index)),
                joint_names=list(self._body.robot.joint_names),
                points=points,
            )
        )

    def _on_stop(self, request: Any, response: Any) -> Any:
        if not self._body.is_started:
            response.success, response.message = False, "the head has not moved yet"
            return response
        self._publish(self._body.stop(time.monotonic_ns()))
        response.success, response.message = True, "the head comes to rest and stays; call resume to go on"
        return response

    def _on_resume(self, request: Any, response: Any) -> Any:
        if self._body.mode is not Mode.STOPPED:
            response.success, response.message = False, "the head was not stopped"
            return response
        self._publish(self._body.resume(time.monotonic_ns()))
        response.success, response.message = True, "the head follows motion again"
        return response


def main() -> int:
    """Run retargeting in a process of its own."""
    return run([RetargetingNode])


if __name__ == "__main__":
    sys.exit(main())
