"""Panel beside the head: voices, speech turns, floor, latency, joints against their limits, health."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import viser
import viser.uplot
from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.diagnostics import Level
from timar_description.urdf import UrdfJoint

from timar_view.face import NO_MAP, face_svg, shows_expression
from timar_view.sliders import JointSliders
from timar_view.view_state import EVENTS, HOLDERS, SILENCE_DBFS, SPEAKERS, ViewState

USER_COLOR = "#d9822b"
AGENT_COLOR = "#14727f"
WARN_COLOR = "#c0392b"
SPEAKER_COLORS = (USER_COLOR, AGENT_COLOR)
FLOOR_COLORS = {"IDLE": "#8a949c", "USER": USER_COLOR, "AGENT": AGENT_COLOR, "BOTH": "#8e5aa8"}
LEVEL_COLORS = {Level.OK: "#3a8f4d", Level.WARN: USER_COLOR, Level.ERROR: WARN_COLOR}
AT_LIMIT = 0.02
"""A joint within this fraction of its range from a limit is shown as being at it."""

# As wide as the other plot's, so that both show the same instant at the same place.
_BLANK_AXIS = viser.uplot.Axis(stroke="transparent", grid={"show": False}, ticks={"show": False})
_BOX = "padding:0 1em;font:13px/1.45 system-ui,sans-serif"


class Panel:
    """Three tabs: the conversation, the face, and the joints with sliders that move them.

    Args:
        server: The browser's server.
        joints: The joints to list.
    """

    def __init__(self, server: viser.ViserServer, joints: Sequence[UrdfJoint]) -> None:
        gui = server.gui
        self._joints = joints
        self._sent: dict[int, str] = {}
        tabs = gui.add_tab_group()
        with tabs.add_tab("Conversation"):
            self._voices = gui.add_html("")
            self._levels = _add_plot(gui, "Voices [dB, 0 = full scale]", SILENCE_DBFS, 5.0, 150)
            self._turns = _add_plot(
                gui,
                "Speech turns (user above, agent below)",
                0.0,
                2.0,
                110,
                axes=(viser.uplot.Axis(), _BLANK_AXIS),
            )
            self._latency = gui.add_html("")
            self._health = gui.add_html("")
        with tabs.add_tab("Face"):
            self._face = gui.add_html(face_html({}))
        with tabs.add_tab("Joints"):
            self._holder = gui.add_html("")
            self._positions = gui.add_html("")
            self.sliders = JointSliders(gui, joints)

    def draw(self, state: ViewState) -> None:
        """Send what changed."""
        traces = state.traces()
        user, agent = traces.level_dbfs
        self._levels.data = (traces.time_s, user, agent)
        user_turn, agent_turn = traces.is_turn
        self._turns.data = (traces.time_s, 1.2 + 0.7 * user_turn, 0.1 + 0.7 * agent_turn)
        self._write(self._voices, voices_html(state))
        self._write(self._latency, latency_html(state))
        self._write(self._health, health_html(state))
        self._write(self._holder, holder_html(state))
        self._write(self._positions, joints_html(self._joints, state.positions))
        self.sliders.set_positions(state.positions)

    def draw_face(self, state: ViewState) -> None:
        """Send the face when it changed; as often as the head, for lips are quick."""
        self._write(self._face, face_html(state.face))

    def _write(self, handle: viser.GuiHtmlHandle, content: str) -> None:
        if self._sent.get(id(handle)) != content:
            handle.content = content
            self._sent[id(handle)] = content


def voices_html(state: ViewState) -> str:
    """Show who holds the floor, since when, and how loud both voices are."""
    since_s = state.floor_since_sample / SAMPLE_RATE_HZ
    floor = (
        f'<span style="background:{FLOOR_COLORS[state.floor]};color:#fff;border-radius:1em;'
        f'padding:.1em .8em">{state.floor}</span> holds the floor since {since_s:.1f} s'
    )
    bars = "".join(map(_bar, SPEAKERS, state.level_dbfs, state.is_speaking, SPEAKER_COLORS))
    return f'<div style="{_BOX}">{floor}{bars}</div>'


def latency_html(state: ViewState) -> str:
    """Show what generation takes, how early motion comes, and the newest turn events."""
    compute, lead = state.compute_ms.summary(), state.lead_ms.summary()
    if compute:
        late = state.late_motions
        color = WARN_COLOR if late else LEVEL_COLORS[Level.OK]
        text = (
            f"compute {compute['p50']:.0f} ms (p95 {compute['p95']:.0f}), ready {lead['p50']:.0f} ms ahead, "
            f'<b style="color:{color}">{late} late</b> of {state.motion_messages}'
        )
    else:
        text = "no motion yet"
    events = "".join(
        f"<div>{event.sample / SAMPLE_RATE_HZ:8.2f} s&ensp;{SPEAKERS[event.speaker]} "
        f"{EVENTS[event.kind]}</div>"
        for event in reversed(state.events)
    )
    return f'<div style="{_BOX}"><div>{text}</div><div style="color:#667">{events}</div></div>'


def health_html(state: ViewState) -> str:
    """Show every node's diagnostics, one line each."""
    lines = "".join(
        f'<div><span style="color:{LEVEL_COLORS[level]}">&#9679;</span> {html.escape(name)}: '
        f"{html.escape(message)}</div>"
        for name, (level, message) in sorted(state.health.items())
    )
    return f'<div style="{_BOX}">{lines}</div>'


