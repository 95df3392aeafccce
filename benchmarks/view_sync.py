"""Measure on the page when the voice is heard and when the jaw is seen to move, both by the page's clock.

    python benchmarks/view_sync.py      (with Chromium; no ROS 2)

Every second the jaw opens at an instant and a tone is given for the same instant, as the graph does it:
joint positions to the view's page, voice to the station at the frame of its counter. On the page a second
audio worklet notes the frame at which the tone passes, which the context's time stamps place on the page's
clock, and each animation frame reads the drawn picture back. Without a graphics card the processor draws it.
"""

from __future__ import annotations

import sys
import threading
import time

import harness
import numpy as np
from headless_browser import HeadlessBrowser  # beside the tests; harness says where
from timar_common.clock import NS_PER_S
from timar_description import find_urdf
from timar_description.urdf import read_drawable_urdf
from timar_view.config import ViewConfig
from timar_view.page import HeadPage
from timar_view.page_station import DRAW_RATE_HZ, PageStation
from timar_view.station import StationBlock
from timar_view.view_state import ViewState

EVENTS = 30
EVERY_S, OPEN_S = 1.0, 0.4
LIMIT_MS = 40.0
PICTURE = """
window.pictures = [];
const getContext = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, options) {
  const kept = kind.startsWith("webgl") ? { preserveDrawingBuffer: true } : {};
  return getContext.call(this, kind, { ...options, ...kept });
};
const small = new OffscreenCanvas(80, 60).getContext("2d", { willReadFrequently: true });
window.readPicture = () => {
  small.drawImage(document.querySelector("canvas[data-engine]"), 0, 0, 80, 60);
  const { data } = small.getImageData(0, 0, 80, 60);
  return Array.from({ length: 4800 }, (_, i) => data[4 * i] + data[4 * i + 1] + data[4 * i + 2]);
};
window.watch = (closed, mask) => {
  const look = () => {
    const now = performance.now(), seen = readPicture();
    pictures.push([now, mask.reduce((sum, i) => sum + Math.abs(seen[i] - closed[i]), 0)]);
    requestAnimationFrame(look);
  };
  look();
};
"""
LISTENER = """
(async () => {
  const code = `registerProcessor("listener", class extends AudioWorkletProcessor {
    process(inputs) {
      const x = inputs[0][0];
      const at = x ? x.findIndex((v) => Math.abs(v) > 0.05) : -1;
      if (at >= 0) this.port.postMessage(currentFrame + at);
      return true;
    }
  })`;
  const { context, node } = timarStation;
  await context.audioWorklet.addModule(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
  const listener = new AudioWorkletNode(context, "listener");
  window.tones = [];
  listener.port.onmessage = ({ data }) => {
    const { contextTime, performanceTime } = context.getOutputTimestamp();
    tones.push(performanceTime + 1000 * (data / context.sampleRate - contextTime));
  };
  node.connect(listener).connect(context.destination);
  window.listens = true;
})()
"""


class Stage:
    """The page with its station, drawn as the node draws it."""

    def __init__(self) -> None:
        config = ViewConfig(port=18_510, page_microphone=True, page_loudspeaker=True)
        robot = read_drawable_urdf(find_urdf())
        self.station = PageStation(config, self._take, lambda level, text: None)
        self.page = HeadPage(config, robot, self.station)
        self.state = ViewState(robot.joints, 12.0)
        self.state.positions = dict.fromkeys((joint.name for joint in robot.actuated), 0.0)
        self.opens_ns = 0
        self.newest: tuple[str, int, StationBlock, int] | None = None
        self._ended = threading.Event()
        self._drawing = threading.Thread(target=self._draw)

    def _take(self, page: str, rate_hz: int, block: StationBlock, end_ns: int) -> None:
        self.newest = (page, rate_hz, block, end_ns)

    def __enter__(self) -> Stage:
        self.address = self.page.open()
        self._drawing.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._drawing.join()
        self.page.close()

    def _draw(self) -> None:
        while not self._ended.wait(1.0 / DRAW_RATE_HZ):
            is_open = 0 <= time.monotonic_ns() - self.opens_ns < OPEN_S * NS_PER_S
            self.state.positions["jaw"] = 0.4 if is_open else 0.0
            self.page.draw(self.state, time.monotonic_ns())

    def play_at(self, at_ns: int) -> None:
        """Give the page a tone that is to leave its loudspeaker at an instant."""
        assert self.newest is not None
        page, rate_hz, block, end_ns = self.newest
        left_ns = at_ns - round(block.output_latency_ms * 1e6) - end_ns
        first_frame = block.first_frame + block.frames + left_ns * rate_hz // NS_PER_S
        tone = 12_000 * np.sign(np.sin(2 * np.pi * 500 * np.arange(round(OPEN_S * rate_hz)) / rate_hz))
        self.station.play(page, first_frame, tone.astype(np.int16))


