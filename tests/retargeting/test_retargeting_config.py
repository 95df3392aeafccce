"""Parameters and robot files refuse what cannot be, and name it."""

from __future__ import annotations

import math

import pytest
from timar_common.config import current_name, describe
from timar_description.find import find_joint_map, find_urdf
from timar_retargeting.config import RetargetingConfig
from timar_retargeting.expressions import MeshChannel
from timar_retargeting.robot import load_robot

NUMBERS = {
    name: description
    for name, description in describe(RetargetingConfig).items()
    if not isinstance(getattr(RetargetingConfig(), name), (bool, str, tuple))
}


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_a_range_and_keeps_to_it(name: str) -> None:
    low, high = NUMBERS[name].minimum, NUMBERS[name].maximum
    assert low is not None
    assert high is not None
    for value in (low - 1, high + 1, math.nan, math.inf, "1"):
        with pytest.raises(ValueError, match=rf"{name} is "):
            RetargetingConfig(**{name: value})


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ("life", "idle_behavior"),
        ("headway_ms", "min_lead_ms"),
        ("patience_s", "hold_s"),
        ("life_horizon_s", "idle_only_horizon_s"),
    ],
)
def test_a_former_name_of_a_parameter_means_the_present_one(former: str, now: str) -> None:
    assert current_name(RetargetingConfig, former) == now


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("velocity_rad_s", "0"),
        ("velocity_rad_s", "1e9"),
        ("acceleration_rad_s2", "-5"),
        ("acceleration_rad_s2", ".nan"),
        ("bandwidth_hz", "0"),
        ("bandwidth_hz", "50"),
        ("servo_delay_s", "-0.1"),
        ("servo_delay_s", "2"),
        ("position_rad", "[0.3, -0.3]"),
        ("position_rad", "[-.inf, 0.3]"),
        ("soft_limits_rad", "[-3, 3]"),
        ("offset_rad", ".nan"),
        ("offset_rad", "2"),
        ("dead_zone_rad", "-0.1"),
        ("sign", "0.5"),
        ("signals", "{neck_yaw: .inf}"),
        ("coupling", "{neck_yaw: .nan}"),
        ("stops", "[never]"),
    ],
)
def test_a_joint_of_a_robot_file_refuses_what_cannot_be(key: str, value: str, tmp_path) -> None:
    lines = find_joint_map().read_text("utf-8").splitlines()
    joint = lines.index("  neck_pitch:")
    lines = [line for n, line in enumerate(lines) if not (n > joint and n < joint + 7 and f" {key}:" in line)]
    lines.insert(joint + 1, f"    {key}: {value}")
    path = tmp_path / "head.yaml"
    path.write_text("\n".join(lines).replace("timar_head.urdf", str(find_urdf())), "utf-8")
    with pytest.raises(ValueError, match=r"head\.yaml, line \d+, joints") as error:
        load_robot(path)
    assert key.split("_")[0] in str(error.value) or "neutral position 2 lies outside" in str(error.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("loudspeaker_delay_s: 0.0", "loudspeaker_delay_s: -0.1"),
        ("loudspeaker_delay_s: 0.0", "loudspeaker_delay_s: 30"),
        ("neck_rad: [0.0, 0.0, 0.0]", "neck_rad: [0.0, 4.0, 0.0]"),
        ("jaw_rad: 0.0", "jaw_rad: .nan"),
        ("origin_m: [0.062, 0.0, 0.3]", "origin_m: [62, 0.0, 300]"),
        ("expressions: {}", "expressions: {grin: {50: 1.0}}"),
        ("expressions: {}", "expressions: {grin: {3: .inf}}"),
    ],
)
def test_a_robot_file_refuses_what_cannot_be(old: str, new: str, tmp_path) -> None:
    path = tmp_path / "head.yaml"
    text = find_joint_map().read_text("utf-8").replace("timar_head.urdf", str(find_urdf()))
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")
    with pytest.raises(ValueError, match=r"head\.yaml, line \d+"):
        load_robot(path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (((), (0.0, 1.0, 0.0)), "vertices is empty"),
        (((1,), (0.0, 0.0, 0.0)), "direction is"),
        (((1,), (0.0, math.nan, 0.0)), "direction is"),
        (((1,), (0.0, 1.0, 0.0), (), 0.0), "full_m is 0"),
    ],
)
def test_a_channel_of_a_mesh_refuses_what_cannot_be(arguments: tuple, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MeshChannel(*arguments)
