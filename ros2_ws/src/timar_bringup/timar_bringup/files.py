"""Where the package's shared files lie, what is in them, and the environment that goes with them."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from timar_common.yaml_map import read_yaml_map

from timar_bringup.graph import ParameterValue, UsageError

PACKAGE = "timar_bringup"
PROFILE = "config/fastdds.xml"
"""Of Fast DDS: how the graph's processes speak, on this machine alone."""


def shared_file(relative: str, environment: Mapping[str, str] | None = None) -> Path:
    """Return a file of the package's share folder; in a source tree, the file beside the package.

    Raises:
        FileNotFoundError: It is in neither place; the message says how to build the workspace.
    """
    for folder in _folders(os.environ if environment is None else environment):
        if (folder / relative).is_file():
            return folder / relative
    raise FileNotFoundError(
        f"{relative} of {PACKAGE} was not found along AMENT_PREFIX_PATH; build the workspace (make setup, or "
        "colcon build) and source its install/local_setup.bash"
    )


def middleware_environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that let processes of this machine speak by UDP and with nobody else.

    The profile says how, and why not by shared memory; the discovery range of ROS would add that again, so it
    leaves discovery to the profile. rclpy does not start without a folder for its log: where the one that is
    set, or HOME, cannot be written, it gets another. What else was set by hand stays, and is not returned.
    """
    variables = {
        profile_variable(base): str(shared_file(PROFILE, base)),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT",
    }
    variables = {name: value for name, value in variables.items() if name not in base}
    if not is_log_writable(base):
        variables["ROS_LOG_DIR"] = str(Path(tempfile.gettempdir(), f"ros-log-{os.getuid()}"))
    return variables


def is_log_writable(base: Mapping[str, str]) -> bool:
    """Tell whether ROS 2 may write its log where the environment says; what does not exist yet, it makes."""
    home = Path(base.get("ROS_HOME") or Path(base.get("HOME") or "/", ".ros"))
    folder = Path(base.get("ROS_LOG_DIR") or home / "log").expanduser().absolute()
    nearest = next(each for each in (folder, *folder.parents) if each.exists())
    return nearest.is_dir() and os.access(nearest, os.W_OK)


def profile_variable(base: Mapping[str, str]) -> str:
    """Return the environment variable that names Fast DDS's profile; it has another one since version 3."""
    is_fast_dds_2 = base.get("ROS_DISTRO") in ("humble", "jazzy")
    return "FASTRTPS_DEFAULT_PROFILES_FILE" if is_fast_dds_2 else "FASTDDS_DEFAULT_PROFILES_FILE"


def network_environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that let processes speak by UDP with whomever the machine's own settings allow."""
    chosen = ("FASTDDS_BUILTIN_TRANSPORTS", "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
    return {} if any(name in base for name in chosen) else {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}


def page_environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return what the view's tokens follow from: a page finds a view that was started again where it was."""
    return {} if "TIMAR_PAGE_SECRET" in base else {"TIMAR_PAGE_SECRET": secrets.token_urlsafe(32)}


def _folders(environment: Mapping[str, str]) -> Iterator[Path]:
    for prefix in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        if prefix:
            yield Path(prefix) / "share" / PACKAGE
    yield Path(__file__).resolve().parents[1]


def with_urdf(arguments: Mapping[str, ParameterValue]) -> dict[str, ParameterValue]:
    """Fill in `urdf` and `expression_map` where they were left empty and a robot YAML names them, and `out`.

    A recorder that is started again must find the folder in which it recorded before.

    Raises:
        UsageError: The robot is a YAML file that cannot be read or names no URDF.
    """
    if arguments["record"] and not arguments["out"]:
        folder = Path("recordings", time.strftime("%Y%m%d-%H%M%S")).absolute()
        arguments = {**arguments, "out": str(folder)}
    robot = str(arguments["robot"])
    if not robot.endswith(".yaml"):
        return {**arguments, "urdf": arguments["urdf"] or robot}
    path = Path(robot).absolute()
    with refusing("robot file", Path(robot)):
        document = read_yaml_map(Path(robot))
        named = document.text("urdf", default="-")
        # Face tracking reads the robot's map too, so that the user's smile reaches the model.
        expression_map = str(path) if document.has("expression_map") else ""
    if named == "-" and not arguments["urdf"]:
        raise UsageError(f"the robot file {robot} names no URDF; expected a line 'urdf: FILE.urdf'")
    return {
        **arguments,
        "urdf": arguments["urdf"] or str(path.parent / named),
        "expression_map": arguments["expression_map"] or expression_map,
    }


@contextlib.contextmanager
def refusing(what: str, path: Path | str) -> Iterator[None]:
    """Turn what reading a file raises into a usage error that names it."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"the {what} {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"the {what} cannot be used: {error}") from error
