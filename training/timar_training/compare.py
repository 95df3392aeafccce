"""Train several systems alike, score them alike, and say how sure the difference is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from . import dyads
from .dualtalk import equal_size
from .evaluate_command import data_kind
from .evaluation import EvaluationConfig, bootstrap_interval, evaluate, with_motion
from .networks import build_network, parameters_of
from .predictors import open_predictors
from .report import head_table, paper_table
from .train_config import TrainConfig
from .trainer import open_run

REFERENCE = "timar"
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
    """Each system is trained once with each."""
    learning_rates: tuple[float, ...] = (7e-4, 1.5e-3)
    """Tuning trials, equally many for each system: tried with the first seed, chosen by validation loss."""
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

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if isinstance(getattr(self, field.name), list):
                object.__setattr__(self, field.name, tuple(getattr(self, field.name)))
        if REFERENCE not in self.systems:
            raise ValueError(f"the systems are {sorted(self.systems)}, expected one to be {REFERENCE!r}")
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
    """Train, score and write OUT/results.json and OUT/table.md; a second call goes on where one stopped.

    Raises:
        ValueError: A system's configuration is inconsistent, or its size cannot be matched.
    """
    runs = plan(config)
    result: dict[str, Any] = {
        "data_kind": data_kind(Path(config.data)),
        "protocol": dataclasses.asdict(config),
        "systems": {},
    }
    for name, trials in runs.items():
        result["systems"][name] = _train_system(name, trials, config, say)
    result["rows"] = _score_all(config, result["systems"], say)
    result["differences"] = _differences(result["rows"])
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (out / "table.md").write_text(table(result), encoding="utf-8")
    return result


def plan(config: ComparisonConfig) -> dict[str, list[TrainConfig]]:
    """Return the tuning trials of each system (its first seed), all checked before anything is trained."""
    trials: dict[str, list[TrainConfig]] = {}
    size = 0
    ordered = sorted(config.systems, key=lambda name: name != REFERENCE)
    for name in ordered:
        values = {**config.shared, **config.systems[name], "data": config.data, "seed": config.seeds[0]}
        model = {**config.shared.get("model", {}), **config.systems[name].get("model", {})}
        values["model"] = model
        first = TrainConfig(**{**values, "out": "plan"})
        if name == REFERENCE:
            size = parameters_of(build_network(first.architecture, first.model_config()))
        elif first.architecture == "dualtalk":
            matched = equal_size(first.model_config(), size)
            values["model"] = {**model, "width": matched.width, "head_width": matched.head_width}
        trials[name] = [
            TrainConfig(
                **{**values, "learning_rate": rate, "out": _folder(config, name, rate, config.seeds[0])}
            )
            for rate in config.learning_rates
        ]
    return trials


def _folder(config: ComparisonConfig, name: str, rate: float, seed: int) -> str:
    return str(Path(config.out) / "runs" / f"{name}-rate{rate:g}-seed{seed}")


def _train_system(name: str, trials: list[TrainConfig], config: ComparisonConfig, say: Say) -> dict[str, Any]:
    losses = [_train(trial, say) for trial in trials]
    best = trials[int(np.argmin(losses))]
    folders = []
    for seed in config.seeds:
        run = dataclasses.replace(best, seed=seed, out=_folder(config, name, best.learning_rate, seed))
        _train(run, say)
        folders.append(str(Path(run.out) / "model"))
    network = build_network(best.architecture, best.model_config())
    return {
        "architecture": best.architecture,
        "parameters": parameters_of(network),
        "learning_rate": best.learning_rate,
        "trial_losses": losses,
        "folders": folders,
    }


def _train(run: TrainConfig, say: Say) -> float:
    trainer = open_run(run, command="timar compare-models")
    trainer.resume()
    say(f"{Path(run.out).name}: from step {trainer.step} to {run.last_step}")
    return trainer.run()


def _score_all(config: ComparisonConfig, systems: dict[str, Any], say: Say) -> list[dict[str, Any]]:
    """Return a row for each system, temperature and list, with every seed's mean and every clip's scores."""
    data = Path(config.data)
    rows = []
    for split in config.splits:
        clips = with_motion(dyads.read_split(data, split))[: config.clips]
        for name in [*config.baselines, *systems]:
            facts = systems.get(name)
            draws = facts is not None and facts["architecture"] in ("timar", "timar-full-attention")
            for temperature in config.temperatures if draws else (None,):
                label = name if temperature is None else f"{name}, temperature {temperature:g}"
                say(f"scoring {label} on {split}")
                sampling = {} if temperature is None else {"temperature": temperature}
                seeds = []
                for place in [name] if facts is None else facts["folders"]:
                    ((_, predictor),) = open_predictors(place, data, sampling=sampling)
                    seeds.append(evaluate(predictor, clips, EvaluationConfig(), seconds=config.seconds))
                rows.append({"system": name, "label": label, "split": split, **_over_seeds(seeds)})
    return rows


def _over_seeds(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    names = seeds[0]["mean"]
    means = {name: [seed["mean"][name] for seed in seeds if name in seed["mean"]] for name in names}
    clips = {
        clip: {
            name: float(np.mean([seed["clips"][clip][name] for seed in seeds if name in seed["clips"][clip]]))
            for name in seeds[0]["clips"][clip]
        }
        for clip in seeds[0]["clips"]
    }
    return {
        "mean": {name: float(np.mean(values)) for name, values in means.items()},
        "seed_range": {name: [min(values), max(values)] for name, values in means.items()},
        "clips": clips,
    }


def _differences(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return TIMAR against each other row: relative gain in FD and MSE, paired by clip, with intervals."""
    found = []
    for ours in (row for row in rows if row["system"] == REFERENCE):
        for other in (row for row in rows if row["split"] == ours["split"] and row["system"] != REFERENCE):
            for metric in (
                "unshifted_fid_jaw",
                "unshifted_fid_pose",
                "unshifted_mse_jaw",
                "unshifted_mse_pose",
            ):
                pairs = [
                    (ours["clips"][clip][metric], scores[metric])
                    for clip, scores in other["clips"].items()
                    if metric in scores and metric in ours["clips"][clip]
                ]
                if not pairs:
                    continue
                base = float(np.mean([theirs for _, theirs in pairs]))
                gains = [(theirs - own) / max(base, 1e-12) for own, theirs in pairs]
                found.append(
                    {
                        "ours": ours["label"],
                        "other": other["label"],
                        "split": ours["split"],
                        "metric": metric,
                        "gain": float(np.mean(gains)),
                        "interval": bootstrap_interval(gains),
                    }
                )
    return found


