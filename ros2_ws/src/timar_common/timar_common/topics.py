"""Every topic of the graph, once: its type and the quality of service both ends use."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Topic:
    """One topic, by its name relative to the robot's namespace (`/diagnostics` is global)."""

    name: str
    type_name: str
    depth: int
    """How many messages are kept for a slow reader; 0 keeps all."""
    is_latched: bool = False
    """Whether a late joiner gets the last message (transient local)."""
    doc: str = ""
    is_recorded: bool = True
    """Whether a bag holds it; what others repeat (the sound of a page, on the way to its clock) is not."""
    publisher: str = ""
    """Name of the one node that may publish it; empty: any number may."""
    is_shared: bool = False
    """Whether nodes of other names may publish it beside that one, as a robot's body does its own joints."""
    held: int = 0
    """How many messages a publisher holds for a reader that was started again and asks for what it missed."""


_ALL = (
    Topic(
        "user/audio_raw",
        "timar_msgs/msg/AudioChunk",
        50,
        doc="what the microphone heard",
        publisher="capture",
    ),
    Topic(
        "user/audio",
        "timar_msgs/msg/AudioChunk",
        50,
        doc="the same without the head's own voice",
        publisher="capture",
        held=400,
    ),
    Topic("user/words", "timar_msgs/msg/RecognizedWords", 10, doc="words of the user, from any recogniser"),
    Topic("agent/speech", "timar_msgs/msg/SpeechChunk", 0, doc="speech from any synthesiser"),
    Topic(
        "agent/audio_planned",
        "timar_msgs/msg/PlannedAudio",
        50,
        doc="speech soon to be heard",
        publisher="playback",
        held=400,
    ),
    Topic("agent/audio", "timar_msgs/msg/AudioChunk", 50, doc="what was really heard", publisher="playback"),
    Topic("agent/words", "timar_msgs/msg/RecognizedWords", 10, doc="what was heard of an answer's words"),
    Topic(
        "agent/utterance_ends",
        "timar_msgs/msg/UtteranceEnd",
        20,
        is_latched=True,
        doc="how each utterance ended",
    ),
    Topic(
        "voice_activity", "timar_msgs/msg/VoiceActivity", 50, doc="who speaks, per block", publisher="turns"
    ),
    Topic(
        "turn_events",
        "timar_msgs/msg/TurnEvent",
        50,
        doc="starts and ends of speech turns",
        publisher="turns",
    ),
    Topic(
        "floor", "timar_msgs/msg/FloorState", 1, is_latched=True, doc="who holds the floor", publisher="turns"
    ),
    Topic(
        "agent/intent",
        "timar_msgs/msg/AgentIntent",
        1,
        is_latched=True,
        doc="what the agent does next",
        publisher="turns",
    ),
    Topic("agent/intent_request", "timar_msgs/msg/AgentIntent", 10, doc="an intent that a dialogue sets"),
    Topic("gesture", "timar_msgs/msg/GestureRequest", 10, doc="gestures that are asked for"),
    Topic("user/motion", "timar_msgs/msg/UserMotion", 10, doc="the user's head and face, when seen"),
    Topic(
        "agent/motion",
        "timar_msgs/msg/HeadMotion",
        10,
        doc="the head's generated motion",
        publisher="inference",
    ),
    Topic(
        "turn_log",
        "timar_msgs/msg/TurnLog",
        0,
        doc="every decision, enough to repeat it",
        publisher="inference",
    ),
    Topic("look_at", "geometry_msgs/msg/PointStamped", 10, doc="a point for eyes and neck to turn to"),
    Topic("joint_targets", "sensor_msgs/msg/JointState", 10, doc="joints moved by hand"),
    Topic(
        "external/joint_trajectory",
        "trajectory_msgs/msg/JointTrajectory",
        10,
        doc="trajectories from outside the graph",
    ),
    Topic("joints_held_by", "std_msgs/msg/String", 1, is_latched=True, doc="who moves the joints"),
    Topic(
        "joint_trajectory",
        "trajectory_msgs/msg/JointTrajectory",
        10,
        doc="joint commands",
        publisher="retargeting",
    ),
    Topic("position_commands", "std_msgs/msg/Float64MultiArray", 10, doc="joint commands, one by one"),
    Topic(
        "joint_states",
        "sensor_msgs/msg/JointState",
        10,
        doc="where the joints are",
        publisher="driver",
        is_shared=True,
    ),
    Topic("face", "sensor_msgs/msg/JointState", 10, doc="what a screen shows, by ARKit's names"),
    Topic(
        "station/sound",
        "timar_msgs/msg/StationSound",
        50,
        doc="what the browser's microphone heard",
        is_recorded=False,
    ),
    Topic(
        "station/voice",
        "timar_msgs/msg/StationVoice",
        50,
        doc="what the browser's loudspeaker plays",
        is_recorded=False,
    ),
    Topic("clock/request", "sensor_msgs/msg/TimeReference", 1, doc="another machine asks for the time"),
    Topic("clock/reply", "sensor_msgs/msg/TimeReference", 1, doc="ROS time of the head, for who asked"),
    Topic("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", 10, doc="health of every node"),
)

TOPICS: dict[str, Topic] = {topic.name: topic for topic in _ALL}
RECORDED_TOPICS: dict[str, Topic] = {name: topic for name, topic in TOPICS.items() if topic.is_recorded}
