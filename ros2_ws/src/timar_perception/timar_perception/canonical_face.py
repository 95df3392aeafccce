"""Canonical face model: points of the head that no expression moves, for pose estimation.

Axes are FLAME's: x to the subject's left, y up, z out of the face. Rotating the table rotates the head.

Source: MediaPipe's canonical face model (``canonical_face_model.obj``, Apache-2.0), an average face, which
FaceLandmarker's model bundle carries too; a test compares the two. Left out is what moves (lips, lids, brows,
cheeks, chin) and what hair and ears hide or landmarks only guess.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_POINTS_CM: dict[int, tuple[float, float, float]] = {
    4: (0, -0.463, 7.587),  # tip of the nose
    6: (0, 2.473, 5.789),  # bridge of the nose
    168: (0, 3.271, 5.236),  # bridge, between the eyes
    9: (0, 4.886, 5.385),  # between the brows
    151: (0, 6.545, 5.027),  # forehead
    10: (0, 8.262, 4.482),  # top of the forehead
    33: (-4.446, 2.664, 3.173),  # right eye, outer corner
    133: (-1.856, 2.585, 3.758),  # right eye, inner corner
    54: (-6.279, 6.615, 1.426),  # right temple, high
    117: (-5.259, 0.946, 2.974),  # right cheekbone
    121: (-1.821, 1.468, 4.224),  # beside the nose, right
    143: (-6.408, 2.236, 1.561),  # right temple, beside the eye
    263: (4.446, 2.664, 3.173),  # left eye, outer corner
    362: (1.856, 2.585, 3.758),  # left eye, inner corner
    284: (6.279, 6.615, 1.426),  # left temple, high
    346: (5.259, 0.946, 2.974),  # left cheekbone
    350: (1.821, 1.468, 4.224),  # beside the nose, left
    372: (6.408, 2.236, 1.561),  # left temple, beside the eye
}

RIGID_LANDMARKS = tuple(_POINTS_CM)
"""Their numbers among the landmarks."""
RIGID_POINTS_M: Array = np.array(list(_POINTS_CM.values())) / 100.0
"""(n, 3) their positions on the canonical face [m]."""

LANDMARKS = 478
"""Points that MediaPipe finds in a face: 468 of its mesh and 5 on each iris."""
INNER_UPPER_LIP = 13
INNER_LOWER_LIP = 14
LIPS_M: Array = np.array([0.0, -0.0427, 0.0531])
"""Where the lips meet [m]: between landmarks 13 and 14."""
JAW_HINGE_M: Array = np.array([0.0, -0.002, -0.012])
"""Between the two joints of the jaw [m]: 1 cm before the ears' front edge and 1 cm below it, estimated."""
