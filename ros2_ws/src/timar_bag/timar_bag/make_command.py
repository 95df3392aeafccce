"""`timar bag from-wav`, `from-dualtalk` and `to-dualtalk`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from timar_common.wav import SoundFile

from timar_bag.dualtalk import DualTalkClip, from_dualtalk, read_track, to_dualtalk
from timar_bag.make_bag import read_labels, write_bag


def add_makers(actions: Any) -> None:
    """Add the three actions to the parser of `timar bag`."""
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
        "from-dualtalk", help="a DualTalk clip to a bag with the recorded motion as truth"
    )
    clip.add_argument("clip", type=Path, help="FOLDER/NAME, or one of the clip's files")
    clip.add_argument("bag", type=Path, help="folder of the new bag")
    clip.add_argument("--user", type=int, choices=(1, 2), default=1, help="which speaker is the user (1)")
    clip.set_defaults(run=_from_dualtalk)
    back = actions.add_parser("to-dualtalk", help="a bag to a DualTalk clip, for training")
    back.add_argument("bag", type=Path, help="rosbag2 folder, .mcap or .db3 file")
    back.add_argument("clip", type=Path, help="FOLDER/NAME of the new clip")
    back.add_argument(
        "--user", type=int, choices=(1, 2), default=1, help="which speaker the user becomes (1)"
    )
    back.add_argument("--namespace", help="the robot's namespace, when the bag holds several robots")
    back.set_defaults(run=_to_dualtalk)


def _from_wav(arguments: argparse.Namespace) -> int:
    tracks = {
        name: read_track(path) if path is not None else None
        for name, path in (("user", arguments.user_motion), ("agent", arguments.agent_motion))
    }
    labels = read_labels(arguments.labels, *arguments.speakers) if arguments.labels is not None else []
    user = SoundFile(arguments.user)
    try:
        agent = SoundFile(arguments.agent)
        try:
            seconds = write_bag(
                arguments.bag, user, agent,
                user_motion=tracks["user"], agent_motion=tracks["agent"], labels=labels,
            )  # fmt: skip
        finally:
            agent.close()
    finally:
        user.close()
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
    losses = to_dualtalk(arguments.bag, clip, arguments.user, arguments.namespace)
    sys.stdout.write("".join(f"missing: {loss}\n" for loss in losses))
    sys.stdout.write(f"written to {clip.folder / clip.name}_speaker1 and _speaker2\n")
    return 0
