"""Whether an hour of conversation is like its first seconds: scores, the cache against a full pass, memory.

    OMP_NUM_THREADS=1 python benchmarks/long_conversation.py data/synthetic            # about ten minutes
    OMP_NUM_THREADS=1 python benchmarks/long_conversation.py data/synthetic --minutes 10

The shipped model talks through the test clips end to end, again and again. The first clips come back at
several ages of the conversation, so that the same content is scored each time. Writes
results/long_conversation.md.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from harness import RESULTS, memory_mb, parser_of, table, when, write_page
from timar_common.motion_file import NECK
from timar_model.architecture.config import SAMPLES_PER_FRAME
from timar_model.architecture.inputs import TurnInputs, layout_of
from timar_model.architecture.sequences import join, sliding_window, turn_sequence
from timar_model.engines.torch_engine import load_network
from timar_model.loading import LoadedModel
from timar_model.metrics import clip_metrics
from timar_model.metrics.movement import movement_scores
from timar_model.model_folder import read_model
from timar_training.corpora.dyads import Dyad, load_dyad, read_split
from timar_training.corpora.levels import frame_level_db

from timar_model import load_model

SCORED_CLIPS = 4
AGES_MIN = (0.0, 10.0, 20.0, 30.0, 40.0, 50.0)
"""When the scored clips come again, about [min]."""


class RecordingEngine:
    """An engine that keeps what each turn was read from and what came of it, for one full pass afterwards."""

    def __init__(self, engine) -> None:
        self._engine = engine
        self.lengths: list[int] = []
        self.inputs: list[TurnInputs] = []
        self.conditions: list[np.ndarray] = []

    def __getattr__(self, name: str):
        return getattr(self._engine, name)

    def encode(self, inputs, *where):
        """Encode as the engine does, and keep it."""
        found = self._engine.encode(inputs, *where)
        self.lengths.append(inputs.agent_speech.shape[1])
        self.inputs.append(inputs)
        self.conditions.append(found.numpy().copy())
        return found


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "long_conversation.md")
    parser.add_argument("data", type=Path, help="folder of dyads with a test list")
    parser.add_argument("--model", default="calm-head")
    parser.add_argument("--minutes", type=float, default=60.0, help="of the curve over age; 0: none")
    parser.add_argument("--equal-minutes", type=float, default=10.0, help="set against a full pass")
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    clips = [load_dyad(clip) for clip in read_split(arguments.data, "test")]
    lines = [
        "# An hour of conversation",
        "",
        f"{model.path.name} on SYNTHETIC test clips end to end, {arguments.minutes:g} min, torch, "
        f"one thread. {when()}.",
        *equality_lines(model, clips, arguments.equal_minutes),
    ]
    if arguments.minutes:
        lines += age_lines(model, clips, arguments.minutes)
    write_page(arguments.out, lines)


def equality_lines(model: LoadedModel, clips: list[Dyad], minutes: float) -> list[str]:
    """Compare the rolling cache with one pass over everything, for short turns and for a mixture."""
    rows = []
    random = np.random.default_rng(0)
    mixture = (int(random.choice([5, 10, 25])) for _ in itertools.count())
    for name, lengths in (("0.2 s", itertools.repeat(5)), ("0.2, 0.4 and 1 s mixed", mixture)):
        session = model.session(engine="torch", threads=1)
        recorder = RecordingEngine(session._engine)
        session._engine = recorder
        talk, left, turns = LongTalk(session), round(minutes * 60 * 25), iter(lengths)
        for clip in itertools.cycle(clips):
            left -= len(talk.through(clip, turns, [], left))
            if left <= 0:
                break
        cached = np.concatenate([part[0] for part in recorder.conditions])
        whole = full_pass(model, recorder)
        difference = float(np.abs(cached - whole).max())
        size = float(np.sqrt(np.square(whole).mean()))
        rows.append((f"{name}, {minutes:g} min", len(recorder.lengths), f"{difference:.1e}", f"{size:.2f}"))
    return table(["turns", "turns seen", "largest difference of conditions", "their size (RMS)"], rows)


@torch.inference_mode()
def full_pass(model: LoadedModel, recorder: RecordingEngine) -> np.ndarray:
    """Return the conditions of all turns by one pass under the training's mask, without any cache."""
    folder = read_model(model.path)
    network = load_network(folder.config, folder.weights()).eval()
    inputs = join(recorder.inputs)
    streams = TurnInputs(**{name: torch.from_numpy(array) for name, array in vars(inputs).items()})
    turns = turn_sequence(recorder.lengths, folder.config)
    window = sliding_window(layout_of(turns, folder.config.past_tokens), folder.config.window_frames)
    return network.encode_sequence(streams, window)[0].numpy()


