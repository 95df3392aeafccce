"""ARKit's 52 blendshapes, and a user's own matrix between them and FLAME's expression coefficients.

FLAME's coefficients mean nothing without its basis, which may not be shipped, and neither may a matrix that
was made from it. Who has one names its file; docs/retargeting.md says where the well-known ones are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from timar_common.suggest import refuse_unknown
from timar_common.user_motion import PARTS
from timar_common.yaml_map import YamlMap, read_yaml_map

Array = npt.NDArray[np.float64]

EXPRESSION_SIZE = PARTS["expression"].stop
_SIDED = ("Left", "Right")


def _sided(*names: str) -> list[str]:
    return [name + side for name in names for side in _SIDED]


ARKIT_NAMES: tuple[str, ...] = tuple(
    sorted(
        [
            *("browInnerUp", "cheekPuff", "jawForward", "jawOpen", "mouthClose", "mouthFunnel"),
            *("mouthPucker", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
            *_sided("browDown", "browOuterUp", "cheekSquint", "eyeBlink", "eyeLookDown", "eyeLookIn"),
            *_sided("eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide", "jaw", "mouth", "mouthDimple"),
            *_sided("mouthFrown", "mouthLowerDown", "mouthPress", "mouthSmile", "mouthStretch"),
            *_sided("mouthUpperUp", "noseSneer"),
            "tongueOut",
        ]
    )
)
"""All 52, in alphabetical order; left and right are the subject's."""
JAW_OPEN = "jawOpen"
JAW_OPEN_RAD = 0.4
"""Opening of FLAME's jaw at which jawOpen is 1, unless the user says another [rad]."""
ORDERS: dict[str, tuple[str, ...]] = {
    "mediapipe": ("_neutral", *ARKIT_NAMES[:-1]),
    "alphabetical": ARKIT_NAMES,
}
"""Orders in which a matrix may list the blendshapes. MediaPipe's has a neutral one and no tongue."""
DIRECTIONS = ("arkit_to_flame", "flame_to_arkit")
FLAME_SIZES = (50, 100)
DAMPING = 0.03
"""Singular values below this share of the largest are held back in an inverse: noise is not blown up."""
LEAST_STEP = 0.5
"""A whole blendshape moves the expression by more than this; a matrix the other way has smaller rows."""
LEAST_TOLD = 0.2
"""A blendshape of which the inverse gives back less than this share cannot be told from the expression."""


class ArkitMap:
    """Linear map between ARKit's blendshapes (0 to 1, in the order of ARKIT_NAMES) and FLAME's expression.

    Args:
        matrix: (52, 50 or 100) or its transpose; also 51 blendshapes, without neutral and tongue.
        name: Of its file, for messages.
        direction: One of DIRECTIONS; empty: (52, n) goes from ARKit to FLAME as `bs2exp`, if its
            numbers agree.
        order: Names of the blendshapes, in the matrix's order.
        jaw_open_rad: Opening of FLAME's jaw at which jawOpen is 1 [rad].

    Raises:
        ValueError: Shape, type or a number is wrong, or the direction cannot be known.
    """

    def __init__(
        self,
        matrix: npt.NDArray[np.generic],
        name: str,
        direction: str = "",
        order: Sequence[str] = ORDERS["mediapipe"],
        jaw_open_rad: float = JAW_OPEN_RAD,
    ) -> None:
        by_name, is_transposed = _rows_by_name(matrix, name, order)
        direction = direction or _direction_of(by_name, name, is_transposed)
        forward, backward, jaw = _both_ways(by_name, direction, jaw_open_rad)
        self.flame_from_arkit: Array = forward
        """(52, 50): expression = shapes @ this."""
        self.arkit_from_flame: Array = backward
        """(50, 52): shapes = expression @ this + jaw opening [rad] x `arkit_from_jaw`."""
        self.arkit_from_jaw: Array = jaw
        """(52,) per rad. FLAME opens the mouth by a joint of its own, so jawOpen comes from it."""
        # Of each shape, how much comes back; a matrix from FLAME tells whatever it has a row for.
        is_inverted = direction == DIRECTIONS[0]
        shares = np.einsum("sf,fs->s", forward, backward) if is_inverted else by_name.any(1).astype(float)
        shares[ARKIT_NAMES.index(JAW_OPEN)] = 1.0
        self.told = tuple(one for one, share in zip(ARKIT_NAMES, shares, strict=True) if share >= LEAST_TOLD)
        """Blendshapes that can be told from expression and jaw."""
        singular = np.linalg.svd(by_name, compute_uv=False)
        rank = int((singular > 1e-6 * singular[0]).sum())
        held_back = int((singular[:rank] < DAMPING * singular[0]).sum())
        self.summary = (
            f"{name} has shape {matrix.shape}, {direction.replace('_', ' ')}, rank {rank}, condition "
            f"{singular[0] / singular[rank - 1]:.3g}; inverted"
            + (f" with {held_back} of {rank} directions held back as too weak" if held_back else "")
            + f"; {len(self.told)} of {len(ARKIT_NAMES)} blendshapes can be told"
        )
        """Shape, direction, rank and conditioning in one sentence, for people."""

    @property
    def untold(self) -> tuple[str, ...]:
        """Blendshapes that cannot be told from expression and jaw."""
        return tuple(name for name in ARKIT_NAMES if name not in self.told)


def names_arkit_map(path: Path) -> bool:
    """Tell whether a file is a matrix, or a YAML that names one."""
    return path.suffix == ".npy" or read_yaml_map(path).has("expression_map")


