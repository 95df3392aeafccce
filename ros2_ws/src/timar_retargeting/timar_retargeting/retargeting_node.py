"""Retargeting node: runs the retargeting component on ROS 2; actions `gesture`, `follow_joint_trajectory`."""

from __future__ import annotations

import sys
import time
import uuid
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.task import Future
from timar_common.base_node import run
from timar_common.component_node import ComponentNode
from timar_common.messages import new
from timar_msgs.action import MakeGesture

from timar_retargeting.gesture_watch import GestureOutcome, GestureResult
from timar_retargeting.retargeting_component import RetargetingComponent
from timar_retargeting.trajectory_action_node import ABSENT, FollowJointTrajectory, TrajectoryAction

_FEEDBACK_S = 0.1
_ASKED = ("kind", "count", "size_rad", "speed_hz", "hold_s", "side")


class RetargetingNode(ComponentNode):
    """Turn head motion into joint commands; report of a gesture when it was seen."""

    component_type = RetargetingComponent
    component: RetargetingComponent

    def build(self) -> None:
        """Make the component and offer the action."""
        super().build()
        self._goals: dict[str, tuple[Any, Future]] = {}
        self.component.on_gesture_result = self._finish_goal
        server = ActionServer(
            self,
            MakeGesture,
            "gesture",
            execute_callback=self._execute,
            goal_callback=lambda _: GoalResponse.ACCEPT if self.is_active else GoalResponse.REJECT,
            cancel_callback=self._on_cancel,
        )
        self._owned.append((_destroy_action_server, server))
        self.create_steady_timer(_FEEDBACK_S, self._publish_feedback)
        if FollowJointTrajectory is None:
            self.get_logger().info(ABSENT)
        else:
            self._owned.append((TrajectoryAction.destroy, TrajectoryAction(self, self.component)))

    async def _execute(self, handle: Any) -> Any:
        """Ask for the gesture, and answer when it is over; what is impossible is aborted with the reason."""
        wanted, when = handle.request.gesture, handle.request.when
        gesture_id = wanted.gesture_id or f"action-{uuid.uuid4().hex[:8]}"
        asked = new("Gesture", gesture_id=gesture_id, **{name: getattr(wanted, name) for name in _ASKED})
        ros_ns = when.sec * 10**9 + when.nanosec
        future = Future()
        try:
            if gesture_id in self._goals:
                raise ValueError(f"gesture_id {gesture_id!r} is on its way already")
            self._goals[gesture_id] = (handle, future)
            self.update_anchor()
            wanted_ns = self.anchor.monotonic_ns(ros_ns) if ros_ns else 0
            self.host.call(self.component.request_gesture, asked, wanted_ns)
            result = await future
        except ValueError as error:
            result = GestureResult(gesture_id, GestureOutcome.REFUSED, str(error))
        if self._goals.get(gesture_id, (None, None))[1] is future:
            del self._goals[gesture_id]
        if result.outcome is GestureOutcome.SHOWN:
            handle.succeed()
        elif result.outcome is GestureOutcome.CANCELED:
            handle.canceled()
        else:
            handle.abort()
        return MakeGesture.Result(
            outcome=int(result.outcome),
            first_frame=result.first_frame,
            visible_from=self._ros_time(result.visible_from_ns),
            visible_until=self._ros_time(result.visible_until_ns),
            message=result.message,
        )

    def _ros_time(self, monotonic_ns: int) -> Any:
        return self.header(monotonic_ns).stamp if monotonic_ns else MakeGesture.Result().visible_from

    def _on_cancel(self, handle: Any) -> CancelResponse:
        for gesture_id, (known, _) in self._goals.items():
            if known.goal_id == handle.goal_id:
                if self.component.gestures.stage(gesture_id, time.monotonic_ns())[1] >= 0:
                    return CancelResponse.REJECT
                self.host.call(self.component.cancel_gesture, gesture_id)
                return CancelResponse.ACCEPT
        return CancelResponse.REJECT

    def _finish_goal(self, result: GestureResult) -> None:
        if result.gesture_id in self._goals:
            self._goals[result.gesture_id][1].set_result(result)

    def _publish_feedback(self) -> None:
        for gesture_id, (handle, _) in list(self._goals.items()):
            if handle.is_active and gesture_id in self.component.gestures:
                is_visible, first_frame = self.component.gestures.stage(gesture_id, time.monotonic_ns())
                stage = MakeGesture.Feedback.VISIBLE if is_visible else MakeGesture.Feedback.WAITING
                handle.publish_feedback(MakeGesture.Feedback(stage=stage, first_frame=first_frame))


def _destroy_action_server(server: ActionServer) -> bool:
    server.destroy()
    return True


def main() -> int:
    """Run the node until a signal."""
    return run([RetargetingNode])


if __name__ == "__main__":
    sys.exit(main())
