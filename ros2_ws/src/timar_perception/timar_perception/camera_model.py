"""How a camera maps space to pixels: a pinhole, from its field of view."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class CameraModel:
    """A pinhole camera without distortion; axes x right, y down, z away from it."""

    width: int
    """Of a picture [px]."""
    height: int
    focal_px: float

    @classmethod
    def from_field_of_view(cls, width: int, height: int, horizontal_deg: float) -> CameraModel:
        """Make the model of a camera that sees an angle from its left to its right edge [degrees]."""
        return cls(width, height, 0.5 * width / math.tan(math.radians(0.5 * horizontal_deg)))

    @property
    def centre_px(self) -> Array:
        """Where the optical axis meets the picture: its middle [px]."""
        return np.array([0.5 * (self.width - 1), 0.5 * (self.height - 1)])

    @property
    def matrix(self) -> Array:
        """(3, 3) as OpenCV wants it."""
        centre = self.centre_px
        return np.array([[self.focal_px, 0.0, centre[0]], [0.0, self.focal_px, centre[1]], [0.0, 0.0, 1.0]])

    def rays(self, pixels: npt.ArrayLike) -> Array:
        """Return the (n, 3) directions in which (n, 2) pixels look, each one metre deep."""
        flat = (np.atleast_2d(np.asarray(pixels, np.float64)) - self.centre_px) / self.focal_px
        return np.concatenate([flat, np.ones((len(flat), 1))], axis=1)
