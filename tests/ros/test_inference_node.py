"""The inference node with a real (small, untrained) model, spoken to over topics in real time."""

from __future__ import annotations

import time
from array import array

import numpy as np
import pytest
from node_process import PATIENCE_S

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed; `make test` installs it")

import torch  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.time import Time  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402
from timar_common.base_node import message_type, qos_of  # noqa: E402
from timar_common.topics import TOPICS  # noqa: E402
from timar_inference.inference_node import InferenceNode  # noqa: E402
from timar_inference.turn_jobs import Decision  # noqa: E402
from timar_model.architecture.config import ModelConfig  # noqa: E402
from timar_model.architecture.model import TimarModel  # noqa: E402
from timar_model.loading import load_model  # noqa: E402
from timar_model.model_folder import save_model  # noqa: E402
from timar_msgs.msg import AudioChunk, PlannedAudio, TurnLog, UserMotion  # noqa: E402

pytestmark = pytest.mark.ros

BLOCK = 320
BLOCK_NS = 20_000_000
NS_PER_FRAME = 40_000_000


@pytest.fixture(scope="module", autouse=True)
def context():
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(5)
    small = ModelConfig.of_size(
        "tiny", width=32, heads=2, blocks=2, token_dim=16, head_width=32, head_blocks=1
    )
    path = tmp_path_factory.mktemp("models") / "small"
    model = TimarModel(small)
    with torch.no_grad():
        # A fresh head is all zeros and would say nothing about what goes in.
        for weights in model.parameters():
            weights.add_(0.05 * torch.randn_like(weights))
    save_model(path, model, provenance={"weights": "random"})
    return path


def make_node(**parameters: object) -> InferenceNode:
    return InferenceNode(
        parameter_overrides=[Parameter(name, value=value) for name, value in parameters.items()]
    )


