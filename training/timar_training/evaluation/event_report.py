"""The figures of `timar evaluate --events` as a table."""

from __future__ import annotations

from typing import Any

METHODS = ("model", "model_seen", "timing", "timing_plan", "random", "motion", "annotated")
ROWS = (
    ("auc", "AUC pooled"), ("auc_within", "AUC within recordings"), ("lift", "lift in the best 3 %"),
    ("brier_skill", "Brier skill"), ("calibration_slope", "calibration slope"),
    ("f1_above_chance", "F1 above chance, drawn"), ("f1_above_chance_decisive", "F1 above chance, decisive"),
    ("nods_per_min", "nods/min, drawn"), ("nods_per_min_decisive", "nods/min, decisive"),
)  # fmt: skip


def event_table(result: dict[str, Any]) -> str:
    """Return the figures as Markdown, as shown; differences and distances below."""
    lines = [
        f"{result['archive']}: {result['recordings']} recordings of {result['people']} people, "
        f"{result['annotated_h']} h annotated; lag {result['lag_s']:g} s; {result['note']}.",
        "Intervals: 95 %, bootstrap over people.",
        "",
    ]
    for state, methods in result["states"].items():
        shown = [name for name in METHODS if name in methods]
        title = f"{state}, people {methods['true_per_min']:g} nods/min"
        lines += [f"| {title} | " + " | ".join(shown) + " |", "|---" * (len(shown) + 1) + "|"]
        for key, name in ROWS:
            lines.append(f"| {name} | " + " | ".join(_cell(methods[m], key) for m in shown) + " |")
        lines += [
            "",
            "| difference | " + " | ".join(("AUC", "AUC within", "lift", "Brier skill", "F1")) + " |",
        ]
        lines.append("|---" * 6 + "|")
        for name, row in result["differences"][state].items():
            cells = [_cell(row, key) for key in ("auc", "auc_within", "lift", "brier_skill", "f1")]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    lines.append("| KS distance | drawn to people | between people p50, p90 | drawn, people p10/50/90 |")
    lines.append("|---" * 4 + "|")
    for name, row in result["distributions"].items():
        between = f"{row.get('between_people_median', '–')}, {row.get('between_people_p90', '–')}"
        spreads = " ".join(str(value) for key, value in row.items() if isinstance(value, list))
        lines.append(f"| {name} | {row.get('distance', '–')} | {between} | {spreads} |")
    return "\n".join(lines) + "\n"


def _cell(row: dict[str, Any], key: str) -> str:
    if row.get(key) is None:
        return "–"
    text = f"{row[key]:.3f}" if abs(row[key]) < 10 else f"{row[key]:.1f}"
    return text + (" [{:.3f}, {:.3f}]".format(*row[f"{key}_95"]) if row.get(f"{key}_95") else "")
