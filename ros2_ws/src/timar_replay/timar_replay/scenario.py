"""Scenario files: a conversation to replay and the thresholds it has to keep, as YAML."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from timar_bag.damage import DAMAGES, damage_bag
from timar_bag.make_bag import WholeSound, write_bag
from timar_common.clock import FRAMES_PER_SECOND, SAMPLE_RATE_HZ
from timar_common.motion_file import MotionTrack, read_motion
from timar_common.pcm import float_to_int16, int16_to_float
from timar_common.suggest import refuse_unknown
from timar_common.wav import SoundFile
from timar_common.yaml_map import read_yaml_map
from timar_report.conditions import Condition, judge
from timar_report.score_files import read_score

from timar_replay.batch import run_batch
from timar_replay.replay_settings import ReplaySettings
from timar_replay.runs import ReplayJob
from timar_replay.virtual_worker import ComputeTimePolicy

KEYS = {
    "it": (
        "description", "bag", "make", "damage", "model", "engine", "robot", "seed", "policy", "set",
        "fail_if",
    ),
    "make": ("seconds", "user", "agent", "user_motion", "noise_dbfs"),
    "user": ("file", "begin_s", "gain_db"),
    "agent": ("file", "begin_s", "gain_db"),
}  # fmt: skip
"""What each mapping of a scenario may hold; see docs/replay.md."""


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One scenario file, read and checked."""

    path: Path
    bag: Path | None
    """A recorded bag; None when it is made."""
    make: Mapping[str, Any]
    """How to make the bag from sound files; see docs/replay.md."""
    damage: tuple[str, ...]
    """What is done to the bag, in order; names of `damage.DAMAGES`."""
    settings: ReplaySettings
    fail_if: tuple[Condition, ...]

    @property
    def name(self) -> str:
        """Name of the file without its ending."""
        return self.path.stem


@dataclasses.dataclass(frozen=True)
class ScenarioOutcome:
    """How a scenario went."""

    name: str
    failures: list[str]

    @property
    def is_passed(self) -> bool:
        """Whether it keeps all its thresholds."""
        return not self.failures


def read_scenario(path: Path, model: str | None = None, engine: str | None = None) -> Scenario:
    """Read a scenario file; paths in it are relative to it.

    Args:
        path: The file.
        model: In place of the scenario's own.
        engine: Likewise.

    Raises:
        ValueError: A key is unknown or a value does not fit; the message names file and key.
        OSError: It cannot be read.
    """
    content = read_yaml_map(path).values()
    try:
        return _scenario(path, content, {"model": model, "engine": engine})
    except (ValueError, TypeError) as error:
        raise ValueError(f"the scenario {path}: {error}") from error


def run_scenarios(
    paths: Sequence[Path], out: Path, workers: int, model: str | None = None, engine: str | None = None
) -> list[ScenarioOutcome]:
    """Run scenario files in parallel and return how each went, in order of their names.

    Args:
        paths: Files, or folders of ``*.yaml``.
        out: Results; made if need be, one folder per scenario.
        workers: Processes.
        model: In place of the scenarios' own.
        engine: Likewise.

    Raises:
        ValueError: A file is no scenario, or there is none.
    """
    files = [file for path in paths for file in (sorted(path.glob("*.yaml")) if path.is_dir() else [path])]
    scenarios = [read_scenario(file, model, engine) for file in files]
    if not scenarios:
        raise ValueError(f"there is no scenario in {', '.join(map(str, paths))}; expected .yaml files")
    jobs = [
        ReplayJob(prepare_bag(scenario, out / "bags"), out / scenario.name, scenario.settings)
        for scenario in scenarios
    ]
    outcomes = []
    for scenario, item in zip(scenarios, run_batch(jobs, workers), strict=True):
        held, unknown = ([], []) if item.error else judge(scenario.fail_if, read_score(item.out)["numbers"])
        failures = [item.error] if item.error else held + unknown
        outcomes.append(ScenarioOutcome(scenario.name, failures))
    return outcomes


