"""How fast a bag is replayed, and how much memory that takes beyond the model.

python benchmarks/replay_speed.py [--minutes 5] [--model FOLDER] [--engine onnx]
"""

from __future__ import annotations

import argparse
import platform
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from timar_audio.wav import SoundFile
from timar_inference.config import InferenceConfig
from timar_inference.runtime import open_runtime
from timar_replay.joints import limits_of
from timar_replay.make_bag import Samples, write_bag
from timar_replay.replay import replay
from timar_replay.replay_settings import ReplaySettings
from timar_replay.score import score_bag

CLIP = Path(__file__).parents[1] / "examples" / "data" / "dualtalk" / "xkHwlcDSOjc_sub_video_109_000"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--model", default="talking-head")
    parser.add_argument("--engine", default="auto")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {platform.python_version()}, {time.strftime('%Y-%m-%d %H:%M')}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_bag(
            folder / "talk",
            Samples(looped("speaker1", arguments.minutes)),
            Samples(looped("speaker2", arguments.minutes)),
        )
        for name, preview_frames in (("without previews", 0), ("as the node does", -1)):
            inference = InferenceConfig(
                model=arguments.model, engine=arguments.engine, warmup_turns=1, preview_frames=preview_frames
            )
            runtime = open_runtime(inference)
            before_mb = peak_mb()
            began_s, began_cpu_s = time.monotonic(), time.process_time()
            out = folder / f"out{preview_frames}"
            report = replay(folder / "talk", out, ReplaySettings(inference=inference), runtime)
            wall_s, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
            began_cpu_s = time.process_time()
            score_bag(out, limits_of("timar_head"))
            print(
                f"{name}: {report.engine}, {report.span_s:.0f} s replayed in {cpu_s:.1f} s of one core "
                f"({report.span_s / cpu_s:.1f} x real time; {wall_s:.1f} s by the wall), scored in "
                f"{time.process_time() - began_cpu_s:.1f} s, peak memory +{peak_mb() - before_mb:.0f} MB"
            )


def looped(speaker: str, minutes: float) -> np.ndarray:
    """Return one voice of the shipped conversation, over and over."""
    file = SoundFile(f"{CLIP}_{speaker}.wav")
    samples = file.read(file.samples)
    file.close()
    return np.resize(samples, round(minutes * 60 * 16_000))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
