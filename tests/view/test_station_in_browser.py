"""The page as microphone and loudspeaker, in a real headless Chromium whose microphone is a file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from headless_browser import HeadlessBrowser
from timar_common.diagnostics import Level
from timar_description import find_urdf
from timar_description.urdf import read_drawable_urdf
from timar_view.config import ViewConfig
from timar_view.page import HeadPage
from timar_view.page_station import PageStation
from timar_view.station import StationBlock

pytestmark = [pytest.mark.browser]

DEVICE_RATE_HZ = 44_100
"""Of Chromium's fake microphone; at this rate nothing in the browser resamples."""
PATIENCE_S = 60.0


class Head:
    """The view's page with its station, without ROS; keeps what the page heard."""

    def __init__(self, **config: object) -> None:
        settings = {"page_microphone": True, "page_loudspeaker": True, "echo_cancellation": False}
        self.config = ViewConfig(port=18_120, **(settings | config))
        self.log: list[tuple[Level, str]] = []
        self.blocks: list[tuple[str, int, StationBlock, int, int]] = []
        self.station = PageStation(
            self.config, self._take, lambda level, text: self.log.append((level, text))
        )
        self.page = HeadPage(self.config, read_drawable_urdf(find_urdf()), self.station)
        self.address = self.page.open()

    def _take(self, page: str, rate_hz: int, block: StationBlock, end_ns: int) -> None:
        self.blocks.append((page, rate_hz, block, end_ns, time.monotonic_ns()))

    def wait_for(self, holds: Callable[[], object], what: str) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline_s, f"{what} did not happen; the log says {self.log}"
            time.sleep(0.02)

    def said(self, words: str) -> bool:
        return any(words in text for _, text in list(self.log))

    def heard_s(self) -> float:
        return sum(block.frames for _, _, block, _, _ in list(self.blocks)) / DEVICE_RATE_HZ


@pytest.fixture
def head(request: pytest.FixtureRequest) -> Iterator[Head]:
    head = Head(**getattr(request, "param", {}))
    yield head
    head.page.close()


def chromium(sound: Path | None = None, *, is_granted: bool = True) -> HeadlessBrowser:
    """Return a Chromium whose microphone is a file that is heard once."""
    # What is drawn does not matter here, and without a graphics card it takes the processor's time.
    switches = ["--use-fake-device-for-media-stream", "--disable-3d-apis"]
    if is_granted:
        switches.append("--use-fake-ui-for-media-stream")
    if sound is not None:
        switches.append(f"--use-file-for-fake-audio-capture={sound}%noloop")
    return HeadlessBrowser((640, 480), 2 * PATIENCE_S, switches)


def state(browser: HeadlessBrowser, wanted: str) -> None:
    browser.wait_for(f"document.getElementById('station')?.dataset.state === '{wanted}'")


def press(browser: HeadlessBrowser) -> None:
    browser.wait_for("!document.getElementById('station-button').disabled")
    browser.click(browser.evaluate("document.getElementById('station-button').textContent"))


