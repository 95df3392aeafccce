"""Topics of what is known better than the head can: recorded motion and labelled speech, for scoring."""

from __future__ import annotations

from timar_common.topics import TOPICS, Topic

TRUTH_MOTION = "truth/agent_motion"
TRUTH_EVENTS = "truth/labels"

TRUTH_TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        Topic(TRUTH_MOTION, "timar_msgs/msg/UserMotion", 10, doc="how the agent's person really moved"),
        Topic(TRUTH_EVENTS, "timar_msgs/msg/TurnEvent", 50, doc="when somebody really spoke, by hand"),
    )
}

KNOWN_TOPICS: dict[str, Topic] = TOPICS | TRUTH_TOPICS
"""Everything a bag of this project may hold."""
