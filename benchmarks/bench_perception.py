"""Measure face tracking on turned portraits, and live; writes benchmarks/results/perception.md.

python benchmarks/bench_perception.py            # all of it, some minutes; needs make setup-tests
python benchmarks/bench_perception.py --only time
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import harness
import numpy as np
from portrait import portrait  # beside the tests; harness says where
from timar_bag.bag import BagReader
from timar_common.clock import NS_PER_S, SAMPLE_RATE_HZ
from timar_common.motion_file import MotionTrack
from timar_common.user_motion import PARTS
from timar_model.loading import find_model as find_shipped
from timar_perception.config import PerceptionConfig
from timar_perception.face_tracker import FaceTracker
from timar_perception.frame_interpolation import FrameInterpolator
from timar_perception.head_pose import CameraModel, angles_deg
from timar_perception.images import CameraImage
from timar_training.corpora.dyads import Dyad

PORTRAITS = ("astronaut", "admiral")
CAMERA = CameraModel.from_field_of_view(640, 480, 60.0)
RATE_HZ = 30.0
AXES = {"yaw": 1, "pitch": 0, "roll": 2}
LARGEST_DEG = 30.0
SWEEP_S = 4.0
JAWS_RAD = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)


def main() -> int:
    """Measure, keep the figures, and write the page from them."""
    parser = harness.parser_of(__doc__)
    parser.add_argument(
        "--only", choices=("accuracy", "time", "live", "model"), help="one part; the others are kept"
    )
    parser.add_argument(
        "--data", type=Path, default=harness.ROOT / "data" / "synthetic", help="dyads for the model"
    )
    parser.add_argument("--clips", type=int, default=24, help="of the test list (%(default)s)")
    parser.add_argument("--seconds", type=float, default=None, help="of each clip; without it, all")
    arguments = parser.parse_args()
    parts = {"accuracy": measure_accuracy, "time": measure_time, "live": measure_live}
    parts["model"] = lambda: measure_model(arguments.data, arguments.clips, arguments.seconds)
    kept = harness.read_figures(harness.RESULTS / "perception.json")
    for name, measure in parts.items():
        if arguments.only in (None, name):
            kept[name] = {"where": harness.when(), **measure()}
    harness.write_figures(harness.RESULTS / "perception.json", kept)
    harness.write_page(harness.RESULTS / "perception.md", page(kept))
    return 0


def open_tracker(**config: object) -> FaceTracker:
    """Return a tracker as the node has it, without the mask on a face that was just found."""
    return FaceTracker(PerceptionConfig(settle_ms=0, **config))


def angle_at(seconds: float) -> float:
    """Return the swept angle: a sine, once there and back, at most 47 degrees a second [degrees]."""
    return LARGEST_DEG * np.sin(2 * np.pi * seconds / SWEEP_S)


def measure_accuracy() -> dict:
    """Sweep each portrait about each axis in a video of 30 Hz; compare every frame at its own instant."""
    found: dict = {}
    for name in PORTRAITS:
        for axis, column in AXES.items():
            tracker, frames = open_tracker(), FrameInterpolator(110, 300)
            errors, truths = [], []
            for number in range(round(SWEEP_S * RATE_HZ)):
                taken_s = number / RATE_HZ
                neck = np.zeros(3)
                neck[column] = np.radians(angle_at(taken_s))
                image = CameraImage(portrait(name).draw(CAMERA, neck), round(taken_s * NS_PER_S))
                result = tracker.track(image)
                for run in frames.append(taken_s * SAMPLE_RATE_HZ, result.observation):
                    for frame, row in enumerate(run.motion, run.first_frame):
                        seen = dict(zip(AXES, angles_deg(row[PARTS["neck"]]), strict=True))
                        truths.append(angle_at(frame / 25))
                        errors.append(seen[axis] - truths[-1])
            tracker.close()
            gain = np.polyfit(truths, np.array(truths) + errors, 1)[0]
            found[f"{name} {axis}"] = {
                "median_deg": harness.percentiles(np.abs(errors), 50)[0],
                "p95_deg": harness.percentiles(np.abs(errors), 95)[0],
                "gain": float(gain),
            }
        found[f"{name} jaw"] = {"seen_rad": _jaws(name)}
    return found


def _jaws(name: str) -> list[float]:
    tracker = open_tracker()
    seen = []
    for number, jaw_rad in enumerate(JAWS_RAD):
        drawn = portrait(name).draw(CAMERA, jaw_rad=jaw_rad)
        for step in range(12):
            result = tracker.track(CameraImage(drawn, (12 * number + step) * NS_PER_S // 30))
        seen.append(float(result.observation.jaw_rad))
    tracker.close()
    return seen


def measure_time(images: int = 300) -> dict:
    """Track in images with one core for all of this process."""
    drawn = [portrait("astronaut").draw(CAMERA, (0.0, np.radians(angle), 0.0)) for angle in (-6, -2, 2, 6)]
    os.sched_setaffinity(0, {0})
    tracker = open_tracker()
    wall_ms, processor_ms = [], []
    for number in range(images):
        image = CameraImage(drawn[(number // 3) % 4], number * NS_PER_S // 30)
        began_s, worked_s = time.perf_counter(), time.process_time()
        tracker.track(image)
        wall_ms.append(1000 * (time.perf_counter() - began_s))
        processor_ms.append(1000 * (time.process_time() - worked_s))
    tracker.close()
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    return {
        "wall_ms": harness.percentiles(wall_ms[10:], 50, 95),
        "processor_ms": harness.percentiles(processor_ms[10:], 50, 95),
    }


def measure_live(seconds: float = 14.0) -> dict:
    """Run the whole graph on a video of 30 Hz whose images come so much after they were taken [ms]."""
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder, "user.mp4")
        writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"mp4v"), RATE_HZ, (640, 480))
        drawn = [
            portrait("astronaut").draw(CAMERA, (0.0, np.radians(a), 0.0))[:, :, ::-1] for a in (-6, 0, 6)
        ]
        for number in range(round(RATE_HZ * seconds)):
            writer.write(drawn[(number // 5) % 3])
        writer.release()
        return {
            f"{latency_ms} ms, shift {shift}": _run_graph(video, seconds, latency_ms, shift)
            for latency_ms, shift in ((0, 0), (33, 0), (33, 1), (33, 2))
        }


def _run_graph(video: Path, seconds: float, latency_ms: int, shift: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        parameters = Path(folder, "perception.yaml")
        parameters.write_text(
            "/**/perception:\n  ros__parameters:\n"
            f"    camera_latency_ms: {float(latency_ms)}\n    shift_frames: {shift}\n",
            encoding="utf-8",
        )
        bag = Path(folder, "bag")
        command = [sys.executable, "-m", "timar_common.cli", "run", "source:=file", "perception:=true"]
        command += [
            f"user_file:={harness.example_clip(1)}",
            f"agent_file:={harness.example_clip(2)}",
            f"user_video:={video}",
        ]
        command += ["record:=true", f"out:={bag}", f"params:={parameters}"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(["timeout", "-s", "INT", f"{seconds + 8:g}", *command], check=False, **quiet)
        return _read_bag(bag)


def _read_bag(bag: Path) -> dict:
    in_time, frames, health = 0, 0, {}
    with BagReader(bag) as reader:
        for message in reader.messages({"turn_log", "/diagnostics"}):
            if message.topic == "/diagnostics":
                for status in message.message.status:
                    if status.name.endswith("perception") and int(dict_of(status).get("frames_seen", 0)):
                        health = dict_of(status) if not health or in_time < 200 else health
            elif message.message.decision == 0 and 50 <= message.message.first_frame < 250:
                frames += message.message.frames
                in_time += sum(message.message.user_motion_valid)
    return {
        "in_time": in_time / max(1, frames),
        "frames": frames,
        "delay_ms": [float(health.get(f"delay_ms_{key}", "nan")) for key in ("p50", "p95")],
        "track_ms": [float(health.get(f"track_ms_{key}", "nan")) for key in ("p50", "p95")],
    }


def measure_model(data: Path, clips: int, seconds: float | None) -> dict:
    """Score the shipped model by how much of the user's motion it gets, on dyads with a truth."""
    # Only here, for the other parts need no training.
    from timar_training.corpora import dyads
    from timar_training.evaluation.scoring import EvaluationConfig, evaluate
    from timar_training.prediction.predictors import open_predictors

    ((_, predictor),) = open_predictors("calm-head", data, (None,), 1, {}, (None,))
    chosen = dyads.read_split(data, "test")[:clips]
    weights = json.loads((find_shipped("calm-head") / "manifest.json").read_text("utf-8"))["files"]
    length = "whole" if seconds is None else f"{seconds:g} s each"
    config = EvaluationConfig(0, True)
    return {
        "data": f"{data.name} (SYNTHETIC), {len(chosen)} clips of the test list, {length}",
        "weights": weights["model.safetensors"]["sha256"][:12],
        "mean": {
            name: evaluate(predictor, chosen, config, seconds=seconds, disturb=change)["mean"]
            for name, change in USER_MOTION.items()
        },
    }


