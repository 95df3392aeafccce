"""Reachy Mini's daemon is spoken to as it wants: tested against a stand-in with the real answers."""

import base64
import hashlib
import http.server
import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from timar_description.find import find_urdf
from timar_driver.config import DriverConfig
from timar_driver.driver import HardwareGoneError, read_driven_joints
from timar_driver.driver_setup import set_up_driver
from timar_driver.reachy_mini import JOINTS, ReachyMiniDriver, positions_of, target_of

NAMES, LIMITS = read_driven_joints(find_urdf("reachy_mini"))
MS = 1_000_000
RECORDED = json.loads((Path(__file__).parents[1] / "data/reachy_mini/daemon.json").read_text("utf-8"))
"""What the real daemon answered; test_reachy_mini_daemon.py asks it again where it is installed."""


class Daemon(http.server.ThreadingHTTPServer):
    """The few paths the driver uses; a target is reached at once."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.state = "running"
        self.mode = "disabled"
        self.is_playing = False
        self.refusal = ""
        self.targets = []
        self.is_silent = self.has_ended = False
        self.pose = {
            "head_pose": {"x": 0.0, "y": 0.0, "z": 0.0, "roll": 0.02, "pitch": 0.1, "yaw": 0.5},
            "body_yaw": 0.2,
            "antennas_position": [-0.3, 0.4],
        }
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self):
        return self.server_address[1]

    @property
    def full_state(self):
        return {**RECORDED["state"], **self.pose, "control_mode": self.mode}

    def take(self, target):
        self.targets.append(target)
        self.pose = {
            "head_pose": target["target_head_pose"],
            "body_yaw": target["target_body_yaw"],
            "antennas_position": target["target_antennas"],
        }


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Keep quiet."""

    def do_GET(self):
        daemon, path = self.server, self.path.split("?")[0]
        if "Upgrade" in self.headers:
            self._shake_hands()
            (self._take_targets if path.endswith("/set_target") else self._send_states)()
            return
        answers = {
            "/api/daemon/status": {**RECORDED["status"], "state": daemon.state},
            "/api/state/full": daemon.full_state,
        }
        self._answer(answers[path])

    def do_POST(self):
        assert self.rfile.read(int(self.headers["Content-Length"])) == b"{}"
        if self.path == "/api/move/set_target":
            self._answer(RECORDED["target_ignored" if self.server.is_playing else "target_taken"])
        else:
            self.server.mode = self.path.removeprefix("/api/motors/set_mode/")
            self._answer(RECORDED["mode_set"])

    def _answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _shake_hands(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_response(101)
        for name, value in (
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", accept),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()
        self.close_connection = True

    def _send(self, value):
        data = json.dumps(value).encode()
        head = (
            bytes([0x81, len(data)]) if len(data) < 126 else bytes([0x81, 126]) + len(data).to_bytes(2, "big")
        )
        self.wfile.write(head + data)

    def _take_targets(self):
        while len(head := self.rfile.read(2)) == 2 and head[0] & 0x0F == 1:
            size = head[1] & 0x7F
            size = int.from_bytes(self.rfile.read(2), "big") if size == 126 else size
            mask = self.rfile.read(4)
            data = bytes(byte ^ mask[k % 4] for k, byte in enumerate(self.rfile.read(size)))
            if self.server.refusal:
                self._send({**RECORDED["stream_refusal"], "detail": self.server.refusal})
            elif not self.server.is_playing:
                self.server.take(json.loads(data))

    def _send_states(self):
        while not self.server.has_ended:
            if not self.server.is_silent:
                try:
                    self._send(self.server.full_state)
                except OSError:
                    return
            time.sleep(0.01)


@pytest.fixture
def daemon():
    daemon = Daemon()
    yield daemon
    daemon.has_ended = True
    daemon.shutdown()
    daemon.server_close()


@pytest.fixture
def driver(daemon):
    driver = ReachyMiniDriver(NAMES, LIMITS, "127.0.0.1", daemon.port)
    yield driver
    driver.deactivate(0)


def by_name(positions):
    return dict(zip(NAMES, positions.tolist(), strict=True))


def until(condition):
    end_s = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < end_s, "the condition did not come true in time"
        time.sleep(0.005)


def test_a_target_read_back_is_the_same_joints():
    rng = np.random.default_rng(0)
    for _ in range(50):
        joints = dict(zip(NAMES, rng.uniform(LIMITS.lower, LIMITS.upper), strict=True))
        target = target_of(joints)
        back = positions_of(
            {
                "head_pose": target["target_head_pose"],
                "body_yaw": target["target_body_yaw"],
                "antennas_position": target["target_antennas"],
            }
        )
        assert back == pytest.approx(joints, abs=1e-12)


def test_the_head_turns_with_the_body_it_stands_on():
    target = target_of({**dict.fromkeys(JOINTS, 0.0), "body_yaw": 0.4, "neck_yaw": 0.3})
    assert target["target_head_pose"]["yaw"] == pytest.approx(0.7)
    assert target["target_body_yaw"] == 0.4


def test_activation_holds_the_pose_that_is_reported_and_switches_the_motors_on(daemon, driver):
    before = dict(daemon.pose["head_pose"])
    measured = by_name(driver.activate(time.monotonic_ns()).positions)
    assert measured["neck_yaw"] == pytest.approx(0.3)
    assert (measured["right_antenna"], measured["left_antenna"]) == (-0.3, 0.4)
    assert daemon.mode == "enabled"
    until(lambda: daemon.targets)
    assert daemon.targets[0]["target_head_pose"] == pytest.approx(before)


def test_targets_go_out_fifty_times_a_second_and_inside_the_limits(daemon, driver):
    now_ns = time.monotonic_ns()
    driver.activate(now_ns)
    until(lambda: daemon.targets)
    rng = np.random.default_rng(1)
    for cycle in range(1, 201):
        driver.send(rng.normal(0.0, 3.0, len(NAMES)), now_ns + cycle * 10 * MS)
    until(lambda: len(daemon.targets) >= 101)
    assert len(daemon.targets) == 101
    for target in daemon.targets:
        state = {"head_pose": target["target_head_pose"], "body_yaw": target["target_body_yaw"],
                 "antennas_position": target["target_antennas"]}  # fmt: skip
        joints = positions_of(state)
        positions = np.array([joints[name] for name in NAMES])
        assert (positions >= LIMITS.lower - 1e-9).all()
        assert (positions <= LIMITS.upper + 1e-9).all()


def test_a_move_of_the_daemons_own_is_waited_for_before_activation(daemon, driver):
    daemon.is_playing = True
    threading.Timer(0.3, setattr, (daemon, "is_playing", False)).start()
    began_s = time.monotonic()
    driver.activate(time.monotonic_ns())
    assert time.monotonic() - began_s >= 0.3


@pytest.mark.parametrize("hand", ["a move", "motors off"])
def test_the_robot_is_left_to_another_hand_and_then_led_back_gently(daemon, driver, hand):
    # Targets are ignored in silence while the daemon plays a move; the first one after it must be no jump.
    driver.activate(time.monotonic_ns())
    yaw, said = NAMES.index("body_yaw"), "plays a move of its own" if hand == "a move" else "'disabled'"
    wanted = np.zeros(len(NAMES))

    def cycle():
        driver.send(wanted, time.monotonic_ns())
        time.sleep(0.01)

    def goes_on_until(condition):
        until(lambda: cycle() or condition())

    daemon.is_playing, daemon.mode = hand == "a move", "enabled" if hand == "a move" else "disabled"
    goes_on_until(lambda: said in " ".join(driver.faults()))
    sent = len(daemon.targets)
    daemon.pose = {**daemon.pose, "body_yaw": 1.0}
    for _ in range(10):
        cycle()
    assert len(daemon.targets) == sent
    daemon.is_playing, daemon.mode = False, "enabled"
    goes_on_until(lambda: len(daemon.targets) >= sent + 10)
    back = [1.0] + [target["target_body_yaw"] for target in daemon.targets[sent:]]
    assert back[-1] < back[0]
    assert np.abs(np.diff(back)).max() <= 0.15 * LIMITS.velocity[yaw] * 0.05 + 1e-9
    assert "body_yaw is being led back to its command" in driver.faults()


def test_motors_that_stay_on_when_they_should_be_off_are_said(daemon, driver):
    driver.activate(time.monotonic_ns())
    until(lambda: driver.values()["motors"] == "enabled")
    driver.set_effort(0.0, time.monotonic_ns())
    until(lambda: driver.values()["motors"] == "disabled")
    assert driver.faults() == ()
    daemon.mode = "enabled"
    until(lambda: "still reports them as enabled" in " ".join(driver.faults()))


def test_what_is_reported_is_what_is_read(daemon, driver):
    driver.activate(time.monotonic_ns())
    until(lambda: daemon.targets)
    daemon.pose = {**daemon.pose, "body_yaw": 0.35}
    until(lambda: by_name(driver.read(time.monotonic_ns()).positions)["body_yaw"] == 0.35)


def test_no_effort_is_motors_off_and_no_more_targets(daemon, driver):
    now_ns = time.monotonic_ns()
    driver.activate(now_ns)
    until(lambda: daemon.targets)
    driver.set_effort(0.4, now_ns)
    assert daemon.mode == "enabled"
    driver.set_effort(0.0, now_ns)
    assert daemon.mode == "disabled"
    sent = len(daemon.targets)
    driver.send(np.zeros(len(NAMES)), now_ns + 50 * MS)
    time.sleep(0.05)
    assert len(daemon.targets) == sent


def test_a_command_that_is_not_finite_never_reaches_the_daemon(daemon, driver):
    now_ns = time.monotonic_ns()
    driver.activate(now_ns)
    bad = np.zeros(len(NAMES))
    bad[NAMES.index("neck_roll")] = np.nan
    with pytest.raises(ValueError, match="command for neck_roll is not finite"):
        driver.send(bad, now_ns + 50 * MS)


def test_refused_targets_are_counted_and_said(daemon, driver):
    now_ns = time.monotonic_ns()
    driver.activate(now_ns)
    daemon.refusal = "out of reach"
    driver.send(np.zeros(len(NAMES)), now_ns + 50 * MS)
    time.sleep(0.1)
    driver.send(np.zeros(len(NAMES)), now_ns + 100 * MS)
    assert "refused" in driver.faults()[0]


def test_a_daemon_that_is_not_there_or_not_ready_is_said(daemon):
    with pytest.raises(HardwareGoneError, match=r"does not answer /api/daemon/status.*start reachy-mini"):
        ReachyMiniDriver(NAMES, LIMITS, "127.0.0.1", 9).activate(1)
    daemon.state = "error"
    with pytest.raises(RuntimeError, match="is 'error', expected running"):
        ReachyMiniDriver(NAMES, LIMITS, "127.0.0.1", daemon.port).activate(1)


def test_a_daemon_that_falls_silent_is_said_once_and_one_that_ends_is_gone(daemon, driver):
    driver.activate(time.monotonic_ns())
    daemon.is_silent = True
    time.sleep(0.05)
    later_ns = time.monotonic_ns() + 2_000 * MS
    with pytest.raises(RuntimeError, match=r"has been silent for 2\.\d s"):
        driver.read(later_ns)
    driver.read(later_ns)
    daemon.has_ended = True
    end_s = time.monotonic() + 30.0
    with pytest.raises(HardwareGoneError, match="is gone; start it again"):
        poll(driver, end_s)


def poll(driver, end_s):
    while time.monotonic() < end_s:
        driver.read(time.monotonic_ns())
        time.sleep(0.01)


def test_the_shipped_robot_is_driven_through_its_daemon_and_no_other_urdf_is():
    assembly = set_up_driver(DriverConfig(robot="reachy_mini", driver="hardware"), find_urdf("reachy_mini"))
    assert isinstance(assembly.driver, ReachyMiniDriver)
    assert assembly.stop.category == "park_then_release"
    assert by_name(assembly.park_rad)["left_antenna"] == 3.05
    with pytest.raises(ValueError, match="use the URDF reachy_mini"):
        ReachyMiniDriver(("pan",), LIMITS, "127.0.0.1", 8000)
