"""Reports of scores: JSON, tables in the paper's form, plots."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from timar_common.atomic import write_text

COLUMNS = (
    ("FD ↓", "fid", (1.0, 1e3, 1e2)),
    ("P-FD ↓", "p_fid", (1.0, 1e3, 1e2)),
    ("MSE ↓", "mse", (10.0, 1e3, 1e2)),
    ("SID ↑", "sid", (1.0, 1.0, 1.0)),
    ("rPCC ↓", "rpcc", (1e2, 10.0, 10.0)),
)
"""Of the paper's table: title, metric, factors of expression, jaw and pose."""
HEAD_COLUMNS = (
    ("lip lag [ms]", "lip_lag_ms", 1.0),
    ("jaw · voice", "jaw_voice_correlation", 1.0),
    ("energy jaw ·10³ ↓", "energy_jaw", 1e3),
    ("energy pose ·10² ↓", "energy_pose", 1e2),
    ("jerk neck [rad/s³]", "jerk_pose_rad_s3", 1.0),
    ("true jerk", "jerk_true_pose_rad_s3", 1.0),
    ("velocity distance neck [rad/s] ↓", "velocity_distance_pose_rad_s", 1.0),
    ("MSE of mean neck ·10² ↓", "mse_of_mean_pose", 1e2),
    ("variance neck, of the true", "variance_ratio_pose", 1.0),
    ("nod strokes a minute", "nod_strokes_per_min", 1.0),
    ("jaw in silence p95 [°]", "jaw_in_silence_p95_rad", 57.2958),
    ("nod F1 ↑", "nod_f1", 1.0),
    ("by chance", "nod_chance_f1", 1.0),
    ("beat F1 ↑", "beat_f1", 1.0),
    ("by chance", "beat_chance_f1", 1.0),
)
GROUPS = ("exp", "jaw", "pose")
SCORE_PLOTS = ("fid_jaw", "fid_pose", "mse_pose", "energy_pose", "velocity_distance_pose_rad_s", "nod_f1")
ROBUSTNESS_PLOTS = (
    *("fid_jaw", "fid_pose", "p_fid_pose", "mse_jaw", "mse_pose", "sid_jaw", "sid_pose", "rpcc_pose"),
    *("sts_pose", "variance_pre_pose", "energy_pose", "velocity_distance_pose_rad_s"),
    *("jerk_pose_rad_s3", "jaw_voice_correlation", "nod_f1", "beat_f1"),
)


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    head, *lines = [f"| {' | '.join(map(str, cells))} |\n" for cells in (titles, *rows)]
    return head + "|---" * len(titles) + "|\n" + "".join(lines)


def paper_table(rows: Sequence[tuple[str, dict[str, float]]], prefix: str = "") -> str:
    """Return a Markdown table in the paper's form: expression / jaw / pose, with its factors.

    Args:
        rows: Label and mean scores.
        prefix: Of the metrics' names: "" as shown, "unshifted_" as the paper scores.
    """

    def cell(mean: dict[str, float], metric: str, factors: tuple[float, ...]) -> str:
        values = [mean.get(f"{prefix}{metric}_{group}") for group in GROUPS]
        pairs = zip(values, factors, strict=True)
        return " / ".join("–" if value is None else f"{value * k:.2f}" for value, k in pairs)

    titles = ["", *(title for title, _, _ in COLUMNS)]
    cells = ([label, *(cell(mean, *column[1:]) for column in COLUMNS)] for label, mean in rows)
    return markdown_table(titles, cells)


def head_table(rows: Sequence[tuple[str, dict[str, float]]]) -> str:
    """Return a Markdown table of what the paper's does not hold."""
    found = [(label, [(mean.get(name), factor) for _, name, factor in HEAD_COLUMNS]) for label, mean in rows]
    cells = ([label, *("–" if v is None else f"{v * k:.3g}" for v, k in values)] for label, values in found)
    return markdown_table(["", *(title for title, _, _ in HEAD_COLUMNS)], cells)


