"""The head at rest: mouth in silence, posture, blinks and gaze, with what holds them and without.

A conversation arranged from two made voices goes through the components in a replay. Prints a table
and writes benchmarks/results/rest.md:

python benchmarks/rest.py
python benchmarks/rest.py --seconds 300 --turn-frames 5
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from harness import RESULTS, ROOT, parser_of, print_page, table, when
from timar_bag.bag import BagReader
from timar_bag.make_bag import write_bag
from timar_common.wav import SoundFile, read_wav, write_wav
from timar_replay.replay import replay
from timar_replay.replay_settings import ReplaySettings
from timar_report.frames import ConversationFrames, read_frames

VOICES, CLIP = ROOT / "examples/data/conversation", "conversation"
NEAR_SPEECH_FRAMES = 5
"""The mouth may still be open so close to speech."""


def make_conversation(folder: Path, seconds: float) -> Path:
    """Write a conversation as a bag: two made voices take turns of 1 to 7 s, with pauses between."""
    random, length = np.random.default_rng(0), round(seconds * 16_000)
    prompts = [read_wav(VOICES / f"{CLIP}_speaker{number}.wav") for number in (1, 2)]
    tracks, heard, at, who = np.zeros((2, length), np.int16), [0, 0], 8_000, 0
    while at < length - 16_000:
        samples = min(length - at, round(random.uniform(1.0, 7.0) * 16_000))
        said = np.arange(heard[who], heard[who] + samples)
        tracks[who, at : at + samples] = np.take(prompts[who], said, mode="wrap")
        heard[who] += samples
        at, who = at + samples + round(random.uniform(0.2, 2.0) * 16_000), 1 - who
    paths = [folder / f"{name}.wav" for name in ("user", "agent")]
    for path, track in zip(paths, tracks, strict=True):
        write_wav(path, track)
    with SoundFile(paths[0]) as user, SoundFile(paths[1]) as agent:
        write_bag(folder / "conversation", user, agent)
    return folder / "conversation"


def figures(bag: Path) -> dict[str, float]:
    """Return what a head did in a bag."""
    frames: ConversationFrames = read_frames(bag)
    speaks = frames.agent_level_dbfs > -50.0
    near = np.convolve(speaks, np.ones(2 * NEAR_SPEECH_FRAMES + 1), "same") > 0
    jaw_deg = np.degrees(frames.shown[:, 50])
    moves = np.sum(np.diff((jaw_deg > 2.0).astype(int)) != 0) / 2
    neck = frames.shown[frames.is_shown][:, 53:56]
    gestures = [g for m in motions(bag) for g in m.gestures if not g.refused_because]
    minutes = len(frames) / 25 / 60
    return {
        "jaw in silence, p95 [deg]": float(np.percentile(np.abs(jaw_deg[~near]), 95)),
        "jaw in speech, p95 [deg]": float(np.percentile(jaw_deg[speaks], 95)),
        "jaw opens a minute": float(moves / minutes),
        "neck pitch, spread [rad]": float(neck[:, 0].std()),
        "neck pitch, mean of the last minute [rad]": float(neck[-1500:, 0].mean()),
        "neck jerk, RMS [rad/s^3]": float(np.sqrt(np.mean(np.sum(np.diff(neck, 3, axis=0) ** 2, 1))) * 25**3),
        "drawn gestures a minute": len(gestures) / minutes,
    }


def motions(bag: Path) -> list[Any]:
    """Return the motion that was shown, message by message."""
    with BagReader(bag) as reader:
        found = [entry.message for entry in reader.messages(["agent/motion"])]
    return [message for message in found if not message.is_preview]


def main() -> None:
    """Replay with and without, and write the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--turn-frames", type=int, default=0)
    options = parser.parse_args()
    inference = {"turn_frames": options.turn_frames, "warmup_turns": 0}
    cases = {
        "as it was": {"mouth_gate": False, "gestures": "none"},
        "now": {},
    }
    columns = {}
    with tempfile.TemporaryDirectory(prefix="timar-rest-") as folder:
        bag = make_conversation(Path(folder), options.seconds)
        for name, changes in cases.items():
            settings = ReplaySettings()
            config = dataclasses.replace(settings.inference, **inference, **changes)
            out = Path(folder) / name.replace(" ", "-")
            replay(bag, out, dataclasses.replace(settings, inference=config))
            columns[name] = figures(out)
    rows = [[what, *(f"{column[what]:.3g}" for column in columns.values())] for what in columns["now"]]
    lines = ["# The head at rest", "", f"{when()}. Made by `python benchmarks/rest.py --seconds "
             f"{options.seconds:g} --turn-frames {options.turn_frames}`."]  # fmt: skip
    page = print_page([*lines, *table(["", *columns], rows)])
    (RESULTS / "rest.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
