"""Every parameter of a component changes what it publishes, or is listed with the reason why it cannot here.

Both hosts run the same component (tests/ros/test_two_hosts.py), so what counts in one counts in the other.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from component_scenarios import DEVICES, GRAPH, configurations, make
from hosting import (
    BLOCK,
    SECONDS,
    Step,
    audio,
    inputs,
    record,
    run_in_bag_host,
    steps_of,
    time_of,
)
from timar_common.config import describe
from timar_common.messages import Header, duration, new

END_NS = time_of(round(SECONDS * 16_000))
Steps = Sequence[Step]


class Case(NamedTuple):
    """How a parameter is seen to count, where another value alone does not show it."""

    value: Any
    base: dict[str, Any] = {}  # noqa: RUF012 - never changed
    """What is set beside it, in both runs."""
    change: Callable[[Steps], Iterable[Step]] = list
    """What happens instead of the recorded conversation."""
    compute_ms: float = 0.0


def whispers(steps: Steps) -> Iterator[Step]:
    """The user speaks at every level from silence up, over a noise that comes and goes."""
    random = np.random.default_rng(1)
    for step in steps:
        if step.topic == "user/audio":
            first = int(step.what.first_sample)
            noise = random.normal(0, 30 + 25 * np.sin(first / 9000), BLOCK)
            # Syllables: on for 120 ms, off for 60.
            level = 0.3 * (first / 64_000) ** 2 * (first // BLOCK % 9 < 6)
            samples = step.what.samples * level + noise
            step = step._replace(what=audio(first, samples.astype(np.int16), "microphone"))
        yield step


def stops_early(steps: Steps) -> Iterator[Step]:
    """Motion ends after a second and a half; the joints are then moved by hand once."""
    yield from (step for step in steps if step.topic != "agent/motion" or step.at_ns < time_of(24_000))
    hand = new("sensor_msgs/msg/JointState", name=["neck_yaw"], position=[0.2])
    yield Step(time_of(44_000), "joint_targets", hand)


def moved_from_outside(steps: Steps) -> Iterator[Step]:
    """A trajectory from outside moves one joint in the midst of the conversation."""
    yield from steps
    point = new(
        "trajectory_msgs/msg/JointTrajectoryPoint", positions=[0.2], time_from_start=duration(300_000_000)
    )
    sent = new("trajectory_msgs/msg/JointTrajectory", joint_names=["neck_yaw"], points=[point])
    yield Step(time_of(24_000), "external/joint_trajectory", sent)


def moved_without_retargeting(steps: Steps) -> Iterator[Step]:
    """The same where nobody else moves the joints."""
    yield from (step for step in moved_from_outside(steps) if step.topic != "joint_trajectory")


def far_ahead(steps: Steps) -> Iterator[Step]:
    """One message holds four seconds of motion."""
    yield from (step for step in steps if step.topic != "agent/motion")
    random = np.random.default_rng(2)
    parts = {"expression": 50, "jaw": 3, "neck": 3}
    rows = {
        name: np.cumsum(random.normal(0, 0.01, (100, size)), axis=0).ravel() for name, size in parts.items()
    }
    motion = new("HeadMotion", header=Header(time_of(9600)), fps=25.0, frames=100, first_frame=15, **rows)
    yield Step(time_of(8000), "agent/motion", motion)


def alone(steps: Steps) -> Iterator[Step]:
    """Only the user speaks."""
    yield from (step for step in steps if step.topic != "agent/audio")


def user_falls_silent(steps: Steps) -> Iterator[Step]:
    """The user says one thing, and nobody answers."""
    for step in alone(steps):
        if step.topic == "user/audio" and step.what.first_sample >= 24_000:
            step = step._replace(
                what=audio(int(step.what.first_sample), np.zeros(BLOCK, np.int16), "microphone")
            )
        if step.topic != "agent/audio_planned":
            yield step


def speaks_at_length(steps: Steps) -> Iterator[Step]:
    """The agent begins a turn of 2.4 s, and nobody gestures."""
    yield from (step for step in steps if step.topic not in ("agent/intent", "agent/motion"))
    speaking = {"intent": 3, "since_sample": 8000, "speech_first_sample": 8000, "speech_end_sample": 46_400}
    yield Step(time_of(8000), "agent/intent", new("AgentIntent", header=Header(time_of(8000)), **speaking))


def without_joint_states(steps: Steps) -> Iterator[Step]:
    yield from (step for step in steps if step.topic != "joint_states")


def without_motion(steps: Steps) -> Iterator[Step]:
    yield from (step for step in steps if step.topic != "agent/motion")


def long_gap(steps: Steps) -> Iterator[Step]:
    """Nearly two seconds of the user's sound are lost."""
    yield from (s for s in steps if s.topic != "user/audio" or not 16_000 <= s.what.first_sample < 44_000)


