"""Compares two runs over the same bags, window by window, with paired statistics: better or worse."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from timar_report.score import WINDOWS
from timar_report.score_files import SCORE_NAME, described_run, read_score
from timar_report.statistics import flat_numbers

Floats = npt.NDArray[np.float64]

RESAMPLES = 2000
LEVEL = 0.95
FEWEST_PAIRS = 6
"""Fewer windows prove nothing: the signed-rank test cannot even reach its level."""
COUNTS = (
    "late_turns", "extra.unsampled_turns", "frames.late", "audio.samples_lost", "losses",
    "body.clipped_share",
)  # fmt: skip
"""Numbers of a whole run that need no statistics, for replay is deterministic; lower is better."""


@dataclasses.dataclass(frozen=True)
class MetricComparison:
    """One metric over the windows both runs have."""

    name: str
    better: str
    pairs: int
    mean_a: float
    mean_b: float
    difference: float
    """Mean of B less A."""
    low: float
    high: float
    """95 % interval of the difference, by resampling windows."""
    p_value: float
    """Wilcoxon's signed-rank test, corrected for the number of metrics (Holm)."""

    @property
    def verdict(self) -> str:
        """Return same, changed, better or worse (B against A)."""
        if not (self.p_value < 1 - LEVEL and (self.low > 0 or self.high < 0)):
            return "same"
        if self.better == "neither":
            return "changed"
        return "better" if (self.difference < 0) == (self.better == "lower") else "worse"


@dataclasses.dataclass(frozen=True)
class RunComparison:
    """Two runs against each other."""

    bags: list[str]
    """Bags both have."""
    only_one: list[str]
    """Bags only one has; left out."""
    metrics: list[MetricComparison]
    counts: dict[str, tuple[float, float]]
    """Sums of A and B, where they differ."""
    made_with: tuple[str, str] = ("", "")
    """Model, engine, seed and commit of A and of B; empty where a result does not say."""

    @property
    def worse(self) -> list[str]:
        """Names of what became worse."""
        return [metric.name for metric in self.metrics if metric.verdict == "worse"] + [
            name for name, (before, after) in self.counts.items() if after > before
        ]

    def content(self) -> dict[str, Any]:
        """Return everything as it is written to JSON."""
        return {
            "a": self.made_with[0],
            "b": self.made_with[1],
            "bags": self.bags,
            "only_one": self.only_one,
            "metrics": {
                metric.name: {**dataclasses.asdict(metric), "verdict": metric.verdict}
                for metric in self.metrics
            },
            "counts": {name: {"a": before, "b": after} for name, (before, after) in self.counts.items()},
            "worse": self.worse,
        }


def compare_runs(first: Path, second: Path) -> RunComparison:
    """Compare two replays, or two folders of them.

    Args:
        first: A: the ``--out`` of a replay, of one bag or of many.
        second: B: the same bags with another model, engine or commit.

    Raises:
        FileNotFoundError: One of them holds no score.
        ValueError: They have no bag in common, or a score is damaged.
    """
    runs = [find_scores(folder) for folder in (first, second)]
    if len(runs[0]) == len(runs[1]) == 1:
        # One bag each: they belong together whatever their folders are called.
        names = [""]
        pairs = [(next(iter(runs[0].values())), next(iter(runs[1].values())))]
    else:
        names = sorted(set(runs[0]) & set(runs[1]))
        pairs = [(runs[0][name], runs[1][name]) for name in names]
    if not pairs:
        raise ValueError(f"{first} and {second} have no bag in common; replay the same bags into both")
    scores = [(read_score(one), read_score(other)) for one, other in pairs]
    return RunComparison(
        bags=names,
        only_one=sorted(set(runs[0]) ^ set(runs[1])) if names != [""] else [],
        metrics=_metrics(scores),
        counts=_counts(scores),
        made_with=(described_run(pairs[0][0]), described_run(pairs[0][1])),
    )


