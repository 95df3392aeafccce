"""Draws one conversation: voices, floor, neck, jaw, joints against their limits, latencies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from timar_bag.conversation import COMMIT_UNSAMPLED, EVENT_NAMES, FLOOR_NAMES, GENERATE, Conversation
from timar_bag.joint_track import Floats, Integers
from timar_bag.voice import HOP_SAMPLES, SILENCE_DBFS, Voice

from timar_report.lips import JAW
from timar_report.measure import Measured

SIZE_INCH = (12.0, 12.5)
DPI = 100
BIN_MS = 20.0
# Okabe and Ito's palette, which the colour-blind tell apart.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#DDDDDD",
)
INK = "#333333"
FLOOR_COLOURS = dict(zip(FLOOR_NAMES, (GREY, BLUE, ORANGE, PURPLE), strict=True))
NECK = (
    ("neck_yaw", "turn (yaw)", BLUE),
    ("neck_pitch", "nod (pitch)", VERMILION),
    ("neck_roll", "tilt (roll)", GREEN),
)
EVENT_MARKS = dict(zip(EVENT_NAMES, (">", "s", "D", "X"), strict=True))


def save_picture(measured: Measured, path: Path, title: str = "") -> None:
    """Draw a conversation into a PNG file, whole or not at all.

    Args:
        measured: The conversation and its numbers.
        path: The file.
        title: What was run; what the bag tells unless given.
    """
    figure = draw(measured, title)
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(part, format="png", dpi=DPI)
    os.replace(part, path)


def draw(measured: Measured, title: str = "") -> Figure:
    """Draw a conversation on one page; a panel without data says so."""
    figure = Figure(figsize=SIZE_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title or _title(measured), x=0.01, ha="left", fontsize=14, fontweight="bold", color=INK)
    rows = figure.add_gridspec(5, 2, height_ratios=(1.5, 0.62, 1.5, 1.5, 2.6))
    voices = figure.add_subplot(rows[0, :])
    time_panels = [voices, *(figure.add_subplot(rows[row, :], sharex=voices) for row in (1, 2, 3))]
    clock = _Clock(measured.conversation)
    for panel, paint in zip(time_panels, (_voices, _floor, _neck, _jaw), strict=True):
        paint(panel, measured, clock)
        _plain(panel)
        panel.tick_params(labelbottom=panel is time_panels[-1])
    voices.set_xlim(0.0, max(clock.end_s, 0.1))
    time_panels[-1].set_xlabel("time on the conversation clock [s]")
    _joints(figure.add_subplot(rows[4, 0]), measured)
    _latency(figure, rows[4, 1], measured)
    return figure


class _Clock:
    """Seconds on the conversation clock."""

    def __init__(self, conversation: Conversation) -> None:
        known = [
            conversation.voices[t]
            for t in ("user/audio_raw", "user/audio", "agent/audio")
            if t in conversation.voices
        ]
        self._begin_ns = int(known[0].time_ns(0)) if known else conversation.begin_ns
        self.end_s = max(
            (v.end_sample / 16_000 for v in known), default=(conversation.end_ns - self._begin_ns) / 1e9
        )

    def of(self, time_ns: Integers) -> Floats:
        """Return the seconds since sample 0."""
        return (time_ns - self._begin_ns) / 1e9


def _voices(panel: Axes, measured: Measured, clock: _Clock) -> None:
    voices = measured.conversation.voices
    user, agent = voices.get("user/audio_raw") or voices.get("user/audio"), voices.get("agent/audio")
    panel.set_title("Voices", loc="left")
    for voice, sign, colour in ((user, 1.0, BLUE), (agent, -1.0, ORANGE)):
        if voice is not None:
            _envelope(panel, voice, sign, colour)
    handles = [Patch(color=BLUE, label="user"), Patch(color=ORANGE, label="agent, as heard")]
    if user is not None and _mark_losses(panel, user):
        handles.append(Patch(facecolor="none", edgecolor=VERMILION, hatch="////", label="lost sound"))
    if user is None and agent is None:
        _say_nothing(panel, "no sound recorded")
    panel.axhline(0.0, color=INK, linewidth=0.6)
    loudest = max((float(voice.peak.max()) for voice in (user, agent) if voice is not None), default=1.0)
    panel.set_ylim(-1.05 * max(loudest, 0.01), 1.05 * max(loudest, 0.01))
    panel.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    panel.set_ylabel("of full scale")
    _legend(panel, handles)


def _envelope(panel: Axes, voice: Voice, sign: float, colour: str) -> None:
    """Draw peak (light) and root mean square (full), at most some thousand points wide."""
    width = max(1, voice.peak.size // 1500)
    count = -(-voice.peak.size // width) * width
    peak = np.pad(voice.peak, (0, count - voice.peak.size)).reshape(-1, width).max(axis=1)
    power = np.pad(voice.mean_square, (0, count - voice.peak.size)).reshape(-1, width).mean(axis=1)
    first_hop = voice.envelope_first_sample / HOP_SAMPLES
    seconds = (first_hop + (np.arange(peak.size) + 0.5) * width) * HOP_SAMPLES / 16_000
    panel.fill_between(seconds, sign * peak, 0.0, color=colour, alpha=0.35, linewidth=0)
    panel.fill_between(seconds, sign * np.sqrt(power), 0.0, color=colour, linewidth=0)


def _mark_losses(panel: Axes, voice: Voice) -> bool:
    """Hatch where the user's sound is missing or was filled with silence."""
    first, length = voice.block_first_sample, voice.block_samples
    spans = [(a, b) for a, b in zip((first + length)[:-1], first[1:], strict=True) if b > a]
    spans += [(a, a + n) for a, n, filled in zip(first, length, voice.block_filled, strict=True) if filled]
    for begin, end in spans:
        panel.axvspan(
            begin / 16_000,
            end / 16_000,
            ymin=0.5,
            facecolor="none",
            edgecolor=VERMILION,
            hatch="////",
            linewidth=0.6,
        )
    return bool(spans)


