"""Steps per second of `timar train` against a plain loop that encodes speech again each step, alternately.

Both train the same network on windows of the same size with the same kind of optimiser. The plain loop does
what the released code does: it reads a clip's files, computes the speech features of both voices of each
window, and keeps nothing. The share of waiting for data is the trainer's own, of each step. Writes
benchmarks/results/training.json, or training_wav2vec2.json with that encoder.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import RESULTS, parser_of, percentiles, when, write_figures
from timar_common.clock import SAMPLES_PER_FRAME
from timar_model.architecture.config import ModelConfig
from timar_model.architecture.inputs import speech_features
from timar_model.architecture.model import TrainingBatch
from timar_model.architecture.sequences import clip_features
from timar_training.corpora import dyads
from timar_training.training.config import TrainConfig
from timar_training.training.run import open_run
from timar_training.training.trainer import Trainer

WAV2VEC2_CLIPS = 6
"""So many clips are prepared with wav2vec 2.0: enough for a few steps, and soon encoded."""
WANTED_RATIO = 1.5
WANTED_DATA_SHARE = 0.10


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/synthetic"), help="dyads (%(default)s)")
    parser.add_argument("--rounds", type=int, default=6, help="of a few steps of each kind (%(default)s)")
    parser.add_argument("--steps", type=int, default=4, help="per round and kind (%(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="windows per step (%(default)s)")
    parser.add_argument(
        "--wav2vec2",
        default=None,
        help="this encoder instead: a folder of weights, or 'random' for a small one made on the spot",
    )
    parser.add_argument("--out", type=Path, default=None, help="where to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(arguments, Path(scratch))
    out = arguments.out or RESULTS / ("training_wav2vec2.json" if arguments.wav2vec2 else "training.json")
    write_figures(out, result)
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    return 0 if result["ratio"] >= WANTED_RATIO and result["data_share_p95"] <= WANTED_DATA_SHARE else 1


def measure(arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Run rounds of both loops alternately, so that what else the machine does hits both alike."""
    model: dict[str, Any] = {"window_frames": 50}
    data = arguments.data
    if arguments.wav2vec2:
        source = arguments.wav2vec2
        if source == "random":
            source = str(random_wav2vec2(scratch / "wav2vec2"))
        width = json.loads((Path(source) / "config.json").read_text(encoding="utf-8"))["hidden_size"]
        model |= {"speech_encoder": "wav2vec2", "speech_source": source, "speech_dim": width}
        data = few_clips(arguments.data, scratch / "data")
    config = TrainConfig(
        data=str(data),
        out=str(scratch),
        model=model,
        window_frames=50,
        batch=arguments.batch,
        threads=1,
        steps=10_000,
        validate_every=10_000,
        checkpoint_every=10_000,
        log_every=0,
    )
    ours = open_run(config)
    plain = PlainLoop(open_run(dataclasses.replace(config, out=str(scratch / "plain"))), data)
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    shares: list[float] = []
    reads: list[float] = []
    for number in range(arguments.rounds + 1):
        began_s = time.perf_counter()
        found: list[float] = []
        run_steps(ours, arguments.steps, found)
        between_s = time.perf_counter()
        spent_s = [plain.step() for _ in range(arguments.steps)]
        ended_s = time.perf_counter()
        if number:  # The first round warms up.
            times["ours"].append((between_s - began_s) / arguments.steps)
            times["plain"].append((ended_s - between_s) / arguments.steps)
            shares += found
            reads += spent_s
    step_s = {kind: statistics.median(values) for kind, values in times.items()}
    return {
        "when": when(),
        "encoder": f"wav2vec2, {arguments.wav2vec2}" if arguments.wav2vec2 else "logmel",
        "batch": arguments.batch,
        "steps_per_s": {kind: 1 / value for kind, value in step_s.items()},
        "ratio": step_s["plain"] / step_s["ours"],
        "ratio_by_round": [plain / own for own, plain in zip(times["ours"], times["plain"], strict=True)],
        "wanted_ratio": WANTED_RATIO,
        "data_share": statistics.median(shares),
        "data_share_p95": percentiles(shares, 95)[0],
        "data_share_largest": max(shares),
        "wanted_data_share": WANTED_DATA_SHARE,
        "plain_reading_and_encoding_s": statistics.median(reads),
    }


