"""Browser view node: shows joints, voices, speech turns, latency and health of the running head."""

from __future__ import annotations

import os
import sys
import webbrowser

from timar_common.base_node import run
from timar_common.component_node import ComponentNode
from timar_common.diagnostics import Report

from timar_view.page import HeadPage
from timar_view.page_station import DRAW_RATE_HZ, PageStation
from timar_view.station import StationBlock
from timar_view.view_component import ViewComponent


class ViewNode(ComponentNode):
    """Runs `ViewComponent`, and draws its state on a page."""

    component_type = ViewComponent
    _page: HeadPage | None = None

    def build(self) -> None:
        """Read the robot and subscribe."""
        super().build()
        station = None
        if self.config.has_station:
            station = PageStation(self.config, self._on_sound, self._log)
            self.component.on_voice = station.play
        self._page = HeadPage(self.config, self.component.robot, station)
        rate_hz = (
            max(self.config.rate_hz, DRAW_RATE_HZ) if self.config.page_loudspeaker else self.config.rate_hz
        )
        self.create_steady_timer(1.0 / rate_hz, self._draw)

    def start(self) -> None:
        """Open the page."""
        super().start()
        url = self._page.open()
        self.get_logger().info(f"the head is shown at {url}")
        if self._page.fingerprint:
            self.get_logger().info(
                "the browser will warn of a certificate that nobody vouches for; it is this machine's own if "
                f"its SHA-256 fingerprint is {self._page.fingerprint}"
            )
        if self._page.station is not None:
            self.get_logger().info(self._page.station.invitation)
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
        if self._page.station is not None:
            station = self._page.station.report()
            report.values |= station.values
            report.worsen(station.level, station.message)
        return report

    def _on_sound(self, page: str, rate_hz: int, block: StationBlock, end_ns: int) -> None:
        if self.is_active:
            self.host.call(self.component.publish_sound, page, rate_hz, block, end_ns)

    def _draw(self) -> None:
        self._page.draw(self.component.state, self.now_ns())
        self.host.call(self.component.set_targets, self._page.targets())


def main() -> int:
    """Run the view."""
    return run([ViewNode])


if __name__ == "__main__":
    sys.exit(main())
