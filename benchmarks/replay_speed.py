"""How fast bags are replayed, how much memory that takes beyond the model, and what a second process brings.

python benchmarks/replay_speed.py [--minutes 4] [--previews both|none|node] [--workers 2] [--model FOLDER]
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import example_voice, memory_mb, parser_of, when
from timar_bag.make_bag import WholeSound, write_bag
from timar_common.cli_options import add_deprecated_option
from timar_inference.config import WHOLE_TURN, InferenceConfig
from timar_inference.runtime import open_runtime
from timar_replay.batch import find_bags, jobs_for, run_batch
from timar_replay.replay import replay
from timar_replay.replay_settings import ReplaySettings
from timar_replay.runs import ReplayJob
from timar_report.joints import limits_of
from timar_report.report import write_report
from timar_report.score import score_bag
from timar_report.score_files import RUN_NAME

PREVIEWS = {"none": 0, "node": WHOLE_TURN}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--previews", choices=(*PREVIEWS, "both"), default="both")
    parser.add_argument("--workers", type=int, default=0, help="also compare one process with so many")
    parser.add_argument("--batch-minutes", type=float, default=2.0, help="length of each of their bags")
    add_deprecated_option(parser, "--fleet-minutes", "--batch-minutes")
    parser.add_argument("--model", default="calm-head")
    parser.add_argument("--engine", default="auto")
    arguments = parser.parse_args()
    print(when())
    chosen = tuple(PREVIEWS) if arguments.previews == "both" else (arguments.previews,)
    with tempfile.TemporaryDirectory() as scratch:
        for previews in chosen:
            inference = InferenceConfig(
                model=arguments.model,
                engine=arguments.engine,
                warmup_turns=1,
                preview_frames=PREVIEWS[previews],
            )
            settings = ReplaySettings(inference=inference)
            measure_one(Path(scratch) / previews, arguments.minutes, settings, f"previews {previews}")
            if arguments.workers:
                folder = Path(scratch) / f"{previews}-batch"
                measure_many(folder, arguments.workers, arguments.batch_minutes, settings)


def measure_one(folder: Path, minutes: float, settings: ReplaySettings, name: str) -> None:
    """Replay, score and report one bag in this process."""
    make(folder / "talk", minutes)
    runtime = open_runtime(settings.inference)
    before_mb = peak_mb()
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    report = replay(folder / "talk", folder / "out", settings, runtime)
    wall_s, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
    replayed_mb, began_cpu_s = peak_mb(), time.process_time()
    score = score_bag(folder / "out", limits_of("timar_head"))
    scored_mb, scored_s, began_cpu_s = (peak_mb(), time.process_time() - began_cpu_s, time.process_time())
    write_report(score, score.numbers, folder / "report.html", "benchmark")
    print(
        f"{name}: {report.engine}, {report.span_s:.0f} s replayed in {cpu_s:.1f} s of one core "
        f"({report.span_s / cpu_s:.1f} x real time; {wall_s:.1f} s by the wall), scored in {scored_s:.1f} s, "
        f"reported in {time.process_time() - began_cpu_s:.1f} s; peak memory over the model: replay "
        f"+{replayed_mb - before_mb:.0f} MB, score +{scored_mb - before_mb:.0f} MB, report "
        f"+{memory_mb('VmHWM') - before_mb:.0f} MB",
        flush=True,
    )


def measure_many(folder: Path, workers: int, minutes: float, settings: ReplaySettings) -> None:
    """Replay the same bags by this process and by several others, which import and open the model first."""
    bags = folder / "bags"
    for number in range(2 * workers):
        make(bags / f"talk{number}", minutes)
    wall_s, cpu_s = {}, {}
    for count in (1, workers):
        out = folder / f"by{count}"
        jobs = jobs_for(find_bags(bags), bags, out, ReplayJob(bags, out, settings, has_report=False))
        began_s = time.monotonic()
        finished = run_batch(jobs, count)
        wall_s[count] = time.monotonic() - began_s
        assert not any(item.error for item in finished), finished
        cpu_s[count] = sum(json.loads(path.read_text())["replay_cpu_s"] for path in out.rglob(RUN_NAME))
    print(
        f"{2 * workers} bags of {60 * minutes:.0f} s: {wall_s[1]:.1f} s by one process, "
        f"{wall_s[workers]:.1f} s by {workers} with their start, {wall_s[1] / wall_s[workers]:.2f} times as "
        f"fast; the replays alone took {cpu_s[1]:.1f} and {cpu_s[workers]:.1f} s of a core",
        flush=True,
    )


def make(bag: Path, minutes: float) -> None:
    """Write a bag of the shipped conversation, over and over."""
    write_bag(bag, Looped(1, minutes), Looped(2, minutes))


def peak_mb() -> float:
    return memory_mb("VmHWM")


class Looped(WholeSound):
    """One voice of the shipped conversation, repeated without holding all of it."""

    def __init__(self, speaker: int, minutes: float) -> None:
        self._clip = example_voice(speaker)
        self._place, self._end = 0, round(minutes * 60 * 16_000)

    def read(self, samples: int) -> np.ndarray:
        """Return the next samples."""
        end = min(self._place + samples, self._end)
        taken = self._clip[np.arange(self._place, end) % len(self._clip)]
        self._place = end
        return taken


if __name__ == "__main__":
    main()
