"""Comparison of several systems: trained alike, scored alike, with intervals of the difference."""

from __future__ import annotations

import dataclasses
import datetime
import fcntl
import functools
import json
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from timar_common.atomic import write_text
from timar_common.config import Count, CountOrZero, NonNegative, Positive, check
from timar_common.config_file import read_config
from timar_common.suggest import refuse_unknown

from ..corpora.dyads import read_split, with_motion
from ..corpora.splits import data_kind
from ..networks.variants import build_network, equal_size, parameters_of
from ..prediction.predictor import Predictor
from ..prediction.predictors import open_predictors
from ..training.config import TrainConfig
from ..training.log import StepReport
from ..training.run import open_run
from .comparison_report import write_comparison
from .scoring import EvaluationConfig, evaluate

REFERENCE = "timar"
BOOTSTRAP_DRAWS = 1000
DIFFERENCE_METRICS = tuple(
    f"{shown}{metric}_{group}"
    for shown in ("unshifted_", "")
    for metric in ("fid", "mse")
    for group in ("jaw", "pose")
)
DRAWING = ("timar", "timar-full-attention")
"""Architectures that draw motion and do not regress it."""
Log = Callable[[str], None]
SeedScores = dict[tuple[str, str], list[dict[str, Any]]]
"""What each seed's evaluation found, by label and list."""


@dataclasses.dataclass(frozen=True)
class ComparisonConfig:
    """A comparison, written down before it is run (docs/comparison-protocol.md)."""

    data: str
    """Folder of dyads with train, validation and the lists scored."""
    out: str
    """Folder of all runs and of the result."""
    systems: dict[str, dict[str, Any]]
    """By name: fields of TrainConfig that differ from `shared`; one is "timar", whose size all have."""
    shared: dict[str, Any]
    """Fields of TrainConfig of all runs; equal steps, batch, features and data."""
    seeds: tuple[CountOrZero, ...] = (1, 2, 3)
    """Each tuned system is trained once with each."""
    learning_rates: tuple[Positive, ...] = (7e-4, 1.5e-3)
    """Tuning trials, equally many for each tuned system: tried with the first seed, chosen by validation
    loss."""
    ablation_seeds: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    """Systems that are not tuned but take the learning rate of "timar", and the seeds of each."""
    baselines: tuple[str, ...] = ("mean-pose", "nearest-clip", "energy-rule")
    """Systems that are fitted and not trained."""
    temperatures: tuple[NonNegative, ...] = (0.0, 0.2)
    """At which the systems that draw are scored, each a row of its own."""
    splits: tuple[str, ...] = ("test", "ood")
    """File lists scored."""
    clips: Count = 8
    """Of each list."""
    seconds: Positive = 30.0
    """Of each clip [s]."""
    samples: Count = 4
    """Motions drawn per clip for the energy score, where a system draws."""

    def __post_init__(self) -> None:
        check(self)
        if REFERENCE not in self.systems:
            raise ValueError(f"the systems are {sorted(self.systems)}, expected one to be {REFERENCE!r}")
        if unknown := sorted(set(self.ablation_seeds) - (set(self.systems) - {REFERENCE})):
            raise ValueError(
                f"ablation_seeds names {unknown[0]!r}, expected a system other than {REFERENCE!r}"
            )
        if not self.seeds or not self.learning_rates or not self.temperatures or not self.splits:
            raise ValueError("a comparison needs a seed, a learning rate, a temperature and a list")

    @classmethod
    def from_yaml(cls, path: Path, **changes: Any) -> ComparisonConfig:
        """Read a comparison's file.

        Raises:
            ValueError: It is no mapping, lacks a key or has an unknown one.
            OSError: It cannot be read.
        """
        return read_config(cls, path, **changes)

    def smoke(self) -> ComparisonConfig:
        """Return a comparison that only shows that everything runs; its numbers mean nothing."""
        shared = {**self.shared, "steps": 4, "warmup_steps": 1, "batch": 4, "validation_batches": 1}
        shared |= {"validate_every": 4, "checkpoint_every": 4}
        few: dict[str, Any] = {"seeds": self.seeds[:1], "learning_rates": self.learning_rates[:1], "clips": 2}
        return dataclasses.replace(self, out=str(Path(self.out) / "smoke"), shared=shared, seconds=6.0, **few)