def reordered(steps: Steps) -> Iterator[Step]:
    """One block comes half a second late."""
    for step in steps:
        is_late = step.topic == "user/audio" and step.what.first_sample == 32_000
        yield step._replace(at_ns=step.at_ns + 500_000_000) if is_late else step


def old_stamps(steps: Steps) -> Iterator[Step]:
    """Every block is stamped two seconds before it was sent."""
    for step in steps:
        if step.topic == "user/audio":
            first = int(step.what.first_sample)
            old = audio(first, step.what.samples, "microphone")
            old.header.stamp -= 2_000_000_000
            step = step._replace(what=old)
        yield step


def planned_at_once(steps: Steps) -> Iterator[Step]:
    """The whole speech is planned at the first moment."""
    for step in steps:
        is_plan = step.topic == "agent/audio_planned" and not step.what.revision
        yield step._replace(at_ns=time_of(1000)) if is_plan else step


CASES: dict[tuple[str, str], Case] = {
    ("turns", "resume_ms"): Case(10, {"above_background_db": 15.0}, whispers),
    ("turns", "aggressiveness"): Case(0, change=whispers),
    ("turns", "above_background_db"): Case(20.0, change=whispers),
    ("turns", "above_background_spreads"): Case(10.0, change=whispers),
    ("turns", "end_of_turn"): Case("component_scenarios:UndecidedModel", change=alone),
    ("turns", "end_threshold"): Case(0.1, {"end_of_turn": "component_scenarios:UndecidedModel"}, alone),
    ("turns", "min_pause_ms"): Case(
        600, {"end_of_turn": "component_scenarios:UndecidedModel", "end_threshold": 0.1}, alone
    ),
    ("turns", "max_pause_ms"): Case(
        700, {"end_of_turn": "component_scenarios:UndecidedModel", "end_threshold": 0.9}, alone
    ),
    ("turns", "pause_ms"): Case(250, change=user_falls_silent),
    ("turns", "thinking_ms"): Case(200, change=user_falls_silent),
    ("retargeting", "avert_weight"): Case(0.3, {"avert_probability": 1.0}, speaks_at_length),
    ("retargeting", "avert_probability"): Case(0.0, {"avert_probability": 1.0}, speaks_at_length),
    ("retargeting", "avert_yaw_rad"): Case(0.1, {"avert_probability": 1.0}, speaks_at_length),
    ("retargeting", "avert_s"): Case(0.5, {"avert_probability": 1.0}, speaks_at_length),
    ("retargeting", "long_turn_s"): Case(5.0, {"avert_probability": 1.0}, speaks_at_length),
    ("retargeting", "back_before_s"): Case(2.0, {"avert_probability": 1.0}, speaks_at_length),
    ("retargeting", "blink_interval_speaking_s"): Case(0.5, {"blink_interval_s": 0.5}, speaks_at_length),
    ("retargeting", "robot"): Case("reachy_mini", change=without_joint_states),
    ("retargeting", "output_rate_hz"): Case(50.0, {"output": "positions"}),
    ("retargeting", "longest_horizon_s"): Case(1.0, change=far_ahead),
    ("retargeting", "hold_s"): Case(1.0, change=stops_early),
    ("retargeting", "idle_horizon_s"): Case(3.0, change=without_motion),
    ("retargeting", "look_weight"): Case(0.2, change=without_motion),
    ("retargeting", "look_head_share"): Case(0.9, change=without_motion),
    ("retargeting", "look_timeout_s"): Case(0.5, change=without_motion),
    ("retargeting", "trajectory_hold_s"): Case(0.0, change=moved_from_outside),
    ("retargeting", "joint_priorities"): Case(
        ("by_hand", "conversation", "trajectory"), change=moved_from_outside
    ),
    ("retargeting", "allow_partial_joints_goal"): Case(False, change=moved_from_outside),
    ("driver", "allow_partial_joints_goal"): Case(False, change=moved_without_retargeting),
    ("retargeting", "by_hand_s"): Case(0.5, change=stops_early),
    ("retargeting", "neutral_neck_rad"): Case((0.1, 0.0, 0.0)),
    ("retargeting", "joint_states_timeout_s"): Case(0.5, change=without_joint_states),
    ("inference", "window_frames"): Case(25),
    ("inference", "late_policy"): Case("strict", compute_ms=170.0),
    ("inference", "publication_ms"): Case(60.0, compute_ms=70.0),
    ("inference", "queue_turns"): Case(1, compute_ms=400.0),
    ("inference", "max_gap_s"): Case(1.0, change=long_gap),
    ("inference", "max_reorder_s"): Case(0.1, change=reordered),
    ("inference", "max_stamp_error_s"): Case(1.0, change=old_stamps),
    ("inference", "plan_horizon_s"): Case(1.0, change=planned_at_once),
}

