"""The page of the view: a viser server that draws the head and the panel at its own rate."""

from __future__ import annotations

import contextlib
import http
import http.client
import io
import os
import ssl

import viser
from timar_common.clock import NS_PER_S
from timar_description.urdf import RobotModel

from timar_view.certificate import certificate_file, ensure_certificate, own_addresses, server_context
from timar_view.config import ViewConfig
from timar_view.page_access import PageAccess
from timar_view.page_station import MAIN_SCRIPT, SCRIPTS, SOCKET_PATH, PageStation
from timar_view.panel import Panel
from timar_view.scene import RobotScene, set_up_scene
from timar_view.view_state import ViewState


class HeadPage:
    """Draws the newest state, and does nothing while no browser looks on.

    Args:
        config: Address and rates.
        robot: The robot to draw.
        station: The page as microphone and loudspeaker, if it is to be that.

    Raises:
        OSError: The certificate for https cannot be written.
    """

    def __init__(self, config: ViewConfig, robot: RobotModel, station: PageStation | None = None) -> None:
        self.config = config
        self.draws = 0
        self.fingerprint = ""
        """SHA-256 of the certificate, as browsers show it; empty without https."""
        self.station = station
        tls = None
        if config.has_tls:
            path = certificate_file()
            self.fingerprint = ensure_certificate(path, own_addresses())
            tls = server_context(path)
        files = {path: script.read_bytes() for path, script in SCRIPTS.items()} if station else {}
        secret = os.environ.get("TIMAR_PAGE_SECRET", "")  # Of whoever starts this process again.
        self.access = PageAccess(config.host, tls, secret, files, MAIN_SCRIPT if station else "")
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
        sockets = {} if self.station is None else {SOCKET_PATH: self.station.serve}
        # The server prints its address in a box of its own; the node logs it instead.
        with contextlib.redirect_stdout(io.StringIO()), self.access.guarding(sockets):
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
        kind = "https" if self.fingerprint else "http"
        return f"{kind}://{self._shown_host}:{self._port}/?token={token}"

    @property
    def _shown_host(self) -> str:
        if self.config.host != "0.0.0.0":
            return self.config.host
        return next(iter(own_addresses()), "127.0.0.1")

    def _require_guard(self) -> None:
        """Ask the server for the page as a stranger would, and close it unless it refuses."""
        host = "127.0.0.1" if self.config.host == "0.0.0.0" else self.config.host
        connection: http.client.HTTPConnection
        if self.fingerprint:
            context = ssl.create_default_context(cafile=certificate_file())
            context.check_hostname = False  # It is asked by its number; its key is what counts.
            connection = http.client.HTTPSConnection(host, self._port, timeout=10.0, context=context)
        else:
            connection = http.client.HTTPConnection(host, self._port, timeout=10.0)
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
