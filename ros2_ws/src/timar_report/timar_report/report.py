"""One HTML file that shows a scored conversation: plots to zoom into, worst moments, every number."""

from __future__ import annotations

import base64
import functools
import html
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots
from timar_bag.conversation import COMMIT_UNSAMPLED, FLOOR_NAMES, GENERATE
from timar_common.clock import FRAMES_PER_SECOND, SAMPLE_RATE_HZ
from timar_description import find_urdf

from timar_report.head_picture import HeadPainter
from timar_report.moments import Moment, worst_moments
from timar_report.score import JAW, NECK, WINDOW_FRAMES, WINDOWS, Score

MOST_POINTS = 6000
"""Of one curve; a longer one is drawn by the extremes of its pieces."""
MOST_PICTURES = 8
FLOOR_COLORS = {"user": "#4477aa", "agent": "#cc6677", "both": "#aa3377"}
COLORS = ("#332288", "#117733", "#cc6677", "#ddaa33", "#88ccee", "#882255", "#44aa99", "#999933")
FAINT = {"opacity": 0.15, "line": {"width": 0}}
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
.losses li { color: #943; } summary { cursor: pointer; }
"""
SCRIPT = """
function zoomTo(seconds) {
  Plotly.relayout('plot', {'xaxis.range': [seconds - 3, seconds + 3]});
  document.getElementById('plot').scrollIntoView({behavior: 'smooth'});
}
document.querySelectorAll('.moment').forEach(card =>
  card.addEventListener('click', () => zoomTo(Number(card.dataset.seconds))));
"""


def write_report(score: Score, numbers: dict[str, Any], path: Path, title: str) -> None:
    """Write the report of a score; the file needs no network and no other file.

    Args:
        score: What to show.
        numbers: Everything for the table; usually the score's own with what the replay knows.
        path: Where to.
        title: What was replayed.
    """
    figure = _figure(score)
    spec = figure.to_plotly_json()
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>",
        f"<script>{get_plotlyjs()}</script></head><body>",
        f"<h1>{html.escape(title)}</h1>",
        _overview(numbers),
        _losses(numbers),
        "<h2>Worst moments</h2>",
        _moments(worst_moments(score)),
        "<h2>The conversation</h2><p>Drag to zoom, double-click for all of it; times are seconds since the ",
        "conversation's first sample.</p><div id='plot'></div>",
        f"<script>Plotly.newPlot('plot', {_script_json(spec['data'])}, {_script_json(spec['layout'])}, ",
        "{responsive: true, displaylogo: false});</script>",
        "<details><summary>Every number</summary>",
        _table(_rows(numbers)),
        f"</details><script>{SCRIPT}</script></body></html>",
    ]
    path.write_text("".join(parts), "utf-8")


def _figure(score: Score) -> go.Figure:
    figure = make_subplots(
        rows=len(ROWS), cols=1, shared_xaxes=True, vertical_spacing=0.028, subplot_titles=ROWS
    )
    frames = score.frames
    seconds = np.arange(len(frames)) / FRAMES_PER_SECOND
    for topic, color in (("user/audio", FLOOR_COLORS["user"]), ("agent/audio", FLOOR_COLORS["agent"])):
        if topic in frames.level_dbfs:
            _line(figure, 1, topic, seconds, frames.level_dbfs[topic], color)
    for column, name, color in ((0, "pitch", COLORS[0]), (1, "yaw", COLORS[1]), (2, "roll", COLORS[2])):
        shown = np.where(frames.is_shown, frames.shown[:, NECK.start + column], np.nan)
        _line(figure, 2, f"neck {name}", seconds, shown, color)
        if frames.truth is not None:
            true = np.where(frames.is_true, frames.truth[:, NECK.start + column], np.nan)
            _line(figure, 2, f"true {name}", seconds, true, color, dash="dot")
    _line(figure, 3, "jaw", seconds, np.where(frames.is_shown, frames.shown[:, JAW.start], np.nan), COLORS[2])
    if frames.truth is not None:
        true = np.where(frames.is_true, frames.truth[:, JAW.start], np.nan)
        _line(figure, 3, "true jaw", seconds, true, COLORS[2], dash="dot")
    _add_joints(figure, score)
    _add_windows(figure, score)
    _add_turns(figure, score)
    _add_floor(figure, score)
    figure.update_layout(
        height=1500, margin={"l": 55, "r": 15, "t": 30, "b": 40}, template="plotly_white", hovermode="x",
        legend={"font": {"size": 10}, "tracegroupgap": 2},
    )  # fmt: skip
    figure.update_xaxes(title_text="s", row=len(ROWS), col=1)
    return figure


def _add_joints(figure: go.Figure, score: Score) -> None:
    commands = score.frames.conversation.commands
    for number, (name, limit) in enumerate(score.limits.items()):
        time_ns, position = commands.of(name)
        if time_ns.size:
            share = (position - limit.lower_rad) / (limit.upper_rad - limit.lower_rad)
            seconds = _seconds(score, time_ns)
            _line(figure, 4, name, seconds, share, COLORS[number % len(COLORS)], is_hidden=number > 3)


def _add_windows(figure: go.Figure, score: Score) -> None:
    for number, (name, metric) in enumerate(WINDOWS.items()):
        values = score.windows[name]
        known = np.isfinite(values)
        usual = np.median(np.abs(values[known])) if known.any() else 0.0
        if usual > 0 and metric.better != "neither":
            seconds = (np.arange(len(values)) + 0.5) * WINDOW_FRAMES / FRAMES_PER_SECOND
            _line(figure, 5, name, seconds, values / usual, COLORS[number % len(COLORS)])


def _add_turns(figure: go.Figure, score: Score) -> None:
    decisions = score.frames.conversation.decisions
    for kind, name, color in ((GENERATE, "generated", COLORS[1]), (COMMIT_UNSAMPLED, "unsampled", COLORS[2])):
        turns = [decision for decision in decisions if decision.kind == kind]
        if turns:
            seconds = np.array([turn.first_frame for turn in turns]) / FRAMES_PER_SECOND
            _line(
                figure, 6, name, seconds, np.array([turn.compute_ms for turn in turns]), color, mode="markers"
            )


def _add_floor(figure: go.Figure, score: Score) -> None:
    """Shade the first row by who holds the floor."""
    changes = score.frames.conversation.floor
    end = len(score.frames) / FRAMES_PER_SECOND
    ends = [change.since_sample / SAMPLE_RATE_HZ for change in changes[1:]] + [end]
    shapes = []
    for change, until in zip(changes, ends, strict=False):
        color = FLOOR_COLORS.get(FLOOR_NAMES[change.state]) if change.state < len(FLOOR_NAMES) else None
        if color is not None:
            shape = {"type": "rect", "xref": "x", "yref": "y domain", "y0": 0, "y1": 1, "layer": "below"}
            begin = change.since_sample / SAMPLE_RATE_HZ
            shapes.append({**shape, "x0": begin, "x1": until, "fillcolor": color, **FAINT})
    figure.update_layout(shapes=shapes)


def _line(
    figure: go.Figure,
    row: int,
    name: str,
    seconds: npt.NDArray[np.float64],
    values: npt.NDArray[np.floating],
    color: str,
    *,
    dash: str = "solid",
    mode: str = "lines",
    is_hidden: bool = False,
) -> None:
    x, y = thinned(seconds, np.asarray(values, np.float64))
    figure.add_trace(
        go.Scatter(
            x=[round(float(value), 3) for value in x],
            y=[None if not np.isfinite(value) else float(f"{value:.5g}") for value in y],
            name=name, mode=mode, line={"color": color, "width": 1.2, "dash": dash}, marker={"size": 4},
            visible="legendonly" if is_hidden else True, legendgroup=str(row),
            legendgrouptitle={"text": ROWS[row - 1]},
        ),
        row=row, col=1,
    )  # fmt: skip


def thinned(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return a curve by at most `MOST_POINTS` of its points: of each piece the lowest and the highest."""
    if y.size <= MOST_POINTS:
        return x, y
    pieces = np.array_split(np.arange(y.size), MOST_POINTS // 2)
    low = [piece[np.argmin(np.nan_to_num(y[piece], nan=np.inf))] for piece in pieces]
    high = [piece[np.argmax(np.nan_to_num(y[piece], nan=-np.inf))] for piece in pieces]
    kept = np.unique(np.array(low + high))
    return x[kept], y[kept]


def _seconds(score: Score, time_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    conversation = score.frames.conversation
    voice = conversation.voices.get("user/audio") or conversation.voices.get("user/audio_raw")
    zero_ns = conversation.begin_ns if voice is None else int(voice.time_ns([0.0])[0])
    return np.asarray((time_ns - zero_ns) / 1e9, np.float64)


def _overview(numbers: dict[str, Any]) -> str:
    latency, truth = numbers["latency_ms"], numbers.get("as_shown", {})
    extra, lips, nods, body = numbers["extra"], numbers["lips"], numbers["nods"], numbers["body"]
    turns = f"{numbers['turns']}, {numbers['late_turns']} late, {extra['unsampled_turns']} unsampled"
    listening = numbers["by_floor"]["listening"]["still_share"]
    rows: list[tuple[str, Any]] = [
        ("turns", turns),
        ("sound", f"{numbers['duration_s']:.1f} s, {numbers['audio']['samples_lost']} samples lost"),
        (
            "latency",
            f"floor {_said(latency['floor'])} ms and compute p95 {_said(latency['compute']['p95'])} ms",
        ),
        ("lips", f"correlation {_said(lips['correlation'])}, {_said(lips['lag_ms'])} ms behind"),
        (
            "neck",
            f"{_said(numbers['motion']['neck_speed_rad_s'])} rad/s, still {_said(listening)} of listening",
        ),
        (
            "nods",
            f"{_said(nods['count'])}, {_said(nods['answering_share'])} of them after phrases "
            f"(chance {_said(nods['chance_share'])})",
        ),
        (
            "joints",
            f"use {_said(body['range_share'])} of their range, stand at limits "
            f"{_said(body['clipped_share'])} of the time",
        ),
    ]
    if truth:
        told = [f"{name} {_said(truth[name])}" for name in ("fid_pose", "mse_pose", "mse_jaw", "mse_exp")]
        rows.append(("against the truth", ", ".join(told)))
    if "agreement" in numbers:
        agreement = numbers["agreement"]
        rows.append(("repeated log", f"{agreement['motions_equal']} of {agreement['motions']} motions equal"))
    model = f"{str(numbers['model'])[:12]} on {numbers['engine']}"
    rows.append(("model", f"{model}, {numbers.get('policy', 'live')}"))
    return _table(rows)


def _losses(numbers: dict[str, Any]) -> str:
    losses = numbers["extra"]["losses"]
    if not losses:
        return ""
    return (
        "<h2>What was lost</h2><ul class='losses'>"
        + "".join(f"<li>{html.escape(loss)}</li>" for loss in losses)
        + "</ul>"
    )


def _moments(moments: list[Moment]) -> str:
    if not moments:
        return "<p>Nothing stands out.</p>"
    cards = []
    for number, moment in enumerate(moments):
        picture = ""
        if number < MOST_PICTURES and moment.joints_rad:
            data = base64.b64encode(_painter().png(moment.joints_rad)).decode()
            picture = f"<img alt='the head at {moment.seconds:.1f} s' src='data:image/png;base64,{data}'>"
        cards.append(
            f"<div class='moment' data-seconds='{moment.seconds:.3f}' data-bag-ns='{moment.bag_ns}'>{picture}"
            f"<b>{moment.seconds:.1f} s</b> {html.escape(moment.what)}<br><small>bag time "
            f"{moment.bag_ns // 10**9}.{moment.bag_ns % 10**9:09d}</small></div>"
        )
    return f"<div class='moments'>{''.join(cards)}</div>"


@functools.cache
def _painter() -> HeadPainter:
    return HeadPainter(find_urdf())


def _rows(numbers: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in numbers.items():
        name = f"{prefix}.{key}" if prefix else key
        rows += _rows(value, name) if isinstance(value, dict) else [(name, value)]
    return rows


def _table(rows: list[tuple[str, Any]]) -> str:
    cells = [
        f"<tr><th>{html.escape(name)}</th><td{' class=number' if isinstance(value, (int, float)) else ''}>"
        f"{html.escape(_said(value))}</td></tr>"
        for name, value in rows
    ]
    return f"<table>{''.join(cells)}</table>"


def _said(value: Any) -> str:
    if value is None:
        return "unknown"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _script_json(content: Any) -> str:
    """Return JSON that may stand inside a script element whatever it holds."""
    from plotly.io.json import to_json_plotly

    return str(to_json_plotly(content)).replace("</", "<\\/")
