"""Parameters of the browser view."""

from __future__ import annotations

import dataclasses

from timar_common.config import check, number, option
from timar_common.web_access import LOOPBACK_NAMES


@dataclasses.dataclass(frozen=True)
class ViewConfig:
    """What the view shows, where it listens, and how often it draws."""

    robot: str = option("timar_head", "The robot to draw: its name, or a path to a URDF file.")
    host: str = option(
        "127.0.0.1", "Address to listen on; 0.0.0.0 opens the page to the network, for who has its address."
    )
    tls: str = option(
        "auto",
        "Whether the page comes by https, with a certificate of this machine's own; auto: where the network "
        "is let in.",
        choices=("auto", "on", "off"),
    )
    port: int = number(8080, "First port to try; when it is taken, the next free one.", 1024, 65_000)
    open_browser: bool = option(False, "Open the page in this machine's browser.")
    rate_hz: float = number(25.0, "How often the head is drawn.", 1.0, 60.0, "Hz")
    panel_rate_hz: float = number(5.0, "How often the panel is drawn.", 0.2, 30.0, "Hz")
    page_microphone: bool = option(False, "Whether the page is the head's microphone (source: browser).")
    page_loudspeaker: bool = option(False, "Whether the page is the head's loudspeaker (sink: browser).")
    echo_cancellation: bool = option(
        True, "Whether the browser takes the head's voice out of its microphone; the page can change it."
    )
    history_s: float = number(12.0, "How much of the conversation the panel shows.", 2.0, 60.0, "s")

    def __post_init__(self) -> None:
        check(self)
        for name in ("robot", "host"):
            if not getattr(self, name):
                raise ValueError(f"ViewConfig.{name} is empty, expected a name or an address")

    @property
    def has_station(self) -> bool:
        """Whether the page is microphone or loudspeaker."""
        return self.page_microphone or self.page_loudspeaker

    @property
    def has_tls(self) -> bool:
        """Whether the page comes by https."""
        return self.tls == "on" or (self.tls == "auto" and self.host not in LOOPBACK_NAMES)
