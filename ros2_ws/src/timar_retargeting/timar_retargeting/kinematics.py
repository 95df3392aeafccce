"""Kinematics of parallel necks by name: inverse (pose to motor positions) and forward.

A plug-in is a function from the geometry in the robot's YAML to a `Kinematics`. `stewart` and `two_rod` are
built in; a package brings its own by an entry point of the group ``timar.kinematics``.

Source: J.-P. Merlet, "Parallel Robots", 2006, chapters 3 and 4.
"""

from __future__ import annotations

import abc
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from timar_common.yaml_map import YamlMap

Array = npt.NDArray[np.float64]
GROUP = "timar.kinematics"


class Kinematics(abc.ABC):
    """How poses of a mechanism and positions of its motors belong together."""

    axes: tuple[str, ...]
    """Names of the pose's components, in order; angles in rad, lengths in m."""
    motors: int
    """How many motors there are."""

    @abc.abstractmethod
    def inverse(self, poses: Array) -> Array:
        """Return motor positions (K, motors) for finite poses (K, axes).

        A pose out of reach gives finite positions, those nearest to reaching it.
        """

    @abc.abstractmethod
    def reaches(self, poses: Array) -> npt.NDArray[np.bool_]:
        """Return (K,) whether poses (K, axes) can be taken."""

    @abc.abstractmethod
    def forward(self, positions: Array) -> Array:
        """Return the poses (K, axes) that motor positions (K, motors) make.

        Raises:
            ValueError: No pose fits.
        """


