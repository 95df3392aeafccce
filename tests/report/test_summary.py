"""Every number of a summary against the one worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from timar_report import summary as summary_module
from timar_report.joints import JointLimit


def summarize(bag: Path, out: Path, **options):
    """Sum up without the picture, which has tests of its own."""
    return summary_module.summarize(bag, out, has_picture=False, **options)


LIMITS = {"jaw": JointLimit(0.0, 0.35, 2.0, 0.0), "neck_yaw": JointLimit(-0.6, 0.6, 3.0, 0.0)}


def test_the_keys_are_the_promised_ones(make_bag, tmp_path: Path) -> None:
    summary = summarize(make_bag(), tmp_path, limits=LIMITS)
    assert set(summary) == {
        "turns", "duration_s", "latency_ms", "audio", "late_turns", "joints", "correlation", "cpu_cores_used",
        "bag", "engine", "model", "extra",
    }  # fmt: skip
    assert set(summary["latency_ms"]) == {"floor", "compute", "microphone_to_joint"}
    assert set(summary["latency_ms"]["compute"]) == {"p50", "p95", "p99"}
    assert set(summary["latency_ms"]["microphone_to_joint"]) == {"p50", "p95", "p99"}
    assert set(summary["audio"]) == {"samples_in", "samples_lost"}
    assert set(summary["correlation"]) == {"jaw_agent_level"}
    assert set(summary["joints"]) == {"jaw", "neck_yaw"}
    for joint in summary["joints"].values():
        assert set(joint) == {"min_rad", "max_rad", "limit_hits", "max_velocity_rad_s"}
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_turns_late_ones_and_unsampled_ones_are_counted_apart(make_bag, tmp_path: Path) -> None:
    summary = summarize(make_bag(late_turns=(4, 9), unsampled_turns=(10,)), tmp_path)
    assert summary["turns"] == 30
    assert summary["late_turns"] == 2
    assert summary["extra"]["unsampled_turns"] == 1
    assert summary["extra"]["generated_turns"] == 29
    assert summary["engine"] == "torch-float32"
    assert summary["model"] == "ab" * 32


def test_sound_is_counted_by_the_clock(make_bag, tmp_path: Path) -> None:
    bag = make_bag(lost_blocks=(50, 51, 120), filled_blocks=(70,), repeated_blocks=(80, 81))
    summary = summarize(bag, tmp_path)
    assert summary["duration_s"] == 6.0
    assert summary["audio"] == {"samples_in": 96_000 - 4 * 320, "samples_lost": 4 * 320}
    assert summary["extra"]["audio"]["user/audio"]["samples_repeated"] == 2 * 320
    assert summary["extra"]["audio"]["agent/audio"] == {
        "samples_in": 96_000, "samples_lost": 0, "samples_repeated": 0,
    }  # fmt: skip


def expected_latencies(late: tuple[int, ...] = (), unsampled: tuple[int, ...] = (), lead_ms: float = 0.0):
    """Work every block's latency out by the rules of the script, one by one."""
    latencies = []
    for block in range(300):
        end = 320 * (block + 1)
        turn = math.ceil((end / 640 + 2) / 5)
        while turn in unsampled:
            turn += 1
        if turn >= 30:
            continue
        known_ms = 40.0 * (5 * turn - 2)
        command_ms = known_ms + 1 + (150 if turn in late else 30 + turn % 3) + 2
        due_ms = 200.0 * turn - lead_ms
        latencies.append(max(command_ms, due_ms) - end / 16)
    return latencies


@pytest.mark.parametrize(
    ("late", "unsampled", "lead_s"),
    [((), (), 0.0), ((4, 9, 20), (), 0.0), ((), (7, 8), 0.0), ((3,), (12,), 0.07)],
)
def test_microphone_to_joint_follows_each_block_to_its_first_command(
    make_bag, tmp_path: Path, late: tuple[int, ...], unsampled: tuple[int, ...], lead_s: float
) -> None:
    limits = {"jaw": JointLimit(0.0, 0.4, 2.0, lead_s), "neck_yaw": JointLimit(-0.6, 0.6, 3.0, 0.01)}
    summary = summarize(make_bag(late_turns=late, unsampled_turns=unsampled), tmp_path, limits=limits)
    expected = expected_latencies(late, unsampled, max(lead_s * 1e3, 10.0))
    measured = summary["latency_ms"]["microphone_to_joint"]
    for name, quantile in (("p50", 50), ("p95", 95), ("p99", 99)):
        assert measured[name] == pytest.approx(np.percentile(expected, quantile), abs=1e-5)
    assert summary["extra"]["blocks"] == {"answered": len(expected), "unanswered": 300 - len(expected)}


def test_latencies_without_trouble_are_those_of_the_turns_alone(make_bag, tmp_path: Path) -> None:
    summary = summarize(make_bag(), tmp_path)
    assert summary["latency_ms"]["floor"] == 280.0
    # The last samples of a turn's ten blocks wait 80, 100, ... 260 ms.
    assert summary["latency_ms"]["microphone_to_joint"]["p50"] == pytest.approx(170.0, abs=10.0)
    assert summary["extra"]["over_floor_per_block_ms"] == {"p50": 0.0, "p95": 0.0, "p99": 0.0}