def compare_models(config: ComparisonConfig, log: Log = lambda line: None) -> dict[str, Any]:
    """Train and score one system after the other; a second call goes on where one stopped.

    After each system OUT/results.json, OUT/table.md and OUT/comparison.png are written with what is there.

    Raises:
        ValueError: A system's configuration is inconsistent, or its size cannot be matched.
    """
    trials = plan(config)
    log = _with_time_of_day(log)
    result: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "data_kind": data_kind(Path(config.data)),
        "protocol": dataclasses.asdict(config),
        "systems": {},
        "not_run": [],
    }
    scores: SeedScores = {}
    # What the question is about first, what is only trained once last.
    order = [name for name in trials if name not in config.ablation_seeds]
    order += [*config.baselines, *config.ablation_seeds]
    for number, name in enumerate(order):
        if name in trials:
            rate = result["systems"].get(REFERENCE, {}).get("learning_rate", 0.0)
            result["systems"][name] = _train_system(name, trials[name], rate, config, log)
        scores |= _score_system(name, result["systems"].get(name), config, log)
        result["not_run"] = order[number + 1 :]
        result["rows"] = [_row(*key, seeds) for key, seeds in scores.items()]
        result["differences"] = _differences(scores)
        write_comparison(Path(config.out), result)
    return result


def train_alone(config: ComparisonConfig, names: Sequence[str], log: Log = lambda line: None) -> None:
    """Train some of the tuned systems and score nothing: for a second process beside `compare_models`.

    Raises:
        ValueError: There is no such system, or it takes another one's learning rate.
    """
    trials = plan(config)
    refuse_unknown("tuned system", names, [name for name in trials if name not in config.ablation_seeds])
    for name in names:
        _train_system(name, trials[name], 0.0, config, _with_time_of_day(log))


def plan(config: ComparisonConfig) -> dict[str, list[TrainConfig]]:
    """Return the tuning trials of each system (its first seed), all checked before anything is trained."""
    trials: dict[str, list[TrainConfig]] = {}
    size = 0
    ordered = sorted(config.systems, key=lambda name: (name != REFERENCE, name in config.ablation_seeds))
    for name in ordered:
        seed = config.ablation_seeds.get(name, config.seeds)[0]
        values = {**config.shared, **config.systems[name], "data": config.data, "seed": seed}
        values["model"] = {**config.shared.get("model", {}), **config.systems[name].get("model", {})}
        first = TrainConfig(**{**values, "out": "plan"})
        if name == REFERENCE:
            size = parameters_of(build_network(first.architecture, first.model_config()))
        else:
            values["model"] |= equal_size(first.architecture, first.model_config(), size)
        trials[name] = [
            TrainConfig(**{**values, "learning_rate": rate, "out": _folder(config, name, rate, seed)})
            for rate in config.learning_rates
        ]
    return trials


def _folder(config: ComparisonConfig, name: str, rate: float, seed: int) -> str:
    return str(Path(config.out) / "runs" / f"{name}-rate{rate:g}-seed{seed}")


def _train_system(
    name: str, trials: list[TrainConfig], reference_rate: float, config: ComparisonConfig, log: Log
) -> dict[str, Any]:
    """Tune and train a system; an ablation takes the learning rate of the system it is an ablation of."""
    seeds = config.ablation_seeds.get(name, config.seeds)
    if name in config.ablation_seeds:
        losses: list[float] = []
        best = next(trial for trial in trials if trial.learning_rate == reference_rate)
    else:
        losses = [_train(trial, log) for trial in trials]
        best = trials[int(np.argmin(losses))]
    outs = [_folder(config, name, best.learning_rate, seed) for seed in seeds]
    runs = [dataclasses.replace(best, seed=seed, out=out) for seed, out in zip(seeds, outs, strict=True)]
    return {
        "architecture": best.architecture,
        "parameters": parameters_of(build_network(best.architecture, best.model_config())),
        "learning_rate": best.learning_rate,
        "trial_losses": losses,
        "seeds": list(seeds),
        "validation_losses": [_train(run, log) for run in runs],
        "folders": [str(Path(out) / "model") for out in outs],
    }