INTERRUPTION = "needs sounds of chosen likelihood: tests/audio/test_turns.py"

_OF_THE_ACTION = "of the action's goals: tests/retargeting/test_external_trajectory.py"
ELSEWHERE: dict[tuple[str, str], str] = {
    ("turns", "threshold"): "webrtcvad says 0 or 1; counts with detector=silero (tests/audio/test_silero.py)",
    ("turns", "detector"): "Silero's package is not part of the set-up (tests/audio/test_silero.py)",
    ("turns", "end_of_turn_file"): "only with smart_turn: tests/audio/test_smart_turn.py",
    ("turns", "interrupt_probability"): INTERRUPTION,
    ("turns", "interrupt_after_ms"): INTERRUPTION,
    ("turns", "long_probability"): INTERRUPTION,
    ("turns", "lower_after_ms"): INTERRUPTION,
    ("turns", "join_ms"): INTERRUPTION,
    ("turns", "resume_after_ms"): INTERRUPTION,
    ("turns", "words_wait_ms"): INTERRUPTION,
    ("turns", "backchannel_words"): INTERRUPTION,
    ("turns", "interruption_words"): INTERRUPTION,
    ("turns", "motion_noise_file"): "tests/audio/test_motion_noise.py, with a calibration",
    ("turns", "motion_wait_ms"): "only with motion_noise_file: tests/audio/test_motion_noise.py",
    ("inference", "clock_of_head"): "of a node on another machine: tests/ros/test_inference_host.py",
    ("inference", "model"): "other weights: tests/replay/test_replaying.py",
    ("inference", "engine"): "engines agree to rounding by promise: tests/timar_model/test_engines.py",
    ("inference", "lag_zero"): "of models trained without a user lag: tests/inference/test_lag_zero.py",
    ("inference", "when_full"): "of models with window positions: tests/timar_model/test_window_moves.py",
    ("inference", "keep_turns"): "of models with window positions: tests/timar_model/test_window_moves.py",
    ("inference", "gestures"): "the stand-in here foresees always: tests/inference/test_gesture_requests.py",
    ("inference", "threads"): "changes speed only",
    ("inference", "allow_degraded"): "of what auto may choose: tests/inference/test_auto.py",
    ("retargeting", "expression_map"): "a file of the user's: tests/retargeting/test_face.py",
    ("retargeting", "path_tolerance_rad"): _OF_THE_ACTION,
    ("retargeting", "goal_tolerance_rad"): _OF_THE_ACTION,
    ("retargeting", "goal_time_tolerance_s"): _OF_THE_ACTION,
    ("inference", "warmup_turns"): "changes the speed of the first turn only",
    ("inference", "history"): "this small model sees past frames, which only masked history allows",
    ("driver", "robot"): "device: which joints there are",
    ("driver", "driver"): "device: needs servos",
    ("driver", "hardware"): "device: needs servos",
    ("driver", "port"): "device: needs servos",
    ("driver", "realtime_priority"): "device: scheduling of the loop's thread",
    ("driver", "watchdog_ms"): "device: the servos' own stop (tests/driver)",
    ("driver", "seed"): "of the simulated servos' noise, which is 0 unless set",
    ("driver", "stop_category"): "how it stops: tests/driver/test_stop_sequence.py",
}