def test_previews_are_counted_and_change_no_other_number(make_bag, tmp_path: Path) -> None:
    """A guess comes before its turn and moves the joints too, but nothing that the user did is in it."""
    plain = summarize(make_bag(), tmp_path, limits=LIMITS)
    guessing = summarize(make_bag(has_previews=True), tmp_path, limits=LIMITS)
    assert (plain["extra"].pop("previews"), guessing["extra"].pop("previews")) == (0, 30)
    for summary in (plain, guessing):
        del summary["bag"], summary["extra"]["messages"]["agent/motion"]
    assert guessing == plain


def test_compute_percentiles_are_those_of_the_turn_log(make_bag, tmp_path: Path) -> None:
    summary = summarize(make_bag(late_turns=(5,)), tmp_path)
    times = [150.0 if turn == 5 else 30.0 + turn % 3 for turn in range(30)]
    expected = dict(zip(("p50", "p95", "p99"), np.percentile(times, (50, 95, 99)), strict=True))
    assert summary["latency_ms"]["compute"] == pytest.approx(expected)
    assert summary["extra"]["stages_ms"]["head"] == {"p50": 4.0, "p95": 4.0, "p99": 4.0}


def test_every_stage_from_microphone_to_joint_is_told_apart(make_bag, tmp_path: Path) -> None:
    stages = summarize(make_bag(late_turns=(5,)), tmp_path)["extra"]["stages_ms"]
    assert list(stages) == [
        "capture_block", "turn_fill", "queue", "speech", "backbone", "head", "publish", "retarget",
    ]  # fmt: skip
    # The script's blocks of 20 ms come a millisecond after their last sample.
    assert stages["capture_block"] == pytest.approx({"p50": 21.0, "p95": 21.0, "p99": 21.0}, abs=1e-3)
    # A turn's ten blocks wait 0, 20, ... 180 ms for it to be full.
    assert stages["turn_fill"]["p50"] == pytest.approx(90.0, abs=10.0)
    assert stages["turn_fill"]["p99"] == pytest.approx(180.0)
    # The late turn took 150 ms, of which the log lays none more on its parts.
    assert stages["publish"]["p99"] > 100.0 > stages["publish"]["p50"]
    assert stages["retarget"] == pytest.approx({"p50": 2.0, "p95": 2.0, "p99": 2.0}, abs=1e-3)


@pytest.mark.parametrize("delay_ms", [-60.0, 0.0, 25.0, 110.0])
def test_the_jaws_correlation_and_lag_are_those_of_the_script(
    make_bag, tmp_path: Path, delay_ms: float
) -> None:
    summary = summarize(make_bag(jaw_delay_ms=delay_ms), tmp_path)
    # Two sines of 1.5 Hz, one later by the delay, over whole periods.
    expected = math.cos(2 * math.pi * 1.5 * delay_ms / 1e3)
    assert summary["correlation"]["jaw_agent_level"] == pytest.approx(expected, abs=0.01)
    assert summary["extra"]["jaw_lag_ms"] == pytest.approx(delay_ms, abs=3.0)


def test_a_jaw_that_closes_with_the_voice_correlates_negatively(make_bag, tmp_path: Path) -> None:
    summary = summarize(make_bag(jaw_sign=-1.0), tmp_path)
    assert summary["correlation"]["jaw_agent_level"] == pytest.approx(-1.0, abs=0.01)


def test_joint_ranges_velocities_and_hits_are_those_of_the_commands(make_bag, tmp_path: Path) -> None:
    limits = {"jaw": JointLimit(0.0, 0.35, 2.0, 0.0), "neck_yaw": JointLimit(-0.2, 0.6, 3.0, 0.0)}
    joints = summarize(make_bag(), tmp_path, limits=limits)["joints"]
    assert joints["jaw"]["min_rad"] == pytest.approx(0.05, abs=1e-3)
    assert joints["jaw"]["max_rad"] == pytest.approx(0.35, abs=1e-3)
    # Peaks of 1.5 Hz from 0.17 s to 6.17 s, for the last command runs to 6.2 s; the lower limit is never
    # near.
    assert joints["jaw"]["limit_hits"] == 10
    assert joints["jaw"]["max_velocity_rad_s"] == pytest.approx(0.15 * 2 * math.pi * 1.5, rel=0.02)
    assert joints["neck_yaw"]["max_rad"] == pytest.approx(0.25, abs=1e-3)
    assert joints["neck_yaw"]["max_velocity_rad_s"] == pytest.approx(0.25 * math.pi, rel=0.02)
    # Three periods of 0.5 Hz go below -0.2 once each.
    assert joints["neck_yaw"]["limit_hits"] == 3
    # A stop that is reached by design, such as a closed mouth, is no hit; its other limit is.
    stop = {"neck_yaw": JointLimit(-0.2, 0.2, 3.0, 0.0, ("lower",))}
    both = {"neck_yaw": JointLimit(-0.2, 0.2, 3.0, 0.0)}
    hits = [
        summarize(make_bag(), tmp_path, limits=each)["joints"]["neck_yaw"]["limit_hits"]
        for each in (stop, both)
    ]
    assert hits[1] - hits[0] == 3


