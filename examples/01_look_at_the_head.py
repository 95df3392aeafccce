"""Show the head in a browser, without ROS: it plays a small act of listening and talking.

    python examples/01_look_at_the_head.py                      # then open the address it prints
    python examples/01_look_at_the_head.py --picture head.png   # headless Chromium takes a picture

The view is a component: it takes the messages that the graph publishes, here made up of a few sines. `make
demo` shows what the model makes.
"""

from __future__ import annotations

import argparse
import math
import sys
import threading
import time
from pathlib import Path

from timar_common.clock import NS_PER_S, SAMPLE_RATE_HZ
from timar_common.messages import constants, new
from timar_view.config import ViewConfig
from timar_view.page import HeadPage
from timar_view.view_component import ViewComponent

BLOCK = 320
ROUND_S = 8.0
"""The user speaks, the agent answers, and so on."""
ANSWER_S = 3.6
PICTURE_S = 20.18
"""The moment of the act the picture shows: the agent in the middle of a word."""
USER, AGENT = 0, 1
START, END = constants("TurnEvent")["START"], constants("TurnEvent")["END"]


def main() -> int:
    """Play until Ctrl-C, or until the picture is taken."""
    arguments = read_arguments()
    view = ViewComponent(ViewConfig(robot=arguments.robot, port=arguments.port))
    page = HeadPage(view.config, view.robot)
    try:
        print(f"the head is shown at {(url := page.open())}")
        if arguments.picture is None:
            play(view, page)
        else:
            take_picture(view, page, url, arguments.picture)
    except KeyboardInterrupt:
        pass
    finally:
        page.close()
    return 0


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--robot", default="timar_head", help="name of a robot, or a path to a URDF file")
    parser.add_argument("--port", type=int, default=8080, help="first port to try (8080)")
    parser.add_argument("--picture", type=Path, help="take one picture, write it here, and end")
    return parser.parse_args()


def play(view: ViewComponent, page: HeadPage) -> None:
    """Act in real time."""
    start_ns = time.monotonic_ns()
    sample = 0
    while True:
        now_ns = time.monotonic_ns()
        elapsed_s = (now_ns - start_ns) / NS_PER_S
        sample = converse(view, sample, elapsed_s)
        pose(view, elapsed_s)
        page.draw(view.state, now_ns)
        time.sleep(1.0 / view.config.rate_hz)


def take_picture(view: ViewComponent, page: HeadPage, url: str, path: Path) -> None:
    """Freeze one moment of the act, and take a picture of the page with a browser."""
    # The browser of the tests.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
    from headless_browser import HeadlessBrowser

    converse(view, 0, PICTURE_S)
    pose(view, PICTURE_S)
    ended = threading.Event()

    def draw() -> None:
        while not ended.wait(0.05):
            page.draw(view.state, time.monotonic_ns())

    drawing = threading.Thread(target=draw)
    drawing.start()
    try:
        with HeadlessBrowser((1280, 720)) as browser:
            browser.go_to(url)
            browser.wait_for("!!document.querySelector('.uplot canvas')")
            # A browser without a graphics card says so in a corner of the picture.
            browser.evaluate("document.querySelector('.mantine-Notification-closeButton')?.click()")
            time.sleep(6.0)
            png = browser.screenshot()
    finally:
        ended.set()
        drawing.join()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png)
    print(f"{path}: {len(png) // 1000} kB")


def speaking(time_s: float) -> int | None:
    """Return who speaks at a moment of the act."""
    in_round_s = time_s % ROUND_S
    if in_round_s < ANSWER_S - 0.4:
        return USER
    return AGENT if ANSWER_S < in_round_s < ROUND_S - 0.4 else None


def loudness(who: int, time_s: float) -> float:
    """Return 0..1: syllables, about four a second."""
    if speaking(time_s) != who:
        return 0.0
    return abs(math.sin(13.0 * time_s) * (0.7 + 0.3 * math.sin(2.3 * time_s)))


def converse(view: ViewComponent, sample: int, until_s: float) -> int:
    """Send voice activity, turn events and floor block by block, and return the next sample."""
    while sample < until_s * SAMPLE_RATE_HZ:
        time_s = sample / SAMPLE_RATE_HZ
        for who in (USER, AGENT):
            level_dbfs = -62.0 + 48.0 * math.sqrt(loudness(who, time_s))
            block = {"speaker": who, "first_sample": sample, "samples": BLOCK, "level_dbfs": level_dbfs}
            activity = new("VoiceActivity", is_speaking=speaking(time_s) == who, **block)
            view.handle("voice_activity", activity, 0)
            turns = view.state.turns[who]
            is_open = bool(turns) and turns[-1].end_sample is None
            if is_open == (speaking(time_s) == who):
                continue
            kind, first = (END, turns[-1].first_sample) if is_open else (START, sample)
            turn = {"speaker": who, "kind": kind, "first_sample": first, "end_sample": sample}
            view.handle("turn_events", new("TurnEvent", **turn), 0)
            if kind == START:
                view.handle("floor", new("FloorState", state=who + 1, since_sample=sample), 0)
        sample += BLOCK
    return sample


def pose(view: ViewComponent, time_s: float) -> None:
    """Move the joints to where the act wants them."""
    mouth = loudness(AGENT, time_s)
    listens = speaking(time_s) == USER
    blink = 1.6 if (time_s + 0.9) % 3.1 < 0.14 else 0.0
    nod = 0.1 * max(math.sin(4.0 * time_s), 0.0) if listens else 0.04 * math.sin(2.1 * time_s)
    smile, brow = 0.15 + 0.1 * math.sin(0.9 * time_s), 0.06 + 0.06 * math.sin(1.3 * time_s)
    positions = {
        "neck_yaw": 0.16 * math.sin(0.7 * time_s),
        "neck_pitch": nod,
        "neck_roll": 0.07 * math.sin(0.5 * time_s + 1.0),
        "jaw": 0.3 * mouth,
        "eyes_yaw": -0.12 * math.sin(0.7 * time_s),
        "eyes_pitch": -0.6 * nod,
        "left_upper_lid": blink,
        "right_upper_lid": blink,
        "left_brow": brow,
        "right_brow": brow,
        "left_lip_corner": smile,
        "right_lip_corner": smile,
    }
    known = {name: value for name, value in positions.items() if name in view.robot.joints}
    message = new("sensor_msgs/msg/JointState", name=list(known), position=list(known.values()))
    view.handle("joint_states", message, 0)


if __name__ == "__main__":
    sys.exit(main())