class Table:
    """The other end of every topic of the node, and the loop that runs both."""

    def __init__(self, node: InferenceNode) -> None:
        self.node = node
        self.peer = rclpy.create_node("peer")
        self.executor = rclpy.executors.SingleThreadedExecutor()
        self.executor.add_node(node)
        self.executor.add_node(self.peer)
        self.shown: list = []
        self.log: list[TurnLog] = []
        self.diagnostics: list[DiagnosticArray] = []
        self._listen("agent/motion", self.shown)
        self._listen("turn_log", self.log)
        self._listen("/diagnostics", self.diagnostics)
        self.talkers = {
            name: self.peer.create_publisher(message_type(TOPICS[name].type_name), name, qos_of(TOPICS[name]))
            for name in ("user/audio", "agent/audio_planned", "user/motion")
        }
        self.reset = self.peer.create_client(Trigger, "reset_conversation")
        self.start_ns = 0
        self.blocks = 0

    @property
    def motions(self) -> list:
        """What turns were made."""
        return [message for message in self.shown if not message.is_preview]

    @property
    def previews(self) -> list:
        """What was guessed."""
        return [message for message in self.shown if message.is_preview]

    def _listen(self, name: str, into: list) -> None:
        topic = TOPICS[name]
        self.peer.create_subscription(message_type(topic.type_name), name, into.append, qos_of(topic))

    def spin_until(self, condition, timeout_s: float = PATIENCE_S) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, "it did not happen within the time allowed"
            self.executor.spin_once(timeout_sec=0.01)

    def meet(self) -> None:
        """Wait until both ends of every topic know each other."""
        self.spin_until(
            lambda: (
                all(talker.get_subscription_count() == 1 for talker in self.talkers.values())
                and self.node.publishers_by_topic["agent/motion"].get_subscription_count() == 1
                and self.node.publishers_by_topic["turn_log"].get_subscription_count() == 1
                and self.reset.service_is_ready()
            )
        )

    def plan(self, first_sample: int, samples: np.ndarray, revision: int = 0) -> None:
        self.talkers["agent/audio_planned"].publish(
            PlannedAudio(
                sample_rate=16_000,
                first_sample=first_sample,
                revision=revision,
                samples=array("h", samples.astype(np.int16).tobytes()),
            )
        )

    def show_user(self, first_frame: int, frames: int, **changes: object) -> None:
        fields = {
            "first_frame": first_frame,
            "fps": 25.0,
            "frames": frames,
            "expression": array("f", [0.1] * 50 * frames),
            "jaw": array("f", [0.1] * 3 * frames),
            "neck": array("f", [0.1] * 3 * frames),
            "expression_valid": [True] * frames,
            "jaw_valid": [True] * frames,
            "neck_valid": [True] * frames,
        }
        self.talkers["user/motion"].publish(UserMotion(**(fields | changes)))

    def speak(self, seconds: float) -> None:
        """Let the user speak in real time; each block comes when its last sample is past."""
        if not self.start_ns:
            self.start_ns = self.peer.get_clock().now().nanoseconds
        rng = np.random.default_rng(self.blocks)
        for number in range(self.blocks, self.blocks + round(seconds * 50)):
            self._spin_to(self.start_ns + (number + 1) * BLOCK_NS)
            stamp_ns = self.start_ns + number * BLOCK_NS
            message = AudioChunk(
                sample_rate=16_000,
                first_sample=number * BLOCK,
                samples=array("h", rng.integers(-3000, 3000, BLOCK).astype(np.int16).tobytes()),
            )
            message.header.stamp = Time(nanoseconds=stamp_ns).to_msg()
            self.talkers["user/audio"].publish(message)
            self.blocks = number + 1

    def _spin_to(self, ros_ns: int) -> None:
        while True:
            left_ns = ros_ns - self.peer.get_clock().now().nanoseconds
            self.executor.spin_once(timeout_sec=min(0.005, max(0.0, left_ns / 1e9)))
            if left_ns <= 0:
                return

    def values(self) -> dict[str, str]:
        """Return the newest diagnostics by name."""
        return {pair.key: pair.value for pair in self.diagnostics[-1].status[0].values}

    def turns(self) -> list[TurnLog]:
        return [entry for entry in self.log if entry.decision in (Decision.GENERATE, Decision.COMMIT_SKIPPED)]

    def close(self) -> None:
        self.node.close()
        self.executor.shutdown()
        self.peer.destroy_node()
        self.node.destroy_node()


@pytest.fixture
def open_table():
    tables = []

    def make(node: InferenceNode) -> Table:
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        tables.append(Table(node))
        tables[-1].meet()
        return tables[-1]

    yield make
    for table in tables:
        table.close()


def test_decisions_have_the_numbers_of_the_message():
    for decision in Decision:
        assert getattr(TurnLog, decision.name) == decision