@pytest.fixture(scope="module")
def configs(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found = configurations(small_model, tmp_path_factory.mktemp("files"))
    return {name: found[name] for name in GRAPH}


@pytest.fixture(scope="module")
def recorded(configs: dict[str, Any]) -> list[Step]:
    return record([make(name, configs[name]) for name in GRAPH], inputs())


def published(name: str, config: Any, recorded: Steps, case: Case | None = None) -> list:
    component = make(name, config)
    changed = sorted(case.change(recorded) if case else recorded, key=lambda step: step.at_ns)
    steps = steps_of(component, changed, DEVICES.get(name, list)())
    durations = itertools.repeat(round(1e6 * case.compute_ms)) if case else itertools.repeat(0)
    return run_in_bag_host(component, steps, END_NS, durations)


def other_configs(config: Any, name: str) -> Iterator[Any]:
    """Yield the configuration with other values of a parameter, as far as it allows them."""
    for value in other_values(config, name):
        try:
            yield dataclasses.replace(config, **{name: value})
        except ValueError:
            continue


def other_values(config: Any, name: str) -> Iterator[Any]:
    """Yield values within the range of a parameter, besides its own."""
    value, description = getattr(config, name), describe(type(config))[name]
    if isinstance(value, bool):
        yield not value
    elif description.choices:
        yield from (choice for choice in description.choices if choice != value)
    elif isinstance(value, (int, float)):
        low, high = description.minimum, description.maximum
        for other in (value * 2 if value else (high or 1) / 2, value / 2, low, high):
            if other is not None and type(value)(other) != value and low <= other <= high:
                yield type(value)(other)


@pytest.mark.slow
@pytest.mark.parametrize("name", GRAPH)
def test_every_parameter_counts(name: str, configs: dict[str, Any], recorded: list[Step]) -> None:
    config, without_effect = configs[name], []
    usual = published(name, config, recorded)
    for parameter in describe(type(config)):
        if (name, parameter) in ELSEWHERE:
            continue
        case = CASES.get((name, parameter))
        if case is not None:
            base = dataclasses.replace(config, **case.base)
            before = published(name, base, recorded, case)
            after = published(name, dataclasses.replace(base, **{parameter: case.value}), recorded, case)
            has_effect = before != after
        else:
            has_effect = any(
                published(name, other, recorded) != usual for other in other_configs(config, parameter)
            )
        without_effect += [] if has_effect else [parameter]
    assert without_effect == []


def test_nothing_is_listed_that_is_no_parameter(configs: dict[str, Any]) -> None:
    known = {(name, parameter) for name in GRAPH for parameter in describe(type(configs[name]))}
    assert {*CASES, *ELSEWHERE} <= known
    assert not set(CASES) & set(ELSEWHERE)
    assert all(ELSEWHERE.values())
