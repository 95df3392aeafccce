"""The command `timar bag`: check bags, make them from sound, make training data and Foxglove layouts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from timar_common.motion_file import read_motion
from timar_common.wav import SoundFile
from timar_description import find_urdf

from timar_bag.check import check_bag
from timar_bag.conversation import RecordedConversation
from timar_bag.dualtalk import DualTalkClip, from_dualtalk, to_dualtalk
from timar_bag.layout import layout_of_bag, write_layout
from timar_bag.make_bag import read_labels, write_bag


def bag(argv: list[str]) -> int:
    """Look after bags: check one, lay it out for Foxglove, make one from sound files, make training data."""
    parser = argparse.ArgumentParser("timar bag", description=bag.__doc__)
    actions = parser.add_subparsers(dest="action", required=True)

    wav = actions.add_parser("from-wav", help="two sound files of any rate and format to a bag")
    wav.add_argument("user", type=Path, help="what the microphone heard")
    wav.add_argument("agent", type=Path, help="what the head says")
    wav.add_argument("bag", type=Path, help="folder of the new bag")
    wav.add_argument("--user-motion", type=Path, metavar="NPZ", help="motion of the user (DualTalk's npz)")
    wav.add_argument("--agent-motion", type=Path, metavar="NPZ", help="true motion of the agent's person")
    wav.add_argument("--labels", type=Path, metavar="RTTM", help="when somebody really spoke")
    wav.add_argument(
        "--speakers", nargs=2, metavar=("USER", "AGENT"), default=("user", "agent"),
        help="their names in the labels (user agent)",
    )  # fmt: skip
    wav.set_defaults(run=_from_wav)

    clip = actions.add_parser(
        "from-dualtalk", help="a DualTalk clip to a bag with the recorded motion as ground truth"
    )
    clip.add_argument("clip", type=Path, help="FOLDER/NAME, or one of the clip's files")
    clip.add_argument("bag", type=Path, help="folder of the new bag")
    clip.add_argument("--user", type=int, choices=(1, 2), default=1, help="which speaker is the user (1)")
    clip.set_defaults(run=_from_dualtalk)

    back = actions.add_parser("to-dualtalk", help="a bag to a DualTalk clip, for training")
    add_bag(back)
    back.add_argument("clip", type=Path, help="FOLDER/NAME of the new clip")
    back.add_argument(
        "--user", type=int, choices=(1, 2), default=1, help="which speaker the user becomes (1)"
    )
    back.set_defaults(run=_to_dualtalk)

    check = actions.add_parser(
        "check",
        help="topics, counts, gaps on the sample clock, stamps, rates; status 1 when something is wrong",
    )
    add_bag(check)
    check.set_defaults(run=_check)

    layout = actions.add_parser("layout", help="a layout for Foxglove that fits the robot of a bag")
    add_bag(layout)
    layout.add_argument("out", type=Path, help="the JSON file; import it in Foxglove")
    layout.add_argument("--urdf", help="show this robot moving: a name such as timar_head, or a URDF file")
    layout.set_defaults(run=_layout)

    arguments = parser.parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"timar bag {arguments.action}: {error}\n")
        return 1


def add_bag(parser: argparse.ArgumentParser, what: str = "rosbag2 folder, .mcap or .db3 file") -> None:
    """Add the arguments by which every command takes a bag."""
    parser.add_argument("bag", type=Path, help=what)
    parser.add_argument("--namespace", help="the robot's namespace, when the bag holds several robots")


def _from_wav(arguments: argparse.Namespace) -> int:
    paths = (arguments.user_motion, arguments.agent_motion)
    user_motion, agent_motion = (None if path is None else read_motion(path) for path in paths)
    labels = read_labels(arguments.labels, *arguments.speakers) if arguments.labels is not None else []
    with SoundFile(arguments.user) as user, SoundFile(arguments.agent) as agent:
        seconds = write_bag(
            arguments.bag, user, agent, user_motion=user_motion, agent_motion=agent_motion, labels=labels
        )
    for line in (*user.warnings, *agent.warnings):
        sys.stderr.write(f"timar bag from-wav: {line}\n")
    sys.stdout.write(f"{seconds:.2f} s written to {arguments.bag}\n")
    return 0


def _from_dualtalk(arguments: argparse.Namespace) -> int:
    seconds = from_dualtalk(DualTalkClip.at(arguments.clip), arguments.bag, arguments.user)
    sys.stdout.write(f"{seconds:.2f} s written to {arguments.bag}\n")
    return 0


def _to_dualtalk(arguments: argparse.Namespace) -> int:
    clip = DualTalkClip.at(arguments.clip)
    issues = to_dualtalk(arguments.bag, clip, arguments.user, arguments.namespace)
    sys.stdout.write("".join(f"missing: {issue}\n" for issue in issues))
    sys.stdout.write(f"written to {clip.folder / clip.name}_speaker1 and _speaker2\n")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    conversation, problems = check_bag(arguments.bag, arguments.namespace)
    sys.stdout.write(_table(conversation))
    sys.stdout.write("".join(f"wrong: {problem}\n" for problem in problems) or "nothing wrong\n")
    return 1 if problems else 0


def _layout(arguments: argparse.Namespace) -> int:
    urdf = find_urdf(arguments.urdf) if arguments.urdf else None
    write_layout(arguments.out, layout_of_bag(arguments.bag, urdf, arguments.namespace))
    sys.stdout.write(f"written to {arguments.out}\n")
    return 0


def _table(conversation: RecordedConversation) -> str:
    width = max(map(len, conversation.topics))
    lines = [f"namespace {conversation.namespace or '/'}"]
    for name, topic in sorted(conversation.topics.items()):
        rate = f"{topic.rate_hz:8.1f} Hz" if topic.rate_hz is not None else " " * 11
        lines.append(f"{name:<{width}} {topic.messages:>8} {rate}  {topic.type_name}")
    return "\n".join(lines) + "\n"
