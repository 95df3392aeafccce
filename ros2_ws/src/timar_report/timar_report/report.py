"""One HTML file that shows a scored conversation: plots to zoom into, worst moments, every number."""

from __future__ import annotations

import base64
import functools
import html
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots
from timar_bag.conversation import COMMIT_SKIPPED, GENERATE
from timar_common.atomic import write_text
from timar_common.clock import FRAMES_PER_SECOND, SAMPLE_RATE_HZ
from timar_description import find_urdf

from timar_report.frames import Floats
from timar_report.head_picture import HeadPainter
from timar_report.moments import WorstMoment, worst_moments
from timar_report.overview import overview
from timar_report.score import JAW, NECK, WINDOW_FRAMES, WINDOWS, ConversationScore
from timar_report.statistics import flat, written

MOST_POINTS = 6000
"""Of one curve; a longer one is drawn by the extremes of its pieces."""
MOST_PICTURES = 8
FLOOR_COLORS = {"user": "#4477aa", "agent": "#cc6677", "both": "#aa3377"}
COLORS = ("#332288", "#117733", "#cc6677", "#ddaa33", "#88ccee", "#882255", "#44aa99", "#999933")
ROWS = (
    "voices [dBFS]", "neck as shown [rad]", "jaw as shown [rad]", "joint commands, share of range",
    "windows, relative to their median", "turn compute [ms]",
)  # fmt: skip
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5em auto; max-width: 1200px; padding: 0 1em;
  color: #222; }
