"""The head in a browser: feed it what happens, and let it draw at its own pace."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence

import viser
from timar_common.clock import NS_PER_S
from timar_description.urdf import RobotModel

from timar_view.config import ViewConfig
from timar_view.conversation import Conversation
from timar_view.panel import Panel
from timar_view.scene import RobotScene, light_the_stage


class HeadView:
    """A page with the moving head and the panel beside it.

    Feeding is cheap and keeps only the newest state; `draw` sends it, and does nothing while nobody looks.

    Args:
        config: Address and rates.
        body: The robot to draw.
    """

    def __init__(self, config: ViewConfig, body: RobotModel) -> None:
        self.config = config
        self.body = body
        self.conversation = Conversation(config.history_s)
        self.positions: dict[str, float] = {}
        self.unknown_joints: set[str] = set()
        self.draws = 0
        self._server: viser.ViserServer | None = None
        self._panel_due_ns = 0

    def open(self) -> str:
        """Start to listen and return the page's address.

        Raises:
            OSError: The host is not an address of this machine, or no port is free.
        """
        if self._server is not None:
            raise RuntimeError("the view is open already; close() it first")
        # The server prints its address in a box of its own; this program says it in its own log.
        with contextlib.redirect_stdout(io.StringIO()):
            server = viser.ViserServer(self.config.host, self.config.port, label="TIMAR head", verbose=False)
        self._server = server
        server.gui.configure_theme(show_logo=False, show_share_button=False, control_width="large")
        server.gui.main_panel.dock_right()
        light_the_stage(server)
        self._scene = RobotScene(server, self.body)
        self._panel = Panel(server, self.body.actuated)
        shown_host = "127.0.0.1" if self.config.host == "0.0.0.0" else self.config.host
        return f"http://{shown_host}:{server.get_port()}"

    def close(self) -> None:
        """Stop listening; safe more than once."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    @property
    def lookers(self) -> int:
        """How many browsers look on."""
        return 0 if self._server is None else len(self._server.get_clients())

    def update_joints(self, names: Sequence[str], positions: Sequence[float]) -> None:
        """Take in where joints are.

        Args:
            names: Joint names; those the robot does not have are remembered in `unknown_joints` (at most 64).
            positions: As many angles [rad] or lengths [m].

        Raises:
            ValueError: The lengths differ, or a position is not finite.
        """
        if len(names) != len(positions):
            raise ValueError(
                f"{len(names)} joint names came with {len(positions)} positions; expected as many"
            )
        for name, position in zip(names, positions, strict=True):
            if not math.isfinite(position):
                raise ValueError(f"joint {name} stands at {position}; expected a finite number")
        for name, position in zip(names, positions, strict=True):
            if name in self.body.joints:
                self.positions[name] = float(position)
            elif len(self.unknown_joints) < 64:
                self.unknown_joints.add(name)

    def targets(self, monotonic_ns: int) -> dict[str, float]:
        """Return where joints are to go by hand, when that is to be said now; nothing while nobody looks.

        Args:
            monotonic_ns: Machine time now [ns].
        """
        if self._server is None:
            return {}
        sliders = self._panel.sliders
        if sliders.box.value and not self.lookers:
            # Whoever moved them has closed the page; the head may live again.
            sliders.switch(False)
        return sliders.targets(monotonic_ns)

    def draw(self, monotonic_ns: int) -> bool:
        """Send the newest state to whoever looks on, and tell whether anybody does.

        Args:
            monotonic_ns: Machine time now [ns]; the panel is drawn at `panel_rate_hz`.
        """
        if self._server is None or not self.lookers:
            return False
        with self._server.atomic():
            self._scene.move(self.positions)
            if monotonic_ns >= self._panel_due_ns:
                self._panel_due_ns = monotonic_ns + round(NS_PER_S / self.config.panel_rate_hz)
                self._panel.draw(self.conversation, self.positions)
        self.draws += 1
        return True
