"""A drawn face that follows ARKit's blendshapes, as SVG: brows, lids, gaze, cheeks, nose, lips, jaw.

The drawing looks at the viewer, so its left is at the right of the page. Lengths are in units of the drawing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from timar_common.arkit import ARKIT_NAMES

Shape = Callable[[str], float]
"""Value of a blendshape by its name, 0 to 1."""

WIDTH, HEIGHT, MIDDLE = 320, 330, 160.0
EYE_X, EYE_Y, EYE_RX, EYE_RY = 52.0, 130.0, 25.0, 16.0
"""Place of an eye from the middle, and its half axes."""
SKIN, SHADE, LINE, LIP, IRIS, CHEEK = "#f3ddcb", "#e6c5ae", "#6b4a3a", "#b4534f", "#14727f", "#eba896"
WITHOUT_MAP = frozenset(
    ["jawOpen"]
    + [f"{name}{side}" for name in ("eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp")
       for side in ("Left", "Right")]
)  # fmt: skip
"""What a face can do without a map: the jaw is FLAME's own joint, blinks and gaze are idle behavior."""
NO_MAP = (
    "Expression is not shown: no map from FLAME's expression to ARKit's blendshapes is given "
    "(<code>expression_map</code>, docs/retargeting.md)."
)


def shows_expression(values: Mapping[str, float]) -> bool:
    """Tell whether any of the blendshapes needs a map, so that there is one."""
    return any(name in ARKIT_NAMES and name not in WITHOUT_MAP for name in values)


def face_svg(values: Mapping[str, float]) -> str:
    """Draw the face.

    Args:
        values: Blendshapes by ARKit's name, 0 to 1; those left out are 0.
    """

    def at(name: str) -> float:
        return min(max(values.get(name, 0.0), 0.0), 1.0)

    jaw = at("jawOpen")
    chin_y = 300.0 + 20.0 * jaw
    skull = f"M50 130 C50 20 270 20 270 130 C270 220 240 {chin_y:.1f} 160 {chin_y:.1f}"
    skull += f" C80 {chin_y:.1f} 50 220 50 130 Z"
    parts = [_tag("path", id="face-skull", d=skull, fill=SKIN, stroke=SHADE, stroke_width=3)]
    for side, sign in (("Right", -1.0), ("Left", 1.0)):
        parts += [_cheek(at, side, sign), _eye(at, side, sign), _brow(at, side, sign)]
    y = 150.0 - 2.5 * (at("noseSneerLeft") + at("noseSneerRight"))
    nose = f"M154 {y:.1f} L150 {y + 36:.1f} Q160 {y + 44:.1f} 170 {y + 36:.1f}"
    parts += [_stroke(nose, SHADE, 4.0), *_mouth(at)]
    style = 'width="100%" style="max-height:24em" role="img" aria-label="the face"'
    return f'<svg id="face" viewBox="0 0 {WIDTH} {HEIGHT}" {style}>{"".join(parts)}</svg>'


def _mouth(at: Shape) -> list[str]:
    def both(name: str) -> float:
        return 0.5 * (at(f"{name}Left") + at(f"{name}Right"))

    jaw, funnel, pucker = at("jawOpen"), at("mouthFunnel"), at("mouthPucker")
    middle = MIDDLE + 14.0 * (at("mouthLeft") - at("mouthRight"))
    corners = []
    for side, sign in (("Right", -1.0), ("Left", 1.0)):
        smile, frown = at(f"mouthSmile{side}"), at(f"mouthFrown{side}")
        wide = 0.25 * smile + 0.25 * at(f"mouthStretch{side}") + 0.1 * at(f"mouthDimple{side}")
        x = middle + sign * 42.0 * (1.0 + wide - 0.45 * pucker - 0.25 * funnel)
        corners.append((x, 232.0 - 24.0 * smile + 20.0 * frown + 8.0 * jaw))
    (right_x, right_y), (left_x, left_y) = corners
    upper_y = 230.0 - 12.0 * both("mouthUpperUp") - 6.0 * at("mouthShrugUpper")
    lower_y = 236.0 + 52.0 * jaw * (1.0 - at("mouthClose")) + 10.0 * funnel
    lower_y += 12.0 * both("mouthLowerDown") - 6.0 * at("mouthShrugLower")
    # A quadratic curve passes half way between its control point and its ends.
    ends_y = 0.5 * (right_y + left_y)
    lips = f"M{right_x:.1f} {right_y:.1f} Q{middle:.1f} {2 * upper_y - ends_y:.1f} {left_x:.1f} {left_y:.1f}"
    lips += f" Q{middle:.1f} {2 * lower_y - ends_y:.1f} {right_x:.1f} {right_y:.1f} Z"
    thick = 7.0 + 5.0 * pucker - 3.0 * both("mouthPress") - 2.0 * at("mouthRollLower")
    drawn = [_tag("path", id="face-mouth", d=lips, fill="#5a1f22", stroke=LIP, stroke_width=thick)]
    if tongue := at("tongueOut"):
        drawn.append(_tag("ellipse", cx=middle, cy=lower_y, rx=14, ry=16 * tongue, fill=LIP))
    return drawn