def late_by(frames: int) -> Callable:
    """Return a change that hides the newest frames of each user block of five; it ends two before a turn."""

    def change(dyad: Dyad) -> Dyad:
        place = (np.arange(dyad.frames) + 2) % 5
        valid = dyad.user_motion.valid & (place < 5 - frames)[:, None]
        return dataclasses.replace(dyad, user_motion=MotionTrack(dyad.user_motion.vector, valid))

    return change


def stamped_later(frames: int) -> Callable:
    """Return a change that stamps every frame as of some frames later."""

    def change(dyad: Dyad) -> Dyad:
        motion = dyad.user_motion
        vector, valid = (np.roll(rows, frames, axis=0) for rows in (motion.vector, motion.valid))
        valid[:frames] = False
        return dataclasses.replace(dyad, user_motion=MotionTrack(vector, valid))

    return change


USER_MOTION: dict[str, Callable] = {
    "seen": lambda dyad: dyad,
    "newest frame of each turn late": late_by(1),
    "newest two late": late_by(2),
    "all, stamped a frame later": stamped_later(1),
    "all, stamped two frames later": stamped_later(2),
    "unseen": lambda dyad: dyad.without_user_motion(),
}


SCORES = {
    "listening_gesture_correlation": "quick neck pitch while listening, correlation with the truth",
    "beat_f1": "nods within 200 ms, F1",
    "mse_pose": "neck, mean squared error [rad²]",
    "energy_pose": "neck, energy score",
    "jaw_voice_correlation": "jaw and own voice, correlation",
}


