"""Topics of what is known better than the head can: recorded motion and labelled speech, for scoring."""

from __future__ import annotations

from timar_common.topics import TOPICS, Topic

GROUND_TRUTH_MOTION = "truth/agent_motion"
GROUND_TRUTH_LABELS = "truth/labels"

_OWN = (
    Topic(GROUND_TRUTH_MOTION, "timar_msgs/msg/UserMotion", 10, doc="how the agent's person really moved"),
    Topic(GROUND_TRUTH_LABELS, "timar_msgs/msg/TurnEvent", 50, doc="when somebody really spoke, by hand"),
)

KNOWN_TOPICS: dict[str, Topic] = TOPICS | {topic.name: topic for topic in _OWN}
"""Everything a bag of this project may hold."""
