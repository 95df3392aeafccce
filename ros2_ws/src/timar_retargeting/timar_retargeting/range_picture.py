"""Draw range use, as text and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from timar_retargeting.range_use import RangeUse

WIDTH = 36


def text_of(uses: Sequence[RangeUse]) -> str:
    """Return one line per joint: its range from limit to limit, what it used, how fast, and advice."""
    widest = max(len(use.joint) for use in uses)
    bar_head = f"{'used between its limits':<{WIDTH + 2}}"
    head = f"{'joint':<{widest}}  {'limits [rad]':>15}  {bar_head}  usual  speed  accel"
    lines = [head]
    for use in uses:
        limits = f"{use.lower_rad:+.2f} {use.upper_rad:+.2f}"
        shares = f"{use.used_share:5.0%}  {use.velocity_share:5.0%}  {use.acceleration_share:5.0%}"
        lines.append(f"{use.joint:<{widest}}  {limits:>15}  |{_bar(use)}|  {shares}  {use.advice()}".rstrip())
    return "\n".join([*lines, "# usual: 98 % of the time; -: seldom; o: where zero is"]) + "\n"


def draw(uses: Sequence[RangeUse], path: Path, title: str) -> None:
    """Write the same as a picture.

    Raises:
        OSError: It cannot be written.
        ValueError: Its ending names no format of pictures.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 1.2 + 0.42 * len(uses)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for row, use in enumerate(uses):
        axes.plot([use.lower_rad, use.upper_rad], [row, row], color="#dde3e6", linewidth=11, zorder=1)
        axes.plot([use.lowest_rad, use.highest_rad], [row, row], color="#8fbac0", linewidth=11, zorder=2)
        color = "#c0392b" if use.advice() else "#14727f"
        usual = [use.usual_low_rad, use.usual_high_rad]
        axes.plot(usual, [row, row], color=color, linewidth=11, zorder=3, solid_capstyle="butt")
        note = f"speed {use.velocity_share:.0%}, acceleration {use.acceleration_share:.0%}  {use.advice()}"
        axes.text(use.upper_rad, row, "  " + note, va="center", fontsize=7)
    axes.set_yticks(range(len(uses)), [use.joint for use in uses])
    axes.invert_yaxis()
    axes.axvline(0.0, color="#667", linewidth=0.6)
    axes.set_xlabel("position [rad]: limits (grey), all that was used (light), 98 % of the time (dark)")
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.25)
    figure.savefig(path, dpi=120)


def _bar(use: RangeUse) -> str:
    def place(position: float) -> int:
        share = (position - use.lower_rad) / (use.upper_rad - use.lower_rad)
        return min(max(int(share * WIDTH), 0), WIDTH - 1)

    cells = [" "] * WIDTH
    for cell in range(place(use.lowest_rad), place(use.highest_rad) + 1):
        cells[cell] = "-"
    for cell in range(place(use.usual_low_rad), place(use.usual_high_rad) + 1):
        cells[cell] = "#"
    if use.lower_rad <= 0.0 <= use.upper_rad:
        cells[place(0.0)] = "o"
    return "".join(cells)
