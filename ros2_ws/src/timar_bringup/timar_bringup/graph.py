"""The graph of the running head: its launch arguments and its nodes, each listed once.

The launch file (on a machine with a ROS 2 distribution) and the composer (everywhere else) both start what
`plan` returns, so that there is one answer to "which nodes, in which process, with which parameters".
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterable, Mapping, Sequence

from timar_common import suggest

ParameterValue = bool | int | float | str


class UsageError(ValueError):
    """Something a person typed cannot be understood; the message says what and what to type instead."""


AUTO = "auto"
"""What leaves an argument of the engine's to the parameters files, and by them to what is measured."""


@dataclasses.dataclass(frozen=True)
class Argument:
    """One launch argument, typed ``name:=value``."""

    name: str
    default: ParameterValue
    """Its value when nothing is said; also its type."""
    doc: str
    choices: tuple[str, ...] = ()
    is_whole_or_auto: bool = False
    """Whether it is a whole number, or auto: then it is left to the parameters files."""

    def read(self, text: str) -> ParameterValue:
        """Turn what was typed into the argument's type.

        Raises:
            UsageError: It cannot be read so; the message names the argument, the value and what was expected.
        """
        if isinstance(self.default, bool):
            if text.lower() not in ("true", "false"):
                raise UsageError(f"{self.name} is {text!r}, expected true or false: {self.doc}")
            return text.lower() == "true"
        if isinstance(self.default, int) or (self.is_whole_or_auto and text != AUTO):
            try:
                return int(text)
            except ValueError:
                expected = "a whole number" + (" or auto" if self.is_whole_or_auto else "")
                raise UsageError(f"{self.name} is {text!r}, expected {expected}: {self.doc}") from None
        if self.choices and text not in self.choices:
            raise UsageError(
                f"{self.name} is {text!r}, expected one of {', '.join(self.choices)}: {self.doc}"
            )
        return text

    def written_default(self) -> str:
        """Return the default as it would be typed."""
        return str(self.default).lower() if isinstance(self.default, bool) else str(self.default)


