"""The driver component in a host without ROS: same trajectories in, same joint states out, byte for byte."""

import numpy as np
import pytest
from timar_common.component import Log, Publish
from timar_common.diagnostics import Level
from timar_common.hosting import ComponentHost
from timar_common.joint_trajectory import RETARGETING_FRAME
from timar_common.messages import Header, decode, encode, new
from timar_description.find import find_urdf
from timar_driver.config import DriverConfig
from timar_driver.driver_component import DriverComponent
from timar_driver.driver_setup import set_up_driver

MS = 1_000_000
BEGIN_NS = 1_000_000_000
TYPE = "trajectory_msgs/msg/JointTrajectory"


class Clock:
    """Machine time that a test sets; ROS time is an hour ahead."""

    OFFSET_NS = 3_600_000_000_000

    def __init__(self):
        self.time_ns = BEGIN_NS

    def now_ns(self):
        return self.time_ns

    def ros_ns(self, monotonic_ns):
        return monotonic_ns + self.OFFSET_NS

    def monotonic_ns(self, ros_ns):
        return ros_ns - self.OFFSET_NS


class Run:
    """A driver in a host, at times that the test gives."""

    def __init__(self, has_loop=False, **config):
        self.clock, self.published, self.log = Clock(), [], []
        self.component = DriverComponent(DriverConfig(**config), has_loop=has_loop)
        self.host = ComponentHost(
            self.component,
            self.clock,
            lambda topic, data: self.published.append((topic, data)),
            lambda level, text, is_repeated=False: self.log.append((level, text)),
        )

    def until(self, end_ms):
        """Tick every 10 ms."""
        while self.clock.time_ns < BEGIN_NS + end_ms * MS:
            self.clock.time_ns += 10 * MS
            self.host.tick()

    def states(self):
        kind, monotonic_ns = "sensor_msgs/msg/JointState", self.clock.monotonic_ns
        return [decode(data, kind, monotonic_ns) for _, data in self.published]

    def joint(self, name):
        """Return where a joint was last seen."""
        state = self.states()[-1]
        return state.position[state.name.index(name)]


def trajectory(start_ns, names=("neck_yaw", "neck_pitch"), seconds=0.4, target=0.2):
    times = np.linspace(0.0, seconds, 9)
    s = times / seconds
    positions = target * (3 * s**2 - 2 * s**3)
    velocities = target * (6 * s - 6 * s**2) / seconds
    points = [
        new(
            "trajectory_msgs/msg/JointTrajectoryPoint",
            positions=[position] * len(names),
            velocities=[velocity] * len(names),
            time_from_start=new("builtin_interfaces/msg/Duration", sec=0, nanosec=round(t * 1e9)),
        )
        for t, position, velocity in zip(times, positions, velocities, strict=True)
    ]
    return new(TYPE, header=Header(start_ns), joint_names=list(names), points=points)


def play(run, ticks_ms=1000):
    run.host.start()
    for number in range(4):
        run.until(100 + 150 * number)
        message = trajectory(run.clock.time_ns + 20 * MS, target=0.1 * (-1) ** number)
        run.host.receive("joint_trajectory", encode(message, run.clock.ros_ns))
    run.until(ticks_ms)
    run.host.stop()
    return run.published


def test_the_same_trajectories_give_the_same_joint_states_byte_for_byte():
    first, second = play(Run(servo_noise_rad=0.002)), play(Run(servo_noise_rad=0.002))
    assert first == second
    assert len(first) > 40


def test_when_cycles_run_does_not_depend_on_when_the_host_ticks():
    often, rarely = Run(), Run()
    for run, step_ms in ((often, 1), (rarely, 40)):
        run.host.start()
        message = trajectory(BEGIN_NS + 35 * MS)
        run.host.receive("joint_trajectory", encode(message, run.clock.ros_ns))
        for time_ms in range(0, 601, step_ms):
            run.clock.time_ns = BEGIN_NS + time_ms * MS
            run.host.tick()
    assert often.published == rarely.published
    assert often.joint("neck_yaw") == pytest.approx(0.2, abs=2e-3)