def face_html(values: Mapping[str, float]) -> str:
    """Draw the face, and say when its expression cannot be shown."""
    drawn = face_svg(values) if values else ""
    note = "" if shows_expression(values) else f"<div>{NO_MAP}</div>"
    return f'<div style="{_BOX}">{note}{drawn}</div>'


def holder_html(state: ViewState) -> str:
    """Show who moves the joints."""
    who = HOLDERS.get(state.holder, "not heard of (joints_held_by)")
    return f'<div style="{_BOX}">Moved by: <b>{who}</b></div>'


def joints_html(joints: Sequence[UrdfJoint], positions: Mapping[str, float]) -> str:
    """Show every joint's position between its limits; one at a limit is red."""
    rows = "".join(_joint_row(joint, positions.get(joint.name)) for joint in joints)
    return f'<div style="{_BOX};display:grid;grid-template-columns:auto 1fr auto;gap:.15em .6em">{rows}</div>'


def _joint_row(joint: UrdfJoint, position: float | None) -> str:
    if position is None:
        return f"<span>{html.escape(joint.name)}</span><span></span><span>not heard of</span>"
    span = max(joint.upper - joint.lower, 1e-9)
    fraction = (position - joint.lower) / span
    is_at_limit = not AT_LIMIT <= fraction <= 1 - AT_LIMIT
    # Lids, jaw and brows rest at a limit: only a limit away from zero is marked.
    color = WARN_COLOR if is_at_limit and abs(position) > AT_LIMIT * span else AGENT_COLOR
    dot = (
        '<span style="position:relative;background:#dde3e6;border-radius:3px;height:6px;align-self:center">'
        f'<span style="position:absolute;left:calc({100 * min(max(fraction, 0), 1):.1f}% - 4px);top:-2px;'
        f'width:8px;height:10px;border-radius:3px;background:{color}"></span></span>'
    )
    return f"<span>{html.escape(joint.name)}</span>{dot}<span>{position:+.2f}</span>"


def _bar(speaker: str, level_dbfs: float, is_speaking: bool, color: str) -> str:
    fraction = min(max(1 - level_dbfs / SILENCE_DBFS, 0.0), 1.0)
    weight = "bold" if is_speaking else "normal"
    return (
        '<div style="display:flex;gap:.6em;align-items:center">'
        f'<span style="width:3.2em;font-weight:{weight}">{speaker}</span>'
        '<span style="flex:1;background:#dde3e6;height:9px;border-radius:5px">'
        f'<span style="display:block;width:{100 * fraction:.0f}%;height:9px;border-radius:5px;'
        f'background:{color}"></span></span><span>{level_dbfs:.0f} dB</span></div>'
    )


def _add_plot(
    gui: viser.GuiApi, title: str, low: float, high: float, height: int, **options: Any
) -> viser.GuiUplotHandle:
    """Add a plot of one line per speaker over conversation time."""
    no_time = np.zeros(1)
    return gui.add_uplot(
        data=(no_time, no_time, no_time),
        series=(
            viser.uplot.Series(label="time [s]"),
            viser.uplot.Series(label="user", stroke=USER_COLOR, width=1.5),
            viser.uplot.Series(label="agent", stroke=AGENT_COLOR, width=1.5),
        ),
        scales={
            "x": viser.uplot.Scale(time=False, auto=True),
            "y": viser.uplot.Scale(auto=False, range=(low, high)),
        },
        title=title,
        legend=viser.uplot.Legend(show=False),
        height=height,
        **options,
    )
