"""Reports of a comparison: JSON, the paper's table with intervals, a plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from timar_common.atomic import write_text

from .report import head_table, markdown_table, paper_table, plot_intervals

INTERVAL_COLUMNS = (
    ("FD jaw ×10³", "fid_jaw", 1e3),
    ("FD pose ×10²", "fid_pose", 1e2),
    ("MSE jaw ×10³", "mse_jaw", 1e3),
    ("MSE pose ×10²", "mse_pose", 1e2),
    ("energy jaw ×10³", "energy_jaw", 1e3),
    ("energy pose ×10²", "energy_pose", 1e2),
)
"""Title, metric and factor; smaller is better in all of them."""


def write_comparison(folder: Path, result: dict[str, Any]) -> None:
    """Write results.json, table.md and comparison.png of what `compare_models` has found so far."""
    write_text(folder / "results.json", json.dumps(result, indent=1) + "\n")
    write_text(folder / "table.md", table(result))
    plot(result, folder / "comparison.png")


def table(result: dict[str, Any]) -> str:
    """Return the result as Markdown: the paper's table, the head's, intervals and differences."""
    protocol = result["protocol"]
    parts = [
        f"# Comparison on {result['data_kind']} data\n",
        f"{result['date']}, {result['machine']}. {protocol['shared'].get('steps')} steps. Factors: MSE exp "
        "×10, jaw ×10³, pose ×10²; FD jaw ×10³, pose ×10²; rPCC ×10², ×10, ×10.\n",
    ]
    if result["not_run"]:
        parts.append(f"**Not run yet: {', '.join(result['not_run'])}.**\n")
    systems = [
        [
            name,
            facts["parameters"],
            f"{facts['learning_rate']:g}",
            ", ".join(map(str, facts["seeds"])),
            ", ".join(f"{loss:.3f}" for loss in facts["trial_losses"]) or "not tuned",
        ]
        for name, facts in result["systems"].items()
    ]
    titles = ["system", "parameters", "learning rate", "seeds", "validation losses of the trials"]
    parts.append(markdown_table(titles, systems))
    for split in protocol["splits"]:
        rows = [row for row in result["rows"] if row["split"] == split]
        means = [(row["label"], row["mean"]) for row in rows]
        parts.append(f"## {split}, unshifted, as the paper scores\n\n{paper_table(means, 'unshifted_')}")
        parts.append(f"## {split}, as shown\n\n{paper_table(means)}\n{head_table(means)}")
        cells = ([row["label"], *(_cell(row, *column[1:]) for column in INTERVAL_COLUMNS)] for row in rows)
        intervals = markdown_table(["", *(title for title, _, _ in INTERVAL_COLUMNS)], cells)
        parts.append(f"## {split}, as shown: mean, and 95 % interval over seeds and clips\n\n{intervals}")
    parts.append(
        "## By how much TIMAR is better (negative: worse)\n\n"
        "95 % interval over seeds and clips; **bold** where it leaves 0 out and every seed agrees.\n"
    )
    shown = {_key(row): row for row in result["differences"] if not row["metric"].startswith("unshifted_")}
    unshifted = (row for row in result["differences"] if row["metric"].startswith("unshifted_"))
    gains = ([*_key(row), _gain(row), _gain(shown[_key(row)])] for row in unshifted)
    titles = ["list", "TIMAR as", "against", "metric", "unshifted", "as shown"]
    return "\n".join([*parts, markdown_table(titles, gains)])


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw each system's scores with their intervals, both lists in one picture."""
    # Only here, for it takes a second to import.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 9), layout="constrained")
    labels = list(dict.fromkeys(row["label"] for row in result["rows"]))
    for axes, (title, metric, factor) in zip(figure.subplots(2, 3).ravel(), INTERVAL_COLUMNS, strict=True):
        for offset, split in enumerate(result["protocol"]["splits"]):
            rows = [row for row in result["rows"] if row["split"] == split and metric in row["mean"]]
            heights = [labels.index(row["label"]) + 0.25 * offset for row in rows]
            plot_intervals(axes, heights, rows, metric, factor=factor, label=split)
        axes.set_yticks(range(len(labels)), labels, fontsize=7)
        axes.invert_yaxis()
        axes.set_title(f"{title}, smaller is better", fontsize=9)
        axes.set_xscale("log")
    figure.axes[0].legend()
    figure.suptitle(f"as shown; mean and 95 % interval over seeds and clips; {result['data_kind']} data")
    figure.savefig(path, dpi=100)


def _cell(row: dict[str, Any], metric: str, factor: float) -> str:
    if metric not in row["mean"]:
        return "–"
    low, high = (edge * factor for edge in row["interval"][metric])
    return f"{row['mean'][metric] * factor:.2f} [{low:.2f}, {high:.2f}]"


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return row["split"], row["ours"], row["other"], row["metric"].removeprefix("unshifted_")


def _gain(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    text = f"{row['gain']:+.0%} [{low:+.0%}, {high:+.0%}]"
    is_sure = (low > 0 or high < 0) and len({value > 0 for value in row["by_seed"]}) == 1
    return f"**{text}**" if is_sure else text