def find_scores(folder: Path) -> dict[str, Path]:
    """Return the folders of replays below a folder, by their place in it.

    Raises:
        FileNotFoundError: There is none.
    """
    found = {
        "" if path.parent == folder else str(path.parent.relative_to(folder)): path.parent
        for path in sorted(folder.rglob(SCORE_NAME))
    }
    if not found:
        raise FileNotFoundError(f"{folder} holds no {SCORE_NAME}; give the --out folder of a replay")
    return found


def paired(name: str, better: str, before: Floats, after: Floats) -> MetricComparison | None:
    """Compare one metric over paired windows; None when too few windows know it in both."""
    known = np.isfinite(before) & np.isfinite(after)
    before, after = before[known], after[known]
    if before.size < FEWEST_PAIRS:
        return None
    difference = after - before
    low = high = float(difference.mean())
    p_value = 1.0
    if np.abs(difference).max() > 1e-9 * max(1.0, float(np.abs(before).max())):
        random = np.random.default_rng(0)
        count = difference.size
        # One after the other: of thousands of bags all draws at once would not fit into memory.
        means = [difference[random.integers(0, count, count)].mean() for _ in range(RESAMPLES)]
        low, high = (float(value) for value in np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
        p_value = float(stats.wilcoxon(difference).pvalue)
    return MetricComparison(
        name, better, int(before.size), float(before.mean()), float(after.mean()), float(difference.mean()),
        low, high, p_value,
    )  # fmt: skip


def table(compared: RunComparison) -> str:
    """Return a comparison as text."""
    lines = [f"{side}: {text}" for side, text in zip("AB", compared.made_with, strict=True) if text]
    lines += [f"{'':<24} {'A':>10} {'B':>10} {'B - A':>10}   {'95 % interval':<23} {'p':>7}  windows"]
    for metric in compared.metrics:
        lines.append(
            f"{metric.name:<24} {metric.mean_a:10.4g} {metric.mean_b:10.4g} {metric.difference:+10.3g}   "
            f"[{metric.low:+.3g}, {metric.high:+.3g}]{'':<4} {metric.p_value:7.3g}  {metric.pairs:>5}  "
            f"{metric.verdict}"
        )
    for name, (before, after) in compared.counts.items():
        verdict = "worse" if after > before else "better"
        lines.append(f"{name:<24} {before:10.4g} {after:10.4g} {after - before:+10.3g}{'':>44}{verdict}")
    if compared.only_one:
        lines.append(f"left out, only in one of the two: {', '.join(compared.only_one)}")
    lines.append(f"worse: {', '.join(compared.worse) or 'nothing'}")
    return "\n".join(lines) + "\n"


def _metrics(scores: list[tuple[dict[str, Any], dict[str, Any]]]) -> list[MetricComparison]:
    found = []
    for name, metric in WINDOWS.items():
        sides: tuple[list[Floats], list[Floats]] = ([], [])
        for pair in scores:
            columns = [np.array(score["windows"].get(name, []), np.float64) for score in pair]
            count = min(column.size for column in columns)
            for side, column in zip(sides, columns, strict=True):
                side.append(column[:count])
        compared = paired(name, metric.better, *(np.concatenate(side) for side in sides))
        if compared is not None:
            found.append(compared)
    return _corrected(found)


def _corrected(metrics: list[MetricComparison]) -> list[MetricComparison]:
    """Correct p-values by Holm's method: of ten metrics one would look changed in every second run."""
    order = np.argsort([metric.p_value for metric in metrics], kind="stable")
    corrected, largest = list(metrics), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, metrics[index].p_value * (len(metrics) - rank)))
        corrected[index] = dataclasses.replace(metrics[index], p_value=largest)
    return corrected


def _counts(scores: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, tuple[float, float]]:
    flats = [[flat_numbers(score["numbers"]) for score in pair] for pair in scores]
    sums = {
        name: tuple(sum(pair[side].get(name, 0.0) for pair in flats) for side in (0, 1)) for name in COUNTS
    }
    return {name: (before, after) for name, (before, after) in sums.items() if before != after}