def test_conversation_of_three_seconds_gives_every_turn_its_motion_and_its_log(open_table, folder):
    table = open_table(make_node(model=str(folder), engine="torch", seed=7))
    for first in range(0, 64_000, 16_000):
        table.plan(first, np.full(16_000, 1000))
    table.speak(3.0)
    table.spin_until(lambda: len(table.turns()) == 15)

    # Motion: of every turn that was drawn (a busy machine leaves some), shown when its sound is heard.
    assert [turn.first_frame for turn in table.turns()] == list(range(5, 80, 5))
    drawn = [turn for turn in table.turns() if turn.decision == TurnLog.GENERATE]
    assert drawn
    assert [message.first_frame for message in table.motions] == [turn.first_frame for turn in drawn]
    for message in table.motions:
        shown_ns = Time.from_msg(message.header.stamp).nanoseconds
        due_ns = table.start_ns + message.first_frame * NS_PER_FRAME
        assert abs(shown_ns - due_ns) < 5_000_000
        assert (message.frames, message.fps, message.revision) == (5, 25.0, 0)
        assert (len(message.expression), len(message.jaw), len(message.neck)) == (250, 15, 15)
        assert np.isfinite(np.concatenate([message.expression, message.jaw, message.neck])).all()
        assert message.final_until_frame == message.first_frame
        assert message.header.frame_id == "head"
    assert len({message.conversation_id for message in table.motions}) == 1

    # Previews: of the frames after a turn, said after it and before the turn of the same frames.
    for guess in table.previews:
        shown_ns = Time.from_msg(guess.header.stamp).nanoseconds
        assert abs(shown_ns - table.start_ns - guess.first_frame * NS_PER_FRAME) < 5_000_000
        assert (guess.frames, guess.revision, len(guess.expression)) == (5, 0, 250)
        before = [each.first_frame for each in table.shown[: table.shown.index(guess)] if not each.is_preview]
        assert before[-1] == guess.first_frame - 5

    # Log: every decision, in order, with what the turn was made from.
    assert [entry.sequence for entry in table.log] == list(range(16))
    assert table.log[0].decision == TurnLog.RESET
    assert table.log[0].first_frame == 5
    for entry in table.turns():
        assert (entry.user_first_sample, entry.user_end_sample) == (
            640 * (entry.first_frame - 7),
            640 * (entry.first_frame - 2),
        )
        assert (entry.agent_first_sample, entry.agent_end_sample) == (
            640 * entry.first_frame,
            640 * (entry.first_frame + 5),
        )
        assert (entry.seed, entry.engine, entry.model_sha256) == (
            7,
            "torch-float32",
            load_model(folder).sha256,
        )
        assert (list(entry.user_motion_valid), entry.user_samples_filled) == ([], 0)
        assert entry.compute_ms >= entry.speech_ms + entry.backbone_ms + entry.head_ms
    assert all(entry.head_ms > 0 for entry in drawn)

    table.spin_until(lambda: bool(table.diagnostics) and table.values()["turns"] == "15")
    table.spin_until(
        lambda: int(table.values()["previews"]) + int(table.values()["previews_dropped"]) >= len(drawn)
    )
    values = table.values()
    table.spin_until(lambda: len(table.previews) >= int(values["previews"]))
    stages = ("queue", "speech", "backbone", "head", "publish", "compute")
    assert {f"{stage}_p95_ms" for stage in stages} | {"real_time_factor"} <= set(values)
    assert (float(values["turn_fill_ms"]), float(values["reaction_floor_ms"])) == (200.0, 280.0)
    assert (values["samples_lost"], values["dropped"]) == ("0", "0")
    assert int(values["skipped"]) == 15 - len(drawn)
    assert int(values["cached_tokens"]) > 0


def test_turns_too_late_to_be_shown_are_told_in_the_log_and_the_node_lives_on(open_table, folder):
    """A time of 0 instead of 0.0 once ended the process: a message takes no whole number for a fraction."""
    table = open_table(make_node(model=str(folder), engine="torch"))
    table.speak(0.6)
    time.sleep(0.9)
    table.speak(1.2)
    table.spin_until(lambda: Decision.COMMIT_SKIPPED in [turn.decision for turn in table.turns()])
    behind = table.turns()[-1].first_frame
    table.speak(0.4)
    table.spin_until(lambda: table.turns()[-1].first_frame > behind)
    frames = [turn.first_frame for turn in table.turns()]
    assert frames == list(range(5, frames[-1] + 1, 5))
    late = next(turn for turn in table.turns() if turn.decision == Decision.COMMIT_SKIPPED)
    assert late.head_ms == 0.0


def test_reset_starts_a_new_conversation_at_the_next_turn(open_table, folder):
    table = open_table(make_node(model=str(folder), engine="torch", seed=7))
    table.speak(0.6)
    answer = table.reset.call_async(Trigger.Request())
    table.spin_until(answer.done)
    assert answer.result().success
    table.speak(0.6)
    table.spin_until(lambda: [entry.decision for entry in table.log].count(TurnLog.RESET) == 2)
    second = next(entry for entry in table.log[1:] if entry.decision == TurnLog.RESET)
    first = table.log[0]
    assert second.conversation_id != first.conversation_id
    assert (first.seed, second.seed) == (7, 8)
    assert second.first_frame % 5 == 0
    assert second.first_frame > 15

    def after() -> list:
        return [message for message in table.motions if message.conversation_id == second.conversation_id]

    table.spin_until(lambda: bool(after()))
    assert after()[0].first_frame == second.first_frame
    assert [entry.sequence for entry in table.log] == list(range(len(table.log)))