def _floor(panel: Axes, measured: Measured, clock: _Clock) -> None:
    conversation = measured.conversation
    panel.set_title("Who holds the floor, and what was noticed", loc="left")
    changes = conversation.floor
    ends = [change.since_sample for change in changes[1:]] + [round(clock.end_s * 16_000)]
    for change, end in zip(changes, ends, strict=False):
        if change.state < len(FLOOR_NAMES):
            colour = FLOOR_COLOURS[FLOOR_NAMES[change.state]]
            panel.barh(
                0.0,
                (end - change.since_sample) / 16_000,
                left=change.since_sample / 16_000,
                height=0.7,
                color=colour,
            )
    for event in conversation.events:
        if event.kind < len(EVENT_NAMES) and event.speaker < 2:
            seconds = (event.first_sample if event.kind == 0 else event.end_sample) / 16_000
            height, colour = ((0.75, BLUE), (-0.75, VERMILION))[event.speaker]
            panel.plot(seconds, height, EVENT_MARKS[EVENT_NAMES[event.kind]], color=colour, markersize=5)
    troubled = [
        d for d in conversation.decisions if d.kind == COMMIT_UNSAMPLED or (d.kind == GENERATE and d.is_late)
    ]
    for decision in troubled:
        panel.plot(decision.first_frame / 25, 0.0, "|", color="black", markersize=14, markeredgewidth=2)
    seen = {EVENT_NAMES[event.kind] for event in conversation.events if event.kind < len(EVENT_NAMES)}
    handles: list[Patch | Line2D] = [
        Patch(color=colour, label=name) for name, colour in FLOOR_COLOURS.items()
    ]
    handles += [_mark(EVENT_MARKS[name], name) for name in EVENT_NAMES if name in seen]
    if troubled:
        handles.append(_mark("|", "late turn"))
    _legend(panel, handles)
    panel.set_ylim(-1.1, 1.1)
    panel.set_yticks((-0.75, 0.75), ("agent", "user"))
    if not changes and not conversation.events:
        _say_nothing(panel, "nothing recorded about the floor")


def _neck(panel: Axes, measured: Measured, clock: _Clock) -> None:
    panel.set_title("Neck, as commanded", loc="left")
    drawn = [_line(panel, measured, clock, name, label, colour) for name, label, colour in NECK]
    panel.axhline(0.0, color=INK, linewidth=0.5, alpha=0.5)
    panel.set_ylabel("angle [°]")
    if any(drawn):
        _legend(panel)
    else:
        _say_nothing(panel, "no command for a neck joint")