def random_wav2vec2(folder: Path) -> Path:
    """Save a wav2vec 2.0 of a tenth of the published width and a sixth of its depth, with random weights.

    What it hears means nothing; what it costs is a lower bound of what the published encoder costs.
    """
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    shape = {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 384}
    config = Wav2Vec2Config(
        **shape, conv_dim=(128,) * 7, feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True
    )
    torch.manual_seed(0)
    Wav2Vec2Model(config).save_pretrained(folder)
    return folder


def few_clips(data: Path, folder: Path) -> Path:
    """Return a folder that links to a few clips of another one."""
    folder.mkdir()
    for split, count in (("train", WAV2VEC2_CLIPS), ("validation", 1)):
        clips = dyads.read_split(data, split)[:count]
        (folder / f"{split}.txt").write_text("".join(f"{clip.name}\n" for clip in clips), encoding="utf-8")
        for clip in clips:
            for speaker in (dyads.USER_SPEAKER, dyads.AGENT_SPEAKER):
                for path in (clip.voice_path(speaker), clip.motion_path(speaker)):
                    if path.is_file():
                        (folder / path.name).symlink_to(path.resolve())
    return folder


def run_steps(trainer: Trainer, steps: int, shares: list[float]) -> None:
    """Let the trainer do some steps as `timar train` does them."""
    first = trainer.step

    def stop(progress: Any) -> None:
        shares.append(progress.data_share)
        if progress.step >= first + steps:
            raise StopIteration

    try:
        trainer.run(stop)
    except StopIteration:
        return


class PlainLoop:
    """The released code's manner: read, encode, train, forget."""

    def __init__(self, trainer: Trainer, data: Path) -> None:
        self._config: ModelConfig = trainer.config.model_config()
        self._sampler = trainer._train
        self._network = trainer._module.network
        self._optimiser = torch.optim.AdamW(self._network.parameters(), lr=1e-4)
        self._features = speech_features(self._config)
        self._clips = [clip for clip in dyads.read_split(data, "train")]
        self._step = 0

    def step(self) -> float:
        """Do one step and return what reading and encoding took [s]."""
        began_s = time.perf_counter()
        batch = self._batch()
        read_s = time.perf_counter() - began_s
        self._optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            loss = self._network.training_loss(batch).total
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), 3.0)
        self._optimiser.step()
        self._step += 1
        return read_s

    def _batch(self) -> TrainingBatch:
        known = self._sampler.draw(self._step)
        voices: dict[str, list[torch.Tensor]] = {"user_speech": [], "agent_speech": []}
        frames = known.agent_motion.shape[1]
        rng = np.random.default_rng(self._step)
        for _ in range(len(known.agent_motion)):
            clip = self._clips[int(rng.integers(len(self._clips)))]
            for name, speaker in (("user_speech", 1), ("agent_speech", 2)):
                voice = dyads.read_voice(clip.voice_path(speaker))
                if clip.motion_path(speaker).is_file():
                    dyads.read_motion(clip.motion_path(speaker))
                first = int(rng.integers(len(voice) // SAMPLES_PER_FRAME - frames))
                window = voice[first * SAMPLES_PER_FRAME : (first + frames) * SAMPLES_PER_FRAME]
                voices[name].append(torch.from_numpy(self._encode(window)))
        return dataclasses.replace(known, **{name: torch.stack(rows) for name, rows in voices.items()})

    def _encode(self, window: np.ndarray) -> np.ndarray:
        if self._config.speech_encoder == "logmel":
            return clip_features(self._features, window)
        turn = self._config.turn_frames * SAMPLES_PER_FRAME
        whole = window[: len(window) // turn * turn].reshape(-1, turn)
        rows = [self._features.compute(piece, self._features.initial())[0] for piece in whole]
        rest = len(window) // SAMPLES_PER_FRAME - sum(map(len, rows))
        return np.concatenate([*rows, np.zeros((rest, rows[0].shape[1]), np.float32)])


if __name__ == "__main__":
    sys.exit(main())