class RodPlatform(Kinematics):
    """A plate moved by rods: each from a crank's tip, or straight from a linear motor, to the plate.

    Coordinates are the robot's at the pivot: x forward, y left, z up. The pose turns the plate about the
    pivot by yaw, pitch, roll in the order z-y-x, after shifting it by x, y, z. A crank at position 0 lies
    level, pointing along its azimuth; positive turns its tip up. A linear motor's position is how much longer
    it is than in the neutral pose.

    Args:
        axes: Which of x, y, z, yaw, pitch, roll the rods hold, as many as there are rods.
        base_m: (N, 3) where the cranks turn, or where linear motors begin.
        plate_m: (N, 3) where the rods meet the plate in the neutral pose.
        crank_m: (N,) lengths of the cranks; None: linear motors.
        azimuth_rad: (N,) directions of level cranks, from x towards y.
        rod_m: (N,) lengths of the rods; None: those that let the cranks lie level in the neutral pose.

    Raises:
        ValueError: A rod has no length, or does not reach its crank in the neutral pose.
    """

    def __init__(
        self,
        axes: tuple[str, ...],
        base_m: Array,
        plate_m: Array,
        crank_m: Array | None = None,
        azimuth_rad: Array | None = None,
        rod_m: Array | None = None,
    ) -> None:
        self.axes, self.motors = axes, len(base_m)
        self._places = [POSE.index(axis) for axis in axes]
        self._base, self._plate, self._crank = base_m, plate_m, crank_m
        azimuth = np.zeros(self.motors) if azimuth_rad is None else azimuth_rad
        self._level = np.stack([np.cos(azimuth), np.sin(azimuth), np.zeros_like(azimuth)], axis=1)
        spans = plate_m - base_m
        if crank_m is None:
            self._rod = np.linalg.norm(spans, axis=1)
        else:
            level = spans - crank_m[:, None] * self._level
            self._rod = np.linalg.norm(level, axis=1) if rod_m is None else rod_m
        if not (self._rod > 1e-6).all():
            raise ValueError(f"rod {int(np.argmin(self._rod)) + 1} has no length; move base_m or plate_m")
        # Of the two ways a crank can meet its rod, the one that is more level in the neutral pose.
        self._branch = np.ones(self.motors)
        neutral = np.zeros((1, len(axes)))
        if not self.reaches(neutral).all():
            raise ValueError("a rod does not reach its crank in the neutral pose; check rod_m and crank_m")
        if crank_m is not None:
            upper = self.inverse(neutral)
            self._branch = -self._branch
            lower = self.inverse(neutral)
            self._branch = np.where(np.abs(upper[0]) <= np.abs(lower[0]), 1.0, -1.0)

    def inverse(self, poses: Array) -> Array:
        """Return crank angles [rad] or how much longer the linear motors are [m]."""
        spans = self._spans(poses)
        if self._crank is None:
            return np.linalg.norm(spans, axis=2) - self._rod
        reach, size, phase = self._crank_equation(spans)
        turn = np.arccos(np.clip(reach / size, -1.0, 1.0))
        return _wrapped(phase + self._branch * turn)

    def reaches(self, poses: Array) -> npt.NDArray[np.bool_]:
        """Return whether every rod reaches."""
        if self._crank is None:
            return np.ones(len(poses), np.bool_)
        reach, size, _ = self._crank_equation(self._spans(poses))
        reached: npt.NDArray[np.bool_] = np.asarray((np.abs(reach) <= size).all(1))
        return reached

    def forward(self, positions: Array) -> Array:
        """Return poses, each found from the neutral one."""
        return np.array([self._forward(row) for row in np.atleast_2d(positions)])

    def _forward(self, positions: Array) -> Array:
        # A running head computes the inverse only, and this takes 0.7 s to import.
        from scipy.optimize import least_squares

        if self._crank is None:
            anchors, lengths = self._base, self._rod + positions
        else:
            tip = np.cos(positions)[:, None] * self._level
            tip[:, 2] += np.sin(positions)
            anchors, lengths = self._base + self._crank[:, None] * tip, self._rod

        def misfit(pose: Array) -> Array:
            return np.linalg.norm(self._plates(pose[None])[0] - anchors, axis=1) - lengths

        start, close = np.zeros(len(self.axes)), 1e-15
        found = least_squares(misfit, start, x_scale=self._scales(), xtol=close, ftol=close, gtol=close)
        if np.abs(found.fun).max() > 1e-6:
            raise ValueError(
                f"no pose fits the motor positions {np.round(positions, 4).tolist()}: "
                f"a rod would be {np.abs(found.fun).max() * 1e3:.3g} mm off"
            )
        return found.x

    def _scales(self) -> Array:
        radius = float(np.linalg.norm(self._plate, axis=1).max())
        return np.array([radius if axis in POSE[:3] else 1.0 for axis in self.axes])

    def _plates(self, poses: Array) -> Array:
        """(K, N, 3) where the rods meet the plate."""
        whole = np.zeros((len(poses), len(POSE)))
        whole[:, self._places] = poses
        cos, sin = np.cos(whole[:, 3:]), np.sin(whole[:, 3:])
        (cy, cp, cr), (sy, sp, sr) = cos.T, sin.T
        rotation = np.stack([
            cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr,
            sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr,
            -sp, cp * sr, cp * cr,
        ], axis=1).reshape(-1, 3, 3)  # fmt: skip
        turned: Array = np.einsum("kij,nj->kni", rotation, self._plate) + whole[:, None, :3]
        return turned

    def _spans(self, poses: Array) -> Array:
        return self._plates(poses) - self._base

    def _crank_equation(self, spans: Array) -> tuple[Array, Array, Array]:
        """With a crank of angle q:  size * cos(q - phase) = reach  says that the rod has its length."""
        crank = np.zeros(self.motors) if self._crank is None else self._crank
        along = (spans * self._level).sum(2)
        up = spans[:, :, 2]
        reach = ((spans * spans).sum(2) + crank**2 - self._rod**2) / (2.0 * crank)
        return reach, np.maximum(np.hypot(along, up), 1e-12), np.arctan2(up, along)


POSE = ("x", "y", "z", "yaw", "pitch", "roll")


def _wrapped(angle: Array) -> Array:
    return (angle + np.pi) % (2.0 * np.pi) - np.pi


def _platform(geometry: YamlMap, axes: tuple[str, ...]) -> RodPlatform:
    count = len(axes)
    base = np.array(geometry.rows("base_m", count, 3))
    plate = np.array(geometry.rows("plate_m", count, 3))
    crank = azimuth = rod = None
    if geometry.has("crank_m"):
        crank = np.full(count, geometry.number("crank_m", minimum=1e-4, maximum=1.0))
        azimuth = np.array(geometry.numbers("azimuth_rad", count))
        if geometry.has("rod_m"):
            rod = np.full(count, geometry.number("rod_m", minimum=1e-4, maximum=2.0))
    geometry.refuse_rest()
    with geometry.blamed():
        return RodPlatform(axes, base, plate, crank, azimuth, rod)


def stewart(geometry: YamlMap) -> Kinematics:
    """Six rods that hold x, y, z, yaw, pitch and roll."""
    return _platform(geometry, POSE)


def two_rod(geometry: YamlMap) -> Kinematics:
    """A plate on a universal joint, its pitch and roll held by two rods; yaw is a joint beneath."""
    return _platform(geometry, ("pitch", "roll"))


BUILT_IN: dict[str, Callable[[YamlMap], Kinematics]] = {"stewart": stewart, "two_rod": two_rod}