@dataclasses.dataclass(frozen=True)
class Node:
    """One node of the graph and how the launch arguments reach it."""

    name: str
    """Also the name of its console script."""
    package: str
    config: str
    """``module:Class`` of its configuration, which needs no ROS 2 to be read."""
    process: str
    """Nodes of one process share an interpreter; sound and driver stand alone (see docs/architecture.md)."""
    listens: tuple[str, ...] = ()
    """Topics it subscribes to that somebody waits for before starting."""
    parameters: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Parameter -> launch argument that sets it. Empty, auto and false leave the parameter to the file."""
    only_if: str = ""
    """A launch argument; while it is false or empty the node is not started."""
    not_if: str = ""
    """A launch argument; while it is true the node is not started."""

    @property
    def component(self) -> str:
        """``module:Class`` of its BaseNode: ``timar_audio.turns_node:TurnsNode`` for turns of timar_audio."""
        class_name = "".join(word.capitalize() for word in self.name.split("_"))
        return f"{self.package}.{self.name}_node:{class_name}Node"

    def config_type(self) -> type:
        """Import and return its configuration."""
        module, _, name = self.config.partition(":")
        config_type: type = getattr(importlib.import_module(module), name)
        return config_type


ARGUMENTS: tuple[Argument, ...] = (
    Argument(
        "source",
        "microphone",
        "Where the user's voice comes from; browser: the page of view.",
        ("microphone", "file", "browser"),
    ),
    Argument(
        "sink",
        AUTO,
        "Where the head's voice is heard; browser: on the page of view; auto leaves it to params.",
        (AUTO, "null", "speaker", "browser"),
    ),
    Argument("device", "", "Microphone by name or number; empty: the system's default."),
    Argument("user_file", "", "WAV file of the user's voice, for source:=file."),
    Argument(
        "user_motion_file",
        "",
        "Motion of the user (npz) that goes with user_file; empty: the user is not seen.",
    ),
    Argument("perception", False, "Let the head see its user; needs make setup-perception."),
    Argument("camera", "0", "With perception: a camera by number or path, or topic: pictures come on image."),
    Argument(
        "user_video", "", "With perception: video of the user that goes with user_file, instead of a camera."
    ),
    Argument("agent_file", "", "WAV file that the head says; empty: the head says nothing by itself."),
    Argument(
        "dialogue",
        "",
        "What understands and answers: built-in, chat, realtime, or module:Class; empty: nothing. make talk",
    ),
    Argument("llm", "", "With dialogue chat or realtime: the base URL of its server."),
    Argument("llm_model", "", "Model of that server."),
    Argument(
        "voice",
        AUTO,
        "With dialogue: auto, espeak, a Piper voice by path or name in its hub, or module:Class.",
    ),
    Argument(
        "recogniser",
        AUTO,
        "With dialogue: auto, none, a Whisper model by path, size or name, or module:Class.",
    ),
    Argument("language", "en", "With dialogue: the user's language, as Whisper and espeak-ng call it."),
    Argument(
        "speaker", "", "Loudspeaker by name or number, or default; empty: as params say, by default none."
    ),
    Argument("model", "calm-head", "Name of a shipped or imported model, or a model folder."),
    Argument("engine", AUTO, "What computes the model, as `timar engines` lists; auto measures what holds."),
    Argument("threads", AUTO, "Threads of the engine; auto measures.", is_whole_or_auto=True),
    Argument(
        "margin_frames",
        AUTO,
        "How many frames before its first one a turn stops listening; auto takes the model's, or measures.",
        is_whole_or_auto=True,
    ),
    Argument(
        "window_frames",
        AUTO,
        "How much of the conversation is seen, in frames; auto leaves it to params or the model.",
        is_whole_or_auto=True,
    ),
    Argument(
        "when_full",
        AUTO,
        "How a full window of absolute positions moves; auto measures what holds.",
        (AUTO, "recompute", "reanchor"),
    ),
    Argument("allow_degraded", False, "Let auto shorten the model's window where nothing else holds."),
    Argument(
        "inference_host",
        "",
        "The machine that computes the model, started there with head_host:=; empty: this one.",
    ),
    Argument(
        "head_host",
        "",
        "Compute the model here, and only that, for the head on that machine, started there with "
        "inference_host:=.",
    ),
    Argument("robot", "timar_head", "Name of a shipped robot, or the path of a robot YAML."),
    Argument("urdf", "", "The robot's URDF by name or path; empty: the one that its YAML names."),
    Argument(
        "expression_map",
        "",
        "Your matrix between FLAME's expression and ARKit's blendshapes; empty: the one that robot names.",
    ),
    Argument("params", "", "Further parameters YAML files, separated by commas, read after the shipped one."),
    Argument(
        "replay",
        False,
        "Hear a bag that `timar replay BAG --live` plays: no microphone, no playback, and time is the bag's.",
    ),
    Argument("record", False, "Write every topic to an MCAP bag."),
    Argument("out", "", "Folder of the bag; empty: recordings/DATE-TIME where it was started."),
    Argument(
        "keep_gb",
        AUTO,
        "The oldest recordings DATE-TIME go when all take more GB; auto: as params say, all stay.",
        is_whole_or_auto=True,
    ),
    Argument(
        "keep_days",
        AUTO,
        "Recordings DATE-TIME, and logs in logs, go when they are older; auto: as params say, all stay.",
        is_whole_or_auto=True,
    ),
    Argument("logs", "", "Folder of the log, half a GB of it is kept; empty: ROS 2's own, left alone."),
    Argument("view", False, "Show the head in a browser."),
    Argument("view_port", 8080, "Port of the browser view."),
    Argument(
        "view_host",
        "",
        "Address the view listens on; 0.0.0.0: the network as well, by https; empty leaves it to params.",
    ),
    Argument("open_browser", False, "Open that page on this machine."),
    Argument(
        "network", "", "Other machines that reach the graph, names or IPv4 addresses by commas; empty: none."
    ),
    Argument(
        "keystore", "", "With network: folder of keys that `timar keys` makes, or none to go without them."
    ),
    Argument("websocket", False, "Let voice bots speak and listen through the head, on a WebSocket."),
    Argument("websocket_port", 8765, "Port of that WebSocket."),
    Argument(
        "metrics_port",
        0,
        "Serve the health of every node to Prometheus on this port of 127.0.0.1; 0: not at all.",
    ),
    Argument("namespace", "", "Namespace of the robot's topics and nodes."),
    Argument(
        "autostart", True, "Configure and activate the nodes; false leaves that to a lifecycle manager."
    ),
    Argument("log_level", "info", "Least level that is logged.", ("debug", "info", "warn", "error")),
)

TALK_DEFAULTS: Mapping[str, str] = {"dialogue": "built-in", "speaker": "default", "view": "true"}
"""What `timar talk` and talk.launch.py start beside the head, unless it is typed otherwise."""

INFERENCE = Node(
    name="inference",
    package="timar_inference",
    config="timar_inference.config:InferenceConfig",
    process="inference",
    listens=("user/audio", "agent/audio_planned"),
    parameters={
        "model": "model",
        "engine": "engine",
        "threads": "threads",
        "margin_frames": "margin_frames",
        "window_frames": "window_frames",
        "when_full": "when_full",
        "allow_degraded": "allow_degraded",
    },
    not_if="inference_host",
)
"""The one node that may run on another machine."""

# In the order of starting: what takes longest comes first.
NODES: tuple[Node, ...] = (
    INFERENCE,
    Node(
        name="recorder",
        package="timar_bag",
        config="timar_bag.recorder:RecorderConfig",
        process="recorder",
        listens=("user/audio", "user/audio_raw", "agent/audio", "agent/audio_planned"),
        parameters={"out": "out", "keep_gb": "keep_gb", "keep_days": "keep_days"},
        only_if="record",
    ),
    Node(
        name="view",
        package="timar_view",
        config="timar_view.config:ViewConfig",
        process="view",
        parameters={
            "robot": "urdf",
            "port": "view_port",
            "host": "view_host",
            "open_browser": "open_browser",
        },
        only_if="view",
    ),
    Node(
        name="dialogue",
        package="timar_dialogue",
        config="timar_dialogue.config:DialogueConfig",
        process="dialogue",
        listens=("user/audio",),
        parameters={
            "dialogue": "dialogue",
            "llm": "llm",
            "llm_model": "llm_model",
            "voice": "voice",
            "recogniser": "recogniser",
            "language": "language",
        },
        only_if="dialogue",
    ),
    Node(
        name="websocket",
        package="timar_websocket",
        config="timar_websocket.config:WebsocketConfig",
        process="websocket",
        listens=("user/audio",),
        parameters={"port": "websocket_port"},
        only_if="websocket",
    ),
    Node(
        name="metrics",
        package="timar_bringup",
        config="timar_bringup.metrics:MetricsConfig",
        process="metrics",
        parameters={"port": "metrics_port"},
        only_if="metrics_port",
    ),
    Node(
        name="driver",
        package="timar_driver",
        config="timar_driver.config:DriverConfig",
        process="driver",
        parameters={"robot": "urdf"},
    ),
    Node(
        name="retargeting",
        package="timar_retargeting",
        config="timar_retargeting.config:RetargetingConfig",
        process="motion",
        parameters={"robot": "robot", "expression_map": "expression_map"},
    ),
    Node(
        name="motion_player",
        package="timar_bag",
        config="timar_bag.motion_player:MotionPlayerConfig",
        process="motion",
        listens=("user/audio",),
        parameters={"file": "user_motion_file"},
        only_if="user_motion_file",
    ),
    Node(
        name="perception",
        package="timar_perception",
        config="timar_perception.config:PerceptionConfig",
        process="perception",
        listens=("user/audio",),
        parameters={"expression_map": "expression_map"},
        only_if="perception",
    ),
    Node(
        name="turns",
        package="timar_audio",
        config="timar_audio.turns_config:TurnsConfig",
        process="sound",
        listens=("user/audio", "agent/audio", "agent/audio_planned"),
    ),
    Node(
        name="playback",
        package="timar_audio",
        config="timar_audio.playback_config:PlaybackConfig",
        process="sound",
        listens=("user/audio_raw",),
        parameters={"file": "agent_file", "sink": "sink"},
        not_if="replay",
    ),
    Node(
        name="time_server",
        package="timar_audio",
        config="timar_audio.time_server:TimeServerConfig",
        process="sound",
        only_if="inference_host",
    ),
    Node(
        name="capture",
        package="timar_audio",
        config="timar_audio.capture_config:CaptureConfig",
        process="sound",
        parameters={"source": "source", "device": "device", "file": "user_file"},
        not_if="replay",
    ),
)


@dataclasses.dataclass(frozen=True)
class ProcessRole:
    """Why a process is one of its own, and what happens when it ends by itself."""

    is_essential: bool
    """An essential one is started again as long as it takes; an optional one stays down in the end."""
    alone: str
    """Why its nodes share no process with others."""
    meanwhile: str
    """What the others do until it is back."""
    ends_graph: bool = False
    """Whether the graph ends when it was started again too often."""
    is_waited_for: bool = False
    """Whether a person waits for an optional one, which then has an essential one's priority."""

    @property
    def niceness(self) -> int:
        """Return what is added to the niceness."""
        return 0 if self.is_essential or self.is_waited_for else OPTIONAL_NICENESS


