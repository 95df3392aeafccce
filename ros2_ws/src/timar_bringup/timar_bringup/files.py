"""Where the package's shared files lie, what is in them, and the environment that goes with them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from timar_common.config_file import read_parameters
from timar_common.yaml_map import read_yaml_map

from timar_bringup.graph import NODES, ParameterValue, Plan, UsageError

PACKAGE = "timar_bringup"


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
    leaves discovery to the profile. rclpy does not start without a folder for its log: where HOME cannot be
    written, it gets another. What was set by hand stays, and is not returned.
    """
    is_fast_dds_2 = base.get("ROS_DISTRO") in ("humble", "jazzy")
    variables = {
        "FASTRTPS_DEFAULT_PROFILES_FILE" if is_fast_dds_2 else "FASTDDS_DEFAULT_PROFILES_FILE": str(
            shared_file("config/fastdds.xml", base)
        ),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT",
    }
    ros_home = Path(base.get("ROS_HOME") or Path(base.get("HOME") or "/", ".ros"))
    if not os.access(ros_home if ros_home.exists() else ros_home.parent, os.W_OK):
        variables["ROS_LOG_DIR"] = str(Path(tempfile.gettempdir(), f"ros-log-{os.getuid()}"))
    return {name: value for name, value in variables.items() if name not in base}


def network_environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that let processes speak by UDP with whomever the machine's own settings allow."""
    chosen = ("FASTDDS_BUILTIN_TRANSPORTS", "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
    return {} if any(name in base for name in chosen) else {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"}


def _folders(environment: Mapping[str, str]) -> Iterator[Path]:
    for prefix in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        if prefix:
            yield Path(prefix) / "share" / PACKAGE
    yield Path(__file__).resolve().parents[1]


def with_urdf(arguments: Mapping[str, ParameterValue]) -> dict[str, ParameterValue]:
    """Fill in `urdf` and `expression_map` where they were left empty and a robot YAML names them.

    Raises:
        UsageError: The robot is a YAML file that cannot be read or names no URDF.
    """
    robot = str(arguments["robot"])
    if not robot.endswith(".yaml"):
        return {**arguments, "urdf": arguments["urdf"] or robot}
    path = Path(robot).absolute()
    with _refusing("robot file", Path(robot)):
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


def parameter_files(graph: Plan, environment: Mapping[str, str] | None = None) -> list[Path]:
    """Return the parameters files of a plan, the shipped one first, after looking into each.

    Raises:
        UsageError: One of them cannot be used.
        FileNotFoundError: The shipped one is not there.
    """
    files = [shared_file("config/robot.yaml", environment)]
    if graph.arguments["params"]:
        files.append(Path(str(graph.arguments["params"])))
    for path in files:
        node_parameters(path)
    return files


def node_parameters(path: Path) -> dict[str, dict[str, Any]]:
    """Read a parameters YAML and return each node's parameters by node name.

    ROS 2 ignores a section of a node that does not exist, so a slip of the pen would change nothing in
    silence; here it is refused. Unknown parameters are refused by the node itself.

    Raises:
        UsageError: The file is missing, is no YAML, has another layout, or names a node the graph has not.
    """
    with _refusing("parameters file", path):
        sections = read_parameters(path)
    known = [node.name for node in NODES]
    found: dict[str, dict[str, Any]] = {}
    for section, parameters in sections.items():
        name = section.rpartition("/")[2]
        if name not in known:
            raise UsageError(
                f"the parameters file {path} has a section {section!r}, and the graph has no such node; "
                f"expected '/**/NODE' with one of {', '.join(known)}"
            )
        found.setdefault(name, {}).update(parameters)
    return found


@contextlib.contextmanager
def _refusing(what: str, path: Path) -> Iterator[None]:
    """Turn what reading a file raises into a usage error that names it."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"the {what} {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"the {what} cannot be used: {error}") from error