def read_arkit_map(path: Path) -> ArkitMap:
    """Read the user's matrix.

    Args:
        path: An ``.npy`` as the public ``bs2exp``, or a YAML (a robot's, for example) with ``expression_map:
            {file, direction, order or names, jaw_open_rad}``, the file relative to it.

    Raises:
        ValueError: The matrix cannot be one; the message says why, and what to say where it is ambiguous.
        OSError: It cannot be read.
    """
    if path.suffix == ".npy":
        return ArkitMap(_load(path), path.name)
    return arkit_map_from(read_yaml_map(path).child("expression_map"), path.parent)


def arkit_map_from(entry: YamlMap, folder: Path) -> ArkitMap:
    """Read the matrix that an ``expression_map`` mapping names; its file is relative to the folder.

    Raises:
        ValueError: As `read_arkit_map`; the message names the line.
        OSError: The matrix cannot be read.
    """
    file = folder / Path(entry.text("file")).expanduser()
    direction = entry.text("direction", "", DIRECTIONS)
    order = entry.text("order", "mediapipe", tuple(ORDERS))
    names = entry.words("names") if entry.has("names") else ()
    jaw_open_rad = entry.number("jaw_open_rad", JAW_OPEN_RAD, minimum=0.05, maximum=1.5)
    entry.refuse_rest()
    with entry.blamed():
        return ArkitMap(_load(file), file.name, direction, names or ORDERS[order], jaw_open_rad)


def damped_inverse(matrix: Array) -> Array:
    """Return the pseudo-inverse (n, m) of (m, n), regularised where singular values are small (Tikhonov)."""
    left, singular, right = np.linalg.svd(matrix, full_matrices=False)
    damping = max(DAMPING * float(singular.max(initial=0.0)), 1e-12)
    inverse: Array = (right.T * (singular / (singular**2 + damping**2))) @ left.T
    return inverse


def _rows_by_name(matrix: npt.NDArray[np.generic], name: str, order: Sequence[str]) -> tuple[Array, bool]:
    """Return the checked matrix (52, 50) in the order of ARKIT_NAMES, and whether it stood transposed."""
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        raise ValueError(f"{name} holds {matrix.dtype} of shape {matrix.shape}, {_EXPECTED}")
    if len(order) - 1 in matrix.shape and len(order) not in matrix.shape:
        order = [one for one in order if one not in ("_neutral", "tongueOut")]
    is_transposed = matrix.shape[0] in FLAME_SIZES and matrix.shape[1] == len(order)
    rows = np.asarray(matrix.T if is_transposed else matrix, np.float64)  # (52, 50 or 100)
    if rows.shape[0] != len(order) or rows.shape[1] not in FLAME_SIZES:
        raise ValueError(f"{name} has shape {matrix.shape}, {_EXPECTED}")
    if not np.isfinite(rows).all():
        row, column = np.argwhere(~np.isfinite(np.asarray(matrix, np.float64)))[0]
        raise ValueError(
            f"{name} is {matrix[row, column]} in row {row}, column {column}; expected finite numbers"
        )
    refuse_unknown("blendshape", order, (*ARKIT_NAMES, "_neutral"))
    by_name = np.zeros((len(ARKIT_NAMES), EXPRESSION_SIZE))
    for shape, row in zip(order, rows[:, :EXPRESSION_SIZE], strict=True):
        if shape != "_neutral":
            by_name[ARKIT_NAMES.index(shape)] = row
    if not by_name.any():
        raise ValueError(f"{name} is all zeros, expected weights")
    return by_name, is_transposed


def _both_ways(by_name: Array, direction: str, jaw_open_rad: float) -> tuple[Array, Array, Array]:
    """Return (52, 50) to FLAME, (50, 52) back, and (52,) what a radian of the jaw adds on the way back."""
    jaw_row = ARKIT_NAMES.index(JAW_OPEN)
    jaw = np.zeros(len(ARKIT_NAMES))
    if direction == DIRECTIONS[0]:
        forward, others = by_name, by_name.copy()
        others[jaw_row] = 0.0
        backward = damped_inverse(others)
        # What an open mouth does to the expression is known from the jaw, and no other shape's doing.
        jaw = -(by_name[jaw_row] / jaw_open_rad) @ backward
    else:
        forward, backward = damped_inverse(by_name.T), by_name.T.copy()
    backward[:, jaw_row], jaw[jaw_row] = 0.0, 1.0 / jaw_open_rad
    return forward, backward, jaw


def _direction_of(by_name: Array, name: str, is_transposed: bool) -> str:
    norms = np.linalg.norm(by_name, axis=1)
    step = float(np.median(norms[norms > 0.0]))
    how = f"say which in a YAML: expression_map: {{file: {name}, direction: {' or '.join(DIRECTIONS)}}}"
    if is_transposed:
        raise ValueError(f"{name} has the blendshapes in its columns and may go either way; {how}")
    if step < LEAST_STEP:
        raise ValueError(
            f"a whole blendshape of {name} moves the expression by {step:.2g}, expected {LEAST_STEP} or more "
            f"of a matrix from ARKit to FLAME; {how}"
        )
    return DIRECTIONS[0]


_EXPECTED = "expected numbers (52, 50), (52, 100) or the transpose, or so with 51 blendshapes"


def _load(path: Path) -> npt.NDArray[np.generic]:
    try:
        with path.open("rb") as file:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    except ValueError as error:
        raise ValueError(f"{path} is no .npy of numbers ({error}); {_EXPECTED}") from error