def _train(run: TrainConfig, log: Log) -> float:
    name = Path(run.out).name

    def report(step: StepReport) -> None:
        if step.validation_loss is not None:
            log(
                f"{name}: step {step.step}, loss {step.loss:.3f}, validation {step.validation_loss:.3f}, "
                f"{step.took_s:.2f} s a step"
            )

    # Another process may be at this run; it is waited for, and its result is used.
    Path(run.out).mkdir(parents=True, exist_ok=True)
    with (Path(run.out) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        trainer = open_run(run, command="timar compare-models")
        trainer.resume()
        log(f"{name}: from step {trainer.step} to {run.last_step}")
        return trainer.run(report)


def _score_system(name: str, facts: dict[str, Any] | None, config: ComparisonConfig, log: Log) -> SeedScores:
    """Return what each seed's evaluation found; found ones are kept in OUT/scores."""
    data = Path(config.data)
    draws = facts is not None and facts["architecture"] in DRAWING
    sources = [name] if facts is None else facts["folders"]
    found: SeedScores = {}

    @functools.cache
    def opened(source: str, temperature: float | None) -> Predictor:
        sampling = {} if temperature is None else {"temperature": temperature}
        ((_, predictor),) = open_predictors(source, data, sampling=sampling)
        return predictor

    for split in config.splits:
        clips = with_motion(read_split(data, split))[: config.clips]
        for temperature in config.temperatures if draws else (None,):
            label = name if temperature is None else f"{name}, temperature {temperature:g}"
            # A single draw has no spread to be scored, and a rule draws the same whatever the seed.
            setting = EvaluationConfig(samples=config.samples if temperature else 1)
            for source in sources:
                run = name if facts is None else Path(source).parent.name
                kept = Path(config.out) / "scores" / f"{run}-{split}-{temperature}.json"
                if not kept.is_file():
                    log(f"scoring {label} ({run}) on {split}")
                    scored = evaluate(opened(source, temperature), clips, setting, seconds=config.seconds)
                    write_text(kept, json.dumps(scored))
                found.setdefault((label, split), []).append(json.loads(kept.read_text(encoding="utf-8")))
    return found


def _row(label: str, split: str, seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a row: every score's mean, each seed's mean, and an interval over seeds and clips."""
    by_seed = {name: [seed["mean"][name] for seed in seeds] for name in seeds[0]["mean"]}
    return {
        "system": label.split(",")[0],
        "label": label,
        "split": split,
        "clips": len(seeds[0]["clips"]),
        "mean": {name: float(np.mean(values)) for name, values in by_seed.items()},
        "by_seed": by_seed,
        "interval": {name: interval(drawn_means(_by_seed_and_clip(seeds, name))) for name in by_seed},
    }


def _by_seed_and_clip(seeds: list[dict[str, Any]], metric: str) -> npt.NDArray[np.float64]:
    """Return (seeds, clips) of a score, of the clips that have it."""
    clips = [clip for clip, scores in seeds[0]["clips"].items() if metric in scores]
    return np.array([[seed["clips"][clip].get(metric, np.nan) for clip in clips] for seed in seeds])


def drawn_means(values: npt.NDArray[np.float64], side: int = 0) -> npt.NDArray[np.float64]:
    """Return (draws,) means as they might have been with other seeds and other clips.

    Both are drawn again, independently of each other: the same clips for both sides of a comparison, seeds
    for each side its own.

    Args:
        values: (seeds, clips).
        side: 0 or 1.
    """
    seeds, clips = values.shape
    of_clips = np.random.default_rng(0).integers(clips, size=(BOOTSTRAP_DRAWS, 1, clips))
    of_seeds = np.random.default_rng([1, side]).integers(seeds, size=(BOOTSTRAP_DRAWS, seeds, 1))
    return np.asarray(np.nanmean(values[of_seeds, of_clips], axis=(1, 2)))


def interval(draws: npt.NDArray[np.float64]) -> list[float]:
    """Return the middle 95 % of draws."""
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return [float(low), float(high)]


def gain(ours: Any, theirs: Any) -> Any:
    """Return by which share of theirs ours is smaller, of means or of draws of them."""
    return 1.0 - ours / np.maximum(theirs, 1e-12)


def _differences(scores: SeedScores) -> list[dict[str, Any]]:
    """Return TIMAR against each other row: relative gain in FD and MSE, with interval and by seed."""
    found = []
    for (label, split), seeds in scores.items():
        rivals = [(other, theirs) for (other, of), theirs in scores.items() if of == split]
        for other, theirs in rivals if label.split(",")[0] == REFERENCE else ():
            for metric in DIFFERENCE_METRICS if other.split(",")[0] != REFERENCE else ():
                ours, base = _by_seed_and_clip(seeds, metric), _by_seed_and_clip(theirs, metric)
                each = [gain(ours[row].mean(), base[row % len(base)].mean()) for row in range(len(ours))]
                found.append(
                    {
                        "ours": label,
                        "other": other,
                        "split": split,
                        "metric": metric,
                        "gain": float(gain(ours.mean(), base.mean())),
                        "interval": interval(gain(drawn_means(ours), drawn_means(base, side=1))),
                        "by_seed": [float(value) for value in each],
                    }
                )
    return found


def _with_time_of_day(log: Log) -> Log:
    return lambda line: log(f"{datetime.datetime.now():%H:%M:%S} {line}")