def age_lines(model: LoadedModel, clips: list[Dyad], minutes: float) -> list[str]:
    """Score the same clips at several ages of one conversation."""
    block_s = sum(clip.frames for clip in clips[:SCORED_CLIPS]) / 25
    ages = [age for age in AGES_MIN if age + block_s / 60 < minutes]
    order: list[tuple[Dyad, float | None]] = []
    now_s, other = 0.0, SCORED_CLIPS
    for age in [*ages, minutes - block_s / 60]:
        while now_s < age * 60 - 1:
            clip = clips[other % len(clips)]
            order.append((clip, None))
            now_s += clip.frames / 25
            other = other + 1 if (other + 1) % len(clips) else SCORED_CLIPS
        for clip in clips[:SCORED_CLIPS]:
            order.append((clip, now_s))
            now_s += clip.frames / 25
    talk = LongTalk(model.session(engine="torch", threads=1))
    rows: dict[float, list[dict[str, float]]] = {}
    first_s: dict[str, float] = {}
    lines: list[list[str]] = []
    starts = [now for _, now in order if now is not None][::SCORED_CLIPS]
    took: list[float] = []
    for clip, at_s in order:
        before = len(took)
        motion = talk.through(clip, itertools.repeat(5), took)
        if at_s is None:
            continue
        start = max(start for start in starts if start <= at_s + 1e-6)
        found = scores(motion, clip)
        if at_s == 0.0:
            first_s = scores(motion[:250], clip)
        rows.setdefault(start, []).append({**found, "turn_ms": float(np.median(took[before:])) * 1e3})
        if len(rows[start]) == SCORED_CLIPS:
            mean = {key: float(np.mean([row[key] for row in rows[start]])) for key in rows[start][0]}
            if start == 0.0:
                lines.append(row_of("first 10 s, one clip", {**first_s, "turn_ms": mean["turn_ms"]}))
                lines.append(row_of("first minute, the same clip", rows[start][0]))
            lines.append(row_of(f"{(start) / 60:.0f} to {(start + block_s) / 60:.0f} min", mean))
            print(*lines[-1], flush=True)
    titles = ["age", "MSE neck ×10³", "MSE jaw ×10³", "neck spread, of the truth's"]
    titles += ["neck jerk, of the truth's", "jaw and voice", "memory [MB]", "turn, median [ms]"]
    return table(titles, lines)


def row_of(name: str, mean: dict[str, float]) -> list[str]:
    scored = [f"{1e3 * mean['mse_pose']:.2f}", f"{1e3 * mean['mse_jaw']:.3f}", f"{mean['spread']:.2f}"]
    scored += [f"{mean['jerk']:.2f}", f"{mean['jaw_voice']:.3f}"]
    return [name, *scored, f"{memory_mb():.0f}", f"{mean['turn_ms']:.1f}"]


def scores(motion: np.ndarray, clip: Dyad) -> dict[str, float]:
    truth = clip.agent_motion.vector[: len(motion)]
    moved = movement_scores(motion, truth)
    level = 10 ** (frame_level_db(clip.agent_voice)[: len(motion)] / 20)
    metrics = clip_metrics(motion, truth)
    return {
        "mse_pose": metrics["mse_pose"],
        "mse_jaw": metrics["mse_jaw"],
        "spread": float(motion[:, NECK].std(axis=0).mean() / truth[:, NECK].std(axis=0).mean()),
        "jerk": moved["jerk_pose_rad_s3"] / moved["jerk_true_pose_rad_s3"],
        "jaw_voice": float(np.corrcoef(motion[:, 50], level)[0, 1]),
    }


class LongTalk:
    """A conversation that goes on from clip to clip; the user's stream reaches back over the joins."""

    def __init__(self, session) -> None:
        self.session = session
        self._tail = np.zeros(64 * SAMPLES_PER_FRAME, np.float32)

    def through(self, clip: Dyad, lengths: Iterator[int], took: list[float], frames: int | None = None):
        """Return the agent's motion over a clip or its first frames; appends what each turn took [s]."""
        end = min(clip.frames, frames or clip.frames)
        user = np.concatenate([self._tail, clip.user_voice])
        lead = self._tail.size // SAMPLES_PER_FRAME
        motion, first = [], 0
        while first < end:
            count = min(next(lengths), end - first)
            heard = self.session.user_frames(count)
            at = lead + first - self.session.config.user_lag_margin_frames - heard
            began_s = time.perf_counter()
            motion.append(
                self.session.step(
                    user[at * SAMPLES_PER_FRAME : (at + heard) * SAMPLES_PER_FRAME],
                    None,
                    clip.agent_voice[first * SAMPLES_PER_FRAME : (first + count) * SAMPLES_PER_FRAME],
                )
            )
            took.append(time.perf_counter() - began_s)
            first += count
        self._tail = user[: (lead + end) * SAMPLES_PER_FRAME][-self._tail.size :]
        return np.concatenate(motion)


if __name__ == "__main__":
    main()
