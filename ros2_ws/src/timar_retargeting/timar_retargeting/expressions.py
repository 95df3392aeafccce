"""Channels of the face from the 50 expression numbers: fitted to paired data, or read from a face mesh."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from timar_common.motion_file import EXPRESSION

from timar_retargeting.signals import ExpressionChannel

Array = npt.NDArray[np.float64]
SIZE = EXPRESSION.stop - EXPRESSION.start
STRENGTHS = 10.0 ** np.arange(-4.0, 3.1, 0.5)
"""Regularisations tried, as shares of the mean variance of an expression number."""
FOLDS = 5


@dataclasses.dataclass(frozen=True)
class FittedChannel:
    """A channel and how far it may be trusted."""

    name: str
    channel: ExpressionChannel
    explained: float
    """Share of its variance explained in data it was not fitted to; 1 is all, below 0 is useless."""
    strength: float
    """Regularisation chosen."""


def fit_channels(expression: Array, channels: Mapping[str, Array]) -> tuple[FittedChannel, ...]:
    """Fit each channel as a weighted sum by ridge regression; blocks of time left out choose how strong.

    Args:
        expression: (frames, 50) expression numbers.
        channels: By name, (frames,) what the channel ought to be at the same instants.

    Raises:
        ValueError: Shapes differ, there are fewer than 100 frames, or a number is not finite.
    """
    if expression.ndim != 2 or expression.shape[1] != SIZE or len(expression) < 100:
        raise ValueError(f"expression has shape {expression.shape}, expected (100 or more, {SIZE})")
    if not np.isfinite(expression).all():
        raise ValueError("an expression number is not finite; leave such frames out")
    for name, values in channels.items():
        if values.shape != (len(expression),) or not np.isfinite(values).all():
            raise ValueError(
                f"channel {name!r} has shape {values.shape}, expected ({len(expression)},) finite numbers"
            )
    # scikit-learn takes a second to import, and only this needs it.
    from sklearn.linear_model import Ridge
    from sklearn.metrics import r2_score
    from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict

    # Neighbouring frames are alike: only whole stretches of time left out are new to the fit.
    stretches = KFold(FOLDS, shuffle=False)
    unit = max(len(expression) * float(expression.var(0).mean()), 1e-12)
    search = GridSearchCV(
        Ridge(), {"alpha": unit * STRENGTHS}, scoring="neg_mean_squared_error", cv=stretches
    )
    fitted = []
    for name, wanted in channels.items():
        best = search.fit(expression, wanted).best_estimator_
        unseen = cross_val_predict(best, expression, wanted, cv=stretches)
        channel = ExpressionChannel(best.coef_, float(best.intercept_))
        explained = float(r2_score(wanted, unseen)) if wanted.var() > 1e-12 else 0.0
        fitted.append(FittedChannel(name, channel, explained, float(best.alpha) / unit))
    return tuple(fitted)


@dataclasses.dataclass(frozen=True)
class MeshChannel:
    """A channel seen on a mesh: how far some vertices move along a direction, against others."""

    vertices: tuple[int, ...]
    direction: tuple[float, float, float]
    against: tuple[int, ...] = ()
    """Vertices whose movement is taken off, such as the skull's; empty: none."""
    full_m: float = 0.01
    """Movement at which the channel is 1 [m]."""

    def __post_init__(self) -> None:
        if not (np.isfinite(self.direction).all() and np.linalg.norm(self.direction) > 0.0):
            raise ValueError(f"MeshChannel.direction is {self.direction}, expected a direction other than 0")
        if not 0.0 < self.full_m < np.inf:
            raise ValueError(f"MeshChannel.full_m is {self.full_m:g}, expected metres, more than 0")
        if not self.vertices:
            raise ValueError("MeshChannel.vertices is empty, expected one vertex or more")


def mesh_channels(
    path: Path, channels: Mapping[str, MeshChannel], shape_numbers: int
) -> dict[str, ExpressionChannel]:
    """Read channels from the user's own face model; exact, for its vertices are linear in the expression.

    Args:
        path: An .npz with ``shapedirs`` (vertices, 3, shape + expression numbers), in metres.
        channels: By name.
        shape_numbers: How many numbers of shape stand before those of expression: 300 in FLAME 2020, 100 in
            earlier exports.

    Raises:
        ValueError: The file lacks shapedirs, has too few numbers, or a vertex is not in it.
        OSError: It cannot be read.
    """
    with np.load(path, allow_pickle=False) as arrays:
        if "shapedirs" not in arrays:
            raise ValueError(f"{path} holds {', '.join(arrays)}; expected shapedirs (vertices, 3, numbers)")
        basis = np.asarray(arrays["shapedirs"], np.float64)
    if basis.ndim != 3 or basis.shape[1] != 3 or basis.shape[2] < shape_numbers + SIZE:
        raise ValueError(
            f"{path}: shapedirs has shape {basis.shape}, "
            f"expected (vertices, 3, {shape_numbers + SIZE} or more)"
        )
    basis = basis[:, :, shape_numbers : shape_numbers + SIZE]
    read = {}
    for name, channel in channels.items():
        for vertex in (*channel.vertices, *channel.against):
            if not 0 <= vertex < len(basis):
                raise ValueError(f"channel {name!r} names vertex {vertex}, expected 0..{len(basis) - 1}")
        moved = basis[list(channel.vertices)].mean(0)
        if channel.against:
            moved = moved - basis[list(channel.against)].mean(0)
        along = np.array(channel.direction) / np.linalg.norm(channel.direction)
        read[name] = ExpressionChannel(along @ moved / channel.full_m)
    return read


def read_expression(path: Path) -> Array:
    """Read (frames, 50) from an .npz with ``exp`` or ``motion``.

    Raises:
        ValueError: It has neither.
        OSError: It cannot be read.
    """
    with np.load(path, allow_pickle=False) as arrays:
        for key in ("exp", "motion"):
            if key in arrays:
                return np.asarray(arrays[key], np.float64)[:, EXPRESSION]
        raise ValueError(f"{path} holds {', '.join(arrays)}; expected exp or motion")


def read_channels(path: Path, names: Sequence[str] = ()) -> dict[str, Array]:
    """Read channels over time from a CSV with a header (as face capture apps write), or from an .npz.

    Args:
        path: The file; columns that hold anything but numbers (time codes) are left out.
        names: Only these; empty: all.

    Raises:
        ValueError: A name is not there, or there is no column of numbers.
        OSError: It cannot be read.
    """
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            found = {key: np.asarray(arrays[key], np.float64) for key in arrays if arrays[key].ndim == 1}
    else:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        found = {}
        for key in rows[0] if rows else ():
            try:
                found[key] = np.array([float(row[key]) for row in rows])
            except (TypeError, ValueError):
                continue
    missing = [name for name in names if name not in found]
    if missing or not found:
        raise ValueError(
            f"{path} has no channel {', '.join(missing) or 'at all'}; it has: {', '.join(found) or 'none'}"
        )
    return {name: found[name] for name in names or found}


def yaml_of(channels: Mapping[str, ExpressionChannel]) -> str:
    """Return the ``expressions:`` part of a robot's YAML."""
    lines = ["expressions:"]
    for name, channel in channels.items():
        entries = [f"{index}: {weight:.5g}" for index, weight in enumerate(channel.weights) if weight]
        entries += [f"offset: {channel.offset:.5g}"] if channel.offset else []
        lines.append(f"  {name}: {{{', '.join(entries)}}}")
    return "\n".join(lines) + "\n"
