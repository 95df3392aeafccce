"""Interruptions, back-channels, coughs and laughs over the head's voice; writes benchmarks/results/turns.md.

    python benchmarks/bench_turns.py                   # every sound of the voices that the fit never heard
    python benchmarks/bench_turns.py --sounds 60       # so many of them, drawn by the seed

All sounds are synthetic (`backchannel_corpus.py`). Detector, rules and networks run as in the node, faster
than real time and without processes: what capture, messages and the loudspeaker's buffer add is not counted.
"""

from __future__ import annotations

import backchannel_corpus as corpus
import numpy as np
from harness import RESULTS, parser_of, table, when, write_page
from timar_audio.turns_config import TurnsConfig
from timar_common.pcm import float_to_int16
from turns_cases import Reaction, react

SHORT_S = 0.45
SPEECH = (
    "let me tell you how this machine was built and what every one of its parts is good for, because "
    "people ask me that all day long and I never get tired of it"
)


def share(reactions: list[Reaction], what: str) -> str:
    """Return how many of the reactions have something, as text."""
    count = sum(getattr(reaction, what) is not None for reaction in reactions)
    return f"{count} of {len(reactions)} ({100 * count / max(1, len(reactions)):.1f} %)"


def delays(reactions: list[Reaction], what: str) -> str:
    """Return median and 95th percentile of a time, as text."""
    times_s = [at for reaction in reactions if (at := getattr(reaction, what)) is not None]
    return f"{np.median(times_s):.2f} / {np.percentile(times_s, 95):.2f} s" if times_s else "–"


def main() -> int:
    """Measure and write the page."""
    parser = parser_of(__doc__)
    parser.add_argument("--sounds", type=int, default=0, help="how many sounds; 0: all")
    arguments = parser.parse_args()
    random = np.random.default_rng(5)
    sounds = list(corpus.make_sounds(corpus.TEST_VOICES, 2))
    if arguments.sounds:
        sounds = [sounds[i] for i in random.permutation(len(sounds))[: arguments.sounds]]
    speech = corpus.speak(SPEECH, "espeak:en+f3", random)
    agent = float_to_int16(0.5 * np.concatenate([np.zeros(8000), speech]))
    rows = []
    for name, config in (("with", TurnsConfig()), ("without", TurnsConfig(interruption_check=False))):
        groups: dict[str, list[Reaction]] = {"interruptions": [], "short": [], "long": []}
        for number, sound in enumerate(sounds):
            group = "short" if sound.samples.size < SHORT_S * corpus.RATE_HZ else "long"
            level = 10 ** (random.uniform(-26, -14) / 20)
            groups["interruptions" if sound.is_interruption else group].append(
                react(level * sound.samples, agent, config, number)
            )
        real, others = groups["interruptions"], groups["short"] + groups["long"]
        rows += [
            (name, "interruptions that end the utterance", share(real, "interrupted_s")),
            (name, "back-channels, coughs, laughs that end it", share(others, "interrupted_s")),
            (name, "of those below 0.45 s, pause it", share(groups["short"], "paused_s")),
            (name, "of longer ones, pause it", share(groups["long"], "paused_s")),
            (name, "interruption begins → lowered, p50 / p95", delays(real, "lowered_s")),
            (name, "interruption begins → paused or ended, p50 / p95", delays(real, "silent_s")),
        ]
    lines = ["# Interruptions and back-channels, measured", "", f"{when()}.", ""]
    lines += [f"{len(sounds)} synthetic sounds by {len(corpus.TEST_VOICES)} voices that the fit never heard."]
    write_page(RESULTS / "turns.md", [*lines, *table(("check", "what", "measured"), rows)])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