ROLES: Mapping[str, ProcessRole] = {
    "inference": ProcessRole(
        True,
        "holds the interpreter for tens of milliseconds a turn",
        "the head idles; motion joins again with the next turn, its history filled again from both voices",
    ),
    "recorder": ProcessRole(
        False,
        "waits for the disk; stops last, so that the bag holds the end",
        "nothing is recorded; then the bag goes on in a new part of its folder",
    ),
    "view": ProcessRole(
        False,
        "serves browsers, which may ask for much",
        "the page is not served; its address stays, and it joins again by itself",
    ),
    "dialogue": ProcessRole(
        False,
        "recogniser and voice compute for long",
        "the head listens and does not answer",
        is_waited_for=True,
    ),
    "websocket": ProcessRole(
        False, "serves programs of others", "what bots said is ended; they connect again"
    ),
    "metrics": ProcessRole(False, "answers Prometheus, and nobody waits for it", "Prometheus gets no answer"),
    "driver": ProcessRole(
        True,
        "a servo bus must be served whatever happens elsewhere",
        "the servos hold, or their own watchdog lets them go; it starts where they stand",
        ends_graph=True,
    ),
    "motion": ProcessRole(
        True,
        "plan, and read a file, while the model computes",
        "the driver finishes the trajectory it has, which ends at rest, and holds",
    ),
    "perception": ProcessRole(
        False, "an image takes the interpreter for 10 ms", "the head does not see its user"
    ),
    "sound": ProcessRole(
        True,
        "nothing else may hold their interpreter; they share a clock",
        "the mouth closes and the head idles; then a new conversation begins, and the sound lost is logged",
    ),
}
"""Role of each process, in the order of starting; the launch file and the composer restart by it."""