def test_what_the_limits_did_is_that_of_the_newest_diagnostics(make_bag, tmp_path: Path) -> None:
    def report(bag) -> None:
        for second, clipped in ((2, 1), (4, 3)):
            values = {"plans": 20, "jaw.clipped": clipped, "jaw.scaled": 2, "jaw.smallest_share": 0.25}
            status = bag.make(
                "diagnostic_msgs/msg/DiagnosticStatus", name="/head/retargeting", level=0,
                values=[bag.make("diagnostic_msgs/msg/KeyValue", key=key, value=str(value))
                        for key, value in values.items()],
            )  # fmt: skip
            stamp_ns = 1_700_000_000_123_456_789 + second * 10**9
            message = bag.make(
                "diagnostic_msgs/msg/DiagnosticArray", header=bag.header(stamp_ns), status=[status]
            )
            bag.add("/diagnostics", stamp_ns, message)

    for bag in (make_bag(report), make_bag(report, namespace="/head")):
        assert summarize(bag, tmp_path)["extra"]["limits"] == {
            "jaw": {"clipped": 3, "scaled": 2, "smallest_share": 0.25}
        }
    assert summarize(make_bag(), tmp_path)["extra"]["limits"] == {}


def test_a_jump_from_one_command_to_the_next_shows_as_velocity(make_bag, tmp_path: Path) -> None:
    def jump(bag) -> None:
        second_ns = 1_700_000_003_123_456_789
        point = bag.make("trajectory_msgs/msg/JointTrajectoryPoint", positions=np.array([0.2, 1.5]))
        message = bag.make(
            "trajectory_msgs/msg/JointTrajectory", header=bag.header(second_ns + 7_000_000),
            joint_names=["jaw", "neck_yaw"], points=[point],
        )  # fmt: skip
        bag.add("joint_trajectory", second_ns + 7_000_000, message)

    joints = summarize(make_bag(jump), tmp_path, limits=LIMITS)["joints"]
    assert joints["neck_yaw"]["max_velocity_rad_s"] > 40.0
    assert joints["neck_yaw"]["limit_hits"] == 1


def test_the_floor_is_shared_as_the_script_says(make_bag, tmp_path: Path) -> None:
    shares = summarize(make_bag(), tmp_path)["extra"]["floor_s"]
    assert shares == {"idle": 1.0, "user": 2.0, "agent": 2.5, "both": 0.5}


def test_cpu_use_comes_from_the_caller_or_from_the_run_file(make_bag, tmp_path: Path) -> None:
    bag = make_bag()
    assert summarize(bag, tmp_path)["cpu_cores_used"] is None
    (tmp_path / "run.json").write_text('{"cpu_cores_used": 0.7}')
    assert summarize(bag, tmp_path)["cpu_cores_used"] == 0.7
    assert summarize(bag, tmp_path, cpu_cores_used=0.4)["cpu_cores_used"] == 0.4
    (tmp_path / "run.json").write_text("{half")
    with pytest.raises(ValueError, match=r"run\.json is not JSON"):
        summarize(bag, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "topic",
    ["user/audio", "user/audio_raw", "agent/audio", "turn_log", "agent/motion", "joint_trajectory",
    "joint_states", "floor"],
)  # fmt: skip
def test_a_missing_topic_is_said_and_costs_only_its_numbers(make_bag, tmp_path: Path, topic: str) -> None:
    summary = summarize(make_bag(omit=(topic,)), tmp_path, limits=LIMITS)
    said = [loss for loss in summary["extra"]["losses"] if loss.endswith(f"no message of {topic}")]
    if topic in ("user/audio_raw", "joint_states", "floor"):
        assert summary["latency_ms"]["microphone_to_joint"]["p50"] is not None
    else:
        assert said
    is_known = summary["latency_ms"]["microphone_to_joint"]["p50"] is not None
    assert is_known == (topic in ("user/audio_raw", "joint_states", "floor", "agent/audio"))
    assert (summary["correlation"]["jaw_agent_level"] is None) == (topic == "agent/audio")
    assert summary["duration_s"] == pytest.approx(6.0, abs=0.01) or topic == "user/audio"


def test_a_gap_in_the_log_is_said(make_bag, tmp_path: Path) -> None:
    losses = summarize(make_bag(lambda bag: bag.drop("turn_log", slice(3, 5))), tmp_path)["extra"]["losses"]
    assert losses == ["2 decisions are missing in turn_log"]


def test_a_namespace_is_found_by_itself(make_bag, tmp_path: Path) -> None:
    plain = summarize(make_bag(), tmp_path)
    named = summarize(make_bag(namespace="/robots/one"), tmp_path)
    assert named | {"bag": ""} == plain | {"bag": ""}


def test_the_bags_path_is_relative_when_it_lies_beside_the_summary(make_bag) -> None:
    bag = make_bag()
    assert summarize(bag, bag.parent)["bag"] == "conversation"
    assert summarize(bag, bag.parent / "elsewhere")["bag"] == str(bag)
