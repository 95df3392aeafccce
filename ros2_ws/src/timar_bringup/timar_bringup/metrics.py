"""Diagnostics of the graph as Prometheus metrics, in its text format; no ROS.

Source: Prometheus, "Exposition formats", text format 0.0.4.
"""

from __future__ import annotations

import dataclasses
import math
import re
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from timar_common.config import check, number, option
from timar_common.web_access import request_refusal

_NO_NAME = re.compile(r"[^a-zA-Z0-9_]+")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SENT_WITHIN_S = 5.0
"""A reader that takes longer is let go [s]."""


@dataclasses.dataclass(frozen=True)
class MetricsConfig:
    """Where metrics are served."""

    host: str = option("127.0.0.1", "Address to listen on; one of the network opens it to others.")
    port: int = number(9465, "Port of http://HOST:PORT/metrics.", 1024, 65_535)

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True)
class NodeHealth:
    """What a node said of itself last."""

    level: int
    """As in diagnostic_msgs/DiagnosticStatus."""
    values: Mapping[str, str]
    heard_s: float
    """When, on a monotonic clock [s]."""


def metrics_text(health: Mapping[str, NodeHealth], now_s: float, disk_free_bytes: float) -> str:
    """Return everything as text: a metric per number that nodes give, with the node as label.

    Args:
        health: By full name of the node.
        now_s: Time now, on the same clock as `NodeHealth.heard_s` [s].
        disk_free_bytes: Of the disk where the head was started.
    """
    disk = "timar_disk_free_bytes"
    samples: dict[str, list[str]] = {disk: [_sample(disk, "", disk_free_bytes)]}
    for node, said in sorted(health.items()):
        numbers = {"level": float(said.level), "heard_seconds_ago": now_s - said.heard_s}
        for key, text in said.values.items():
            if (value := _number(text)) is not None:
                numbers[_NO_NAME.sub("_", key).strip("_")] = value
        for key, value in numbers.items():
            name = f"timar_{key}"
            samples.setdefault(name, []).append(_sample(name, node, value))
    lines = []
    for name, found in sorted(samples.items()):
        lines += [f"# TYPE {name} untyped", *found]
    return "\n".join(lines) + "\n"


class MetricsServer:
    """Serve a text to whoever asks for /metrics, in threads of its own.

    Args:
        config: Where.
        text: Returns what is served now; called in those threads.

    Raises:
        OSError: The address cannot be had.
    """

    def __init__(self, config: MetricsConfig, text: Callable[[], str]) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = SENT_WITHIN_S

            def do_GET(self) -> None:
                names = ("Host", "Origin")
                given = {name: str(self.headers[name]) for name in names if name in self.headers}
                refusal = request_refusal(given, config.host)
                if refusal:
                    self.send_error(403, refusal)
                elif self.path != "/metrics":
                    self.send_error(404, "only /metrics is served")
                else:
                    body = text().encode()
                    self.send_response(200)
                    self.send_header("Content-Type", CONTENT_TYPE)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Leave requests out of the log: one comes every few seconds."""

        try:
            self._server = ThreadingHTTPServer((config.host, config.port), Handler)
        except OSError as error:
            raise OSError(
                f"metrics cannot be served on {config.host}:{config.port} ({error.strerror}); give another "
                "metrics_port"
            ) from error
        self._server.daemon_threads = True
        self.address = f"http://{config.host}:{self._server.server_address[1]}/metrics"
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def close(self) -> None:
        """End serving."""
        self._server.shutdown()
        self._server.server_close()


def _sample(name: str, node: str, value: float) -> str:
    escaped = node.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    label = f'{{node="{escaped}"}}' if node else ""
    return f"{name}{label} {value:.10g}"


def _number(text: str) -> float | None:
    if text in ("True", "False"):
        return float(text == "True")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
