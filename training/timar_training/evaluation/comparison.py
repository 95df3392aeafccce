"""Train several systems alike, score them alike, and say how sure the difference is."""

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
import yaml

from ..corpora import dyads
from ..corpora.index import write_whole
from ..evaluate_command import data_kind
from ..networks.variants import build_network, equal_size, parameters_of
from ..prediction.predictor import Predictor
from ..prediction.predictors import open_predictors
from ..training.config import TrainConfig
from ..training.trainer import Progress, open_run
from .comparison_report import write_comparison
from .scoring import EvaluationConfig, evaluate, with_motion

REFERENCE = "timar"
BOOTSTRAP_DRAWS = 1000
DIFFERENCE_METRICS = tuple(
    f"{shown}{metric}_{group}"
    for shown in ("unshifted_", "")
    for metric in ("fid", "mse")
    for group in ("jaw", "pose")
)
Say = Callable[[str], None]


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
    seeds: tuple[int, ...] = (1, 2, 3)
    """Each tuned system is trained once with each."""
    learning_rates: tuple[float, ...] = (7e-4, 1.5e-3)
    """Tuning trials, equally many for each tuned system: tried with the first seed, chosen by validation
    loss."""
    ablation_seeds: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    """Systems that are not tuned but take the learning rate of "timar", and the seeds of each."""
    baselines: tuple[str, ...] = ("mean-pose", "nearest-clip", "energy-rule")
    """Systems that are fitted and not trained."""
    temperatures: tuple[float, ...] = (0.0, 0.2)
    """At which the systems that draw are scored, each a row of its own."""
    splits: tuple[str, ...] = ("test", "ood")
    """File lists scored."""
    clips: int = 8
    """Of each list."""
    seconds: float = 30.0
    """Of each clip [s]."""
    samples: int = 4
    """Motions drawn per clip for the energy score, where a system draws."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if isinstance(getattr(self, field.name), list):
                object.__setattr__(self, field.name, tuple(getattr(self, field.name)))
        if REFERENCE not in self.systems:
            raise ValueError(f"the systems are {sorted(self.systems)}, expected one to be {REFERENCE!r}")
        if unknown := sorted(set(self.ablation_seeds) - (set(self.systems) - {REFERENCE})):
            raise ValueError(
                f"ablation_seeds names {unknown[0]!r}, expected a system other than {REFERENCE!r}"
            )
        if not self.seeds or not self.learning_rates or not self.temperatures or self.clips < 1:
            raise ValueError("a comparison needs a seed, a learning rate, a temperature and a clip")

    @classmethod
    def from_yaml(cls, path: Path, **changes: Any) -> ComparisonConfig:
        """Read a comparison's file.

        Raises:
            ValueError: It is no mapping, lacks a key or has an unknown one.
            OSError: It cannot be read.
        """
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is not YAML ({error})") from error
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, dict) or (unknown := sorted(set(values) - known)):
            found = "no mapping" if not isinstance(values, dict) else f"the unknown key {unknown[0]!r}"
            raise ValueError(f"{path} has {found}; known keys are {', '.join(sorted(known))}")
        if missing := sorted({"data", "out", "systems", "shared"} - set(values)):
            raise ValueError(f"{path} lacks {missing[0]!r}")
        return cls(**{**values, **changes})


def compare_models(config: ComparisonConfig, say: Say = lambda line: None) -> dict[str, Any]:
    """Train and score one system after the other; a second call goes on where one stopped.

    After each system OUT/results.json, OUT/table.md and OUT/comparison.png are written with what is there.

    Raises:
        ValueError: A system's configuration is inconsistent, or its size cannot be matched.
    """
    trials = plan(config)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    say = _with_time_of_day(say)
    result: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "data_kind": data_kind(Path(config.data)),
        "protocol": dataclasses.asdict(config),
        "systems": {},
        "not_run": [],
    }
    scores: dict[tuple[str, str], list[dict[str, Any]]] = {}
    # What the question is about first, what is only trained once last.
    order = [name for name in trials if name not in config.ablation_seeds]
    order += [*config.baselines, *config.ablation_seeds]
    for number, name in enumerate(order):
        if name in trials:
            rate = result["systems"].get(REFERENCE, {}).get("learning_rate", 0.0)
            result["systems"][name] = _train_system(name, trials[name], rate, config, say)
        scores |= _score(name, result["systems"].get(name), config, say)
        result["not_run"] = order[number + 1 :]
        result["rows"] = [_row(*key, seeds) for key, seeds in scores.items()]
        result["differences"] = _differences(scores)
        write_comparison(out, result)
    return result


def train_alone(config: ComparisonConfig, names: Sequence[str], say: Say = lambda line: None) -> None:
    """Train some of the tuned systems and score nothing: for a second process beside `compare_models`.

    Raises:
        ValueError: There is no such system, or it takes another one's learning rate.
    """
    trials = plan(config)
    if unknown := sorted(set(names) - (set(trials) - set(config.ablation_seeds))):
        raise ValueError(f"there is no tuned system {unknown[0]!r} to train alone")
    for name in names:
        _train_system(name, trials[name], 0.0, config, _with_time_of_day(say))


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
    name: str, trials: list[TrainConfig], reference_rate: float, config: ComparisonConfig, say: Say
) -> dict[str, Any]:
    """Tune and train a system; an ablation takes the learning rate of the system it is an ablation of."""
    seeds = config.ablation_seeds.get(name, config.seeds)
    if name in config.ablation_seeds:
        losses: list[float] = []
        best = next(trial for trial in trials if trial.learning_rate == reference_rate)
    else:
        losses = [_train(trial, say) for trial in trials]
        best = trials[int(np.argmin(losses))]
    folders, final = [], []
    for seed in seeds:
        run = dataclasses.replace(best, seed=seed, out=_folder(config, name, best.learning_rate, seed))
        final.append(_train(run, say))
        folders.append(str(Path(run.out) / "model"))
    network = build_network(best.architecture, best.model_config())
    return {
        "architecture": best.architecture,
        "parameters": parameters_of(network),
        "learning_rate": best.learning_rate,
        "trial_losses": losses,
        "seeds": list(seeds),
        "validation_losses": final,
        "folders": folders,
    }


def _train(run: TrainConfig, say: Say) -> float:
    name = Path(run.out).name

    def report(progress: Progress) -> None:
        if progress.validation_loss is not None:
            say(
                f"{name}: step {progress.step}, loss {progress.loss:.3f}, validation "
                f"{progress.validation_loss:.3f}, {progress.took_s:.2f} s a step"
            )

    # Another process may be at this run; it is waited for, and its result taken over.
    Path(run.out).mkdir(parents=True, exist_ok=True)
    with (Path(run.out) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        trainer = open_run(run, command="timar compare-models")
        trainer.resume()
        say(f"{name}: from step {trainer.step} to {run.last_step}")
        return trainer.run(report)


def _score(
    name: str, facts: dict[str, Any] | None, config: ComparisonConfig, say: Say
) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return by label and list what each seed's evaluation found; found ones are kept in OUT/scores."""
    data = Path(config.data)
    draws = facts is not None and facts["architecture"] in ("timar", "timar-full-attention")
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}

    @functools.cache
    def opened(place: str, temperature: float | None) -> Predictor:
        sampling = {} if temperature is None else {"temperature": temperature}
        ((_, predictor),) = open_predictors(place, data, sampling=sampling)
        return predictor

    for split in config.splits:
        clips = with_motion(dyads.read_split(data, split))[: config.clips]
        for temperature in config.temperatures if draws else (None,):
            label = name if temperature is None else f"{name}, temperature {temperature:g}"
            # A single draw has no spread to be scored, and a rule draws the same whatever the seed.
            samples = config.samples if temperature else 1
            for place in [name] if facts is None else facts["folders"]:
                run = name if facts is None else Path(place).parent.name
                kept = Path(config.out) / "scores" / f"{run}-{split}-{temperature}.json"
                if not kept.is_file():
                    say(f"scoring {label} ({run}) on {split}")
                    setting = EvaluationConfig(samples=samples)
                    scored = evaluate(opened(place, temperature), clips, setting, seconds=config.seconds)
                    write_whole(kept, json.dumps(scored))
                found.setdefault((label, split), []).append(json.loads(kept.read_text(encoding="utf-8")))
    return found