def onsets(times_ms: np.ndarray) -> np.ndarray:
    """Return the first of each group of times [ms]."""
    return times_ms[np.insert(np.diff(times_ms) > 1000 * OPEN_S / 2, 0, True)] if times_ms.size else times_ms


def measure() -> tuple[np.ndarray, np.ndarray]:
    """Return how much later than the voice was heard the jaw was seen, and the time between pictures [ms]."""
    switches = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with Stage() as stage, HeadlessBrowser((320, 240), switches=switches) as browser:
        browser.run_at_load(PICTURE)
        browser.go_to(stage.address)
        browser.wait_for("document.getElementById('station')?.dataset.state === 'idle'")
        browser.click("Start")
        browser.wait_for("document.getElementById('station').dataset.state === 'running'")
        browser.evaluate(LISTENER)
        browser.wait_for("window.listens && document.querySelector('canvas[data-engine]')")
        time.sleep(5.0)
        closed = np.array(browser.evaluate("readPicture()"))
        stage.opens_ns = time.monotonic_ns()
        time.sleep(0.75 * OPEN_S)
        opened = np.array(browser.evaluate("readPicture()"))
        mask = np.nonzero(np.abs(opened - closed) > 60)[0]
        if mask.size < 5:
            raise RuntimeError("the picture does not show that the jaw opens")
        full = float(np.abs(opened - closed)[mask].sum())
        browser.evaluate(f"watch({closed.tolist()}, {mask.tolist()})")
        for _ in range(EVENTS):
            at_ns = time.monotonic_ns() + round(0.5 * NS_PER_S)
            stage.opens_ns = at_ns
            stage.play_at(at_ns)
            time.sleep(EVERY_S)
        pictures, tones = np.array(browser.evaluate("pictures")), np.array(browser.evaluate("tones"))
    heard_ms = onsets(tones)
    seen_ms = onsets(pictures[pictures[:, 1] > 0.5 * full, 0])
    lags = [float(seen_ms[np.argmin(np.abs(seen_ms - heard))] - heard) for heard in heard_ms]
    return np.array(lags), np.diff(pictures[:, 0])


def main() -> int:
    """Measure, write the page, and return 1 beyond the limit."""
    harness.parser_of(__doc__).parse_args()
    begun = harness.when()
    lags_ms, periods_ms = measure()
    p5, p50, p95 = harness.percentiles(lags_ms, 5, 50, 95)
    page = ["# The jaw against the voice, on the page", "", f"`python benchmarks/view_sync.py`, {begun}.", ""]
    page.append(
        f"{lags_ms.size} tones: the jaw was seen {p50:+.0f} ms after the tone was heard (median; 5 %: "
        f"{p5:+.0f}, 95 %: {p95:+.0f}). The page drew every {np.median(periods_ms):.0f} ms (95 %: "
        f"{harness.percentiles(periods_ms, 95)[0]:.0f}), by the processor. Made tone and made jaw."
    )
    harness.write_page(harness.RESULTS / "view_sync.md", page)
    return int(not abs(p50) <= LIMIT_MS)


if __name__ == "__main__":
    sys.exit(main())
