"""Write scores down: JSON, a table in the paper's form, plots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    ("nod F1 ↑", "nod_f1", 1.0),
    ("by chance", "nod_chance_f1", 1.0),
    ("beat F1 ↑", "beat_f1", 1.0),
    ("by chance", "beat_chance_f1", 1.0),
)
GROUPS = ("exp", "jaw", "pose")
ROBUSTNESS_PLOTS = (
    *("fid_jaw", "fid_pose", "p_fid_pose", "mse_jaw", "mse_pose", "sid_jaw", "sid_pose", "rpcc_pose"),
    *("sts_pose", "variance_pre_pose", "energy_pose", "velocity_distance_pose_rad_s"),
    *("jerk_pose_rad_s3", "jaw_voice_correlation", "nod_f1", "beat_f1"),
)


def paper_table(rows: Sequence[tuple[str, dict[str, float]]], prefix: str = "") -> str:
    """Return a Markdown table in the paper's form: expression / jaw / pose, with its factors.

    Args:
        rows: Label and mean scores.
        prefix: Of the metrics' names: "" as shown, "unshifted_" as the paper scores.
    """
    lines = [
        "| | " + " | ".join(title for title, _, _ in COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for label, mean in rows:
        cells = []
        for _, metric, factors in COLUMNS:
            values = [mean.get(f"{prefix}{metric}_{group}") for group in GROUPS]
            pairs = zip(values, factors, strict=True)
            cells.append(" / ".join("–" if value is None else f"{value * k:.2f}" for value, k in pairs))
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def head_table(rows: Sequence[tuple[str, dict[str, float]]]) -> str:
    """Return a Markdown table of what the paper's does not hold."""
    lines = [
        "| | " + " | ".join(title for title, _, _ in HEAD_COLUMNS) + " |",
        "|---" * (len(HEAD_COLUMNS) + 1) + "|",
    ]
    for label, mean in rows:
        values = [(mean.get(name), factor) for _, name, factor in HEAD_COLUMNS]
        cells = ["–" if value is None else f"{value * factor:.3g}" for value, factor in values]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


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
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    rows = [(label_of(setting), setting["mean"]) for setting in result["settings"]]
    text = (
        f"Data: {result['data_kind']}; expression (MSE ×10, rPCC ×10²) / jaw ×10³ / pose ×10² (rPCC ×10).\n"
    )
    text += f"\nAs shown:\n\n{paper_table(rows)}\nUnshifted, as the paper scores:\n\n"
    text += f"{paper_table(rows, 'unshifted_')}\nAs a head:\n\n{head_table(rows)}"
    (folder / "table.md").write_text(text, encoding="utf-8")
    _plot(folder, result)


def _plot(folder: Path, result: dict[str, Any]) -> None:
    from matplotlib.figure import Figure

    settings = result["settings"]
    names = ("fid_jaw", "fid_pose", "mse_pose", "energy_pose", "velocity_distance_pose_rad_s", "nod_f1")
    figure = Figure(figsize=(14, 7), layout="constrained")
    labels = [label_of(setting) for setting in settings]
    for place, name in zip(figure.subplots(2, 3).ravel(), names, strict=True):
        found = [(at, setting) for at, setting in enumerate(settings) if name in setting["mean"]]
        middle = [setting["mean"][name] for _, setting in found]
        low, high = ([setting["interval"][name][edge] for _, setting in found] for edge in (0, 1))
        spans = [
            [m - v for m, v in zip(middle, low, strict=True)],
            [v - m for m, v in zip(middle, high, strict=True)],
        ]
        place.errorbar(middle, [at for at, _ in found], xerr=spans, fmt="o", capsize=3)
        place.set_yticks(range(len(labels)), labels, fontsize=7)
        place.set_title(name)
        place.set_xlim(left=0)
    figure.suptitle(f"mean over clips, 95 % bootstrap intervals; data: {result['data_kind']}")
    figure.savefig(folder / "scores.png", dpi=110)

    figure = Figure(figsize=(7, 4), layout="constrained")
    place = figure.subplots()
    for setting in settings:
        if len(setting["jerk_by_phase"]) > 1:
            place.plot(setting["jerk_by_phase"], "o-", label=label_of(setting))
    place.set_xlabel("place in the turn [frames]; 0 is the seam")
    place.set_ylabel("RMS jerk of the neck [rad/s³]")
    place.legend(fontsize=7)
    figure.savefig(folder / "jerk_by_phase.png", dpi=110)
    if "robustness" in result:
        _plot_robustness(folder, result["robustness"])


def _plot_robustness(folder: Path, curves: dict[str, Any]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 12), layout="constrained")
    for place, name in zip(figure.subplots(4, 4).ravel(), ROBUSTNESS_PLOTS, strict=True):
        for kind, points in curves.items():
            known = [point for point in points if name in point["mean"]]
            x = [point["probability"] for point in known]
            place.plot(x, [point["mean"][name] for point in known], "o-", label=kind)
            edges = zip(*(point["interval"][name] for point in known), strict=True) if known else ([], [])
            place.fill_between(x, *edges, alpha=0.15)
        place.set_title(name, fontsize=9)
        place.set_xlabel("probability of a burst", fontsize=8)
    figure.axes[0].legend()
    figure.savefig(folder / "robustness.png", dpi=110)