def label_of(setting: dict[str, Any]) -> str:
    """Name a setting in a table."""
    history = "" if setting["history_turns"] is None else f", history {setting['history_turns']}"
    turns = f", turns of {setting['turn_frames']} frames" if setting["turn_frames"] > 1 else ""
    seen = "seen" if setting["is_user_seen"] else "unseen"
    return f"{setting['predictor']}{turns}{history}, user {seen}"


def write_report(folder: Path, result: dict[str, Any]) -> None:
    """Write results.json, table.md and plots of an evaluation.

    Args:
        folder: Made when missing.
        result: `settings`, each with what `evaluate` returns; `data_kind`; perhaps `robustness`.
    """
    write_text(folder / "results.json", json.dumps(result, indent=1) + "\n")
    rows = [(label_of(setting), setting["mean"]) for setting in result["settings"]]
    write_text(
        folder / "table.md",
        f"Data: {result['data_kind']}; expression (MSE ×10, rPCC ×10²) / jaw ×10³ / pose ×10² (rPCC ×10).\n"
        f"\nAs shown:\n\n{paper_table(rows)}\nUnshifted, as the paper scores:\n\n"
        f"{paper_table(rows, 'unshifted_')}\nAs a head:\n\n{head_table(rows)}",
    )
    _plot_scores(folder / "scores.png", result)
    _plot_jerk(folder / "jerk_by_phase.png", result["settings"])
    if "robustness" in result:
        _plot_robustness(folder / "robustness.png", result["robustness"])


def plot_intervals(
    axes: Any, heights: Sequence[float], rows: Sequence[dict[str, Any]], name: str, **how: Any
) -> None:
    """Draw a score's means with their intervals, a row each.

    Args:
        axes: Of matplotlib.
        heights: Where each row stands.
        rows: Each with `mean` and `interval`.
        name: Of the score.
        how: `factor` on the score, and options of `errorbar`.
    """
    factor = how.pop("factor", 1.0)
    middle = [row["mean"][name] * factor for row in rows]
    edges = [[edge * factor for edge in row["interval"][name]] for row in rows]
    pairs = list(zip(middle, edges, strict=True))
    spans = [[max(0.0, m - low) for m, (low, _) in pairs], [max(0.0, high - m) for m, (_, high) in pairs]]
    axes.errorbar(middle, heights, xerr=spans, fmt="o", capsize=3, **how)


def _plot_scores(path: Path, result: dict[str, Any]) -> None:
    # Only here and below, for it takes a second to import.
    from matplotlib.figure import Figure

    settings = result["settings"]
    figure = Figure(figsize=(14, 7), layout="constrained")
    for axes, name in zip(figure.subplots(2, 3).ravel(), SCORE_PLOTS, strict=True):
        known = [number for number, setting in enumerate(settings) if name in setting["mean"]]
        plot_intervals(axes, known, [settings[number] for number in known], name)
        axes.set_yticks(range(len(settings)), map(label_of, settings), fontsize=7)
        axes.set_title(name)
        axes.set_xlim(left=0)
    figure.suptitle(f"mean over clips, 95 % bootstrap intervals; data: {result['data_kind']}")
    figure.savefig(path, dpi=110)


def _plot_jerk(path: Path, settings: Sequence[dict[str, Any]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for setting in settings:
        if len(setting["jerk_by_phase"]) > 1:
            axes.plot(setting["jerk_by_phase"], "o-", label=label_of(setting))
    axes.set(xlabel="frame of the turn; 0 is the seam", ylabel="RMS jerk of the neck [rad/s³]")
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def _plot_robustness(path: Path, curves: dict[str, Any]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 12), layout="constrained")
    for axes, name in zip(figure.subplots(4, 4).ravel(), ROBUSTNESS_PLOTS, strict=True):
        for kind, points in curves.items():
            known = [point for point in points if name in point["mean"]]
            x = [point["probability"] for point in known]
            axes.plot(x, [point["mean"][name] for point in known], "o-", label=kind)
            edges = zip(*(point["interval"][name] for point in known), strict=True) if known else ([], [])
            axes.fill_between(x, *edges, alpha=0.15)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("probability of a burst", fontsize=8)
    figure.axes[0].legend()
    figure.savefig(path, dpi=110)
