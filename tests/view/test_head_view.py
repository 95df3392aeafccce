from __future__ import annotations

import json
import urllib.request

import pytest
from timar_description import find_urdf
from timar_description.urdf import read_drawable_urdf
from timar_view.config import ViewConfig
from timar_view.scene import RobotScene
from timar_view.view import HeadView

BODY = read_drawable_urdf(find_urdf())


class FakeFrame:
    def __init__(self) -> None:
        self.wxyz = self.position = None


class FakeScene:
    """Takes what RobotScene adds, by name."""

    def __init__(self) -> None:
        self.frames: dict[str, FakeFrame] = {}
        self.shapes: list[str] = []

    def add_frame(self, name: str, **_: object) -> FakeFrame:
        return self.frames.setdefault(name, FakeFrame())

    def add_icosphere(self, name: str, *_: object, **__: object) -> None:
        self.shapes.append(name)

    add_cylinder = add_box = add_mesh_simple = add_icosphere


class FakeServer:
    def __init__(self) -> None:
        self.scene = FakeScene()


@pytest.fixture
def view():
    view = HeadView(ViewConfig(port=18_080), BODY)
    yield view
    view.close()


def test_every_shape_of_the_head_is_drawn_under_its_link() -> None:
    server = FakeServer()
    RobotScene(server, BODY)
    assert len(server.scene.shapes) == len(BODY.shapes)
    assert any(
        name.startswith("/robot/torso/neck_yaw_link/neck_pitch_link/head/jaw_link/")
        for name in server.scene.shapes
    )


def test_only_joints_that_moved_are_sent_and_mimics_with_them() -> None:
    scene = RobotScene(FakeServer(), BODY)
    pose = {joint.name: 0.0 for joint in BODY.actuated}
    scene.move(pose)
    assert scene.move(pose) == 0
    assert scene.move(pose | {"jaw": 0.2}) == 1
    assert scene.move(pose | {"jaw": 0.2, "eyes_yaw": 0.1}) == 2


def test_a_jaw_that_opens_turns_its_frame_about_y() -> None:
    server = FakeServer()
    RobotScene(server, BODY).move({"jaw": 0.4})
    w, x, y, z = server.scene.frames["/robot/torso/neck_yaw_link/neck_pitch_link/head/jaw_link"].wxyz
    assert (w, x, y, z) == pytest.approx((0.980067, 0.0, 0.198669, 0.0), abs=1e-6)


def test_joints_are_kept_by_name_and_unknown_ones_remembered(view: HeadView) -> None:
    view.update_joints(["jaw", "tail"], [0.2, 1.0])
    assert view.positions == {"jaw": 0.2}
    assert view.unknown_joints == {"tail"}


@pytest.mark.parametrize(
    ("names", "positions", "finding"),
    [
        (["jaw"], [], "1 joint names came with 0"),
        (["neck_yaw", "jaw"], [0.1, float("nan")], "joint jaw stands at nan"),
    ],
)
def test_broken_joint_states_are_refused_whole(
    view: HeadView, names: list, positions: list, finding: str
) -> None:
    with pytest.raises(ValueError, match=finding):
        view.update_joints(names, positions)
    assert view.positions == {}


def test_nothing_is_sent_while_nobody_looks(view: HeadView) -> None:
    assert not view.draw(0)
    view.open()
    assert view.lookers == 0
    assert not view.draw(0)
    assert view.draws == 0


def test_the_page_is_served_on_this_machine_alone_and_gone_after_close(view: HeadView) -> None:
    url = view.open()
    assert url.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(url, timeout=60) as page:
        assert page.status == 200
    view.close()
    view.close()
    with pytest.raises(OSError):
        urllib.request.urlopen(url, timeout=2)


def test_a_taken_port_gives_the_next_free_one() -> None:
    first, second = HeadView(ViewConfig(port=18_090), BODY), HeadView(ViewConfig(port=18_090), BODY)
    try:
        assert first.open() != second.open()
    finally:
        first.close()
        second.close()


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ViewConfig\.rate_hz is 0"):
        ViewConfig(rate_hz=0)
    assert json.dumps(ViewConfig().host) == '"127.0.0.1"'
