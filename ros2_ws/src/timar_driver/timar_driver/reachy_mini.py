"""Reachy Mini driver: head pose, antennas and body yaw through its maker's daemon, over REST and WebSocket.

The daemon does the kinematics of the six-legged neck and keeps the motors; here its interface is used as it
documents itself (`/docs` of a running daemon), so nothing of the robot's own software is needed.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import urllib.request
from typing import Any

import numpy as np
from timar_common.yaml_map import YamlMap
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from timar_driver.command_limiter import CommandLimiter
from timar_driver.driver import Array, HardwareGoneError, JointDriver, JointLimits, Measurement

JOINTS = (
    "body_yaw", "head_x", "head_z", "neck_yaw", "neck_pitch", "neck_roll", "left_antenna", "right_antenna",
)  # fmt: skip
"""What the robot's URDF here drives; head_x and head_z are in metres, all others in radians."""

RATE_HZ = 50.0
_TIMEOUT_S = 5.0
_CLOSE_S = 0.3
_IDLE_WITHIN_S = 10.0
_ASK_EVERY_S = 0.25
_SILENT_S = 1.0


def target_of(positions: dict[str, float]) -> dict[str, Any]:
    """Write joint positions as the daemon's target.

    The neck stands on the body, and the daemon's head pose on the ground: the yaws add up. Roll, pitch and
    yaw are about the fixed axes x, y, z, which is yaw, pitch, roll of the joints one after the other.
    """
    return {
        "target_head_pose": {
            "x": positions["head_x"], "y": 0.0, "z": positions["head_z"],
            "roll": positions["neck_roll"], "pitch": positions["neck_pitch"],
            "yaw": positions["neck_yaw"] + positions["body_yaw"],
        },
        "target_antennas": [positions["right_antenna"], positions["left_antenna"]],
        "target_body_yaw": positions["body_yaw"],
    }  # fmt: skip


def positions_of(state: dict[str, Any]) -> dict[str, float]:
    """Read joint positions from the daemon's state.

    Raises:
        ValueError: Something is missing or not a finite number.
    """
    try:
        pose, antennas, body_yaw = state["head_pose"], state["antennas_position"], float(state["body_yaw"])
        # The head may be reported a full turn off the body.
        neck_yaw = float(np.remainder(pose["yaw"] - body_yaw + np.pi, 2 * np.pi) - np.pi)
        positions = {
            "body_yaw": body_yaw, "head_x": float(pose["x"]), "head_z": float(pose["z"]),
            "neck_yaw": neck_yaw, "neck_pitch": float(pose["pitch"]), "neck_roll": float(pose["roll"]),
            "right_antenna": float(antennas[0]), "left_antenna": float(antennas[1]),
        }  # fmt: skip
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError(f"the daemon's state lacks something: {error!r}") from error
    if not np.isfinite(list(positions.values())).all():
        raise ValueError(f"the daemon's state is not finite: {positions}")
    return positions


def reachy_mini(settings: YamlMap, joint_names: tuple[str, ...], limits: JointLimits) -> ReachyMiniDriver:
    """Return the driver that the entry `driver: {kind: reachy_mini}` of a hardware file describes.

    Raises:
        ValueError: The robot is none; the message names file and line.
    """
    host = settings.text("host", "127.0.0.1")
    port = settings.integer("port", 8000, minimum=1, maximum=65535)
    with settings.blamed("kind"):
        return ReachyMiniDriver(joint_names, limits, host, port)