def dict_of(status: object) -> dict[str, str]:
    """Return a diagnostic status's values by key."""
    return {value.key: value.value for value in status.values}  # type: ignore[attr-defined]


def page(figures: dict) -> list[str]:
    """Return the page's lines; a part that was not measured is left out."""
    lines = ["# Face tracking", "", "Made by `python benchmarks/bench_perception.py`.", ""]
    of = {name: {key: row for key, row in part.items() if key != "where"} for name, part in figures.items()}
    if "accuracy" in figures:
        angles = [(name, row) for name, row in of["accuracy"].items() if "median_deg" in row]
        rows = [
            (name, f"{row['median_deg']:.1f}°", f"{row['p95_deg']:.1f}°", f"{row['gain']:.2f}")
            for name, row in angles
        ]
        titles = ["portrait and axis", "median error (at most 4°, roll 1.5°)", "p95", "gain"]
        jaws = {name: of["accuracy"][f"{name} jaw"]["seen_rad"] for name in PORTRAITS}
        lines += [
            "## Angles",
            "",
            f"{figures['accuracy']['where']}. Portraits on the canonical face, swept ±30° in {SWEEP_S:g} s, "
            "30 images a second; every frame against the truth at its instant, filter delay included.",
            *harness.table(titles, rows),
            *harness.table(
                ["jaw drawn [rad]", *(f"{jaw:g}" for jaw in JAWS_RAD)],
                ([f"{name}, seen", *(f"{jaw:.2f}" for jaw in seen)] for name, seen in jaws.items()),
            ),
        ]
    if "time" in figures:
        wall, processor = of["time"]["wall_ms"], of["time"]["processor_ms"]
        lines += [
            "## Time",
            "",
            f"{figures['time']['where']}. One core for all of the process, 640 x 480, two faces sought, 300 "
            f"images: **{wall[0]:.1f} ms** an image (p95 {wall[1]:.1f}), {processor[0]:.1f} ms of "
            f"processor (p95 {processor[1]:.1f}); at most 20.",
            "",
        ]
    if "live" in figures:
        rows = [
            (
                name,
                "{:.0f} / {:.0f} ms".format(*row["delay_ms"]),
                "{:.0f} / {:.0f} ms".format(*row["track_ms"]),
                f"{100 * row['in_time']:.0f} % of {row['frames']}",
            )
            for name, row in of["live"].items()
        ]
        titles = [
            "camera's latency",
            "taken → topic, p50 / p95",
            "tracking, p50 / p95",
            "in time for their turn",
        ]
        lines += [
            "## Live",
            "",
            f"{figures['live']['where']}. The whole graph, video at 30 Hz; its images come so long after "
            "they were taken, and frames are published as of so many later (`shift_frames`).",
            *harness.table(titles, rows),
        ]
    if "model" in figures:
        part = figures["model"]
        rows = [(name, *(f"{mean[score]:.3g}" for score in SCORES)) for name, mean in part["mean"].items()]
        lines += [
            "## What the model makes of it",
            "",
            f"{part['where']}. `calm-head` ({part['weights']}) on {part['data']}, scored as shown.",
            *harness.table(["the user's motion", *SCORES.values()], rows),
        ]
    return lines


if __name__ == "__main__":
    sys.exit(main())