VIEW_WITH_SOUND = dataclasses.replace(
    ROLES["view"], is_essential=True, meanwhile="the page is silent; it joins again by itself"
)
"""Role of a view that carries the sound: source:=browser or sink:=browser."""

OPTIONAL_NICENESS = 5
"""Lower priority of what nobody waits for: a third of an essential process's share on a full machine."""

MAX_RESTARTS, RESTARTS_WITHIN_S = 5, 60.0
"""More restarts than this within so long [s] are too many."""
FIRST_BACKOFF_S, LAST_BACKOFF_S = 0.25, 8.0
"""Wait before a restart: doubled with each one within `RESTARTS_WITHIN_S` [s]."""

STOP_WITHIN_S = 8.0
"""A process that was told to end has so long: for parking a heavy head, and closing a bag [s]."""

STOPS_LAST = ("recorder",)
"""Processes that are stopped when all others have ended, so that the bag holds the end as well."""


@dataclasses.dataclass(frozen=True)
class PlannedNode:
    """A node that will run, with the parameters the arguments give it."""

    node: Node
    parameters: Mapping[str, ParameterValue]


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that is needed to start the graph."""

    nodes: tuple[PlannedNode, ...]
    arguments: Mapping[str, ParameterValue]

    @property
    def other_host(self) -> str:
        """Return the machine that runs the other part of the graph; empty where this one runs all of it."""
        return str(self.arguments["inference_host"] or self.arguments["head_host"])

    @property
    def namespace(self) -> str:
        """Return the namespace with its leading slash; empty for none."""
        name = str(self.arguments["namespace"]).strip("/")
        return f"/{name}" if name else ""

    def processes(self) -> dict[str, tuple[PlannedNode, ...]]:
        """Return the nodes of each process, in the order of starting."""
        groups: dict[str, tuple[PlannedNode, ...]] = {}
        for planned in self.nodes:
            groups[planned.node.process] = (*groups.get(planned.node.process, ()), planned)
        return groups

    def role(self, process: str) -> ProcessRole:
        """Return what happens when a process ends; a view that carries the sound is essential."""
        role = ROLES[process]
        if process == "view" and "browser" in (self.arguments["source"], self.arguments["sink"]):
            return VIEW_WITH_SOUND
        return role

    def full_name(self, node: Node) -> str:
        """Return a node's name with its namespace, such as /head1/turns."""
        return f"{self.namespace}/{node.name}"


