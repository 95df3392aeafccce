"""Browser view node: shows joints, voices, speech turns, latency and health of the running head."""

from __future__ import annotations

import os
import sys
import webbrowser

from timar_common.base_node import run
from timar_common.component_node import ComponentNode
from timar_common.diagnostics import Report

from timar_view.page import HeadPage
from timar_view.view_component import ViewComponent


class ViewNode(ComponentNode):
    """Runs `ViewComponent`, and draws its state on a page."""

    component_type = ViewComponent
    _page: HeadPage | None = None

    def build(self) -> None:
        """Read the robot and subscribe."""
        super().build()
        self._page = HeadPage(self.config, self.component.robot)
        self.create_steady_timer(1.0 / self.config.rate_hz, self._draw)

    def start(self) -> None:
        """Open the page."""
        super().start()
        url = self._page.open()
        self.get_logger().info(f"the head is shown at {url}")
        self.get_logger().info(f"to look without moving joints: {self._page.look_address}")
        has_screen = sys.platform == "darwin" or bool(
            os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        )
        if self.config.open_browser and not (has_screen and webbrowser.open(url)):
            self.get_logger().warning(f"no browser could be opened here; open {url} yourself")

    def stop(self) -> None:
        """Close the page."""
        self._page.close()
        super().stop()

    def release(self) -> None:
        """Drop the page."""
        if self._page is not None:
            self._page.close()
            self._page = None
        super().release()

    def report(self) -> Report:
        """Report who looks on as well."""
        report = super().report()
        report.values |= {
            "viewers": self._page.viewers,
            "draws": self._page.draws,
            "refused_requests": self._page.access.refused,
        }
        return report

    def _draw(self) -> None:
        self._page.draw(self.component.state, self.now_ns())
        self.host.call(self.component.set_targets, self._page.targets())


def main() -> int:
    """Run the view."""
    return run([ViewNode])


if __name__ == "__main__":
    sys.exit(main())
