"""The page: the robot drawn once and moved by what changed, served on this machine alone."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import pytest
from timar_description import find_urdf
from timar_description.urdf import read_drawable_urdf
from timar_view.config import ViewConfig
from timar_view.page import HeadPage
from timar_view.scene import RobotScene
from timar_view.view_state import ViewState

ROBOT = read_drawable_urdf(find_urdf())


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
def page() -> Iterator[HeadPage]:
    page = HeadPage(ViewConfig(port=18_080), ROBOT)
    yield page
    page.close()


def test_every_shape_of_the_head_is_drawn_under_its_link() -> None:
    server = FakeServer()
    RobotScene(server, ROBOT)
    assert len(server.scene.shapes) == len(ROBOT.shapes)
    assert any(
        name.startswith("/robot/torso/neck_yaw_link/neck_pitch_link/head/jaw_link/")
        for name in server.scene.shapes
    )


def test_only_joints_that_moved_are_sent_and_mimics_with_them() -> None:
    scene = RobotScene(FakeServer(), ROBOT)
    pose = {joint.name: 0.0 for joint in ROBOT.actuated}
    scene.move(pose)
    assert scene.move(pose) == 0
    assert scene.move(pose | {"jaw": 0.2}) == 1
    assert scene.move(pose | {"jaw": 0.2, "eyes_yaw": 0.1}) == 2


def test_a_jaw_that_opens_turns_its_frame_about_y() -> None:
    server = FakeServer()
    RobotScene(server, ROBOT).move({"jaw": 0.4})
    w, x, y, z = server.scene.frames["/robot/torso/neck_yaw_link/neck_pitch_link/head/jaw_link"].wxyz
    assert (w, x, y, z) == pytest.approx((0.980067, 0.0, 0.198669, 0.0), abs=1e-6)


def test_nothing_is_sent_while_nobody_looks(page: HeadPage) -> None:
    state = ViewState(ROBOT.joints, 2.0)
    assert not page.draw(state, 0)
    page.open()
    assert page.viewers == 0
    assert not page.draw(state, 0)
    assert page.draws == 0
    assert page.targets() == {}


def test_the_page_is_served_on_this_machine_alone_and_gone_after_close(page: HeadPage) -> None:
    url = page.open()
    assert url.startswith("http://127.0.0.1:")
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with browser.open(url, timeout=60) as answer:
        assert answer.status == 200
    page.close()
    page.close()
    with pytest.raises(OSError):
        urllib.request.urlopen(url, timeout=2)


def test_a_taken_port_gives_the_next_free_one() -> None:
    first, second = HeadPage(ViewConfig(port=18_090), ROBOT), HeadPage(ViewConfig(port=18_090), ROBOT)
    try:
        assert first.open() != second.open()
    finally:
        first.close()
        second.close()