class ReachyMiniDriver(JointDriver):
    """A Reachy Mini behind the contract of every driver.

    Args:
        joint_names: Those of `JOINTS`, in any order.
        limits: Of the joints.
        host: Where the daemon runs.
        port: Of the daemon.

    Raises:
        ValueError: Other joints are named.
    """

    def __init__(self, joint_names: tuple[str, ...], limits: JointLimits, host: str, port: int) -> None:
        if set(joint_names) != set(JOINTS):
            raise ValueError(
                f"the URDF drives {', '.join(joint_names)}; Reachy Mini has {', '.join(JOINTS)}: "
                "use the URDF reachy_mini"
            )
        self.joint_names, self.limits = joint_names, limits
        self._address = f"{host}:{port}"
        self._limiter = CommandLimiter(joint_names, limits)
        self._commands: ClientConnection | None = None
        self._states: ClientConnection | None = None
        self._reader: threading.Thread | None = None
        self._lock = threading.Lock()
        self._newest = (0, np.zeros(len(JOINTS)), np.zeros(len(JOINTS)))
        """When the last state came, and its (J,) positions and velocities."""
        self._sent_ns = self._refused = self._bad_states = 0
        self._is_silence_reported = self._has_torque = False
        self._motors = self._other_controller = ""

    def activate(self, now_ns: int) -> Measurement:
        """Find the daemon, wait until its own moves are over, and hold the pose that it reports."""
        status = self._call("/api/daemon/status")
        if status.get("state") != "running":
            raise RuntimeError(
                f"the Reachy Mini daemon at {self._address} is {status.get('state')!r}, expected running: "
                f"{status.get('error') or 'start it'}"
            )
        self._close()
        self._wait_until_idle()
        try:
            here = self._array(positions_of(self._call("/api/state/full")))
        except ValueError as error:
            raise RuntimeError(str(error)) from error
        try:
            self._commands = self._connect("/api/move/ws/set_target")
            self._states = self._connect(f"/api/state/ws/full?frequency={RATE_HZ:g}")
        except (OSError, WebSocketException) as error:
            raise HardwareGoneError(f"the Reachy Mini daemon refuses its stream: {error}") from error
        self._newest, self._is_silence_reported = (now_ns, here, np.zeros_like(here)), False
        self._motors = self._other_controller = ""
        self._reader = threading.Thread(target=self._listen, args=(self._states,), daemon=True)
        self._reader.start()
        self._limiter.start(here, now_ns)
        self._sent_ns = 0
        self._stream(self._limiter.command)
        self._call("/api/motors/set_mode/enabled", is_post=True)
        self._has_torque = True
        return Measurement(here, np.zeros_like(here))

    def send(self, positions: Array, now_ns: int) -> Array:
        """Command positions; every second call of a 100 Hz loop goes out, for the daemon takes 50 Hz.

        While somebody else moves the robot nothing goes out; afterwards it is led back gently.
        """
        command = self._limiter.step(positions, now_ns)
        if self._has_torque and self._other_controller:
            return self._give_way()
        if self._has_torque and now_ns - self._sent_ns >= 0.9e9 / RATE_HZ:
            self._stream(command)
            self._sent_ns = now_ns
        return command

    def read(self, now_ns: int) -> Measurement:
        """Return what the daemon reported last."""
        if self._reader is None:
            raise RuntimeError("the Reachy Mini driver is not active; call activate() first")
        if not self._reader.is_alive():
            raise HardwareGoneError(f"the Reachy Mini daemon at {self._address} is gone; start it again")
        with self._lock:
            reported_ns, positions, velocities = self._newest
        silent_s = (now_ns - reported_ns) * 1e-9
        if silent_s > _SILENT_S and not self._is_silence_reported:
            self._is_silence_reported = True
            raise RuntimeError(f"the Reachy Mini daemon has been silent for {silent_s:.1f} s; see its log")
        return Measurement(positions.copy(), velocities.copy())

    def set_effort(self, share: float, now_ns: int) -> None:
        """Switch the motors off at 0; the daemon knows nothing in between."""
        if share <= 0.0 and self._has_torque:
            self._has_torque = False
            self._call("/api/motors/set_mode/disabled", is_post=True)

    def deactivate(self, now_ns: int) -> None:
        """Leave the daemon; it goes on holding its last target."""
        self._close()

    def faults(self) -> tuple[str, ...]:
        """Say what the daemon refused, and who else moves the robot."""
        found = [self._other_controller] if self._other_controller else []
        found += [f"{name} is being led back to its command" for name in self._limiter.rejoining]
        if self._refused:
            found.append(f"the Reachy Mini daemon refused {self._refused} targets; see its log")
        if self._reader is not None and not self._has_torque and self._motors == "enabled":
            found.append("the motors were switched off, and the daemon still reports them as enabled")
        return tuple(found)

    def values(self) -> dict[str, object]:
        """Return counters, and the daemon's state of the motors."""
        return {"refused_targets": self._refused, "bad_states": self._bad_states,
                "held_back": self._limiter.held_back, "motors": self._motors}  # fmt: skip

    def _give_way(self) -> Array:
        """Start again from where somebody else has put the joints."""
        with self._lock:
            here = self._newest[1]
        for joint, position in enumerate(here.tolist()):
            self._limiter.rejoin(joint, position)
        return self._limiter.command

    def _array(self, positions: dict[str, float]) -> Array:
        return np.array([positions[name] for name in self.joint_names])

    def _stream(self, command: Array) -> None:
        if self._commands is None:
            raise RuntimeError("the Reachy Mini driver is not active; call activate() first")
        target = target_of(dict(zip(self.joint_names, command.tolist(), strict=True)))
        try:
            self._commands.send(json.dumps(target))
            with contextlib.suppress(TimeoutError):
                # The daemon answers a target only to refuse it.
                while self._commands.recv(timeout=0):
                    self._refused += 1
        except (OSError, WebSocketException) as error:
            raise HardwareGoneError(f"the Reachy Mini daemon at {self._address} is gone: {error}") from error

    def _listen(self, states: ClientConnection) -> None:
        """Keep the newest state, and look who moves the robot, until the connection ends."""
        asked_ns = time.monotonic_ns()
        try:
            for text in states:
                now_ns = time.monotonic_ns()
                try:
                    state = json.loads(text)
                    here = self._array(positions_of(state))
                except ValueError:
                    self._bad_states += 1
                    continue
                self._motors = str(state.get("control_mode") or "")
                if now_ns - asked_ns > _ASK_EVERY_S * 1e9:
                    self._look_for_another_controller()
                    asked_ns = now_ns
                with self._lock:
                    then_ns, there, _ = self._newest
                    dt_s = max(1e-3, (now_ns - then_ns) * 1e-9)
                    self._newest = (now_ns, here, (here - there) / dt_s)
        except (OSError, WebSocketException, HardwareGoneError):
            return

    def _look_for_another_controller(self) -> None:
        if self._plays_a_move():
            self._other_controller = (
                "the Reachy Mini daemon plays a move of its own; nothing is sent until it ends"
            )
        elif self._has_torque and self._motors not in ("", "enabled"):
            self._other_controller = (
                f"somebody switched Reachy Mini's motors to {self._motors!r}; nothing is sent until they are "
                "enabled again"
            )
        else:
            self._other_controller = ""

    def _plays_a_move(self) -> bool:
        """Ask with an empty target, which moves nothing.

        The list of moves does not know those of every client, and the stream of targets leaves targets out
        without a word while a move is played.
        """
        return bool(self._call("/api/move/set_target", is_post=True).get("status") == "ignored")

    def _wait_until_idle(self) -> None:
        end_s = time.monotonic() + _IDLE_WITHIN_S
        while self._plays_a_move():
            if time.monotonic() > end_s:
                raise RuntimeError(
                    f"the Reachy Mini daemon has played a move of its own for {_IDLE_WITHIN_S:g} s; "
                    "stop it, then activate again"
                )
            time.sleep(0.1)

    def _connect(self, path: str) -> ClientConnection:
        return connect(f"ws://{self._address}{path}", open_timeout=_TIMEOUT_S, close_timeout=_CLOSE_S)

    def _call(self, path: str, is_post: bool = False) -> Any:
        request = urllib.request.Request(f"http://{self._address}{path}", b"{}" if is_post else None)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
                return json.loads(answer.read())
        except (OSError, ValueError) as error:
            raise HardwareGoneError(
                f"the Reachy Mini daemon at {self._address} does not answer {path}: {error}; "
                "start reachy-mini-daemon there"
            ) from error

    def _close(self) -> None:
        for connection in (self._commands, self._states):
            if connection is not None:
                connection.close()
        self._commands = self._states = None
        if self._reader is not None:
            self._reader.join(_TIMEOUT_S)
            self._reader = None