def test_a_loop_that_the_host_runs_gives_what_cycles_in_virtual_time_give():
    virtual, looped = Run(), Run(has_loop=True)
    for run in (virtual, looped):
        run.host.start()
        message = trajectory(BEGIN_NS + 50 * MS)
        run.host.receive("joint_trajectory", encode(message, run.clock.ros_ns))
        for cycle in range(51):
            run.clock.time_ns = BEGIN_NS + cycle * run.component.period_ns
            if run is looped:
                run.component.cycle(run.clock.time_ns)
            run.host.tick()
    assert virtual.published == looped.published
    assert len(virtual.published) == 26, "every second cycle is published"


def test_states_carry_the_instant_they_were_measured_and_every_joint():
    run = Run()
    run.host.start()
    run.until(100)
    states = run.states()
    assert [state.header.stamp for state in states] == [BEGIN_NS + 20 * k * MS for k in range(6)]
    assert set(states[0].name) == set(set_up_driver(DriverConfig(), find_urdf()).driver.joint_names)


def test_an_empty_stamp_means_from_now_on():
    run = Run()
    run.host.start()
    run.until(100)
    run.host.receive("joint_trajectory", encode(trajectory(0), run.clock.ros_ns))
    run.until(700)
    assert run.joint("neck_pitch") == pytest.approx(0.2, abs=2e-3)


def test_an_empty_trajectory_holds():
    run = Run()
    run.host.start()
    run.host.receive("joint_trajectory", encode(trajectory(BEGIN_NS, seconds=1.0), run.clock.ros_ns))
    run.until(500)
    run.host.receive("joint_trajectory", encode(new(TYPE, header=Header(0)), run.clock.ros_ns))
    run.until(600)
    held = run.joint("neck_yaw")
    run.until(1200)
    assert 0.05 < held < 0.15
    assert run.joint("neck_yaw") == pytest.approx(held, abs=1e-3)


def bad_trajectories():
    wrong_size = trajectory(BEGIN_NS + 50 * MS)
    wrong_size.points[3].velocities = np.zeros(1)
    infinite = trajectory(BEGIN_NS + 50 * MS)
    infinite.points[2].positions = np.array([0.0, np.inf])
    return {
        "point 3 has 1 velocities, expected one of each of 2 joints": wrong_size,
        "position of neck_pitch at point 2 is not finite": infinite,
        "there is no joint 'tail'": trajectory(BEGIN_NS + 50 * MS, names=("tail",)),
        "the trajectory ended": trajectory(BEGIN_NS - 10_000 * MS),
    }


@pytest.mark.parametrize("reason", bad_trajectories())
def test_a_trajectory_that_cannot_be_is_rejected_counted_and_nothing_moves(reason):
    run = Run()
    run.host.start()
    run.until(20)
    run.host.receive("joint_trajectory", encode(bad_trajectories()[reason], run.clock.ros_ns))
    run.until(600)
    assert run.host.bad_messages == 1
    assert reason in run.log[0][1]
    states = np.array([state.position for state in run.states()])
    assert (np.ptp(states, axis=0) == 0.0).all()
    assert run.host.report().level is Level.WARN


def test_services_hold_stop_and_resume():
    run = Run(stop_category="hold")
    services = run.component.services
    assert not services["~/stop"](BEGIN_NS).success
    assert not services["~/hold"](BEGIN_NS).success
    run.host.start()
    assert not run.host.serve("~/resume").success
    run.host.receive("joint_trajectory", encode(trajectory(BEGIN_NS, seconds=2.0), run.clock.ros_ns))
    run.until(500)
    assert run.host.serve("~/hold").success
    run.until(600)
    held = run.states()[-1].position
    run.until(1500)
    np.testing.assert_allclose(run.states()[-1].position, held, atol=2e-3)
    reply = run.host.serve("~/stop")
    assert reply.message == "hold, at most 0.2 s; call ~/resume to go on"
    run.until(2000)
    assert run.component.is_stopped
    assert run.host.report().message == "stopped, torque on: the stop service was called"
    run.host.receive("joint_trajectory", encode(trajectory(run.clock.time_ns), run.clock.ros_ns))
    assert run.host.report().values["left_out_trajectories"] == 1
    assert run.host.serve("~/resume").success
    run.until(2100)
    assert run.host.report().message == "following trajectories"