def _cheek(at: Shape, side: str, sign: float) -> str:
    puff, raised = at("cheekPuff"), max(at(f"cheekSquint{side}"), 0.6 * at(f"mouthSmile{side}"))
    return _tag(
        "ellipse",
        id=f"face-cheek-{side.lower()}",
        cx=MIDDLE + sign * (66.0 + 8.0 * puff),
        cy=196.0 - 14.0 * raised,
        rx=21.0 + 13.0 * puff,
        ry=14.0 + 13.0 * puff,
        fill=CHEEK,
        opacity=f"{0.35 + 0.4 * max(puff, raised):.2f}",
    )


def _eye(at: Shape, side: str, sign: float) -> str:
    key, x = side.lower(), MIDDLE + sign * EYE_X
    out = at(f"eyeLookOut{side}") - at(f"eyeLookIn{side}")
    down = at(f"eyeLookDown{side}") - at(f"eyeLookUp{side}")
    height = EYE_RY * (1.0 + 0.3 * at(f"eyeWide{side}"))
    # The upper lid comes down to the lower one, which a squint or a raised cheek lifts.
    squint = max(at(f"eyeSquint{side}"), 0.7 * at(f"cheekSquint{side}"))
    lower_y = EYE_Y + height * (1.0 - 0.55 * squint)
    upper_y = EYE_Y - height + (lower_y - EYE_Y + height) * at(f"eyeBlink{side}")
    left, top, bottom = x - EYE_RX, EYE_Y - 2.0 * EYE_RY, EYE_Y + 2.0 * EYE_RY
    iris = {"cx": x + sign * 11.0 * out, "cy": EYE_Y + 7.0 * down}
    rim = {"cx": x, "cy": EYE_Y, "rx": EYE_RX, "ry": height}
    lid: dict[str, str | float] = {"x": left, "width": 2.0 * EYE_RX, "fill": SHADE}
    inside = [
        _tag("rect", x=left, y=top, width=2.0 * EYE_RX, height=bottom - top, fill="#fff"),
        _tag("circle", id=f"face-iris-{key}", **iris, r=10, fill=IRIS),
        _tag("circle", **iris, r=4.5, fill="#10262b"),
        _tag("rect", id=f"face-lid-{key}", **lid, y=top, height=upper_y - top),
        _tag("rect", **lid, y=lower_y, height=bottom - lower_y),
    ]
    return (
        f'<clipPath id="face-socket-{key}">{_tag("ellipse", **rim)}</clipPath>'
        f'<g clip-path="url(#face-socket-{key})">{"".join(inside)}</g>'
        f"{_tag('ellipse', **rim, fill='none', stroke=LINE, stroke_width=2.5)}"
    )


def _brow(at: Shape, side: str, sign: float) -> str:
    down = 13.0 * at(f"browDown{side}")
    inner_y = 100.0 - 20.0 * at("browInnerUp") + down
    outer_y = 102.0 - 20.0 * at(f"browOuterUp{side}") + 0.4 * down
    inner_x, outer_x = MIDDLE + sign * (26.0 - 0.3 * down), MIDDLE + sign * 84.0
    arch_x, arch_y = MIDDLE + sign * 58.0, 0.5 * (inner_y + outer_y) - 14.0 + 0.3 * down
    brow = f"M{inner_x:.1f} {inner_y:.1f} Q{arch_x:.1f} {arch_y:.1f} {outer_x:.1f} {outer_y:.1f}"
    return _stroke(brow, LINE, 8.0, f"face-brow-{side.lower()}")


def _stroke(path: str, color: str, width: float, key: str = "face-nose") -> str:
    return _tag("path", id=key, d=path, fill="none", stroke=color, stroke_width=width, stroke_linecap="round")


def _tag(kind: str, **attributes: str | float) -> str:
    """Write an SVG element; stroke_width stands for stroke-width."""
    written = (
        f'{name.replace("_", "-")}="{value if isinstance(value, str) else format(value, ".1f")}"'
        for name, value in attributes.items()
    )
    return f"<{kind} {' '.join(written)}/>"
