"""A headless Chromium that looks at a page and takes pictures of it, with WebGL in software if need be."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
import types
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timar_common.processes import start_child
from websockets.sync.client import ClientConnection, connect

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser() -> str:
    """Return the path of a browser.

    Raises:
        FileNotFoundError: None of the known ones is installed.
    """
    for name in BROWSERS:
        path = shutil.which(name)
        if path is not None:
            return path
    raise FileNotFoundError(f"no browser was found ({', '.join(BROWSERS)}); install chromium")


class HeadlessBrowser:
    """One page in a browser of its own, driven by the Chrome DevTools protocol; use it in a ``with`` block.

    Args:
        size_px: Width and height of the window [px].
        timeout_s: How long the browser may take to start, or to answer [s].
        switches: Further ones of its command line.
    """

    def __init__(
        self,
        size_px: tuple[int, int] = (1280, 800),
        timeout_s: float = 60.0,
        switches: Sequence[str] = (),
    ) -> None:
        self._size_px = size_px
        self._switches = switches
        self._timeout_s = timeout_s
        self._calls = 0

    def __enter__(self) -> HeadlessBrowser:
        """Start the browser.

        Raises:
            FileNotFoundError: There is no browser.
            RuntimeError: It did not start in time.
        """
        executable = find_browser()
        self._profile = tempfile.TemporaryDirectory(prefix="timar-browser-", ignore_cleanup_errors=True)
        self._process = start_child(
            [
                executable,
                "--headless",
                "--no-sandbox",
                "--no-first-run",
                "--disable-background-networking",
                "--hide-scrollbars",
                "--use-gl=angle",
                "--use-angle=swiftshader",
                "--enable-unsafe-swiftshader",
                "--remote-debugging-port=0",
                f"--user-data-dir={self._profile.name}",
                f"--window-size={self._size_px[0]},{self._size_px[1]}",
                *self._switches,
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self._page: ClientConnection = connect(
                self._page_address(), max_size=None, open_timeout=self._timeout_s, ping_interval=None
            )
        except BaseException:
            self._end()
            raise
        width, height = self._size_px
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        """End the browser."""
        self._page.close()
        self._end()

    def go_to(self, url: str) -> None:
        """Open a page and wait until it is loaded; what its scripts do may still be under way.

        Raises:
            RuntimeError: It did not load in time.
        """
        self._call("Page.navigate", url=url)
        # A token in the address becomes a cookie, and the address loses it.
        place = json.dumps(url.partition("?")[0])
        self.wait_for(f"location.href.startsWith({place}) && document.readyState === 'complete'")

    def deny(self, permission: str, url: str) -> None:
        """Answer no to a permission that a page will ask for."""
        origin = "{0.scheme}://{0.netloc}".format(urllib.parse.urlsplit(url))
        self._call("Browser.setPermission", permission={"name": permission}, setting="denied", origin=origin)

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page.

        Raises:
            RuntimeError: The expression failed.
        """
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"the page could not evaluate {expression!r}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """Wait until a JavaScript expression is true, and return its value.

        Raises:
            RuntimeError: It did not become true in time.
        """
        deadline_s = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline_s:
            value = self.evaluate(expression)
            if value:
                return value
            time.sleep(0.1)
        raise RuntimeError(f"{expression!r} did not become true in the page within {self._timeout_s} s")

    def click(self, text: str) -> None:
        """Click with the mouse on the innermost element that shows a text.

        Raises:
            RuntimeError: There is no such element.
        """
        place = self.evaluate(
            "(() => { const found = [...document.querySelectorAll('*')]"
            f".filter(e => e.textContent.trim() === {json.dumps(text)}).pop();"
            " if (!found) return null; const box = found.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        if place is None:
            raise RuntimeError(f"the page shows no element {text!r} to click on")
        for kind in ("mousePressed", "mouseReleased"):
            self._call(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1
            )

    def screenshot(self) -> bytes:
        """Return what the page shows now, as PNG."""
        return base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"])

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._calls += 1
        self._page.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while True:  # Events of the page come between; each wait is bounded.
            answer = json.loads(self._page.recv(timeout=self._timeout_s))
            if answer.get("id") == self._calls:
                break
        if "error" in answer:
            raise RuntimeError(f"the browser refused {method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _page_address(self) -> str:
        port_file = Path(self._profile.name) / "DevToolsActivePort"
        deadline_s = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline_s:
            if self._process.poll() is not None:
                raise RuntimeError(f"the browser ended with status {self._process.returncode} while starting")
            if port_file.is_file() and len(lines := port_file.read_text().splitlines()) == 2:
                for page in _json(f"http://127.0.0.1:{lines[0]}/json/list", self._timeout_s):
                    if page["type"] == "page":
                        return str(page["webSocketDebuggerUrl"])
            time.sleep(0.05)
        raise RuntimeError(f"the browser did not start within {self._timeout_s} s")

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._profile.cleanup()


def _json(url: str, timeout_s: float) -> Any:
    with urllib.request.urlopen(url, timeout=timeout_s) as answer:
        return json.load(answer)
