"""Expression reaches joints and screens by ARKit's names, through a made matrix; without one that is said."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_arkit_map import expression_of, made_bs2exp, save_bs2exp
from timar_common.component import Log, Publish
from timar_common.messages import Header, new
from timar_description.find import find_joint_map, find_urdf
from timar_retargeting.config import RetargetingConfig
from timar_retargeting.face_signals import EASE_S, HOLD_S
from timar_retargeting.retargeting_component import RetargetingComponent
from timar_retargeting.robot import load_robot
from timar_retargeting.robot_command import main
from timar_view.face import shows_expression

START_NS = 1_000_000_000_000
MS = 1_000_000


@pytest.fixture(scope="module")
def bs2exp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bs2exp(tmp_path_factory.mktemp("map"))


def make(expression_map: Path | str = "", **parameters: Any) -> RetargetingComponent:
    config = RetargetingConfig(expression_map=str(expression_map), idle_behavior=False, **parameters)
    component = RetargetingComponent(dataclasses.replace(config, neutral_time_constant_s=0.0))
    list(component.start(START_NS))
    component.handle("joint_states", component.neutral_joint_states(START_NS), START_NS)
    return component


def motion(
    first_frame: int, due_ns: int, expression: np.ndarray, jaw_rad: float = 0.0, frames: int = 25
) -> Any:
    jaw = np.tile([jaw_rad, 0.0, 0.0], frames)
    return new(
        "HeadMotion",
        header=Header(due_ns),
        conversation_id="a",
        first_frame=first_frame,
        fps=25.0,
        frames=frames,
        expression=np.tile(expression, frames).astype(np.float32),
        jaw=jaw.astype(np.float32),
        neck=np.zeros(3 * frames, np.float32),
    )


def face_at(component: RetargetingComponent, now_ns: int) -> dict[str, float] | None:
    sent = [one.message for one in component.tick(now_ns) if isinstance(one, Publish) and one.topic == "face"]
    return dict(zip(sent[0].name, sent[0].position, strict=True)) if sent else None


def joints_at(component: RetargetingComponent, now_ns: int) -> dict[str, float]:
    plan = component.core.planner.plan
    row = min(max(now_ns // (20 * MS) - plan.first_index, 0), len(plan.positions) - 1)
    return dict(zip(component.robot.joint_names, plan.positions[row], strict=True))


def test_a_smile_in_flames_numbers_moves_the_lip_corner_and_the_screen(bs2exp: Path) -> None:
    component = make(bs2exp)
    shapes = {"mouthSmileLeft": 0.8, "browInnerUp": 0.5, "eyeBlinkRight": 1.0, "jawOpen": 0.5}
    smile = expression_of(made_bs2exp(), **shapes)
    component.handle("agent/motion", motion(0, START_NS + 100 * MS, smile, jaw_rad=0.2), START_NS)
    at_ns = START_NS + 700 * MS
    joints, face = joints_at(component, at_ns), face_at(component, at_ns)
    assert joints["left_lip_corner"] == pytest.approx(0.4 * 0.8, abs=0.02)
    assert joints["right_lip_corner"] == pytest.approx(0.0, abs=0.02)
    assert joints["left_brow"] == pytest.approx(0.05, abs=0.01)
    assert joints["right_upper_lid"] == pytest.approx(0.12 + 1.45, abs=0.06)
    assert joints["left_upper_lid"] == pytest.approx(0.12, abs=0.05)
    assert face is not None
    assert face["mouthSmileLeft"] == pytest.approx(0.8, abs=0.03)
    assert face["jawOpen"] == pytest.approx(0.5, abs=0.01)
    assert max(value for name, value in face.items() if "Frown" in name or "Down" in name) < 0.05
    assert shows_expression(face)


def test_a_blendshape_stays_within_0_and_1_whatever_the_numbers(bs2exp: Path) -> None:
    component = make(bs2exp)
    wild = 30.0 * expression_of(made_bs2exp(), mouthSmileLeft=1.0)
    component.handle("agent/motion", motion(0, START_NS + 100 * MS, wild), START_NS)
    face = face_at(component, START_NS + 700 * MS)
    assert face is not None
    assert face["mouthSmileLeft"] == 1.0
    assert min(face.values()) >= 0.0
    assert max(face.values()) <= 1.0


def test_the_face_eases_to_neutral_when_motion_ends_and_when_joints_are_moved_by_hand(bs2exp: Path) -> None:
    component = make(bs2exp)
    smile = expression_of(made_bs2exp(), mouthSmileLeft=0.8)
    component.handle("agent/motion", motion(0, START_NS + 100 * MS, smile), START_NS)
    last_ns = START_NS + 100 * MS + 24 * 40 * MS
    times = last_ns + np.linspace(0.0, (HOLD_S + EASE_S) * 1e9, 30).astype(int)
    smiles = [face["mouthSmileLeft"] for t in times if (face := face_at(component, int(t))) is not None]
    assert smiles[0] > 0.75
    assert smiles[-1] == pytest.approx(0.0, abs=0.01)
    assert (np.diff(smiles) <= 1e-9).all()
    component.handle("agent/motion", motion(50, int(times[-1]) + 100 * MS, smile), int(times[-1]))
    now_ns = int(times[-1]) + 500 * MS
    component.handle("joint_targets", new("sensor_msgs/msg/JointState", name=["jaw"], position=[0.1]), now_ns)
    face = face_at(component, now_ns + 50 * MS)
    assert face is not None
    assert face["mouthSmileLeft"] == 0.0


def test_without_a_map_no_face_is_published_the_joints_rest_and_the_start_and_report_say_so() -> None:
    component = make()
    plain = make()
    smile = expression_of(made_bs2exp(), mouthSmileLeft=0.8)
    component.handle("agent/motion", motion(0, START_NS + 100 * MS, smile), START_NS)
    plain.handle("agent/motion", motion(0, START_NS + 100 * MS, 0.0 * smile), START_NS)
    np.testing.assert_array_equal(
        component.core.planner.plan.positions, plain.core.planner.plan.positions, "expression moves nothing"
    )
    assert face_at(component, START_NS + 700 * MS) is None
    logged = [one.text for one in component.start(START_NS) if isinstance(one, Log)]
    assert logged == ["expression map: none: expression is not shown"]
    values = component.report().values
    assert values["expression_map"] == "none: expression is not shown"
    assert "mouthSmileLeft" in values["signals_not_told"]


def test_a_robot_without_such_joints_says_which_signals_it_cannot_show(bs2exp: Path, capsys: Any) -> None:
    component = make(bs2exp, robot="reachy_mini")
    unshown = component.report().values["signals_without_joint_or_screen"].split(", ")
    assert {"mouthSmileLeft", "browInnerUp", "cheekPuff"} <= set(unshown)
    logged = " ".join(one.text for one in component.start(START_NS) if isinstance(one, Log))
    assert "no joint or screen shows browDownLeft, " in logged
    default = make(bs2exp).report().values["signals_without_joint_or_screen"].split(", ")
    assert "mouthSmileLeft" not in default
    assert "jawOpen" not in default, "the jaw shows it by jaw_opening"
    assert "cheekPuff" in default
    assert main(["check", "reachy_mini", "--expression-map", str(bs2exp), "--seconds", "2"]) == 0
    said = capsys.readouterr().out
    assert "made_bs2exp.npy has shape (52, 50), arkit to flame, rank 50" in said
    assert "signals without joint or screen: browDownLeft, " in said


def robot_yaml(folder: Path, *changes: tuple[str, str]) -> Path:
    text = find_joint_map().read_text("utf-8").replace("urdf: timar_head.urdf", f"urdf: {find_urdf()}")
    for old, new_text in changes:
        assert old in text
        text = text.replace(old, new_text, 1)
    path = folder / "head.yaml"
    path.write_text(text, "utf-8")
    return path


def test_a_robots_yaml_names_the_map_and_screens(bs2exp: Path, tmp_path: Path) -> None:
    screens = (
        f"expression_map: {{file: {bs2exp}}}\n"
        "screens:\n  mouth_curve: {signals: {mouthSmileLeft: 0.5, mouthSmileRight: 0.5}, range: [-1, 1]}\n"
        "  nod: {signals: {neck_pitch: 2.0, blink: 1.0}, offset: 0.25}\n"
    )
    component = make(robot=str(robot_yaml(tmp_path, ("expressions: {}", screens))))
    assert component.robot.arkit is not None
    smile = expression_of(made_bs2exp(), mouthSmileLeft=0.8, mouthSmileRight=0.4)
    component.handle("agent/motion", motion(0, START_NS + 100 * MS, smile), START_NS)
    face = face_at(component, START_NS + 700 * MS)
    assert face is not None
    assert face["mouth_curve"] == pytest.approx(0.6, abs=0.02)
    assert face["nod"] == pytest.approx(0.25)


def test_a_screen_without_a_map_gets_what_is_known_without_one(tmp_path: Path) -> None:
    screens = "screens:\n  mouth: {signals: {jawOpen: 1.0, mouthSmileLeft: 1.0}}\n"
    component = make(robot=str(robot_yaml(tmp_path, ("expressions: {}", screens))))
    numbers = np.full(50, 2.0)
    component.handle("agent/motion", motion(0, START_NS + 100 * MS, numbers, jaw_rad=0.2), START_NS)
    face = face_at(component, START_NS + 700 * MS)
    assert face is not None
    assert face["mouth"] == pytest.approx(0.5, abs=0.01)
    assert not shows_expression(face)
    assert component.report().values["expression_map"] == "none: expression is not shown"


def test_a_fitted_channel_counts_more_than_the_map(bs2exp: Path, tmp_path: Path) -> None:
    path = robot_yaml(tmp_path, ("expressions: {}", "expressions:\n  mouthSmileLeft: {0: 0.25}\n"))
    robot = load_robot(path, str(bs2exp))
    assert robot.expressions["mouthSmileLeft"].weights.tolist() == [0.25] + 49 * [0.0]
    assert robot.expressions["mouthSmileRight"].is_share


@pytest.mark.parametrize(
    ("old", "new_text", "said"),
    [
        (
            "mouthSmileLeft: 0.4",
            "mouthSmileLefft: 0.4",
            "no signal 'mouthSmileLefft'; did you mean 'mouthSmileL",
        ),
        (
            "expressions: {}",
            "screens: {eyebrow: {signals: {browUp: 1}}}",
            "no signal 'browUp'; did you mean 'brow",
        ),
        ("expressions: {}", "screens: {jawOpen: {signals: {jawOpen: 1}}}", "has the name of a blendshape"),
        ("expressions: {}", "screens: {a: {signals: {jawOpen: 1}, range: [1, 0]}}", "expected lower < upper"),
        ("expressions: {}", "expression_map: {file: nowhere.npy}", "No such file"),
    ],
)
def test_a_mistake_is_named_with_the_nearest_name(tmp_path: Path, old: str, new_text: str, said: str) -> None:
    with pytest.raises((ValueError, OSError), match=said):
        load_robot(robot_yaml(tmp_path, (old, new_text)))