h1 { font-size: 1.35em; } h2 { font-size: 1.1em; margin-top: 1.6em; }
table { border-collapse: collapse; }
td, th { padding: .15em .9em .15em 0; text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
.moments { display: flex; flex-wrap: wrap; gap: 1em; }
.moment { width: 165px; font-size: .85em; cursor: pointer; border: 1px solid #ddd; border-radius: 6px;
  padding: 6px; }
.moment:hover { border-color: #4477aa; } .moment img { display: block; margin: 0 auto; }
.issues li { color: #943; } summary { cursor: pointer; }
"""
SCRIPT = """
function zoomTo(seconds) {
  Plotly.relayout('plot', {'xaxis.range': [seconds - 3, seconds + 3]});
  document.getElementById('plot').scrollIntoView({behavior: 'smooth'});
}
document.querySelectorAll('.moment').forEach(card =>
  card.addEventListener('click', () => zoomTo(Number(card.dataset.seconds))));
"""

_painter_of = functools.cache(HeadPainter)
"""Meshes are read once for all reports of a batch."""


def write_report(score: ConversationScore, numbers: dict[str, Any], path: Path, title: str) -> None:
    """Write the report of a score; the file needs no network and no other file.

    Args:
        score: What to show.
        numbers: Everything for the table; usually the score's own with what the replay knows.
        path: Where to.
        title: What was replayed.
    """
    spec = _Plots(score).figure.to_plotly_json()
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>",
        f"<script>{get_plotlyjs()}</script></head><body>",
        f"<h1>{html.escape(title)}</h1>",
        _table(overview(numbers)),
        _issues(numbers["extra"]["losses"]),
        "<h2>Worst moments</h2>",
        _moments(worst_moments(score)),
        "<h2>The conversation</h2><p>Drag to zoom, double-click for all of it; times are seconds since the ",
        "conversation's first sample.</p><div id='plot'></div>",
        f"<script>Plotly.newPlot('plot', {_script_json(spec['data'])}, {_script_json(spec['layout'])}, ",
        "{responsive: true, displaylogo: false});</script>",
        "<details><summary>Every number</summary>",
        _table(flat(numbers).items()),
        f"</details><script>{SCRIPT}</script></body></html>",
    ]
    write_text(path, "".join(parts))


class _Plots:
    """The plots of a score, one above the other on one time axis."""

    def __init__(self, score: ConversationScore) -> None:
        self._score, self._frames = score, score.frames
        self._conversation = score.frames.conversation
        self.figure = make_subplots(
            rows=len(ROWS), cols=1, shared_xaxes=True, vertical_spacing=0.028, subplot_titles=ROWS
        )
        for topic, who in (("user/audio", "user"), ("agent/audio", "agent")):
            if topic in self._frames.level_dbfs:
                self._line(1, topic, self._frame_s, self._frames.level_dbfs[topic], FLOOR_COLORS[who])
        for number, name in enumerate(("pitch", "yaw", "roll")):
            self._motion(2, NECK.start + number, name, f"neck {name}", COLORS[number])
        self._motion(3, JAW.start, "jaw", "jaw", COLORS[2])
        self._joints()
        self._windows()
        self._turns()
        self._shade_floor()
        self.figure.update_layout(
            height=1500, margin={"l": 55, "r": 15, "t": 30, "b": 40}, template="plotly_white", hovermode="x",
            legend={"font": {"size": 10}, "tracegroupgap": 2},
        )  # fmt: skip
        self.figure.update_xaxes(title_text="s", row=len(ROWS), col=1)

    @property
    def _frame_s(self) -> Floats:
        return np.arange(len(self._frames)) / FRAMES_PER_SECOND

    def _motion(self, row: int, column: int, name: str, label: str, color: str) -> None:
        """Draw one number of the motion as shown, and dotted beside it the ground truth."""
        frames = self._frames
        shown = np.where(frames.is_shown, frames.shown[:, column], np.nan)
        self._line(row, label, self._frame_s, shown, color)
        if frames.truth is not None:
            true = np.where(frames.is_true, frames.truth[:, column], np.nan)
            self._line(row, f"true {name}", self._frame_s, true, color, dash="dot")

    def _joints(self) -> None:
        voice = self._conversation.user_voice
        zero_ns = self._conversation.begin_ns if voice is None else int(voice.time_ns([0.0])[0])
        for number, (name, limit) in enumerate(self._score.limits.items()):
            time_ns, position, _ = self._conversation.commands.of(name)
            if time_ns.size:
                seconds, color = (time_ns - zero_ns) / 1e9, COLORS[number % len(COLORS)]
                self._line(4, name, seconds, limit.share(position), color, is_hidden=number > 3)

    def _windows(self) -> None:
        for number, (name, metric) in enumerate(WINDOWS.items()):
            values = self._score.windows[name]
            known = np.isfinite(values)
            usual = np.median(np.abs(values[known])) if known.any() else 0.0
            if usual > 0 and metric.better != "neither":
                seconds = (np.arange(len(values)) + 0.5) * WINDOW_FRAMES / FRAMES_PER_SECOND
                self._line(5, name, seconds, values / usual, COLORS[number % len(COLORS)])

    def _turns(self) -> None:
        for kind, name, color in (
            (GENERATE, "generated", COLORS[1]), (COMMIT_SKIPPED, "unsampled", COLORS[2])
        ):  # fmt: skip
            turns = [turn for turn in self._conversation.decisions if turn.decision == kind]
            if turns:
                seconds = np.array([turn.first_frame for turn in turns]) / FRAMES_PER_SECOND
                compute_ms = np.array([turn.compute_ms for turn in turns])
                self._line(6, name, seconds, compute_ms, color, mode="markers")

    def _shade_floor(self) -> None:
        """Shade the first row by who holds the floor."""
        shape = {
            "type": "rect", "xref": "x", "yref": "y domain", "y0": 0, "y1": 1, "layer": "below",
            "opacity": 0.15, "line": {"width": 0},
        }  # fmt: skip
        end_sample = round(len(self._frames) / FRAMES_PER_SECOND * SAMPLE_RATE_HZ)
        self.figure.update_layout(
            shapes=[
                {
                    **shape,
                    "x0": first / SAMPLE_RATE_HZ,
                    "x1": end / SAMPLE_RATE_HZ,
                    "fillcolor": FLOOR_COLORS[name],
                }
                for first, end, name in self._conversation.floor_stretches(end_sample)
                if name in FLOOR_COLORS
            ]
        )

    def _line(
        self, row: int, name: str, seconds: Floats, values: npt.NDArray[np.floating], color: str, *,
        dash: str = "solid", mode: str = "lines", is_hidden: bool = False,
    ) -> None:  # fmt: skip
        x, y = thinned(seconds, np.asarray(values, np.float64))
        self.figure.add_trace(
            go.Scatter(
                x=[round(float(value), 3) for value in x],
                y=[None if not np.isfinite(value) else float(f"{value:.5g}") for value in y],
                name=name, mode=mode, line={"color": color, "width": 1.2, "dash": dash}, marker={"size": 4},
                visible="legendonly" if is_hidden else True, legendgroup=str(row),
                legendgrouptitle={"text": ROWS[row - 1]},
            ),
            row=row, col=1,
        )  # fmt: skip


def thinned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return a curve by at most `MOST_POINTS` of its points: of each piece the lowest and the highest."""
    if y.size <= MOST_POINTS:
        return x, y
    pieces = np.array_split(np.arange(y.size), MOST_POINTS // 2)
    low = [piece[np.argmin(np.nan_to_num(y[piece], nan=np.inf))] for piece in pieces]
    high = [piece[np.argmax(np.nan_to_num(y[piece], nan=-np.inf))] for piece in pieces]
    kept = np.unique(np.array(low + high))
    return x[kept], y[kept]


def _issues(issues: list[str]) -> str:
    items = "".join(f"<li>{html.escape(issue)}</li>" for issue in issues)
    return f"<h2>What was missing</h2><ul class='issues'>{items}</ul>" if issues else ""


def _moments(moments: list[WorstMoment]) -> str:
    if not moments:
        return "<p>Nothing stands out.</p>"
    cards, painter = [], _painter_of(find_urdf())
    for number, moment in enumerate(moments):
        picture = ""
        if number < MOST_PICTURES and moment.joints_rad:
            data = base64.b64encode(painter.png(moment.joints_rad)).decode()
            picture = f"<img alt='the head at {moment.seconds:.1f} s' src='data:image/png;base64,{data}'>"
        cards.append(
            f"<div class='moment' data-seconds='{moment.seconds:.3f}' data-bag-ns='{moment.bag_ns}'>{picture}"
            f"<b>{moment.seconds:.1f} s</b> {html.escape(moment.what)}<br><small>bag time "
            f"{moment.bag_ns // 10**9}.{moment.bag_ns % 10**9:09d}</small></div>"
        )
    return f"<div class='moments'>{''.join(cards)}</div>"


def _table(rows: Iterable[tuple[str, Any]]) -> str:
    cells = [
        f"<tr><th>{html.escape(name)}</th><td{' class=number' if isinstance(value, (int, float)) else ''}>"
        f"{html.escape(written(value, 4))}</td></tr>"
        for name, value in rows
    ]
    return f"<table>{''.join(cells)}</table>"


def _script_json(content: Any) -> str:
    """Return JSON that may stand inside a script element whatever it holds."""
    from plotly.io.json import to_json_plotly

    return str(to_json_plotly(content)).replace("</", "<\\/")