def read_arguments(typed: Iterable[str]) -> dict[str, ParameterValue]:
    """Read ``name:=value`` words over the defaults.

    Raises:
        UsageError: A word has another form, names no argument, or its value is not allowed.
    """
    values: dict[str, str] = {}
    for word in typed:
        name, separator, value = word.partition(":=")
        if not separator:
            raise UsageError(f"{word!r} is not of the form name:=value; the arguments are: {_known()}")
        values[name] = value
    return read_values(values)


def read_values(values: Mapping[str, str]) -> dict[str, ParameterValue]:
    """Read arguments given as text by name, over the defaults.

    Raises:
        UsageError: A name is no argument, a value is not allowed, or the arguments contradict each other.
    """
    refuse_unknown(values)
    read = {argument.name: argument.default for argument in ARGUMENTS}
    for argument in ARGUMENTS:
        if argument.name in values:
            read[argument.name] = argument.read(values[argument.name])
    if read["source"] == "file" and not read["user_file"]:
        raise UsageError("source is 'file' and user_file is empty; add user_file:=PATH of a WAV file")
    if read["source"] != "file" and read["user_file"]:
        raise UsageError(
            f"user_file is {read['user_file']!r} and source is {read['source']!r}; add source:=file"
        )
    if read["source"] != "file" and read["user_motion_file"]:
        raise UsageError(
            f"user_motion_file is {read['user_motion_file']!r} and source is {read['source']!r}; recorded "
            "motion goes with a recorded voice: add source:=file and user_file:=PATH"
        )
    reach = next((name for name in ("network", "inference_host", "head_host") if read[name]), "")
    if reach and not read["keystore"]:
        raise UsageError(
            f"{reach} is {read[reach]!r} and keystore is empty: whoever reaches this machine would hear "
            "the microphone and could move the head; make keys by `timar keys FOLDER` and add "
            "keystore:=FOLDER, or say keystore:=none"
        )
    if read["keystore"] and not reach:
        raise UsageError(
            f"keystore is {read['keystore']!r} and nobody else reaches the graph; add network:=HOST"
        )
    for name in ("device", "user_file", "user_motion_file", "agent_file", "perception"):
        if read["replay"] and read[name]:
            raise UsageError(
                f"{name} is {read[name]!r} with replay:=true, which hears a bag alone; leave it out"
            )
    if read["speaker"] and read["sink"] not in (AUTO, "speaker"):
        raise UsageError(
            f"speaker is {read['speaker']!r} and sink is {read['sink']!r}; leave one of them out "
            "(timar talk has --audio browser)"
        )
    if read["replay"] and "browser" in (read["source"], read["sink"]):
        raise UsageError(
            "source or sink is 'browser' with replay:=true, which hears a bag alone; leave it out"
        )
    _check_perception(read)
    _check_hosts(read)
    # The page is served by the view.
    return read | {"view": read["view"] or "browser" in (read["source"], read["sink"])}


def _check_hosts(read: Mapping[str, ParameterValue]) -> None:
    """Refuse what counts only on the other of two machines; nobody would hear of it there."""
    models = set(INFERENCE.parameters.values())
    if read["inference_host"] and read["head_host"]:
        raise UsageError(
            "inference_host and head_host are both given; start the head with inference_host:=, and the "
            "machine that computes for it with head_host:="
        )
    if read["inference_host"] and read["replay"]:
        raise UsageError("replay is true with inference_host; a bag is heard on one machine: leave one out")
    if read["inference_host"]:
        host, refused = "inference_host", models
    elif read["head_host"]:
        shared = {"head_host", "network", "keystore", "params", "namespace", "autostart", "log_level"}
        shared |= {"logs", "keep_gb", "keep_days"}
        host, refused = "head_host", {argument.name for argument in ARGUMENTS} - models - shared
    else:
        return
    for argument in ARGUMENTS:
        if argument.name in refused and read[argument.name] != argument.default:
            raise UsageError(
                f"{argument.name} is {read[argument.name]!r} with {host}:={read[host]}; it counts on the "
                "other machine: give it there"
            )


