"""A made matrix between ARKit and FLAME: seeded random numbers, well conditioned, of no real face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from timar_common.arkit import ORDERS

STEP = 3.0
"""A whole blendshape moves the expression by about this."""


def made_bs2exp(columns: int = 50, seed: int = 0) -> np.ndarray:
    """Return (52, columns) in MediaPipe's order: rows nearly at right angles, the neutral one zero."""
    rng = np.random.default_rng(seed)
    matrix = np.zeros((52, columns))
    matrix[1:] = STEP * np.linalg.qr(rng.normal(size=(max(51, columns), max(51, columns))))[0][:51, :columns]
    return matrix


def save_bs2exp(folder: Path) -> Path:
    """Write it as a user's file."""
    path = folder / "made_bs2exp.npy"
    np.save(path, made_bs2exp())
    return path


def expression_of(matrix: np.ndarray, **shapes: float) -> np.ndarray:
    """Return the (50,) expression that the matrix gives for blendshapes by name."""
    scores = np.array([shapes.get(name, 0.0) for name in ORDERS["mediapipe"]])
    return np.asarray((scores @ matrix)[:50])