def table(result: dict[str, Any]) -> str:
    """Return the result as Markdown: the paper's table, the head's, and the differences."""
    protocol = result["protocol"]
    lines = [
        f"# Comparison on {result['data_kind']} data\n",
        f"{len(protocol['seeds'])} seeds, {len(protocol['learning_rates'])} tuning trials each, "
        f"{protocol['shared'].get('steps')} steps. Factors: MSE exp ×10, jaw ×10³, pose ×10²; "
        "rPCC ×10², ×10, ×10.\n",
        "| system | parameters | learning rate |\n|---|---|---|",
    ]
    for name, facts in result["systems"].items():
        lines.append(f"| {name} | {facts['parameters']} | {facts['learning_rate']:g} |")
    for split in protocol["splits"]:
        rows = [(row["label"], row["mean"]) for row in result["rows"] if row["split"] == split]
        lines.append(f"\n## {split}, unshifted, as the paper scores\n\n{paper_table(rows, 'unshifted_')}")
        lines.append(f"## {split}, as shown\n\n{paper_table(rows)}\n{head_table(rows)}")
        lines.append(f"## {split}, least and largest mean over seeds\n")
        lines.append("| | FD jaw ×10³ | FD pose ×10² | MSE jaw ×10³ | MSE pose ×10² |")
        lines.append("|---|---|---|---|---|")
        for row in (row for row in result["rows"] if row["split"] == split):
            cells = []
            for metric, factor in (("fid_jaw", 1e3), ("fid_pose", 1e2), ("mse_jaw", 1e3), ("mse_pose", 1e2)):
                low, high = row["seed_range"].get(f"unshifted_{metric}", (np.nan, np.nan))
                cells.append(f"{low * factor:.2f} … {high * factor:.2f}")
            lines.append(f"| {row['label']} | " + " | ".join(cells) + " |")
    lines.append("\n## By how much TIMAR is better (negative: worse), 95 % interval over clips\n")
    lines.append("| list | TIMAR as | against | metric | gain |\n|---|---|---|---|---|")
    for row in result["differences"]:
        low, high = row["interval"]
        metric = row["metric"].removeprefix("unshifted_")
        gain = f"{row['gain']:+.0%} [{low:+.0%}, {high:+.0%}]"
        lines.append(f"| {row['split']} | {row['ours']} | {row['other']} | {metric} | {gain} |")
    return "\n".join(lines) + "\n"
