"""Metrics node: serves the health of every node of the graph to Prometheus, on a local port."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

from timar_common.base_node import BaseNode, run
from timar_common.diagnostics import Report

from timar_bringup.metrics import MetricsConfig, MetricsServer, NodeHealth, metrics_text


class MetricsNode(BaseNode):
    """Keep what each node of this robot said last, and serve it."""

    NAME: ClassVar[str] = "metrics"
    Config: ClassVar[type] = MetricsConfig

    def build(self) -> None:
        """Listen to diagnostics."""
        self._server: MetricsServer | None = None
        self._health: dict[str, NodeHealth] = {}
        self.create_topic_subscription("/diagnostics", self._take)

    def start(self) -> None:
        """Open the port."""
        self._server = MetricsServer(self.config, self._text)
        self.get_logger().info(f"metrics for Prometheus at {self._server.address}")

    def stop(self) -> None:
        """Close the port."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    def report(self) -> Report:
        """Return how many nodes are heard."""
        return Report(values={"nodes": len(self._health)})

    def _take(self, message: Any) -> None:
        space = self.get_namespace().rstrip("/")
        for status in message.status:
            if status.name.rpartition("/")[0] == space:
                # Replaced as a whole, for the server's threads read it.
                said = NodeHealth(
                    status.level[0], {value.key: value.value for value in status.values}, time.monotonic()
                )
                self._health = {**self._health, status.name: said}

    def _text(self) -> str:
        return metrics_text(self._health, time.monotonic(), shutil.disk_usage(Path.cwd()).free)


def main() -> int:
    """Run the node until a signal."""
    return run([MetricsNode])


if __name__ == "__main__":
    sys.exit(main())
