"""Positions for outputs without trajectories: the plan in force, between its points too."""

import numpy as np
from timar_retargeting.trajectory_planner import PlanSampler


def test_there_is_nothing_to_say_before_the_first_plan():
    assert PlanSampler().at(0) is None


def test_samples_are_those_of_the_plans_in_force(make_puppet, sine):
    puppet, sampler = make_puppet(), PlanSampler()
    puppet.start()
    zero_ns = puppet.now_ns + 300_000_000
    sampler.add(puppet.plans[0])
    seen, times = [], []
    for first in range(0, 50, 5):
        puppet.now_ns = zero_ns + first * 40_000_000 - 100_000_000
        plan = puppet.motion(
            first, zero_ns + first * 40_000_000, sine(first + np.arange(5), 0.7, yaw_rad=0.3)
        )
        sampler.add(plan)
        for _ in range(20):
            seen.append(sampler.at(puppet.now_ns)[0])
            times.append(puppet.now_ns)
            puppet.now_ns += 10_000_000
    np.testing.assert_allclose(np.array(seen), puppet.commanded(np.array(times)), atol=1e-9)
    speed = np.abs(np.diff(seen, axis=0)) / 0.01
    assert (speed <= puppet.robot.limits.velocity + 1e-6).all()
    position, velocity = sampler.at(puppet.now_ns + 10_000_000_000)
    np.testing.assert_allclose(position, puppet.plans[-1].positions[-1], atol=1e-12)
    assert not velocity.any()
