"""What a player publishes of a bag, in which rhythm, and which time it tells."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from timar_bag.bag import BagReader
from timar_bag.damage import damage_bag
from timar_bag.graph_inputs import HEARD
from timar_bag.live import LiveBag, LiveConfig, LiveMessage, LivePlayer, Pace

S = 1_000_000_000


def played(bag: Path, **options: object) -> list[LiveMessage]:
    with LiveBag(LiveConfig(bag=str(bag), **options)) as live:
        return list(live.messages())


def recorded(bag: Path, topics: tuple[str, ...]) -> list[tuple[str, int, bytes]]:
    with BagReader(bag) as reader:
        return list(reader.raw_messages(topics))


def test_a_graph_hears_the_recorded_bytes_of_what_it_does_not_make_itself(make_bag: Callable[..., Path]):
    bag = make_bag()
    found = [message for message in played(bag) if message.topic != "agent/audio_planned"]
    assert [(m.topic, m.clock_ns, m.data) for m in found] == recorded(bag, HEARD)
    assert {"user/audio", "user/audio_raw", "agent/audio"} <= {m.topic for m in found}
    assert not {"agent/motion", "turn_log", "joint_trajectory", "joint_states"} & {m.topic for m in found}


def test_all_topics_are_played_to_look_at(make_bag: Callable[..., Path]):
    bag = make_bag()
    found = played(bag, topics="all", rate=0.5)
    assert [(m.topic, m.data) for m in found] == [
        (t, d) for t, _, d in recorded(bag, tuple({m.topic for m in found}))
    ]
    assert {"agent/motion", "turn_log", "joint_trajectory"} <= {m.topic for m in found}


def test_running_nodes_are_not_played_to_faster_than_real_time():
    with pytest.raises(ValueError, match="expected 1: the running nodes keep real time"):
        LiveConfig(bag="x", rate=2.0)


def test_bag_without_plan_is_played_with_what_was_heard_planned_before(
    make_bag: Callable[..., Path], tmp_path: Path
):
    whole, damaged = make_bag(), tmp_path / "no_plan"
    shutil.copytree(whole, damaged)
    damage_bag(damaged, "no_plan")
    with LiveBag(LiveConfig(bag=str(damaged))) as live:
        assert any("no agent/audio_planned" in note for note in live.notes)
        found = list(live.messages())
    planned = [m.at_ns for m in found if m.topic == "agent/audio_planned"]
    heard = [m.at_ns for m in found if m.topic == "agent/audio"]
    assert len(planned) == len(heard) > 0
    assert all(later - sooner == 2 * S for sooner, later in zip(planned, heard, strict=True))


def test_clock_follows_the_stamps_where_arrivals_are_of_another_clock(
    make_bag: Callable[..., Path], tmp_path: Path
):
    whole, damaged = make_bag(), tmp_path / "two_clocks"
    shutil.copytree(whole, damaged)
    damage_bag(damaged, "two_clocks")
    with LiveBag(LiveConfig(bag=str(whole))) as live:
        assert not any("/clock" in note for note in live.notes)
    with LiveBag(LiveConfig(bag=str(damaged))) as live:
        assert any("/clock follows them" in note for note in live.notes)
        shifted = [m.clock_ns for m in live.messages()]
    assert max(abs(one.clock_ns - other) for one, other in zip(played(whole), shifted, strict=True)) < 0.1 * S


def test_bag_that_a_graph_could_not_hear_is_refused(make_bag: Callable[..., Path]):
    bag = make_bag(omit=HEARD)
    with pytest.raises(ValueError, match="holds nothing to play"), LiveBag(LiveConfig(bag=str(bag))):
        pass


def test_messages_are_due_when_they_were_recorded_and_time_runs_before_and_after():
    messages = [LiveMessage("a", 1000 * S + k * S // 10, 77 * S + k * S // 10, b"%d" % k) for k in range(5)]
    player = LivePlayer(iter(messages), LiveConfig(lead_s=0.5), 0)
    assert player.clock_ns(0) == 77 * S - S // 2
    assert player.due(S // 2 - 1) is None
    shown = []
    for now_ns in range(0, 2 * S, S // 100):
        while (message := player.due(now_ns)) is not None:
            shown.append((now_ns, message.data))
            assert player.clock_ns(now_ns) == message.clock_ns
        if player.is_over(now_ns):
            break
    assert shown == [(S // 2 + k * S // 10, b"%d" % k) for k in range(5)]
    assert now_ns == S // 2 + 4 * S // 10 + S // 2
    assert (player.played, player.latest_ns, player.played_s) == (5, 0, pytest.approx(0.4))


def test_a_player_that_comes_late_publishes_everything_in_order_and_says_how_late():
    messages = [LiveMessage("a", k * S // 100, 0, b"%d" % k) for k in range(50)]
    player = LivePlayer(iter(messages), LiveConfig(lead_s=0.0), 0)
    found = []
    while (message := player.due(S // 2)) is not None:
        found.append(message)
    assert found == messages
    assert player.latest_ns == S // 2


@pytest.mark.parametrize("rate", [0.5, 1.0, 4.0])
def test_pause_moves_everything_by_its_length(rate: float):
    pace = Pace(100 * S, rate, 0)
    assert pace.until_ns(100 * S + round(2 * rate * S), 0) == 2 * S
    pace.pause(True, S)
    assert pace.at_ns(6 * S) == 100 * S + round(rate * S)
    assert pace.until_ns(200 * S, 6 * S) is None
    pace.pause(False, 6 * S)
    assert pace.at_ns(7 * S) == 100 * S + round(2 * rate * S)


def test_nothing_sleeps_past_a_tick_of_the_clock_nor_past_a_message():
    messages = [LiveMessage("a", 0, 0, b""), LiveMessage("a", 3_000_000, 0, b"")]
    player = LivePlayer(iter(messages), LiveConfig(lead_s=0.0, clock_hz=100.0), 0)
    player.due(0)
    assert player.sleep_ns(0) == 3_000_000
    player.due(3_000_000)
    assert player.sleep_ns(3_000_000) == 10_000_000
