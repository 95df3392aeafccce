"""Import of the published size: from a checkpoint to the first motion, a later start, memory and disk.

Random weights in the published file's layout, 6.8 GB: weights, their average, the optimiser's moments, the
arguments; and a wav2vec 2.0 of the published size, 1.3 GB.

make bench-import ARGS="--folder /tmp/published"     # keeps the checkpoint for the next run
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness
from harness import RESULTS


def main() -> None:
    parser = harness.parser_of(__doc__)
    parser.add_argument("--folder", type=Path, help="where the 8.1 GB of weights are kept for the next run")
    parser.add_argument("--size", default="large", choices=("base", "large", "huge"))
    parser.add_argument("--out", type=Path, default=RESULTS / "import.md")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        print(json.dumps(STAGES[arguments.stage](arguments.folder)))
        return
    began = harness.when()
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(arguments.folder or Path(scratch), arguments.size)
    harness.write_page(arguments.out, page(began, arguments.size, found))


def measure(folder: Path, size: str) -> dict[str, dict]:
    """Measure every stage in a process of its own; nothing of an earlier measurement is remembered."""
    write_checkpoint(folder, size)
    found = {}
    with tempfile.TemporaryDirectory() as cache:
        for stage in STAGES:
            command = [sys.executable, __file__, "--stage", stage, "--folder", str(folder)]
            started, environment = time.perf_counter(), {**os.environ, "TIMAR_CACHE": cache}
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
            found[stage] = json.loads(done.stdout.splitlines()[-1])
            found[stage]["wall_s"] = time.perf_counter() - started
    return found


def write_checkpoint(folder: Path, size: str) -> None:
    """Write random weights as they are published, unless the folder has them."""
    if (folder / "TIMAR.pth").is_file():
        return
    import torch
    from published_checkpoint import save_run, training_arguments
    from timar_model.architecture.config import ModelConfig
    from timar_model.architecture.model import TimarModel
    from timar_model.architecture.reference import authors_state
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    shape = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
    shape |= {"intermediate_size": 4096, "conv_bias": True}
    encoder = Wav2Vec2Config(**shape, feat_extract_norm="layer", do_stable_layer_norm=True)
    Wav2Vec2Model(encoder).save_pretrained(folder / "wav2vec2")
    network = TimarModel(ModelConfig.of_size(size))
    for parameter in network.head.parameters():
        # Layers that start at zero would draw nothing.
        torch.nn.init.normal_(parameter, std=0.02)
    with torch.no_grad():
        arguments = training_arguments(model=f"timar_{size}")
        save_run(folder / "TIMAR.pth", authors_state(network.state_dict()), arguments)


def measure_import(folder: Path) -> dict[str, float | str]:
    """Import the checkpoint with its graphs, and measure what `auto` takes."""
    from timar_model.commands import import_model
    from timar_model.engines.choosing import choose

    from timar_model import load_model

    source, out = folder / "TIMAR.pth", folder / "imported"
    if import_model([str(source), str(out), "--speech-encoder", str(folder / "wav2vec2")]):
        raise SystemExit(1)
    found, choice = peak(), choose(load_model(out))  # Measured by the import, and remembered.
    return {**found, "measuring_s": choice.took_s, "choice": choice.sentence()}


def measure_start(folder: Path) -> dict[str, float]:
    """Open the imported model on its int8 graphs, and draw one turn."""
    import numpy as np

    from timar_model import load_model

    started = time.perf_counter()
    session = load_model(folder / "imported").session("onnx-int8", threads=2)
    opened = time.perf_counter()
    silence = np.zeros(16_000, np.float32)
    session.step(silence, np.zeros((25, 56), np.float32), silence)
    turn = {"open_s": opened - started, "turn_s": time.perf_counter() - opened}
    return {**turn, **peak()}


def peak() -> dict[str, float]:
    """Return what this process held at most [GB], and the processor time it took."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    # Not ru_maxrss: a new process inherits that of the one that started it.
    return {"memory_gb": harness.memory_mb("VmHWM") / 1e3, "cpu_s": used.ru_utime + used.ru_stime}


STAGES = {"import": measure_import, "first start": measure_start, "later start": measure_start}


def page(began: str, size: str, found: dict[str, dict[str, float]]) -> list[str]:
    """Return the page."""
    rows = [
        (name, *(f"{facts[key]:.1f}" for key in ("wall_s", "cpu_s", "memory_gb")))
        for name, facts in found.items()
    ]
    measuring = found["import"]["measuring_s"]
    motion = found["import"]["wall_s"] - measuring + found["first start"]["wall_s"]
    titles = ("part", "wall [s]", "processor [s]", "peak memory [GB]")
    return [
        "# Import of a published checkpoint",
        "",
        f"`make bench-import`, size {size}, random weights, files on the disk. {began}.",
        *harness.table(titles, rows),
        f"From the command to the first motion: {motion:.1f} s, and {measuring:.1f} s in which it "
        "measured what auto takes. A start is a new process: Python, every file's digest, three graphs, a "
        "turn.",
        "",
        f"auto: {found['import']['choice']}",
    ]


if __name__ == "__main__":
    main()