def test_user_motion_that_cannot_be_is_refused_and_what_can_be_is_used(open_table, folder):
    table = open_table(make_node(model=str(folder), engine="torch"))
    table.speak(0.1)
    table.show_user(4, 2, neck=array("f", [float("nan")] * 6))
    table.show_user(4, 2, jaw=array("f", [0.0] * 5))
    table.spin_until(lambda: table.node.host.bad_messages == 2)
    table.show_user(6, 2)
    table.spin_until(lambda: 6 in table.node.component.scheduler.inputs.motion._frames)
    table.speak(0.5)
    table.spin_until(lambda: len(table.turns()) >= 3)
    seen = {entry.first_frame: list(entry.user_motion_valid) for entry in table.turns()}
    assert seen[5] == []
    assert seen[10] == [False, False, False, True, True]
    table.spin_until(lambda: bool(table.diagnostics) and table.values()["bad_messages"] == "2")


def test_cut_of_the_plan_takes_an_unseen_turn_back(open_table, folder):
    table = open_table(make_node(model=str(folder), engine="torch"))
    table.plan(0, np.full(32_000, 1000))
    table.speak(0.92)
    table.spin_until(lambda: table.turns()[-1].first_frame == 25)
    table.plan(16_000, np.zeros(0), revision=1)
    table.spin_until(lambda: table.turns()[-1].revision == 1)
    table.speak(0.3)
    back = next(entry for entry in table.log if entry.decision == TurnLog.ROLLBACK)
    assert (back.first_frame, back.revision, back.planned_revision) == (25, 1, 1)
    again = [message for message in table.motions if message.first_frame == 25]
    assert [message.revision for message in again] == [0, 1]


def test_failing_engine_is_told_and_the_conversation_starts_anew(open_table, folder, capfd):
    table = open_table(make_node(model=str(folder), engine="torch"))
    table.speak(0.5)
    session = table.node.component.runtime.session
    original = session.step

    def fail(*_arguments: object, **_options: object) -> None:
        session.step = original
        raise RuntimeError("the accelerator went away")

    session.step = fail
    table.speak(1.0)
    table.spin_until(lambda: len({message.conversation_id for message in table.motions}) == 2)
    assert "the accelerator went away" in capfd.readouterr().err
    table.spin_until(lambda: bool(table.diagnostics) and table.values()["failures"] == "1")
    assert any("accelerator" in status.message for array_ in table.diagnostics for status in array_.status)


def test_node_that_is_started_again_holds_a_new_conversation(open_table, folder):
    table = open_table(make_node(model=str(folder), engine="torch"))
    table.speak(0.4)
    table.spin_until(lambda: len(table.motions) == 2)
    table.node.trigger_deactivate()
    assert table.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    table.speak(0.5)
    table.spin_until(lambda: len({message.conversation_id for message in table.motions}) == 2)


def test_node_gives_everything_back_on_cleanup(open_table, folder):
    table = open_table(make_node(model=str(folder), engine="torch"))
    table.node.trigger_deactivate()
    assert table.node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    table.spin_until(lambda: table.talkers["user/audio"].get_subscription_count() == 0)
    assert table.node.trigger_configure() == TransitionCallbackReturn.SUCCESS


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"model": "/nowhere/model"}, "/nowhere/model"),
        ({"engine": "abacus"}, "abacus"),
        ({"temprature": 1.0}, "temprature"),
    ],
)
def test_node_that_cannot_start_says_why(folder, capfd, parameters, word):
    node = make_node(**({"model": str(folder)} | parameters))
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert word in capfd.readouterr().err
    node.destroy_node()
