"""The drawn face follows ARKit's blendshapes, feature by feature, and says when there is no expression."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from timar_common.arkit import ARKIT_NAMES
from timar_common.messages import new
from timar_view.face import face_svg, shows_expression
from timar_view.panel import face_html
from timar_view.view_state import ViewState


def shape(part: str, **values: float) -> dict[str, str]:
    """Return the attributes of a part of the drawing."""
    root = ET.fromstring(face_svg(values))
    return next(element.attrib for element in root.iter() if element.get("id") == f"face-{part}")


def heights(path: str) -> list[float]:
    """Return every second number of an SVG path."""
    numbers = [float(word) for word in path.replace("M", " ").replace("Q", " ").replace("Z", " ").split()]
    return numbers[1::2]


def test_each_feature_moves_by_its_own_blendshapes() -> None:
    lid, raised = float(shape("lid-left")["height"]), float(shape("lid-left", eyeBlinkLeft=1.0)["height"])
    assert raised - lid == pytest.approx(32.0, abs=0.2), "a closed lid covers the eye"
    assert shape("lid-right", eyeBlinkLeft=1.0) == shape("lid-right")
    brow, up = heights(shape("brow-left")["d"]), heights(shape("brow-left", browInnerUp=1.0)["d"])
    assert up[0] < brow[0] - 15
    assert up[2] == brow[2], "its outer end stays"
    assert heights(shape("brow-right", browDownRight=1.0)["d"])[0] > brow[0] + 8
    mouth, smile = heights(shape("mouth")["d"]), heights(shape("mouth", mouthSmileLeft=1.0)["d"])
    assert smile[2] < mouth[2] - 20, "the left corner goes up"
    assert smile[0] == mouth[0]
    assert heights(shape("mouth", mouthFrownRight=1.0)["d"])[0] > mouth[0] + 15
    assert heights(shape("mouth", jawOpen=1.0)["d"])[3] > mouth[3] + 60
    assert float(shape("cheek-left", cheekPuff=1.0)["rx"]) > float(shape("cheek-left")["rx"]) + 10
    assert float(shape("cheek-left", mouthSmileLeft=1.0)["cy"]) < float(shape("cheek-left")["cy"]) - 5
    assert float(shape("iris-left", eyeLookOutLeft=1.0)["cx"]) > float(shape("iris-left")["cx"]) + 8


def test_the_subjects_left_is_at_the_right_of_the_page() -> None:
    assert float(shape("iris-left")["cx"]) > float(shape("iris-right")["cx"])


@pytest.mark.parametrize("value", [-3.0, 5.0])
def test_values_out_of_range_draw_as_the_nearest_that_can_be(value: float) -> None:
    wild = face_svg(dict.fromkeys(ARKIT_NAMES, value))
    assert wild == face_svg(dict.fromkeys(ARKIT_NAMES, min(max(value, 0.0), 1.0)))


def test_without_a_map_the_page_says_that_expression_is_not_shown() -> None:
    assert "Expression is not shown: no map" in face_html({})
    assert "<svg" not in face_html({})
    only_jaw = {"jawOpen": 0.5, "eyeBlinkLeft": 1.0, "eyeLookOutLeft": 0.2, "mouth": 0.1}
    assert "Expression is not shown" in face_html(only_jaw)
    assert "<svg" in face_html(only_jaw)
    assert "not shown" not in face_html(only_jaw | {"mouthSmileLeft": 0.0})
    assert not shows_expression(only_jaw)


def test_a_face_that_cannot_be_is_refused_and_the_last_one_stays() -> None:
    state, kind = ViewState((), 2.0), "sensor_msgs/msg/JointState"
    state.set_face(new(kind, name=["jawOpen"], position=[0.5]))
    for names, positions, said in (
        (["jawOpen"], [float("nan")], "blendshape jawOpen stands at nan"),
        (["jawOpen", "tongueOut"], [0.1], "2 blendshape names came with 1 positions"),
    ):
        with pytest.raises(ValueError, match=said):
            state.set_face(new(kind, name=names, position=positions))
    assert state.face == {"jawOpen": 0.5}
