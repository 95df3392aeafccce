"""What it costs to run a model live that was trained with both voices of the same second.

Such a model hears the user either set back by one turn and a margin, with lips in time (`user_set_back`), or
as in training, with its motion shown a turn and a margin late (`shown_late`). What that costs in the
published metrics, as shown, is measured here on SYNTHETIC conversations, and the computing beside it. "As
trained" is what a model without a user lag cannot have live: its motion scored without the delay.

python benchmarks/lag_zero.py MODEL
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import RESULTS, parser_of, table, when, write_page
from int8_quality import METRICS, made_dyads
from timar_common.clock import SAMPLES_PER_FRAME
from timar_common.motion_file import MotionTrack
from timar_training.corpora.dyads import Dyad, read_split
from timar_training.evaluation.scoring import EvaluationConfig, evaluate
from timar_training.prediction.predictor import SessionPredictor

from timar_model import load_model

WAYS = ("as trained", "user_set_back", "shown_late")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("model", help="a model folder, or a shipped name")
    parser.add_argument("--margin-frames", type=int, default=2, help="for sound on its way and computing")
    parser.add_argument("--data", type=Path, help="dyads with a list test.txt; none: made for this run")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each clip")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    behind = model.config.turn_frames + arguments.margin_frames
    with tempfile.TemporaryDirectory() as scratch:
        data = arguments.data or made_dyads(Path(scratch) / "dyads", arguments.clips, arguments.seconds)
        clips = read_split(data, "test")[: arguments.clips]
        found, cpu_s = {}, {}
        for way in WAYS:
            predictor = TimedPredictor(model)
            predictor.delay_frames = behind if way == "shown_late" else 0
            found[way] = evaluate(
                predictor,
                clips,
                EvaluationConfig(),
                seconds=arguments.seconds,
                disturb=lambda dyad, frames=behind * (way == "user_set_back"): set_back(dyad, frames),
            )
            cpu_s[way] = predictor.cpu_s
    write_page(arguments.out / "lag_zero.md", report(found, cpu_s, behind, model, len(clips), arguments))


class TimedPredictor(SessionPredictor):
    """A model's session that counts what it computes."""

    cpu_s = 0.0

    def predict_batch(self, dyads, seed: int):
        """See `SessionPredictor`."""
        started = time.process_time()
        made = super().predict_batch(dyads, seed)
        self.cpu_s += time.process_time() - started
        return made


def set_back(dyad: Dyad, frames: int) -> Dyad:
    """Let the user's voice and motion come so many frames later; before them silence, unseen."""
    silence = np.zeros(frames * SAMPLES_PER_FRAME, np.float32)
    voice = np.concatenate([silence, dyad.user_voice])[: len(dyad.user_voice)]
    seen, before = dyad.user_motion, ((frames, 0), (0, 0))
    vector, valid = (np.pad(rows, before)[: len(rows)] for rows in (seen.vector, seen.valid))
    motion = MotionTrack(vector, valid)
    return dataclasses.replace(dyad, user_voice=voice, user_motion=motion)


def report(found: dict, cpu_s: dict, behind: int, model, clips: int, arguments) -> list[str]:
    """Write a table, with the intervals over clips."""
    config = model.config
    lines = [
        "# A model without a user lag, live",
        "",
        f"{when()}. Model {arguments.model} "
        f"({model.sha256[:12]}): turns of {config.turn_frames} frames, trained with user lag "
        f"{config.user_lag!r}. {clips} SYNTHETIC conversations of {arguments.seconds:g} s. A turn and the "
        f"margin are {behind} frames "
        f"({behind / 25:.2f} s). Mean, and 95 % interval over clips.",
    ]
    rows = []
    for label, (name, factor) in METRICS.items():
        if name in found[WAYS[0]]["mean"]:
            means = [factor * found[way]["mean"][name] for way in WAYS]
            edges = [[factor * edge for edge in found[way]["interval"][name]] for way in WAYS]
            pairs = zip(means, edges, strict=True)
            rows.append([label, *(f"{mean:.3f} ({low:.3f} to {high:.3f})" for mean, (low, high) in pairs)])
    lines += table(["as shown", *WAYS], rows)
    computed = [f"{way} {cpu_s[way]:.0f} s" for way in WAYS]
    lines += [f"Processor time of all conversations, features included: {', '.join(computed)}.", ""]
    if config.user_lag != "none":
        lines += [
            "This model was trained with a user lag: here `user_set_back` gives it a user that is older "
            "still, and `shown_late` a delay it does not need. It shows how much lips and neck depend on "
            "either, on these conversations; what the published weights lose, only they can show."
        ]
    return lines


if __name__ == "__main__":
    main()
