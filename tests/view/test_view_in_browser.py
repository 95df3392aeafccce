"""The page as a person sees it, in headless Chromium."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from headless_browser import HeadlessBrowser
from PIL import Image
from timar_common.messages import new
from timar_view.config import ViewConfig
from timar_view.page import HeadPage
from timar_view.view_component import ViewComponent

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PATIENCE_S = 240.0
"""A picture is drawn by the processor; beside other work that takes its time."""
MOUTH = (slice(285, 400), slice(225, 380))
EYES = (slice(205, 258), slice(205, 380))


@pytest.fixture(scope="module")
def view() -> ViewComponent:
    return ViewComponent(ViewConfig(port=18_100))


@pytest.fixture(scope="module")
def page(view: ViewComponent) -> Iterator[HeadPage]:
    page = HeadPage(view.config, view.robot)
    ended = threading.Event()

    def draw() -> None:
        while not ended.wait(0.04):
            page.draw(view.state, time.monotonic_ns())

    drawing = threading.Thread(target=draw)
    drawing.start()
    yield page
    ended.set()
    drawing.join()
    page.close()


@pytest.fixture(scope="module")
def browser(page: HeadPage) -> Iterator[HeadlessBrowser]:
    url = page.open()
    with HeadlessBrowser((1000, 600)) as browser:
        browser.go_to(url)
        browser.wait_for("!!document.querySelector('.uplot canvas')")
        yield browser


def pose(view: ViewComponent, **positions: float) -> None:
    names = [joint.name for joint in view.robot.actuated]
    message = new(
        "sensor_msgs/msg/JointState", name=names, position=[positions.get(name, 0.0) for name in names]
    )
    view.handle("joint_states", message, time.monotonic_ns())


def wait_until(browser: HeadlessBrowser, holds: Callable[[np.ndarray], bool], what: str) -> np.ndarray:
    """Return the first picture for which something holds; a browser without a graphics card draws slowly."""
    deadline_s = time.monotonic() + PATIENCE_S
    before = np.zeros(())
    while time.monotonic() < deadline_s:
        seen = pixels(browser.screenshot())
        # Twice the same: the page has its final layout, and the scene is not half drawn.
        if holds(seen) and before.shape == seen.shape and np.abs(before - seen).mean() < 0.05:
            return seen
        before = seen
        time.sleep(0.4)
    raise AssertionError(f"{what} was not to be seen within {PATIENCE_S:.0f} s")


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), float)


def teal(image: np.ndarray) -> np.ndarray:
    """Return where cap and irises are."""
    return (image[..., 2] > image[..., 0] + 40) & (image[..., 0] < 110)


def dark(image: np.ndarray) -> int:
    """Return how many pixels the mouth's inside could be."""
    return int((image.sum(axis=2) < 150).sum())


def test_the_page_shows_the_head_and_it_opens_its_mouth_and_closes_its_eyes(
    view: ViewComponent, browser: HeadlessBrowser
) -> None:
    pose(view)
    neutral = wait_until(browser, lambda image: teal(image[EYES]).sum() > 150, "the irises")
    assert teal(neutral)[:, :600].sum() > 2000, "the cap is not to be seen"
    pose(view, jaw=0.4)
    wait_until(browser, lambda image: dark(image[MOUTH]) > dark(neutral[MOUTH]) + 800, "the open mouth")
    pose(view, left_upper_lid=1.6, right_upper_lid=1.6)
    wait_until(
        browser, lambda image: teal(image[EYES]).sum() < 0.1 * teal(neutral[EYES]).sum(), "an eye that closed"
    )
    pose(view)
    wait_until(
        browser,
        lambda image: bool(np.abs(image[EYES] - neutral[EYES]).mean() < 2.0),
        "the neutral face again",
    )


def test_the_panel_writes_floor_and_voices(view: ViewComponent, browser: HeadlessBrowser) -> None:
    view.handle("floor", new("FloorState", state=1, since_sample=48_000), 0)
    heard = new("VoiceActivity", speaker=0, samples=320, level_dbfs=-23.0, is_speaking=True)
    view.handle("voice_activity", heard, 0)
    text = browser.wait_for(
        "document.body.innerText.includes('USER holds the floor') && document.body.innerText"
    )
    assert "since 3.0 s" in text
    assert "-23 dB" in text


def test_the_joints_tab_shows_every_joint_and_what_it_has(
    view: ViewComponent, browser: HeadlessBrowser
) -> None:
    pose(view, neck_yaw=0.7, jaw=0.21)
    browser.click("Joints")
    text = browser.wait_for("document.body.innerText.includes('+0.21') && document.body.innerText")
    for joint in view.robot.actuated:
        assert joint.name in text
    assert "+0.70" in text
    browser.click("Conversation")


def part(browser: HeadlessBrowser, name: str, attribute: str) -> str:
    return str(browser.evaluate(f"document.getElementById('face-{name}').getAttribute('{attribute}')"))


def test_the_face_tab_says_that_there_is_no_map_and_then_draws_a_face_that_smiles_and_blinks(
    view: ViewComponent, browser: HeadlessBrowser
) -> None:
    browser.click("Face")
    browser.wait_for("document.body.innerText.includes('Expression is not shown: no map from FLAME')")
    kind = "sensor_msgs/msg/JointState"
    view.handle("face", new(kind, name=["mouthSmileLeft", "eyeBlinkRight"], position=[0.0, 0.0]), 0)
    browser.wait_for("!!document.getElementById('face')")
    assert not browser.evaluate("document.body.innerText.includes('Expression is not shown')")
    lips, lid = part(browser, "mouth", "d"), part(browser, "lid-right", "height")
    before = pixels(browser.screenshot())
    view.handle("face", new(kind, name=["mouthSmileLeft", "eyeBlinkRight"], position=[1.0, 1.0]), 0)
    browser.wait_for(f"document.getElementById('face-mouth').getAttribute('d') !== {lips!r}")
    assert float(part(browser, "lid-right", "height")) > float(lid) + 25
    box = browser.evaluate(
        "(() => { const b = document.getElementById('face').getBoundingClientRect();"
        " return [b.x, b.y, b.right, b.bottom].map(Math.round); })()"
    )
    area = (slice(box[1], box[3]), slice(box[0], box[2]))
    after = wait_until(
        browser, lambda image: bool(np.abs(image[area] - before[area]).mean() > 1.0), "a face that changed"
    )
    # The subject's right eye, at the left of the drawing, has closed: fewer pixels of the iris there.
    half = (area[0], slice(box[0], (box[0] + box[2]) // 2))
    assert teal(after[half]).sum() < 0.2 * teal(before[half]).sum()
    browser.click("Conversation")
