"""Small statistics that summary, score and report share; what cannot be known is None, never NaN."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def mean(values: npt.ArrayLike) -> float | None:
    """Return the mean; None without values."""
    array = np.asarray(values, np.float64)
    return float(array.mean()) if array.size else None


def root_mean_square(values: Floats) -> float | None:
    """Return the root mean square; None without values."""
    return float(np.sqrt(np.square(values).mean())) if values.size else None


def percentiles(values: npt.ArrayLike) -> dict[str, float | None]:
    """Return p50, p95 and p99; each None when there is no value."""
    array, names = np.asarray(values, np.float64), ("p50", "p95", "p99")
    found = np.percentile(array, (50, 95, 99)).tolist() if array.size else [None] * 3
    return dict(zip(names, found, strict=True))


def nearest_distance(indices: npt.NDArray[np.intp], others: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return how far each index is from the nearest of some others, which rise and are not empty."""
    after = np.searchsorted(others, indices)
    before, after = others[np.maximum(after - 1, 0)], others[np.minimum(after, len(others) - 1)]
    return np.asarray(np.minimum(np.abs(indices - before), np.abs(indices - after)))


def finite(value: Any) -> Any:
    """Replace what JSON cannot say (NaN, infinity) by None, everywhere."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def flat(numbers: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return every value of nested mappings by its dotted name."""
    found: dict[str, Any] = {}
    for key, value in numbers.items():
        name = f"{prefix}.{key}" if prefix else key
        found |= flat(value, name) if isinstance(value, Mapping) else {name: value}
    return found


def flat_numbers(numbers: Mapping[str, Any]) -> dict[str, float]:
    """Return every number of a nested score by its dotted name; what is None or no number is left out."""
    return {name: float(value) for name, value in flat(numbers).items() if isinstance(value, (int, float))}


def written(value: Any, digits: int = 3) -> str:
    """Return a number for people; what is not known reads so."""
    if value is None:
        return "unknown"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