def _row(label: str, split: str, seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a row: every score's mean, each seed's mean, and an interval over seeds and clips."""
    names = seeds[0]["mean"]
    return {
        "system": label.split(",")[0],
        "label": label,
        "split": split,
        "clips": len(seeds[0]["clips"]),
        "mean": {name: float(np.mean([seed["mean"][name] for seed in seeds])) for name in names},
        "by_seed": {name: [seed["mean"][name] for seed in seeds] for name in names},
        "interval": {name: interval(drawn_means(_by_seed_and_clip(seeds, name))) for name in names},
    }


def _by_seed_and_clip(seeds: list[dict[str, Any]], metric: str) -> npt.NDArray[np.float64]:
    """Return (seeds, clips) of a score, of the clips that have it."""
    clips = [clip for clip, scores in seeds[0]["clips"].items() if metric in scores]
    return np.array([[seed["clips"][clip].get(metric, np.nan) for clip in clips] for seed in seeds])


def drawn_means(values: npt.NDArray[np.float64], side: int = 0) -> npt.NDArray[np.float64]:
    """Return (draws,) means as they might have been with other seeds and other clips.

    Both are drawn anew, independently of each other: the same clips for both sides of a comparison, seeds for
    each side its own.

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


def _differences(scores: dict[tuple[str, str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return TIMAR against each other row: relative gain in FD and MSE, with interval and by seed."""
    found = []
    for (label, split), seeds in scores.items():
        if label.split(",")[0] != REFERENCE:
            continue
        for (other, other_split), theirs in scores.items():
            if other_split != split or other.split(",")[0] == REFERENCE:
                continue
            for metric in DIFFERENCE_METRICS:
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


def _with_time_of_day(say: Say) -> Say:
    return lambda line: say(f"{datetime.datetime.now():%H:%M:%S} {line}")
