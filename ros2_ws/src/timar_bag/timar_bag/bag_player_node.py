"""Plays a bag to the running graph: what it hears, and /clock. Start the graph with replay:=true."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
import time
from typing import Any, ClassVar

from builtin_interfaces.msg import Time
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from std_srvs.srv import SetBool, Trigger
from timar_common.base_node import BaseNode, message_type, publisher_qos, run
from timar_common.clock import NS_PER_S
from timar_common.diagnostics import Report

from timar_bag.ground_truth import KNOWN_TOPICS
from timar_bag.live import LiveBag, LiveConfig, LivePlayer

LOOK_EVERY_S = 0.05


class BagPlayerNode(BaseNode):
    """Publish a bag's messages as they were recorded, when they are due; its own time is the machine's."""

    NAME: ClassVar[str] = "bag_player"
    Config: ClassVar[type] = LiveConfig

    def build(self) -> None:
        """Open the bag, make a publisher for each of its topics."""
        self._lock = threading.Lock()
        self._player: LivePlayer | None = None
        self._conversing: dict[str, bool] = {}
        """By name of this robot's active nodes, whether it is in a conversation."""
        self._bag = LiveBag(self.config)
        self._bag.__enter__()
        for note in self._bag.notes:
            self.get_logger().warning(note)
        topics = {name: KNOWN_TOPICS[name] for name in self._bag.topics}
        self._publishers_of = {
            name: self.create_external_publisher(
                message_type(topic.type_name), topic.name, publisher_qos(topic)
            )
            for name, topic in topics.items()
        }
        self._clock_out = self.create_external_publisher(Clock, "/clock", QoSProfile(depth=10))
        self.create_topic_subscription("/diagnostics", self._on_diagnostics)
        self.create_named_service(SetBool, "~/pause", self._on_pause)
        self._reset: Any = self.create_client(Trigger, "reset_conversation")
        self._owned.append((self.destroy_client, self._reset))

    def start(self) -> None:
        """Begin as soon as everybody listens."""
        self.run_in_thread(self._play, "bag_player")
        if self.config.pauses_on_enter:
            # It waits for a key and not for the node's end.
            threading.Thread(target=self._read_keys, name="keys", daemon=True).start()

    def release(self) -> None:
        """Close the bag."""
        self._bag.close()

    def report(self) -> Report:
        """Return how far the play is, and how late messages were."""
        report = Report()
        with self._lock:
            if self._player is not None:
                report.values |= {
                    "played_s": self._player.played_s,
                    "messages": self._player.played,
                    "latest_ms": self._player.latest_ns / 1e6,
                    "is_paused": self._player.pace.is_paused,
                }
        return report

    # The play, in a thread of its own.

    def _play(self) -> None:
        try:
            if self._await_listeners():
                self._begin_again()
                self._publish_all()
        except (ValueError, OSError, RuntimeError) as error:
            self.get_logger().error(str(error))
            self.exit_status = 1
        finally:
            self.is_over = True

    def _publish_all(self) -> None:
        player = LivePlayer(self._bag.messages(), self.config, time.monotonic_ns())
        with self._lock:
            self._player = player
        next_tick_ns = 0
        while not self.ending.is_set():
            now_ns = time.monotonic_ns()
            if now_ns >= next_tick_ns:
                next_tick_ns = now_ns + round(NS_PER_S / self.config.clock_hz)
                with self._lock:
                    if player.is_over(now_ns):
                        break
                    self._publish_clock(player.clock_ns(now_ns))
            with self._lock:
                message = player.due(now_ns)
                sleep_ns = 0 if message is not None else player.sleep_ns(now_ns)
            if message is not None:
                self._publishers_of[message.topic].publish(message.data)
            else:
                self.ending.wait(min(sleep_ns, max(next_tick_ns - now_ns, 0)) / NS_PER_S)
        for issue in self._bag.issues():
            self.get_logger().warning(issue)
        self.get_logger().info(
            f"played {player.played} messages of {player.played_s:.1f} s, the latest "
            f"{player.latest_ns / 1e6:.1f} ms after its time"
        )

    def _publish_clock(self, ros_ns: int) -> None:
        self._clock_out.publish(Clock(clock=Time(sec=ros_ns // NS_PER_S, nanosec=ros_ns % NS_PER_S)))

    def _await_listeners(self) -> bool:
        """Wait until the robot's nodes are active and have found the publishers; return whether to play."""
        deadline_s = time.monotonic() + self.config.wait_timeout_s
        is_logged = False
        while not self.ending.wait(LOOK_EVERY_S):
            missing = self._missing()
            if not missing:
                return True
            if time.monotonic() > deadline_s:
                if not any(p.get_subscription_count() for p in self._publishers_of.values()):
                    raise RuntimeError(
                        f"nobody listens to {', '.join(self._publishers_of)} under {self.get_namespace()}; "
                        "start the graph with replay:=true, or name its namespace"
                    )
                self.get_logger().warning(f"the play begins although {missing}")
                return True
            if not is_logged:
                self.get_logger().info(f"waiting: {missing}")
                is_logged = True
        return False

    def _missing(self) -> str:
        """Return what is still missing before the play may begin; empty when nothing is."""
        if self.config.topics == "heard":
            with self._lock:
                active = sorted(self._conversing)
            if len(active) < self.config.wait_for_nodes:
                named = ", ".join(active) or "none"
                return f"{self.config.wait_for_nodes} nodes are to be active, now: {named}"
        matched = {name: p.get_subscription_count() for name, p in self._publishers_of.items()}
        unmatched = [name for name, count in matched.items() if count < self.count_subscribers(name)]
        if unmatched:
            return f"not all readers of {', '.join(unmatched)} have found the player"
        return "" if any(matched.values()) else "nobody listens"

    def _begin_again(self) -> None:
        """Have a graph that was in a conversation already begin a new one: the bag's counter begins again."""
        with self._lock:
            is_underway = any(self._conversing.values())
        if not is_underway or self.config.topics != "heard":
            return
        if not self._reset.wait_for_service(timeout_sec=5.0):
            self.get_logger().warning("a conversation is under way, and reset_conversation is not offered")
            return
        done = threading.Event()
        self._reset.call_async(Trigger.Request()).add_done_callback(lambda _: done.set())
        if not done.wait(5.0):
            self.get_logger().warning("reset_conversation did not answer within 5 s")

    # What others publish.

    def _on_diagnostics(self, message: Any) -> None:
        namespace = self.get_namespace().rstrip("/")
        with self._lock:
            for status in message.status:
                place, _, name = status.name.rpartition("/")
                if place == namespace and name != self.get_name():
                    values = {entry.key: entry.value for entry in status.values}
                    # Inference names its next turn once it has heard anything.
                    self._conversing[name] = values.get("next_frame", "None") != "None"

    def _on_pause(self, request: Any, response: Any) -> Any:
        response.success = self._pause(request.data)
        response.message = "" if response.success else "nothing is played yet"
        return response

    def _pause(self, is_paused: bool) -> bool:
        with self._lock:
            if self._player is None:
                return False
            self._player.pace.pause(is_paused, time.monotonic_ns())
        self.get_logger().info("paused" if is_paused else "goes on")
        return True

    def _read_keys(self) -> None:
        for _ in sys.stdin:
            with self._lock:
                is_paused = self._player is not None and self._player.pace.is_paused
            self._pause(not is_paused)


def play(config: LiveConfig, namespace: str = "") -> int:
    """Play a bag in this process to its end, or until a signal, and return the exit status.

    Args:
        config: What, and for whom.
        namespace: Of the robot that listens.
    """
    words = ["timar", "--ros-args"]
    words += ["-r", f"__ns:=/{namespace.strip('/')}"] if namespace.strip("/") else []
    for name, value in dataclasses.asdict(config).items():
        words += ["-p", f"{name}:={json.dumps(value)}"]
    return run([BagPlayerNode], words)


def main() -> int:
    """Play a bag to its end, or until a signal."""
    return run([BagPlayerNode])


if __name__ == "__main__":
    sys.exit(main())
