"""Parameters of the browser view."""

from __future__ import annotations

import dataclasses

from timar_common.config import check, number, option


@dataclasses.dataclass(frozen=True)
class ViewConfig:
    """What the view shows, where it listens, and how often it draws."""

    robot: str = option("timar_head", "The robot to draw: its name, or a path to a URDF file.")
    host: str = option(
        "127.0.0.1", "Address to listen on; 0.0.0.0 lets every machine of the network look on."
    )
    port: int = number(8080, "First port to try; when it is taken, the next free one.", 1024, 65_000)
    open_browser: bool = option(False, "Open the page in this machine's browser.")
    rate_hz: float = number(25.0, "How often the head is drawn.", 1.0, 60.0, "Hz")
    panel_rate_hz: float = number(5.0, "How often the panel is drawn.", 0.2, 30.0, "Hz")
    history_s: float = number(12.0, "How much of the conversation the panel shows.", 2.0, 60.0, "s")

    def __post_init__(self) -> None:
        check(self)
        for name in ("robot", "host"):
            if not getattr(self, name):
                raise ValueError(f"ViewConfig.{name} is empty, expected a name or an address")
