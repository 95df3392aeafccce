"""int8 against float32 with trained weights: is the difference smaller than that between two seeds?

Each clip's motion is drawn by both engines from the same noise, for several seeds. A metric's difference is
the mean of int8 - float32 over the seeds; its spread is the deviation of float32 between the seeds. The clips
are SYNTHETIC conversations the model has not seen. Writes a table.

make bench-quantised ARGS="--model calm-head --clips 6"
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from harness import RESULTS, parser_of, table, when, write_page
from timar_model.engines.export import export_onnx
from timar_model.loading import LoadedModel
from timar_model.model_folder import read_model
from timar_training.corpora.dyads import read_split
from timar_training.evaluation.scoring import EvaluationConfig, evaluate
from timar_training.prediction.predictor import SessionPredictor
from timar_training.synthesis.synthesize import CorpusConfig, synthesize

from timar_model import find_model, load_model

ENGINES = ("onnx", "onnx-int8")
METRICS = {
    "FD jaw ×10³": ("fid_jaw", 1e3),
    "FD neck ×10²": ("fid_pose", 1e2),
    "P-FD neck ×10²": ("p_fid_pose", 1e2),
    "MSE jaw ×10³": ("mse_jaw", 1e3),
    "MSE neck ×10²": ("mse_pose", 1e2),
    "SID jaw": ("sid_jaw", 1),
    "SID neck": ("sid_pose", 1),
    "STS jaw": ("sts_jaw", 1),
    "STS neck": ("sts_pose", 1),
    "variance neck ×10³": ("variance_pre_pose", 1e3),
    "rPCC neck ×10²": ("rpcc_pose", 1e2),
    "jaw follows the voice": ("jaw_voice_correlation", 1),
    "neck speed, pitch [rad/s]": ("neck_pitch_speed_rad_s", 1),
}


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--model", default="calm-head", help="a model folder, or a shipped name")
    parser.add_argument("--data", type=Path, help="dyads with a list test.txt; none: made for this run")
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each clip")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--temperature", type=float, help="of the noise; none: the model's own")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data = arguments.data or made_dyads(Path(scratch) / "dyads", arguments.clips, arguments.seconds)
        shutil.copytree(find_model(arguments.model), Path(scratch) / "model")
        export_onnx(Path(scratch) / "model", ("float32", "int8"))
        model = load_model(Path(scratch) / "model")
        if arguments.temperature is None:
            arguments.temperature = model.config.sampling.temperature
        clips = read_split(data, "test")[: arguments.clips]
        scores = {
            engine: [
                mean_scores(model, engine, clips, seed, arguments.seconds, arguments.temperature)
                for seed in range(arguments.seeds)
            ]
            for engine in ENGINES
        }
        lines, is_inside = report(scores, model, len(clips), arguments)
    write_page(arguments.out / "int8_quality.md", lines)
    return 0 if is_inside else 1


def made_dyads(folder: Path, clips: int, seconds: float) -> Path:
    """Make conversations that no training has seen: another seed than the shipped model's corpus."""
    synthesize(folder, CorpusConfig(hours=seconds / 3600, clip_s=seconds, held_out=clips, seed=4_711))
    return folder


def mean_scores(model: LoadedModel, engine: str, clips, seed: int, seconds: float, temperature: float):
    """Return the means over clips of every score of one engine and seed."""
    predictor = SessionPredictor(model, sampling={"temperature": temperature}, engine=engine)
    print(f"{engine}, seed {seed}", file=sys.stderr)
    return evaluate(predictor, clips, EvaluationConfig(seed=seed), seconds=seconds)["mean"]


def report(scores, model: LoadedModel, clips: int, arguments) -> tuple[list[str], bool]:
    """Write the table; also return whether every difference lies inside the spread."""
    rows, is_inside = [], True
    for label, (name, factor) in METRICS.items():
        found = {
            engine: factor * np.array([of_seed[name] for of_seed in scores[engine] if name in of_seed])
            for engine in ENGINES
        }
        if not len(found["onnx"]):
            continue
        difference = (found["onnx-int8"] - found["onnx"]).mean()
        spread = found["onnx"].std(ddof=1)
        is_inside &= bool(abs(difference) <= spread)
        means = [f"{found[engine].mean():.3f}" for engine in ENGINES]
        verdict = "yes" if abs(difference) <= spread else "**no**"
        rows.append((label, *means, f"{difference:+.4f}", f"{spread:.4f}", verdict))
    facts = model.manifest["engines"]["onnx-int8"]
    name = read_model(find_model(arguments.model)).sha256[:12]
    lines = [
        "# int8 against float32, trained weights",
        "",
        f"{when()}. Model {arguments.model} "
        f"({name}, {model.manifest['parameters'] / 1e6:.2f} M parameters; {facts['int8_layers']} layers "
        "in int8, "
        f"{len(facts['float_layers'])} float), {clips} SYNTHETIC conversations of {arguments.seconds:g} s it "
        f"has not seen, {arguments.seeds} seeds, temperature {arguments.temperature:g}.",
        "Both engines draw from the same noise. Difference: mean of int8 - float32 over seeds. Spread: "
        "standard deviation of float32 between seeds.",
        *table(["", "float32", "int8", "difference", "spread", "inside"], rows),
        f"{'All' if is_inside else 'NOT all'} differences lie inside the spread.",
    ]
    return lines, is_inside


if __name__ == "__main__":
    sys.exit(main())
