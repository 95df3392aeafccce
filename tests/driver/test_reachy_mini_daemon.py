"""Reachy Mini's own daemon, where it is installed: does it answer as recorded, and does its robot obey?"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from timar_description.find import find_urdf
from timar_driver.driver import HardwareGoneError, read_driven_joints
from timar_driver.reachy_mini import JOINTS, ReachyMiniDriver

pytestmark = [pytest.mark.reachy, pytest.mark.slow]

NAMES, LIMITS = read_driven_joints(find_urdf("reachy_mini"))
RECORDED = json.loads((Path(__file__).parents[1] / "data/reachy_mini/daemon.json").read_text("utf-8"))
POSES = {
    "nod": {"neck_pitch": 0.25},
    "look up": {"neck_pitch": -0.25},
    "lean right": {"neck_roll": 0.25},
    "turn left": {"neck_yaw": 0.3},
    "turn the body left": {"body_yaw": 0.4},
    "rise": {"head_z": 0.01},
    "lean forward": {"head_x": 0.01},
    "antennas": {"left_antenna": 0.6, "right_antenna": -0.2},
    "all at once": {"body_yaw": -0.3, "neck_yaw": 0.2, "neck_pitch": 0.15, "neck_roll": -0.15},
}


@pytest.fixture(scope="module", params=["--mockup-sim", "--sim"], ids=["mockup", "mujoco"])
def daemon(request, tmp_path_factory):
    """A running daemon's port: one reaches targets at once, the other has masses and friction."""
    program = os.environ.get("REACHY_MINI_DAEMON") or shutil.which("reachy-mini-daemon")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("daemon") / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [program, request.param, "--headless", "--no-media", "--fastapi-port", str(port)],
            stdout=out, stderr=out,
        )  # fmt: skip
    try:
        until(lambda: answers(port), 120.0, log)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def answers(port):
    try:
        return ask(port, "/api/daemon/status")["state"] == "running"
    except OSError:
        return False


def ask(port, path, post=False):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=b"{}" if post else None,
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=5.0) as answer:
        return json.loads(answer.read())


def until(condition, within_s, log=None):
    end_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end_s, log.read_text()[-2000:] if log else "it did not come true in time"
        time.sleep(0.01)


@pytest.fixture
def driver(daemon):
    driver = ReachyMiniDriver(NAMES, LIMITS, "127.0.0.1", daemon)
    driver.activate(time.monotonic_ns())
    yield driver
    driver.deactivate(time.monotonic_ns())


def go(driver, within_s=20.0, tolerance=0.02, **joints):
    """Command a pose at 100 Hz until the robot is there; return what it reports."""
    wanted = np.array([joints.get(name, 0.0) for name in NAMES])
    far = np.full(len(NAMES), np.inf)

    def is_there():
        now_ns = time.monotonic_ns()
        driver.send(wanted, now_ns)
        far[:] = np.abs(driver.read(now_ns).positions - wanted)
        return far.max() < tolerance

    try:
        until(is_there, within_s)
    except AssertionError:
        pytest.fail(f"{NAMES[int(far.argmax())]} stays {far.max():.3f} off")
    return driver.read(time.monotonic_ns()).positions


def shape_of(value):
    """Return an answer's keys and kinds, values left out."""
    if isinstance(value, dict):
        return {key: shape_of(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape_of(item) for item in value]
    return type(value).__name__


def test_it_answers_as_the_stand_in_does(daemon):
    status = ask(daemon, "/api/daemon/status")
    assert {key: shape_of(status[key]) for key in ("state", "error")} == {
        key: shape_of(RECORDED["status"][key]) for key in ("state", "error")
    }
    state = ask(daemon, "/api/state/full")
    for key in ("control_mode", "head_pose", "body_yaw", "antennas_position"):
        assert shape_of(state[key]) == shape_of(RECORDED["state"][key])
    assert ask(daemon, "/api/move/set_target", post=True) == RECORDED["target_taken"]
    ask(daemon, "/api/move/play/goto_sleep", post=True)
    until(lambda: ask(daemon, "/api/move/set_target", post=True) == RECORDED["target_ignored"], 5.0)
    until(lambda: ask(daemon, "/api/move/set_target", post=True) == RECORDED["target_taken"], 60.0)


@pytest.mark.parametrize("pose", POSES)
def test_every_joint_goes_where_it_is_told(driver, pose):
    reached = dict(zip(NAMES, go(driver, **POSES[pose]), strict=True))
    for joint in JOINTS:
        assert reached[joint] == pytest.approx(POSES[pose].get(joint, 0.0), abs=0.02)
    assert driver.values()["refused_targets"] == 0


def test_a_nod_lowers_the_face_and_a_lean_the_right_ear(daemon, driver):
    """By the matrix of the daemon's own head pose: x forward, y left, z up."""

    def head():
        return np.reshape(ask(daemon, "/api/state/present_head_pose?use_pose_matrix=true")["m"], (4, 4))[
            :3, :3
        ]

    go(driver, neck_pitch=0.3)
    assert head()[2, 0] < -0.2, "the face points down"
    go(driver, neck_roll=0.3)
    assert head()[2, 1] > 0.2, "the left ear is the higher one"
    go(driver, neck_yaw=0.3, body_yaw=0.2)
    assert head()[1, 0] > 0.4, "it looks to its left, by neck and body together"


def test_it_goes_on_holding_when_the_driver_is_gone(daemon, driver):
    before = go(driver, neck_pitch=0.2, body_yaw=0.3, left_antenna=0.5)
    # A host that dies sends nothing any more, not even a farewell.
    driver._commands.socket.close()
    driver._states.socket.close()
    with pytest.raises(HardwareGoneError):
        until(lambda: driver.read(time.monotonic_ns()) is None, 5.0)
    time.sleep(1.0)
    again = ReachyMiniDriver(NAMES, LIMITS, "127.0.0.1", daemon)
    after = again.activate(time.monotonic_ns()).positions
    again.deactivate(time.monotonic_ns())
    np.testing.assert_allclose(after, before, atol=0.02)