@pytest.fixture
def noise(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """Write four seconds in which every stretch of eight samples is there once."""
    samples = np.random.default_rng(0).integers(-9000, 9000, 4 * DEVICE_RATE_HZ).astype(np.int16)
    path = tmp_path / "user.wav"
    soundfile.write(path, samples, DEVICE_RATE_HZ, subtype="PCM_16")
    return path, samples


def heard_exactly(heard: np.ndarray, spoken: np.ndarray) -> np.ndarray:
    """Return which samples of what was spoken were heard, in runs of at least 64 samples."""
    places = {spoken[at : at + 8].tobytes(): at for at in range(0, spoken.size - 8)}
    found = np.zeros(spoken.size, bool)
    at = 0
    while at < heard.size - 8:
        place = places.get(heard[at : at + 8].tobytes())
        if place is None:
            at += 1
            continue
        length = min(heard.size - at, spoken.size - place)
        differs = np.nonzero(heard[at : at + length] != spoken[place : place + length])[0]
        run = int(differs[0]) if differs.size else length
        if run >= 64:
            found[place : place + run] = True
        at += max(run, 1)
    return found


def test_words_of_the_microphone_arrive_sample_for_sample_and_are_stamped_in_time(
    head: Head, noise: tuple[Path, np.ndarray]
) -> None:
    path, spoken = noise
    with chromium(path) as browser:
        browser.go_to(head.address)
        press(browser)
        state(browser, "running")
        head.wait_for(lambda: head.heard_s() > 4.5, "four seconds of sound")
        dropped = head.blocks[-1][2].dropped_frames
    blocks = list(head.blocks)
    assert {rate_hz for _, rate_hz, _, _, _ in blocks} == {DEVICE_RATE_HZ}
    ends = [block.first_frame + block.frames for _, _, block, _, _ in blocks]
    firsts = [block.first_frame for _, _, block, _, _ in blocks]
    holes = [first - end for first, end in zip(firsts[1:], ends[:-1], strict=True) if first > end]
    assert head.station.lost_frames == sum(holes)
    heard = np.concatenate([block.samples for _, _, block, _, _ in blocks])
    found = heard_exactly(heard, spoken)
    # The file begins when the microphone is opened; the page is the station a little later.
    first = int(found.argmax())
    assert found.any()
    assert first < 0.5 * spoken.size
    missing = int((~found[first:]).sum())
    # Chromium begins a microphone, and goes on after a hole, with buffers of 10 ms in disorder.
    assert missing <= sum(holes) + dropped + (1 + len(holes)) * 0.05 * DEVICE_RATE_HZ
    # The counter's place in machine time is steady to a few of the browser's own buffers, and has been.
    ends_ms = np.array([end_ns / 1e6 for *_, end_ns, _ in blocks])
    place_ms = ends_ms - 1000 * np.array(ends) / DEVICE_RATE_HZ
    assert np.percentile(np.abs(place_ms - np.median(place_ms)), 95) < 30.0
    assert all(end_ns <= arrived_ns + 5e6 for *_, end_ns, arrived_ns in blocks)


LISTENER = """
(async () => {
  const code = `registerProcessor("listener", class extends AudioWorkletProcessor {
    process(inputs) {
      const x = inputs[0][0];
      if (x && x.some((v) => v !== 0)) this.port.postMessage({ frame: currentFrame, samples: Array.from(x) });
      return true;
    }
  })`;
  const context = timarStation.context;
  await context.audioWorklet.addModule(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
  const listener = new AudioWorkletNode(context, "listener");
  window.played = [];
  listener.port.onmessage = ({ data }) => window.played.push(data);
  timarStation.node.connect(listener).connect(context.destination);
  window.listens = true;
})()
"""


def test_voice_is_played_at_the_frames_it_was_given_for_and_what_is_late_is_counted(head: Head) -> None:
    with chromium() as browser:
        browser.go_to(head.address)
        press(browser)
        state(browser, "running")
        browser.evaluate(LISTENER)
        browser.wait_for("window.listens")
        head.wait_for(lambda: head.blocks, "a block")
        page, _, block, _, _ = head.blocks[-1]
        voice = np.arange(1, 2001, dtype=np.int16)
        first_frame = block.first_frame + DEVICE_RATE_HZ
        head.station.play(page, first_frame, voice)
        head.station.play("another", first_frame, -voice)
        head.station.play(page, 0, voice)
        head.wait_for(lambda: head.blocks[-1][2].first_frame > first_frame + DEVICE_RATE_HZ // 2, "its time")
        played = browser.evaluate("played")
        late = head.blocks[-1][2].late_frames
    sound = np.zeros(DEVICE_RATE_HZ, int)
    for part in played:
        at = part["frame"] - first_frame + 1000
        sound[at : at + 128] = np.round(np.array(part["samples"]) * 32768)
    np.testing.assert_array_equal(sound[1000:3000], voice)
    assert not sound[:1000].any()
    assert not sound[3000:].any()
    assert late == voice.size


def test_a_microphone_that_is_not_allowed_is_said_on_the_page_and_in_the_log(head: Head) -> None:
    with chromium(is_granted=False) as browser:
        browser.deny("microphone", head.address)
        browser.go_to(head.address)
        press(browser)
        state(browser, "failed")
        assert "does not let this page use the microphone" in browser.evaluate("document.body.innerText")
        head.wait_for(lambda: head.said("Allow it"), "a line in the log")
    assert not head.blocks
    assert head.station.report().level is Level.ERROR
    assert "does not let this page use the microphone" in head.station.report().message


def test_a_microphone_that_vanishes_and_a_stopped_page_end_the_station(head: Head) -> None:
    with chromium() as browser:
        browser.go_to(head.address)
        press(browser)
        state(browser, "running")
        head.wait_for(lambda: head.blocks, "a block")
        browser.evaluate("timarStation.stream.getAudioTracks()[0].dispatchEvent(new Event('ended'))")
        state(browser, "failed")
        head.wait_for(lambda: head.said("The microphone is gone"), "a line in the log")
        assert not head.station.has_page
        before = len({page for page, *_ in head.blocks})
        press(browser)
        state(browser, "running")
        head.wait_for(lambda: head.station.has_page, "the page as station again")
        head.wait_for(
            lambda: len({page for page, *_ in head.blocks}) == before + 1, "sound of another counter"
        )
        press(browser)
        state(browser, "idle")
        head.wait_for(lambda: not head.station.has_page, "the end of the station")


def test_a_page_that_is_loaded_again_goes_on_by_itself(head: Head) -> None:
    with chromium() as browser:
        browser.go_to(head.address)
        press(browser)
        state(browser, "running")
        head.wait_for(lambda: head.blocks, "a block")
        before = {page for page, *_ in head.blocks}
        browser.evaluate("location.reload()")
        head.wait_for(lambda: {page for page, *_ in head.blocks} - before, "sound after the reload")
        state(browser, "running")


def test_a_page_whose_sound_is_suspended_says_so_and_goes_on_with_a_click(head: Head) -> None:
    with chromium() as browser:
        browser.go_to(head.address)
        press(browser)
        state(browser, "running")
        head.wait_for(lambda: head.blocks, "a block")
        browser.evaluate("timarStation.context.suspend()")
        state(browser, "suspended")
        head.wait_for(lambda: head.said("stopped the sound of the page"), "a line in the log")
        end = head.blocks[-1][2].first_frame
        time.sleep(0.5)
        press(browser)
        state(browser, "running")
        head.wait_for(lambda: head.blocks[-1][2].first_frame > end + DEVICE_RATE_HZ // 4, "sound again")


def test_of_two_pages_one_is_the_station_and_the_other_is_told_and_may_take_over(head: Head) -> None:
    with chromium() as first, chromium() as second:
        first.go_to(head.address)
        press(first)
        state(first, "running")
        second.go_to(head.address)
        press(second)
        state(second, "taken")
        assert "Another page is the head's microphone" in second.evaluate("document.body.innerText")
        head.wait_for(lambda: head.blocks, "a block")
        of_first = head.blocks[-1][0]
        press(second)  # "Take over"
        state(second, "running")
        state(first, "idle")
        assert "Another page has become" in first.evaluate("document.body.innerText")
        head.wait_for(lambda: head.blocks[-1][0] != of_first, "sound of the second page")


def test_an_address_that_only_looks_neither_hears_nor_is_heard(head: Head) -> None:
    with chromium() as browser:
        browser.go_to(head.page.look_address)
        state(browser, "refused")
        assert "this address may only look" in browser.evaluate("document.body.innerText")
        assert browser.evaluate("document.getElementById('station-button').hidden")
    assert not head.blocks
    assert not head.station.has_page
