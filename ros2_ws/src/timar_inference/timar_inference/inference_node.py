"""Inference node: runs the inference component on ROS 2."""

from __future__ import annotations

import sys
import uuid

from timar_common.base_node import run
from timar_common.cancellation import run_interruptibly
from timar_common.component_node import ComponentNode
from timar_common.notify import notify

from timar_inference.inference_component import InferenceComponent
from timar_inference.runtime import open_runtime


class InferenceNode(ComponentNode):
    """Generate head motion turn by turn, in a worker thread."""

    component_type = InferenceComponent

    def make_component(self) -> InferenceComponent:
        """Load, measure and warm the model; conversation ids differ from those of every other start."""

        def log(line: str) -> None:
            self.get_logger().info(line)
            notify(STATUS=line)

        runtime = run_interruptibly(lambda: open_runtime(self.config, log))
        return InferenceComponent(self.config, runtime, f"{self.get_name()}-{uuid.uuid4().hex[:8]}")


def main() -> int:
    """Run the node until a signal."""
    return run([InferenceNode])


if __name__ == "__main__":
    sys.exit(main())
