"""Settings of the browser view."""

from __future__ import annotations

import dataclasses

from timar_common.config import check, option


@dataclasses.dataclass(frozen=True)
class ViewConfig:
    """What the view shows, where it listens, and how often it draws."""

    robot: str = option("timar_head", "The robot to draw: its name, or a path to a URDF file.")
    host: str = option(
        "127.0.0.1", "Address to listen on; 0.0.0.0 lets every machine of the network look on."
    )
    port: int = option(
        8080, "First port to try; when it is taken, the next free one.", minimum=1024, maximum=65_000
    )
    open_browser: bool = option(False, "Open the page in this machine's browser.")
    rate_hz: float = option(25.0, "How often the head is drawn.", unit="Hz", minimum=1.0, maximum=60.0)
    panel_rate_hz: float = option(5.0, "How often the panel is drawn.", unit="Hz", minimum=0.2, maximum=30.0)
    history_s: float = option(
        12.0, "How much of the conversation the panel shows.", unit="s", minimum=2.0, maximum=60.0
    )

    def __post_init__(self) -> None:
        check(self)
