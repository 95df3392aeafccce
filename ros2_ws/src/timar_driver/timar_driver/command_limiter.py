"""Command limiter, the last check before a bus: position and velocity limits, finite numbers only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from timar_driver.driver import Array, JointLimits, check_command

_SLACK = 1e-9


class CommandLimiter:
    """Let commands through as far as position and velocity limits allow.

    A joint that rejoins, for example after its servo has restarted, is led to its command at a gentle speed
    from where it stands.

    Args:
        names: Of the joints.
        limits: Of the joints.
        rejoin_share: Part of the velocity limit a rejoining joint may use.
    """

    REJOINED_RAD = 1e-3

    def __init__(self, names: Sequence[str], limits: JointLimits, rejoin_share: float = 0.15) -> None:
        if not 0.0 < rejoin_share <= 1.0:
            raise ValueError(f"rejoin_share is {rejoin_share:g}, expected above 0 and at most 1")
        self.names, self.limits = tuple(names), limits
        self.held_back = 0
        """Commands that were further off than the velocity limit allows, rejoining ones left out."""
        self._share = rejoin_share
        self._command: Array = np.zeros(len(self.names))
        self._is_rejoining = np.zeros(len(self.names), bool)
        self._then_ns = 0

    @property
    def command(self) -> Array:
        """(J,) what was let through last [rad]."""
        return self._command.copy()

    @property
    def rejoining(self) -> tuple[str, ...]:
        """Joints on their way back."""
        return tuple(name for name, on in zip(self.names, self._is_rejoining, strict=True) if on)

    def start(self, positions: Array, now_ns: int) -> None:
        """Begin from where the joints stand."""
        self._command = np.clip(positions, self.limits.lower, self.limits.upper)
        self._is_rejoining[:] = False
        self._then_ns = now_ns

    def rejoin(self, joint: int, position: float) -> None:
        """Lead one joint to its command from where it stands [rad]."""
        self._command[joint] = np.clip(position, self.limits.lower[joint], self.limits.upper[joint])
        self._is_rejoining[joint] = True

    def step(self, positions: Array, now_ns: int) -> Array:
        """Return what may be sent.

        Args:
            positions: (J,) wanted [rad].
            now_ns: When.

        Raises:
            ValueError: A number is missing or not finite; the message names the joint.
        """
        wanted = check_command(self.names, positions)
        dt_s = max(0.0, (now_ns - self._then_ns) * 1e-9)
        self._then_ns = now_ns
        wanted = np.clip(wanted, self.limits.lower, self.limits.upper)
        # A late cycle must not save up a jump.
        reach = self.limits.velocity * min(dt_s, 0.05) * np.where(self._is_rejoining, self._share, 1.0)
        step = np.clip(wanted - self._command, -reach, reach)
        is_short = np.abs(wanted - self._command - step) > _SLACK
        self.held_back += int((is_short & ~self._is_rejoining).sum())
        self._command = self._command + step
        self._is_rejoining &= np.abs(wanted - self._command) > self.REJOINED_RAD
        return self._command.copy()
