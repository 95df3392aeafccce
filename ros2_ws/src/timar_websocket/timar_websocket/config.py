"""Parameters of the WebSocket server."""

from __future__ import annotations

import dataclasses

from timar_common.config import check, number, option


@dataclasses.dataclass(frozen=True)
class WebsocketConfig:
    """The WebSocket that voice bots speak and listen through."""

    host: str = option(
        "127.0.0.1", "Address to listen on; 0.0.0.0 lets bots of other machines in, without encryption."
    )
    port: int = number(8765, "First port to try; when it is taken, the next free one.", 1024, 65_000)
    token: str = option("", "What a bot must know; empty: a new one with each start.")
    max_bots: int = number(4, "How many bots may be connected at once.", 1, 32)

    def __post_init__(self) -> None:
        check(self)
        if not self.host:
            raise ValueError("WebsocketConfig.host is empty, expected an address such as 127.0.0.1")
