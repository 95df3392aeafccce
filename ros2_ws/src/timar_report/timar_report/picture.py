"""Draws one conversation: voices, floor, neck, jaw, joints against their limits, latencies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from timar_bag.conversation import COMMIT_SKIPPED, EVENT_NAMES, FLOOR_NAMES, START
from timar_bag.joint_track import Floats
from timar_bag.voice import HOP_SAMPLES, SILENCE_DBFS, RecordedVoice
from timar_common.atomic import replacing_file
from timar_common.clock import FRAMES_PER_SECOND, SAMPLE_RATE_HZ

from timar_report.lips import JAW
from timar_report.summary import MeasuredConversation

SIZE_INCH = (12.0, 12.5)
DPI = 100
BIN_MS = 20.0
# Okabe and Ito's palette, which the colour-blind tell apart.
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
VERMILION, PURPLE, GREY = "#D55E00", "#CC79A7", "#DDDDDD"
INK = "#333333"
FLOOR_COLOURS = dict(zip(FLOOR_NAMES, (GREY, BLUE, ORANGE, PURPLE), strict=True))
NECK = (
    ("neck_yaw", "turn (yaw)", BLUE),
    ("neck_pitch", "nod (pitch)", VERMILION),
    ("neck_roll", "tilt (roll)", GREEN),
)  # fmt: skip
EVENT_MARKS = dict(zip(EVENT_NAMES, (">", "s", "D", "X", "v", "P", "^", "."), strict=True))


def save_picture(measured: MeasuredConversation, path: Path, title: str = "") -> None:
    """Draw a conversation into a PNG file, whole or not at all.

    Args:
        measured: The conversation and its numbers.
        path: The file.
        title: What was run; what the bag says unless given.
    """
    with replacing_file(path) as scratch:
        draw(measured, title).savefig(scratch, format="png", dpi=DPI)


def draw(measured: MeasuredConversation, title: str = "") -> Figure:
    """Draw a conversation on one page; a panel without data says so."""
    return _Page(measured).draw(title)


class _Page:
    """The page of one conversation."""

    def __init__(self, measured: MeasuredConversation) -> None:
        self._measured, self._conversation = measured, measured.conversation
        self._user, self._agent = (
            self._conversation.raw_user_voice,
            self._conversation.voices.get("agent/audio"),
        )
        clock = self._user or self._agent
        self._begin_ns = int(clock.time_ns(0)) if clock else self._conversation.begin_ns
        ends = [voice.end_sample / SAMPLE_RATE_HZ for voice in self._conversation.voices.values()]
        self._end_s = max(ends, default=(self._conversation.end_ns - self._begin_ns) / 1e9)

    def draw(self, title: str) -> Figure:
        figure = Figure(figsize=SIZE_INCH, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title or self._title(), x=0.01, ha="left", fontsize=14, fontweight="bold", color=INK)
        rows = figure.add_gridspec(5, 2, height_ratios=(1.5, 0.62, 1.5, 1.5, 2.6))
        voices = figure.add_subplot(rows[0, :])
        time_panels = [voices, *(figure.add_subplot(rows[row, :], sharex=voices) for row in (1, 2, 3))]
        for panel, paint in zip(time_panels, (self._voices, self._floor, self._neck, self._jaw), strict=True):
            paint(panel)
            _plain(panel)
            panel.tick_params(labelbottom=panel is time_panels[-1])
        voices.set_xlim(0.0, max(self._end_s, 0.1))
        time_panels[-1].set_xlabel("time on the conversation clock [s]")
        self._joints(figure.add_subplot(rows[4, 0]))
        latency = rows[4, 1].subgridspec(2, 1)
        compute = figure.add_subplot(latency[0])
        self._latency(compute, figure.add_subplot(latency[1], sharex=compute))
        return figure

    def _title(self) -> str:
        numbers = self._measured.numbers
        model = (numbers["model"] or "unknown")[:8]
        return (
            f"{numbers['duration_s']:.1f} s of conversation, {numbers['turns']} turns "
            f"({numbers['late_turns']} late), engine {numbers['engine'] or 'unknown'}, model {model}"
        )

    def _voices(self, panel: Axes) -> None:
        panel.set_title("Voices", loc="left")
        loudest = 0.01
        for voice, sign, colour in ((self._user, 1.0, BLUE), (self._agent, -1.0, ORANGE)):
            if voice is not None:
                _envelope(panel, voice, sign, colour)
                loudest = max(loudest, float(voice.peak.max()))
        handles = [Patch(color=BLUE, label="user"), Patch(color=ORANGE, label="agent, as heard")]
        if self._user is not None and _mark_lost(panel, self._user):
            handles.append(Patch(facecolor="none", edgecolor=VERMILION, hatch="////", label="lost sound"))
        if self._user is None and self._agent is None:
            _write_reason(panel, "no sound recorded")
            loudest = 1.0
        panel.axhline(0.0, color=INK, linewidth=0.6)
        panel.set_ylim(-1.05 * loudest, 1.05 * loudest)
        panel.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
        panel.set_ylabel("of full scale")
        _legend(panel, handles)

    def _floor(self, panel: Axes) -> None:
        conversation = self._conversation
        panel.set_title("Who holds the floor, and what was noticed", loc="left")
        for first, end, name in conversation.floor_stretches(round(self._end_s * SAMPLE_RATE_HZ)):
            begin_s, length_s = first / SAMPLE_RATE_HZ, (end - first) / SAMPLE_RATE_HZ
            panel.barh(0.0, length_s, left=begin_s, height=0.7, color=FLOOR_COLOURS[name])
        known = [
            event for event in conversation.events if event.kind < len(EVENT_NAMES) and event.speaker < 2
        ]
        for event in known:
            sample = event.first_sample if event.kind == START else event.end_sample
            height, colour = ((0.75, BLUE), (-0.75, VERMILION))[event.speaker]
            mark = EVENT_MARKS[EVENT_NAMES[event.kind]]
            panel.plot(sample / SAMPLE_RATE_HZ, height, mark, color=colour, markersize=5)
        late = [d for d in conversation.decisions if d.decision == COMMIT_SKIPPED]
        late += [decision for decision in conversation.generated if decision.is_late]
        for decision in late:
            seconds = decision.first_frame / FRAMES_PER_SECOND
            panel.plot(seconds, 0.0, "|", color="black", markersize=14, markeredgewidth=2)
        handles: list[Artist] = [Patch(color=colour, label=name) for name, colour in FLOOR_COLOURS.items()]
        seen = {EVENT_NAMES[event.kind] for event in known}
        marks = [(EVENT_MARKS[name], name) for name in EVENT_NAMES if name in seen]
        marks += [("|", "late turn")] if late else []
        handles += [
            Line2D([], [], color=INK, marker=mark, linestyle="none", markersize=5, label=name)
            for mark, name in marks
        ]
        _legend(panel, handles)
        panel.set_ylim(-1.1, 1.1)
        panel.set_yticks((-0.75, 0.75), ("agent", "user"))
        if not conversation.floor and not conversation.events:
            _write_reason(panel, "nothing recorded about the floor")

    def _neck(self, panel: Axes) -> None:
        panel.set_title("Neck, as commanded", loc="left")
        drawn = [self._line(panel, *joint) for joint in NECK]
        panel.axhline(0.0, color=INK, linewidth=0.5, alpha=0.5)
        panel.set_ylabel("angle [°]")
        if any(drawn):
            _legend(panel)
        else:
            _write_reason(panel, "no command for a neck joint")

    def _jaw(self, panel: Axes) -> None:
        jaw, found = self._measured.jaw, ""
        if jaw.correlation is not None and jaw.lag_ms is not None:
            side = "behind" if jaw.lag_ms >= 0 else "before"
            found = f": correlation {jaw.correlation:.2f}, {abs(jaw.lag_ms):.0f} ms {side} the voice"
        panel.set_title(f"Jaw and the agent's voice{found}", loc="left")
        if (voice := self._agent) is not None:
            level, step = panel.twinx(), max(1, voice.mean_square.size // 3000)
            seconds = voice.hop_samples[::step] / SAMPLE_RATE_HZ
            level.fill_between(seconds, SILENCE_DBFS, voice.level_dbfs()[::step], color=GREY, linewidth=0)
            level.set_ylim(SILENCE_DBFS, 0.0)
            level.set_ylabel("level [dBFS]")
            _plain(level)
            level.grid(visible=False)
            panel.set_zorder(level.get_zorder() + 1)
            panel.patch.set_visible(False)
        if not self._line(panel, JAW, "jaw, as commanded", VERMILION):
            _write_reason(panel, "no command for a joint named jaw")
        panel.set_ylabel("angle [°]")
        handles, _ = panel.get_legend_handles_labels()
        _legend(panel, [*handles, Patch(color=GREY, label="level of the agent's voice")])

    def _line(self, panel: Axes, joint: str, label: str, colour: str) -> bool:
        """Draw a joint's commands; return whether there were any."""
        time_ns, position_rad, _ = self._conversation.commands.of(joint)
        step = max(1, time_ns.size // 4000)
        seconds = (time_ns[::step] - self._begin_ns) / 1e9
        if time_ns.size:
            panel.plot(seconds, np.degrees(position_rad[::step]), color=colour, linewidth=1.2, label=label)
        return bool(time_ns.size)

    def _joints(self, panel: Axes) -> None:
        """Draw each joint's commanded range as a share of what its limits allow."""
        panel.set_title("Joint commands between their limits", loc="left")
        commands, limits = self._conversation.commands, self._measured.limits
        names = [name for name in sorted(commands.joints, reverse=True) if name in limits]
        for row, name in enumerate(names):
            share = limits[name].share(commands.of(name).position_rad)
            low, quarter, middle, three_quarters, high = np.percentile(share, (0, 5, 50, 95, 100))
            numbers = self._measured.numbers["joints"][name]
            hits, colour = numbers["limit_hits"], VERMILION if numbers["limit_hits"] else BLUE
            for begin, end, line, width in (
                (0.0, 1.0, GREY, 7), (low, high, colour, 2), (quarter, three_quarters, colour, 7)
            ):  # fmt: skip
                panel.plot((begin, end), (row, row), color=line, linewidth=width, solid_capstyle="butt")
            panel.plot(middle, row, "|", color="white", markersize=7, markeredgewidth=1.5)
            text = f"{numbers['max_velocity_rad_s']:.1f} rad/s"
            text += f", {hits} {'hit' if hits == 1 else 'hits'}" if hits else ""
            panel.text(1.03, row, text, va="center", fontsize=8, color=INK)
        panel.set_yticks(range(len(names)), names)
        panel.set_xticks((0.0, 0.5, 1.0), ("lower limit", "middle", "upper limit"))
        panel.set_xlim(-0.03, 1.32)
        panel.set_xlabel("thick: 5 to 95 %, thin: all, white: median; right: highest velocity")
        _plain(panel)
        panel.grid(visible=False)
        if not names:
            _write_reason(panel, "no commands, or the robot's limits are not known")

    def _latency(self, above: Axes, below: Axes) -> None:
        """Draw the time a turn takes to compute above the time a sound takes to the joints, on one scale."""
        compute = np.array([decision.compute_ms for decision in self._conversation.generated])
        _histogram(above, compute, "Compute", ORANGE)
        _histogram(below, self._measured.sound.total_ms, "Microphone to joint", BLUE)
        floor_ms = self._measured.numbers["latency_ms"]["floor"]
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


def _envelope(panel: Axes, voice: RecordedVoice, sign: float, colour: str) -> None:
    """Draw peak (light) and root mean square (full), at most some thousand points wide."""
    width = max(1, voice.peak.size // 1500)
    padding = (0, -voice.peak.size % width)
    peak = np.pad(voice.peak, padding).reshape(-1, width).max(axis=1)
    power = np.pad(voice.mean_square, padding).reshape(-1, width).mean(axis=1)
    first_hop = voice.envelope_first_sample / HOP_SAMPLES
    seconds = (first_hop + (np.arange(peak.size) + 0.5) * width) * HOP_SAMPLES / SAMPLE_RATE_HZ
    panel.fill_between(seconds, sign * peak, 0.0, color=colour, alpha=0.35, linewidth=0)
    panel.fill_between(seconds, sign * np.sqrt(power), 0.0, color=colour, linewidth=0)


def _mark_lost(panel: Axes, voice: RecordedVoice) -> bool:
    """Hatch where the user's sound is missing or was filled with silence; return whether there is any."""
    first, end = voice.block_first_sample, voice.block_first_sample + voice.block_samples
    is_gap, is_filled = voice.gaps > 0, voice.block_filled > 0
    spans = [*zip(end[:-1][is_gap], first[1:][is_gap], strict=True)]
    spans += zip(first[is_filled], end[is_filled], strict=True)
    for begin, stop in spans:
        panel.axvspan(
            begin / SAMPLE_RATE_HZ, stop / SAMPLE_RATE_HZ, ymin=0.5, facecolor="none", edgecolor=VERMILION,
            hatch="////", linewidth=0.6,
        )  # fmt: skip
    return bool(spans)


def _histogram(panel: Axes, values: Floats, title: str, colour: str) -> None:
    panel.set_title(title, loc="left")
    if not values.size:
        _write_reason(panel, "no turn reached the joints")
        return
    bins = np.arange(0.0, float(values.max()) + BIN_MS + 1.0, BIN_MS).tolist()
    panel.hist(values, bins, weights=np.full(values.size, 100.0 / values.size), color=colour, rwidth=0.94)
    p50, p95 = np.percentile(values, (50, 95))
    panel.axvline(p95, color=INK, linewidth=1.5, linestyle="--", label=f"p50 {p50:.0f}, p95 {p95:.0f} ms")


def _legend(panel: Axes, handles: Sequence[Artist] = ()) -> None:
    """Put the legend above the panel, at its right, where it hides nothing."""
    panel.legend(
        handles=handles or panel.get_legend_handles_labels()[0], loc="lower right", bbox_to_anchor=(1.0, 1.0),
        ncols=9, fontsize=8, frameon=False, borderaxespad=0.2, handlelength=1.2, columnspacing=1.2,
    )  # fmt: skip


def _plain(panel: Axes) -> None:
    """Take away what carries no information."""
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    panel.grid(visible=True, axis="x", color=GREY, linewidth=0.5)
    panel.set_axisbelow(True)
    panel.title.set_fontsize(10)


def _write_reason(panel: Axes, why: str) -> None:
    """Say in an empty panel why it is empty."""
    panel.text(0.5, 0.5, why, transform=panel.transAxes, ha="center", va="center", color=INK)