def _check_perception(read: Mapping[str, ParameterValue]) -> None:
    if read["user_video"] and not read["perception"]:
        raise UsageError(f"user_video is {read['user_video']!r} and nobody looks at it; add perception:=true")
    if read["user_video"] and read["source"] != "file":
        raise UsageError(
            f"user_video is {read['user_video']!r} and source is {read['source']!r}; a recorded face goes "
            "with a recorded voice: add source:=file and user_file:=PATH"
        )
    if read["perception"] and read["user_motion_file"]:
        raise UsageError(
            "perception is true and user_motion_file is given; the user's motion comes from one of them only"
        )


def refuse_unknown(names: Iterable[str]) -> None:
    """Refuse a name that is no argument; launch itself would ignore it in silence.

    Raises:
        UsageError: The message names it, the nearest argument and all arguments.
    """
    suggest.refuse_unknown("argument", names, [argument.name for argument in ARGUMENTS], error=UsageError)


def plan(arguments: Mapping[str, ParameterValue]) -> Plan:
    """Decide which nodes run and with which parameters.

    Args:
        arguments: Every argument of `ARGUMENTS` by name, as `read_arguments` returns them.
    """
    chosen = [
        node
        for node in NODES
        if (not node.only_if or arguments[node.only_if]) and not (node.not_if and arguments[node.not_if])
    ]
    awaited = [*chosen, INFERENCE] if arguments["inference_host"] else chosen
    if arguments["head_host"]:
        chosen = [INFERENCE]
    planned = []
    for node in chosen:
        parameters = {
            parameter: arguments[argument]
            for parameter, argument in node.parameters.items()
            if arguments[argument] not in ("", AUTO) and arguments[argument] is not False
        }
        if node.name == "capture" and arguments["source"] == "file":
            parameters["wait_for_subscribers"] = count_listeners(awaited, "user/audio")
            parameters["wait_for_raw_subscribers"] = count_listeners(awaited, "user/audio_raw")
            parameters["wait_for_nodes"] = len(awaited)
        if node.name == "playback" and arguments["agent_file"]:
            parameters["source"] = "file"
            if arguments["sink"] == "browser" and arguments["open_browser"]:
                # Whoever gets the page shown hears the file from its start. Capture waits a little longer.
                parameters |= {"wait_for_page": True, "wait_timeout_s": 18.0}
            parameters["wait_for_subscribers"] = count_listeners(awaited, "agent/audio")
            parameters["wait_for_plan_subscribers"] = count_listeners(awaited, "agent/audio_planned")
        if node.name == "playback" and arguments["speaker"]:
            parameters["sink"] = "speaker"
            if arguments["speaker"] != "default":
                parameters["device"] = arguments["speaker"]
        if node.name == "view":
            parameters["page_microphone"] = arguments["source"] == "browser"
            parameters["page_loudspeaker"] = arguments["sink"] == "browser"
        if arguments["head_host"]:
            parameters["clock_of_head"] = True
        if node.name == "perception":
            parameters |= _image_source(arguments)
        if not arguments["autostart"]:
            parameters["autostart"] = False
        if arguments["replay"]:
            parameters["use_sim_time"] = True
        planned.append(PlannedNode(node, parameters))
    return Plan(tuple(planned), dict(arguments))


def _image_source(arguments: Mapping[str, ParameterValue]) -> dict[str, ParameterValue]:
    """Return perception's parameters: a recorded video, a topic, or a camera of this machine."""
    if arguments["user_video"]:
        return {"source": "file", "file": arguments["user_video"]}
    if arguments["camera"] == "topic":
        return {"source": "topic"}
    return {"source": "camera", "device": arguments["camera"]}


def count_listeners(nodes: Sequence[Node], topic: str) -> int:
    """Return how many of the nodes subscribe to a topic."""
    return sum(topic in node.listens for node in nodes)


def _known() -> str:
    return ", ".join(argument.name for argument in ARGUMENTS)