def _jaw(panel: Axes, measured: Measured, clock: _Clock) -> None:
    jaw = measured.jaw
    said = ""
    if jaw.correlation is not None and jaw.lag_ms is not None:
        side = "behind" if jaw.lag_ms >= 0 else "before"
        said = f": correlation {jaw.correlation:.2f}, {abs(jaw.lag_ms):.0f} ms {side} the voice"
    panel.set_title(f"Jaw and the agent's voice{said}", loc="left")
    voice = measured.conversation.voices.get("agent/audio")
    if voice is not None:
        level = panel.twinx()
        width = max(1, voice.mean_square.size // 3000)
        level.fill_between(
            voice.hop_samples[::width] / 16_000,
            SILENCE_DBFS,
            voice.level_dbfs()[::width],
            color=GREY,
            linewidth=0,
        )
        level.set_ylim(SILENCE_DBFS, 0.0)
        level.set_ylabel("level [dBFS]")
        _plain(level)
        level.grid(visible=False)
        panel.set_zorder(level.get_zorder() + 1)
        panel.patch.set_visible(False)
    if not _line(panel, measured, clock, JAW, "jaw, as commanded", VERMILION):
        _say_nothing(panel, "no command for a joint named jaw")
    panel.set_ylabel("angle [°]")
    handles, _ = panel.get_legend_handles_labels()
    _legend(panel, [*handles, Patch(color=GREY, label="level of the agent's voice")])


def _line(panel: Axes, measured: Measured, clock: _Clock, name: str, label: str, colour: str) -> bool:
    time_ns, position_rad = measured.conversation.commands.of(name)
    if not time_ns.size:
        return False
    every = max(1, time_ns.size // 4000)
    panel.plot(
        clock.of(time_ns[::every]),
        np.degrees(position_rad[::every]),
        color=colour,
        linewidth=1.2,
        label=label,
    )
    return True


def _joints(panel: Axes, measured: Measured) -> None:
    """Draw each joint's commanded range as a share of what its limits allow."""
    panel.set_title("Joint commands between their limits", loc="left")
    commands = measured.conversation.commands
    names = [name for name in sorted(commands.names, reverse=True) if name in measured.limits]
    for row, name in enumerate(names):
        limit = measured.limits[name]
        _, position = commands.of(name)
        share = (position - limit.lower_rad) / (limit.upper_rad - limit.lower_rad)
        low, quarter, middle, three_quarters, high = np.percentile(share, (0, 5, 50, 95, 100))
        hits = measured.numbers["joints"][name]["limit_hits"]
        colour = VERMILION if hits else BLUE
        panel.plot((0.0, 1.0), (row, row), color=GREY, linewidth=7, solid_capstyle="butt")
        panel.plot((low, high), (row, row), color=colour, linewidth=2, solid_capstyle="butt")
        panel.plot((quarter, three_quarters), (row, row), color=colour, linewidth=7, solid_capstyle="butt")
        panel.plot(middle, row, "|", color="white", markersize=7, markeredgewidth=1.5)
        fastest = measured.numbers["joints"][name]["max_velocity_rad_s"]
        text = f"{fastest:.1f} rad/s" + (f", {hits} {'hit' if hits == 1 else 'hits'}" if hits else "")
        panel.text(1.03, row, text, va="center", fontsize=8, color=INK)
    panel.set_yticks(range(len(names)), names)
    panel.set_xticks((0.0, 0.5, 1.0), ("lower limit", "middle", "upper limit"))
    panel.set_xlim(-0.03, 1.32)
    panel.set_xlabel("thick: 5 to 95 %, thin: all, white: median; right: highest velocity")
    _plain(panel)
    panel.grid(visible=False)
    if not names:
        _say_nothing(panel, "no commands, or the robot's limits are not known")


def _latency(figure: Figure, place: SubplotSpec, measured: Measured) -> None:
    """Draw the time a turn takes to compute above the time a sound takes to the joints, on one scale."""
    rows = place.subgridspec(2, 1)
    above = figure.add_subplot(rows[0])
    below = figure.add_subplot(rows[1], sharex=above)
    compute = np.array([d.compute_ms for d in measured.conversation.decisions if d.kind == GENERATE])
    total = measured.sound.total_ms
    floor_ms = measured.numbers["latency_ms"]["floor"]
    _histogram(above, compute, "Compute", ORANGE)
    _histogram(below, total, "Microphone to joint", BLUE)
    if floor_ms is not None:
        label = f"floor {floor_ms:.0f} ms"
        below.axvline(floor_ms, color="black", linewidth=1.5, linestyle=":", label=label)
    for panel in (above, below):
        panel.set_ylabel("share [%]")
        panel.set_xlim(left=0.0)
        _legend(panel)
        _plain(panel)
    above.tick_params(labelbottom=False)
    below.set_xlabel("[ms]")


def _histogram(panel: Axes, values: Floats, title: str, colour: str) -> None:
    panel.set_title(title, loc="left")
    if not values.size:
        _say_nothing(panel, "no turn reached the joints")
        return
    bins = np.arange(0.0, float(values.max()) + BIN_MS + 1.0, BIN_MS).tolist()
    panel.hist(values, bins, weights=np.full(values.size, 100.0 / values.size), color=colour, rwidth=0.94)
    p50, p95 = np.percentile(values, (50, 95))
    label = f"p50 {p50:.0f}, p95 {p95:.0f} ms"
    panel.axvline(p95, color=INK, linewidth=1.5, linestyle="--", label=label)


def _legend(panel: Axes, handles: Sequence[Artist] = ()) -> None:
    """Put the legend above the panel, at its right, where it hides nothing."""
    panel.legend(
        handles=handles or panel.get_legend_handles_labels()[0],
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=9,
        fontsize=8,
        frameon=False,
        borderaxespad=0.2,
        handlelength=1.2,
        columnspacing=1.2,
    )


def _mark(marker: str, label: str) -> Line2D:
    return Line2D([], [], color=INK, marker=marker, linestyle="none", markersize=5, label=label)


def _plain(panel: Axes) -> None:
    """Take away what carries no information."""
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    panel.grid(visible=True, axis="x", color=GREY, linewidth=0.5)
    panel.set_axisbelow(True)
    panel.title.set_fontsize(10)


def _say_nothing(panel: Axes, why: str) -> None:
    panel.text(0.5, 0.5, why, transform=panel.transAxes, ha="center", va="center", color=INK)


def _title(measured: Measured) -> str:
    numbers = measured.numbers
    model = (numbers["model"] or "unknown")[:8]
    return (
        f"{numbers['duration_s']:.1f} s of conversation, {numbers['turns']} turns "
        f"({numbers['late_turns']} late), engine {numbers['engine'] or 'unknown'}, model {model}"
    )
