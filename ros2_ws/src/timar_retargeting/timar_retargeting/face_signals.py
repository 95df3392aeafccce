"""What a screen shows at an instant: ARKit's blendshapes and screen parameters, with idle behavior."""

from __future__ import annotations

import numpy as np
from timar_common.arkit import ARKIT_NAMES, JAW_OPEN

from timar_retargeting.idle_behavior import IDLE_SIGNALS, IdleBehavior
from timar_retargeting.interpolation import smooth_step
from timar_retargeting.motion_timeline import MotionFrames, MotionTimeline
from timar_retargeting.robot import RobotDescription
from timar_retargeting.signals import MOTION_SIGNALS, Array

HOLD_S, EASE_S = 0.1, 0.6
"""Without motion the face stays for so long, then eases to neutral [s]."""
GAZE_FULL_RAD = 0.5
"""Gaze at which eyeLookOutLeft and its kin are 1 [rad]."""
IDLE_SHARE = 0.3
"""Idle brows and smile move a face by so much of a whole blendshape."""
_BLINK = {"eyeBlinkLeft": {"blink": 1.0}, "eyeBlinkRight": {"blink": 1.0}}
_LOOK = 1.0 / GAZE_FULL_RAD
_GAZE = {
    **{name: {"gaze_yaw": _LOOK} for name in ("eyeLookOutLeft", "eyeLookInRight")},
    **{name: {"gaze_yaw": -_LOOK} for name in ("eyeLookInLeft", "eyeLookOutRight")},
    **{f"eyeLookDown{side}": {"gaze_pitch": _LOOK} for side in ("Left", "Right")},
    **{f"eyeLookUp{side}": {"gaze_pitch": -_LOOK} for side in ("Left", "Right")},
}
_MIMICRY = {
    "browInnerUp": {"brow_raise": IDLE_SHARE},
    "mouthSmileLeft": {"smile": IDLE_SHARE},
    "mouthSmileRight": {"smile": IDLE_SHARE},
}


class FaceSignals:
    """Follow motion's signals, and say what a face shows now.

    Args:
        robot: Its channels, screen parameters and map.
        idle: What the head does by itself.
    """

    def __init__(self, robot: RobotDescription, idle: IdleBehavior) -> None:
        self._idle = idle
        signals = (*MOTION_SIGNALS, *robot.expressions, *IDLE_SIGNALS)
        self._motion_count = len(signals) - len(IDLE_SIGNALS)
        self.timeline = MotionTimeline(self._motion_count)
        own = {**_BLINK, **_GAZE, **(_MIMICRY if robot.arkit else {})}
        told = {JAW_OPEN, *own, *(robot.arkit.told if robot.arkit else ())}
        shapes = [name for name in ARKIT_NAMES if name in told]
        self.names = (*shapes, *(parameter.name for parameter in robot.screens))
        """Of the numbers of `at`."""
        # A blendshape is its own channel and what idle behavior adds to it.
        takers = [
            own.get(name, {}) | {one: 1.0 for one in robot.expressions if one == name} for name in shapes
        ]
        takers += [dict(parameter.gains) for parameter in robot.screens]
        self._gains = np.array([[taker.get(name, 0.0) for taker in takers] for name in signals])  # (S, N)
        offsets = [(0.0, 0.0, 1.0)] * len(shapes)
        offsets += [(one.offset, one.lower, one.upper) for one in robot.screens]
        self._offset, self._lower, self._upper = np.array(offsets).T
        # What the channels give for a face without expression.
        self._rest = np.array(
            [0.0] * len(MOTION_SIGNALS) + [channel.offset for channel in robot.expressions.values()]
        )

    def add(self, motion: MotionFrames, now_ns: int) -> None:
        """Take motion in, its rows (frames, 4 + channels) signals."""
        self.timeline.add(motion, now_ns)

    def at(self, now_ns: int, *, idles: bool = True) -> Array:
        """Return (N,) the numbers at an instant, in the order of `names`.

        Args:
            now_ns: CLOCK_MONOTONIC [ns].
            idles: Whether idle behavior is added.
        """
        signals = np.zeros(len(self._gains))
        signals[: self._motion_count] = self._rest
        if not self.timeline.is_empty:
            shown = self.timeline.positions(np.array([float(now_ns)]))[0]
            over_s = (now_ns - self.timeline.last_ns) * 1e-9 - HOLD_S
            faded = float(smooth_step(np.array([over_s / EASE_S]))[0])
            signals[: self._motion_count] += (1.0 - faded) * (shown - self._rest)
        if idles:
            signals[self._motion_count :] = self._idle.rows(np.array([now_ns * 1e-9]))[0]
        values: Array = np.clip(signals @ self._gains + self._offset, self._lower, self._upper)
        return values