@pytest.mark.parametrize(("category", "end"), [("hold", "torque on"), ("park_then_release", "torque off")])
def test_deactivation_carries_out_the_stop_of_the_category(category, end):
    run = Run(stop_category=category)
    run.host.start()
    run.host.receive("joint_trajectory", encode(trajectory(BEGIN_NS, seconds=1.0), run.clock.ros_ns))
    run.until(500)
    run.host.stop()
    assert run.log[-1] == (Level.OK, f"stopped: stopped, {end}")
    positions = np.array([state.position for state in run.states()])
    limits = set_up_driver(DriverConfig(), find_urdf()).limits
    assert (np.abs(np.diff(positions, axis=0)) <= limits.velocity * 0.0201).all()
    np.testing.assert_allclose(positions[-1], positions[-2], atol=2e-3)
    run.host.start()
    assert run.component.report().message == "following trajectories"


def test_hardware_that_is_not_fit_to_move_refuses_the_start_and_can_be_tried_again():
    run = Run(driver="hardware", port="/dev/no-such-port")
    with pytest.raises(RuntimeError, match="no-such-port cannot be opened"):
        run.host.start()
    assert run.component.is_stopped
    assert list(run.component.tick(BEGIN_NS)) == []
    run.host.stop()


def test_a_fault_is_logged_once():
    run = Run()
    run.host.start()
    run.until(50)
    driver = run.component._setup.driver
    read, driver.read = driver.read, lambda now_ns: (_ for _ in ()).throw(RuntimeError("pan is lost"))
    run.until(60)
    driver.read = read
    run.until(2000)
    faults = [entry for entry in run.log if "pan is lost" in entry[1]]
    assert len(faults) == 1
    assert faults[0][0] is Level.ERROR
    assert run.component.is_stopped
    outputs = list(run.component.tick(run.clock.time_ns + 100 * MS))
    assert outputs
    assert all(isinstance(output, Publish) for output in outputs if not isinstance(output, Log))


# One publisher is obeyed.


def from_retargeting(message):
    message.header = Header(message.header.stamp, RETARGETING_FRAME)
    return message


def test_where_retargeting_moves_the_joints_nobody_else_does():
    run = Run()
    run.host.start()
    run.component.handle("joint_trajectory", from_retargeting(trajectory(BEGIN_NS)), BEGIN_NS)
    with pytest.raises(
        ValueError, match=r"retargeting moves the joints.*send it to external/joint_trajectory"
    ):
        run.component.handle("joint_trajectory", trajectory(BEGIN_NS, target=-0.2), BEGIN_NS)
    run.until(600)
    assert run.joint("neck_yaw") == pytest.approx(0.2, abs=1e-3)
    run.component.is_retargeting_there = lambda: False
    now_ns = run.clock.time_ns
    run.component.handle("external/joint_trajectory", trajectory(now_ns, target=0.1), now_ns)
    run.until(1500)
    assert run.joint("neck_yaw") == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize("names", [[], ["neck_yaw"]])
def test_a_trajectory_without_points_stops(names):
    run = Run()
    run.host.start()
    run.component.handle("joint_trajectory", trajectory(BEGIN_NS, seconds=1.0), BEGIN_NS)
    run.until(500)
    run.component.handle("joint_trajectory", new(TYPE, joint_names=names), run.clock.time_ns)
    run.until(1500)
    assert run.joint("neck_yaw") == pytest.approx(0.1, abs=0.01)


def test_joints_may_only_be_left_out_where_that_is_allowed():
    run = Run(allow_partial_joints_goal=False)
    run.host.start()
    with pytest.raises(ValueError, match=r"the trajectory lacks .*name every joint, or set allow_partial"):
        run.component.handle("joint_trajectory", trajectory(BEGIN_NS), BEGIN_NS)
