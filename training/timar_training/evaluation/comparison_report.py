"""Write a comparison down: JSON, the paper's table with intervals, a plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .report import head_table, paper_table

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
    (folder / "results.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (folder / "table.md").write_text(table(result), encoding="utf-8")
    plot(result, folder / "comparison.png")


def table(result: dict[str, Any]) -> str:
    """Return the result as Markdown: the paper's table, the head's, intervals and differences."""
    protocol = result["protocol"]
    lines = [
        f"# Comparison on {result['data_kind']} data\n",
        f"{result['date']}, {result['machine']}. {protocol['shared'].get('steps')} steps. Factors: MSE exp "
        "×10, jaw ×10³, pose ×10²; FD jaw ×10³, pose ×10²; rPCC ×10², ×10, ×10.\n",
    ]
    if result["not_run"]:
        lines.append(f"**Not run yet: {', '.join(result['not_run'])}.**\n")
    lines.append(
        "| system | parameters | learning rate | seeds | validation losses of the trials |\n"
        + "|---" * 5
        + "|"
    )
    for name, facts in result["systems"].items():
        losses = ", ".join(f"{loss:.3f}" for loss in facts["trial_losses"]) or "not tuned"
        seeds = ", ".join(map(str, facts["seeds"]))
        lines.append(f"| {name} | {facts['parameters']} | {facts['learning_rate']:g} | {seeds} | {losses} |")
    for split in protocol["splits"]:
        rows = [row for row in result["rows"] if row["split"] == split]
        means = [(row["label"], row["mean"]) for row in rows]
        lines.append(f"\n## {split}, unshifted, as the paper scores\n\n{paper_table(means, 'unshifted_')}")
        lines.append(f"## {split}, as shown\n\n{paper_table(means)}\n{head_table(means)}")
        lines.append(f"## {split}, as shown: mean, and 95 % interval over seeds and clips\n")
        lines.append("| | " + " | ".join(title for title, _, _ in INTERVAL_COLUMNS) + " |")
        lines.append("|---" * (len(INTERVAL_COLUMNS) + 1) + "|")
        for row in rows:
            cells = [_cell(row, metric, factor) for _, metric, factor in INTERVAL_COLUMNS]
            lines.append(f"| {row['label']} | " + " | ".join(cells) + " |")
    lines.append("\n## By how much TIMAR is better (negative: worse)\n")
    lines.append(
        "95 % interval over seeds and clips; **bold** where it leaves 0 out and every seed agrees.\n"
    )
    lines.append("| list | TIMAR as | against | metric | unshifted | as shown |\n|---|---|---|---|---|---|")
    shown = {_key(row): row for row in result["differences"] if not row["metric"].startswith("unshifted_")}
    for row in result["differences"]:
        if row["metric"].startswith("unshifted_"):
            pair = f"{_gain(row)} | {_gain(shown[_key(row)])}"
            metric = row["metric"].removeprefix("unshifted_")
            lines.append(f"| {row['split']} | {row['ours']} | {row['other']} | {metric} | {pair} |")
    return "\n".join(lines) + "\n"


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw each system's scores with their intervals, both lists in one picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 9), layout="constrained")
    labels = list(dict.fromkeys(row["label"] for row in result["rows"]))
    for place, (title, metric, factor) in zip(figure.subplots(2, 3).ravel(), INTERVAL_COLUMNS, strict=True):
        for offset, split in enumerate(result["protocol"]["splits"]):
            rows = [row for row in result["rows"] if row["split"] == split and metric in row["mean"]]
            middle = [row["mean"][metric] * factor for row in rows]
            edges = [[edge * factor for edge in row["interval"][metric]] for row in rows]
            spans = [
                [max(0.0, middle[at] - low) for at, (low, _) in enumerate(edges)],
                [max(0.0, high - middle[at]) for at, (_, high) in enumerate(edges)],
            ]
            heights = [labels.index(row["label"]) + 0.25 * offset for row in rows]
            place.errorbar(middle, heights, xerr=spans, fmt="o", capsize=3, label=split)
        place.set_yticks(range(len(labels)), labels, fontsize=7)
        place.invert_yaxis()
        place.set_title(f"{title}, smaller is better", fontsize=9)
        place.set_xscale("log")
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
