"""The action follow_joint_trajectory on ROS 2, where control_msgs is installed."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.task import Future
from timar_common.component_node import ComponentNode
from timar_common.messages import converted, with_monotonic_header
from trajectory_msgs.msg import JointTrajectoryPoint

from timar_retargeting.retargeting_component import RetargetingComponent
from timar_retargeting.trajectory_goal import (
    GoalTolerances,
    JointTolerance,
    TrajectoryFeedback,
    TrajectoryResult,
)

try:
    from control_msgs.action import FollowJointTrajectory
except ImportError:
    FollowJointTrajectory = None

ACTION = "follow_joint_trajectory"
ABSENT = (
    f"the package control_msgs is not installed, so there is no action {ACTION}; the topic "
    "external/joint_trajectory takes trajectories (a ROS 2 distribution has it: ros-DISTRO-control-msgs)"
)


class TrajectoryAction:
    """Serves the action for a node whose component follows the goals.

    Args:
        node: Its host calls the component.
        component: Of retargeting.
    """

    def __init__(self, node: ComponentNode, component: RetargetingComponent) -> None:
        self._node, self._component = node, component
        self._goals: dict[str, tuple[Any, Future]] = {}
        component.on_trajectory_result = self._finish
        component.on_trajectory_feedback = self._give_feedback
        self._server = ActionServer(
            node,
            FollowJointTrajectory,
            ACTION,
            execute_callback=self._execute,
            goal_callback=lambda _: GoalResponse.ACCEPT if node.is_active else GoalResponse.REJECT,
            cancel_callback=self._on_cancel,
        )

    def destroy(self) -> bool:
        """Take the action away."""
        self._server.destroy()
        return True

    async def _execute(self, handle: Any) -> Any:
        """Follow a goal to its end; one that cannot be followed is aborted with its code and the reason."""
        goal_id, future = uuid.UUID(bytes=bytes(handle.goal_id.uuid)).hex, Future()
        self._goals[goal_id] = (handle, future)
        request = handle.request
        if request.multi_dof_trajectory.points:
            result = {
                "error_code": -1,
                "error_string": "joints of several degrees of freedom are not supported",
            }
        else:
            self._node.update_anchor()
            ours = converted(request.trajectory, "trajectory_msgs/msg/JointTrajectory")
            trajectory = with_monotonic_header(ours, self._node.anchor.monotonic_ns)
            call = self._component.follow_trajectory
            self._node.host.call(call, goal_id, trajectory, _tolerances_of(request))
            ended: TrajectoryResult = await future
            result = {"error_code": int(ended.code), "error_string": ended.text}
        del self._goals[goal_id]
        if handle.is_cancel_requested:
            handle.canceled()
        elif result["error_code"] == 0:
            handle.succeed()
        else:
            handle.abort()
        return FollowJointTrajectory.Result(**result)

    def _on_cancel(self, handle: Any) -> CancelResponse:
        for goal_id, (known, _) in self._goals.items():
            if known.goal_id == handle.goal_id and self._component.is_on_its_way(goal_id):
                self._node.host.call(self._component.cancel_trajectory, goal_id)
                return CancelResponse.ACCEPT
        return CancelResponse.REJECT

    def _finish(self, result: TrajectoryResult) -> None:
        known = self._goals.get(result.goal_id)
        if known is not None and not known[1].done():
            known[1].set_result(result)

    def _give_feedback(self, feedback: TrajectoryFeedback) -> None:
        known = self._goals.get(feedback.goal_id)
        if known is None or not known[0].is_active:
            return
        message = FollowJointTrajectory.Feedback(joint_names=list(feedback.joint_names))
        message.header = self._node.header(feedback.stamp_ns)
        message.desired, message.actual = _point(feedback.desired), _point(feedback.actual)
        message.error = _point(feedback.desired - feedback.actual)
        if hasattr(message, "index"):  # Newer distributions have it.
            message.index = feedback.index
        known[0].publish_feedback(message)


def _tolerances_of(request: Any) -> GoalTolerances:
    path, goal = (
        tuple(JointTolerance(item.name, item.position, item.velocity, item.acceleration) for item in items)
        for items in (request.path_tolerance, request.goal_tolerance)
    )
    time_s = request.goal_time_tolerance.sec + 1e-9 * request.goal_time_tolerance.nanosec
    return GoalTolerances(path, goal, time_s)


def _point(state: np.ndarray) -> JointTrajectoryPoint:
    positions, velocities, accelerations = state.tolist()
    return JointTrajectoryPoint(positions=positions, velocities=velocities, accelerations=accelerations)
