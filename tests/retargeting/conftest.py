"""A head without ROS: feed it motion, keep everything it ever commanded, and check each instant of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from timar_description.find import find_joint_map
from timar_retargeting.config import PlanningConfig
from timar_retargeting.idle_behavior import IdleBehavior, IdleConfig
from timar_retargeting.motion_timeline import MotionFrames
from timar_retargeting.retargeting_core import RetargetingCore
from timar_retargeting.robot import RobotDescription, load_robot
from timar_retargeting.trajectory_planner import JointPlan

FRAME_NS = 40_000_000
START_NS = 1_000_000_000_000


@dataclasses.dataclass
class Puppet:
    """A retargeting core, its clock, and the record of what was commanded."""

    core: RetargetingCore
    now_ns: int = START_NS
    plans: list[JointPlan] = dataclasses.field(default_factory=list)

    @property
    def robot(self) -> RobotDescription:
        return self.core.robot

    def take(self, plan: JointPlan | None) -> JointPlan | None:
        if plan is not None:
            self.check(plan)
            if self.plans:
                self.check_seam(self.plans[-1], plan)
            self.plans.append(plan)
        return plan

    def start(self, positions: np.ndarray | None = None) -> Puppet:
        self.take(self.core.start(self.robot.offsets_rad if positions is None else positions, self.now_ns))
        return self

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.05)):
            self.now_ns += 50_000_000
            self.take(self.core.tick(self.now_ns))

    def motion(
        self,
        first_frame: int,
        due_ns: int,
        frames: np.ndarray,
        revision: int = 0,
        talk: str = "a",
        is_preview: bool = False,
    ) -> JointPlan | None:
        motion = MotionFrames(talk, first_frame, due_ns, revision, frames, is_preview)
        return self.take(self.core.on_motion(motion, self.now_ns))

    def commanded(self, times_ns: np.ndarray) -> np.ndarray:
        """(K, J) positions in force at instants, by the cubic between points."""
        rows = []
        starts = np.array([plan.first_index for plan in self.plans]) * 20_000_000
        for time_ns in times_ns:
            plan = self.plans[int(np.searchsorted(starts, time_ns, side="right")) - 1]
            place = min(time_ns / 20_000_000, plan.last_index) - plan.first_index
            k = min(int(place), len(plan.positions) - 2)
            t, p, v, a = (
                (place - k) * 0.02,
                plan.positions,
                plan.curve[1],
                plan.curve[2],
            )
            jerk = (a[k + 1] - a[k]) / 0.02
            rows.append(p[k] + t * (v[k] + t * (a[k] / 2 + t * jerk / 6)))
        return np.array(rows)

    def check(self, plan: JointPlan, tolerance: float = 1e-6) -> None:
        """Every limit at every instant, not only at the points; at rest in the end."""
        limits, h = self.robot.limits, 0.02
        p, v, a = plan.curve
        assert np.isfinite(p).all()
        assert np.isfinite(v).all()
        assert np.isfinite(a).all()
        jerk = np.diff(a, axis=0) / h
        for t in np.linspace(0.0, h, 5):
            position = p[:-1] + t * (v[:-1] + t * (a[:-1] / 2 + t * jerk / 6))
            velocity = v[:-1] + t * (a[:-1] + t * jerk / 2)
            assert (position >= limits.lower - tolerance).all()
            assert (position <= limits.upper + tolerance).all()
            assert (np.abs(velocity) <= limits.velocity + tolerance).all()
            assert (np.abs(a[:-1] + t * jerk) <= limits.acceleration + tolerance).all()
        np.testing.assert_allclose(
            position, p[1:], atol=1e-9, err_msg="positions are the integral of velocities"
        )
        np.testing.assert_allclose(
            velocity, v[1:], atol=1e-7, err_msg="velocities are the integral of accelerations"
        )
        assert (v[-1] == 0.0).all()
        assert (a[-1] == 0.0).all()

    @staticmethod
    def check_seam(earlier: JointPlan, later: JointPlan) -> None:
        """The new plan begins in the very state in which the old one is."""
        was, begins = earlier.state_at(later.first_index), later.state_at(later.first_index)
        np.testing.assert_array_equal(begins, was)


@pytest.fixture(scope="session")
def robot() -> RobotDescription:
    return load_robot(find_joint_map())


@pytest.fixture
def make_puppet(robot):
    def make(idles: bool = False, seed: int = 0, **config) -> Puppet:
        return Puppet(
            RetargetingCore(robot, PlanningConfig(**config), IdleBehavior(IdleConfig(enabled=idles), seed))
        )

    return make


@pytest.fixture
def puppet_of():
    return Puppet


TWO_ROD_URDF = """<robot name="two_rod"><link name="a"/><link name="b"/><link name="c"/>
<joint name="left_servo" type="revolute"><parent link="a"/><child link="b"/><axis xyz="0 1 0"/>
  <limit lower="-1" upper="1" velocity="6" effort="1"/></joint>
<joint name="right_servo" type="revolute"><parent link="a"/><child link="c"/><axis xyz="0 1 0"/>
  <limit lower="-1" upper="1" velocity="6" effort="1"/></joint></robot>"""

TWO_ROD_YAML = """robot: two_rod
urdf: two_rod.urdf
kinematics:
  neck:
    type: two_rod
    joints: [left_servo, right_servo]
    axes:
      pitch: {signals: {neck_pitch: 1.0, sway_pitch: 1.0}, position_rad: [-0.2, 0.2]}
      roll: {signals: {neck_roll: 1.0, sway_roll: 1.0}, position_rad: [-0.15, 0.15]}
    geometry:
      base_m: [[-0.03, 0.03, -0.08], [-0.03, -0.03, -0.08]]
      plate_m: [[-0.05, 0.03, 0.0], [-0.05, -0.03, 0.0]]
      crank_m: 0.02
      azimuth_rad: [3.14159265, 3.14159265]
joints:
  left_servo: {position_rad: [-0.9, 0.9], velocity_rad_s: 5.0, acceleration_rad_s2: 120.0}
  right_servo: {position_rad: [-0.9, 0.9], velocity_rad_s: 5.0, acceleration_rad_s2: 120.0}
"""


@pytest.fixture
def two_rod_robot(tmp_path) -> RobotDescription:
    (tmp_path / "two_rod.urdf").write_text(TWO_ROD_URDF)
    (tmp_path / "two_rod.yaml").write_text(TWO_ROD_YAML)
    return load_robot(tmp_path / "two_rod.yaml")


def sine_motion(
    frames: np.ndarray, frequency_hz: float, yaw_rad: float = 0.0, jaw_rad: float = 0.0
) -> np.ndarray:
    motion = np.zeros((len(frames), 56))
    phase = 2 * np.pi * frequency_hz * frames / 25.0
    motion[:, 54] = yaw_rad * np.sin(phase)
    motion[:, 50] = 0.08 + jaw_rad * np.sin(phase)
    return motion


@pytest.fixture
def sine():
    return sine_motion