def prepare_bag(scenario: Scenario, folder: Path) -> Path:
    """Return the bag of a scenario, made and damaged as it says."""
    if scenario.bag is not None and not scenario.damage:
        return scenario.bag
    target = folder / scenario.name
    shutil.rmtree(target, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    if scenario.bag is not None:
        shutil.copytree(scenario.bag, target)
    else:
        _make(scenario, target)
    for name in scenario.damage:
        damage_bag(target, name)
    return target


def _scenario(path: Path, content: Mapping[str, Any], changes: Mapping[str, str | None]) -> Scenario:
    if ("bag" in content) == ("make" in content):
        raise ValueError("expected either bag or make, to say what is replayed")
    make = content.get("make", {})
    for what, mapping in (("it", content), ("make", make)):
        _require_keys(what, mapping)
    for voice in ("user", "agent"):
        _require_keys(voice, make.get(voice) or {})
    refuse_unknown("damage", content.get("damage", ()), DAMAGES)
    inference = {name: content[name] for name in ("model", "engine", "seed") if name in content}
    parameters = {f"inference.{name}": value for name, value in inference.items()}
    parameters |= {"retargeting.robot": content["robot"]} if "robot" in content else {}
    parameters |= content.get("set") or {}
    parameters |= {f"inference.{name}": value for name, value in changes.items() if value}
    policy = ComputeTimePolicy.read(str(content.get("policy", "ideal")))
    return Scenario(
        path=path,
        bag=path.parent / content["bag"] if "bag" in content else None,
        make=make,
        damage=tuple(content.get("damage", ())),
        settings=ReplaySettings(policy=policy).changed(
            f"{name}={value}" for name, value in parameters.items()
        ),
        fail_if=tuple(Condition(text) for text in content.get("fail_if", ())),
    )


def _require_keys(what: str, mapping: Any) -> None:
    if not isinstance(mapping, Mapping):
        raise ValueError(f"{what} is {mapping!r}, expected a mapping of {', '.join(sorted(KEYS[what]))}")
    refuse_unknown("key", mapping, sorted(KEYS[what]), owner=what)


def _make(scenario: Scenario, target: Path) -> None:
    make, folder = scenario.make, scenario.path.parent
    count = round(float(make.get("seconds", 20.0)) * SAMPLE_RATE_HZ)
    user, agent = (_voice(make.get(who) or {}, folder, count) for who in ("user", "agent"))
    if "noise_dbfs" in make:
        user = _noisy(user, float(make["noise_dbfs"]))
    motion = None
    if "user_motion" in make:
        track = read_motion(folder / make["user_motion"])
        begin = round(float((make.get("user") or {}).get("begin_s", 0.0)) * FRAMES_PER_SECOND)
        motion = MotionTrack(track.vector[begin:], track.valid[begin:])
    write_bag(target, WholeSound(user), WholeSound(agent), user_motion=motion)


def _voice(recipe: Mapping[str, Any], folder: Path, count: int) -> npt.NDArray[np.int16]:
    """Return so many samples of a voice; silence where it is not given or over."""
    samples = np.zeros(count, np.int16)
    if "file" in recipe:
        with SoundFile(folder / recipe["file"]) as file:
            file.skip(round(float(recipe.get("begin_s", 0.0)) * SAMPLE_RATE_HZ))
            heard = file.read(count)
        gain = 10 ** (float(recipe.get("gain_db", 0.0)) / 20)
        samples[: heard.size] = float_to_int16(int16_to_float(heard) * gain)
    return samples


def _noisy(samples: npt.NDArray[np.int16], level_dbfs: float) -> npt.NDArray[np.int16]:
    """Add noise whose power falls with frequency, as that of a room does."""
    random = np.random.default_rng(0)
    spectrum = np.fft.rfft(random.standard_normal(samples.size))
    spectrum /= np.sqrt(np.maximum(np.arange(spectrum.size), 20.0))
    noise = np.fft.irfft(spectrum, samples.size)
    noise *= 10 ** (level_dbfs / 20) / np.sqrt(np.mean(np.square(noise)))
    return float_to_int16(int16_to_float(samples) + noise)
