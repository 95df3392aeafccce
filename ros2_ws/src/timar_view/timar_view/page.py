"""The page of the view: a viser server that draws the head and the panel at its own rate."""

from __future__ import annotations

import contextlib
import http
import http.client
import io

import viser
from timar_common.clock import NS_PER_S
from timar_description.urdf import RobotModel

from timar_view.config import ViewConfig
from timar_view.page_access import PageAccess
from timar_view.panel import Panel
from timar_view.scene import RobotScene, set_up_scene
from timar_view.view_state import ViewState


class HeadPage:
    """Draws the newest state, and does nothing while no browser looks on.

    Args:
        config: Address and rates.
        robot: The robot to draw.
    """

    def __init__(self, config: ViewConfig, robot: RobotModel) -> None:
        self.config = config
        self.draws = 0
        self.access = PageAccess(config.host)
        self._robot = robot
        self._server: viser.ViserServer | None = None
        self._panel_due_ns = 0

    def open(self) -> str:
        """Start to listen and return the page's address, with the token that lets a browser in.

        Raises:
            OSError: The host is not an address of this machine, or no port is free.
            RuntimeError: The page is open already, or the server would let anybody in.
        """
        if self._server is not None:
            raise RuntimeError("the page is open already; close() it first")
        # The server prints its address in a box of its own; the node logs it instead.
        with contextlib.redirect_stdout(io.StringIO()), self.access.guarding():
            server = viser.ViserServer(self.config.host, self.config.port, label="TIMAR head", verbose=False)
        self._server, self._port = server, server.get_port()
        self._require_guard()
        server.gui.configure_theme(show_logo=False, show_share_button=False, control_width="large")
        server.gui.main_panel.dock_right()
        set_up_scene(server)
        self._scene = RobotScene(server, self._robot)
        self._panel = Panel(server, self._robot.actuated)
        return self._address(self.access.move_token)

    @property
    def look_address(self) -> str:
        """The address of the open page for those who may look and not move joints."""
        return self._address(self.access.look_token)

    def _address(self, token: str) -> str:
        return f"http://{self._shown_host}:{self._port}/?token={token}"

    @property
    def _shown_host(self) -> str:
        return "127.0.0.1" if self.config.host == "0.0.0.0" else self.config.host

    def _require_guard(self) -> None:
        """Ask the server for the page as a stranger would, and close it unless it refuses."""
        connection = http.client.HTTPConnection(self._shown_host, self._port, timeout=10.0)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            status = connection.getresponse().status
        if status != http.HTTPStatus.FORBIDDEN:
            self.close()
            raise RuntimeError(
                f"the view's server answered a request without a token (status {status}) and was closed; "
                f"install the version of viser that uv.lock names, not {viser.__version__}"
            )
        self.access.refused = 0

    def close(self) -> None:
        """Stop listening; safe more than once."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    @property
    def viewers(self) -> int:
        """How many browsers look on."""
        return 0 if self._server is None else len(self._server.get_clients())

    def targets(self) -> dict[str, float]:
        """Return where joints are to go by hand [rad or m]; empty when they are not moved by hand."""
        if self._server is None:
            return {}
        sliders = self._panel.sliders
        if sliders.box.value and not self.viewers:
            sliders.switch(False)  # Whoever moved them has closed the page.
        return sliders.targets()

    def draw(self, state: ViewState, monotonic_ns: int) -> bool:
        """Send the state to whoever looks on, and return whether anybody does.

        Args:
            state: What to show.
            monotonic_ns: Machine time now [ns]; the panel is drawn at `panel_rate_hz`.
        """
        if self._server is None or not self.viewers:
            return False
        with self._server.atomic():
            self._scene.move(state.positions)
            self._panel.draw_face(state)
            if monotonic_ns >= self._panel_due_ns:
                self._panel_due_ns = monotonic_ns + round(NS_PER_S / self.config.panel_rate_hz)
                self._panel.draw(state)
        self.draws += 1
        return True
