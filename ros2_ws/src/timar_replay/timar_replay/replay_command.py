"""The command `timar replay`: one bag, a folder of them, scenarios, or two results against each other."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from timar_bag.bag import BAG_SUFFIXES, BagReader
from timar_bag.commands import add_bag
from timar_bag.live import LiveConfig
from timar_common.atomic import write_json
from timar_common.folder_lock import folder_lock
from timar_common.progress import progress_bars
from timar_report.compare import compare_runs, table
from timar_report.conditions import Condition, judge
from timar_report.overview import overview_text
from timar_report.score_files import SCORE_NAME, read_score

from timar_replay.batch import FinishedJob, find_bags, jobs_for, run_batch, write_summary, write_table
from timar_replay.replay_settings import ReplaySettings
from timar_replay.runs import BAG_NAME, REPORT_NAME, ReplayJob, run_job
from timar_replay.scenario import run_scenarios
from timar_replay.virtual_worker import ComputeTimePolicy

FAILED, BROKEN = 1, 2
"""Exit status: a condition held or something became worse; it could not be done or is not known."""


def replay(argv: list[str]) -> int:
    """Replay, score and compare recorded conversations (also: `replay compare A B`, `replay scenarios`)."""
    actions: dict[str, Callable[[list[str]], int]] = {"compare": _compare, "scenarios": _scenarios}
    run = actions.get(argv[0]) if argv else None
    try:
        return run(argv[1:]) if run is not None else _replay(read_arguments(argv))
    except (ValueError, OSError, RuntimeError) as error:
        sys.stderr.write(f"timar replay: {error}\n")
        return BROKEN


def read_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line of a replay."""
    parser = argparse.ArgumentParser(
        "timar replay",
        description="Replay a bag, or every bag of a folder, through the nodes' own components in the bag's "
        "time; score and report it.",
        epilog="`timar replay compare A B` compares two results; `timar replay scenarios` runs scenarios.",
    )
    add_bag(parser, "rosbag2 folder, .mcap or .db3 file, or a folder of bags")
    parser.add_argument("--out", type=Path, help="folder for the results (default: BAG-replay)")
    parser.add_argument("--model", help="a shipped or imported model, or a model folder")
    parser.add_argument("--engine", help="what computes the model (default: the best there is)")
    parser.add_argument("--seed", type=int, help="of the noise (default: 0)")
    parser.add_argument("--threads", type=int, help="of the engine (default: 1)")
    parser.add_argument("--robot", help="name of a shipped robot, or a robot YAML")
    parser.add_argument("--params", type=Path, help="ROS parameters file whose values count")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NODE.PARAMETER=VALUE", help="a single parameter"
    )
    parser.add_argument(
        "--user-sound",
        default="",
        metavar="TOPIC",
        help="the user's voice, in a bag of other packages' nodes",
    )
    parser.add_argument(
        "--agent-sound", default="", metavar="TOPIC", help="the head's own voice in such a bag"
    )
    parser.add_argument(
        "--sound-layout",
        default="",
        metavar="FORMAT,HZ,CHANNELS",
        help="what its plain bytes mean where nothing in it says so, such as S16LE,16000,1",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--follow-log", action="store_true", help="repeat the recorded turn_log exactly")
    how.add_argument(
        "--policy",
        default="ideal",
        help="how long a turn takes: ideal, fixed:MS, recorded, measured (%(default)s)",
    )
    parser.add_argument("--samples", type=int, default=1, help="draws for the energy score (%(default)s)")
    parser.add_argument("--no-report", action="store_true", help="without the HTML report")
    parser.add_argument(
        "--fail-if", action="append", default=[], metavar="CONDITION",
        help='status 1 when it holds, for example "late_turns > 0"; may be given more than once',
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=1, help="processes for a folder of bags (%(default)s)")
    parser.add_argument("--dask", default="", metavar="ADDRESS", help="a Dask scheduler for a folder of bags")
    live = parser.add_argument_group("playing the bag to a running graph (needs ROS 2)")
    live.add_argument(
        "--live", action="store_true", help="publish it and /clock for a graph started with replay:=true"
    )
    live.add_argument(
        "--topics", choices=("heard", "all"), default="heard", help="what is published (%(default)s)"
    )
    live.add_argument("--rate", type=float, default=1.0, help="speed, with --topics all (%(default)s)")
    live.add_argument("--robot-namespace", default="", help="where the running robot listens (the bag's)")
    live.add_argument("--wait-for-nodes", type=int, default=4, help="active nodes to wait for (%(default)s)")
    return parser.parse_args(argv)


def settings_of(arguments: argparse.Namespace) -> ReplaySettings:
    """Return the settings a command line asks for.

    Raises:
        ValueError: A value does not fit; the message names it.
    """
    settings = ReplaySettings(
        policy=ComputeTimePolicy.read(arguments.policy),
        is_following=arguments.follow_log,
        namespace=arguments.namespace,
        user_sound=arguments.user_sound,
        agent_sound=arguments.agent_sound,
        sound_layout=arguments.sound_layout,
    )
    if arguments.params is not None:
        settings = settings.with_parameters(arguments.params)
    typed = {f"inference.{name}": getattr(arguments, name) for name in ("model", "engine", "seed", "threads")}
    typed["retargeting.robot"] = arguments.robot
    given = [f"{name}={value}" for name, value in typed.items() if value is not None]
    return settings.changed([*given, *arguments.set])


def _replay(arguments: argparse.Namespace) -> int:
    if arguments.live:
        return _play(arguments)
    conditions = [Condition(text) for text in arguments.fail_if]
    bag: Path = arguments.bag
    out: Path = arguments.out or bag.absolute().with_name(f"{bag.absolute().name}-replay")
    job = ReplayJob(bag, out, settings_of(arguments), not arguments.no_report, arguments.samples)
    if not bag.exists():
        raise FileNotFoundError(f"there is no bag at {bag}; give a rosbag2 folder, an .mcap or a .db3 file")
    is_one = is_one_bag(bag)
    results = {str(bag): _one(job)} if is_one else _many(job, arguments.workers, arguments.dask)
    status = 0
    for name, numbers in results.items():
        try:
            held, unknown = judge(conditions, numbers)
        except ValueError as error:
            held, unknown = [], [str(error)]
        sys.stderr.write("".join(f"{name}: failed, for {condition}\n" for condition in held))
        sys.stderr.write("".join(f"{name}: {sentence}\n" for sentence in unknown))
        status = max(status, FAILED if held else 0, BROKEN if unknown else 0)
    return status


def _play(arguments: argparse.Namespace) -> int:
    """Play a bag to the running graph by the bag player, in this process."""
    bag = arguments.bag.expanduser().absolute()
    with BagReader(bag, arguments.namespace) as reader:
        namespace = arguments.robot_namespace or reader.namespace
    config = LiveConfig(
        bag=str(bag),
        bag_namespace=arguments.namespace or "",
        user_sound=arguments.user_sound,
        agent_sound=arguments.agent_sound,
        sound_layout=arguments.sound_layout,
        topics=arguments.topics,
        rate=arguments.rate,
        wait_for_nodes=arguments.wait_for_nodes,
        pauses_on_enter=sys.stdin.isatty(),
    )
    # Only here, for everything else works without ROS.
    from timar_bag.bag_player_node import play

    return play(config, namespace)


def is_one_bag(path: Path) -> bool:
    """Return whether a path is one bag, and not a folder of bags."""
    if path.is_file() or (path / "metadata.yaml").is_file():
        return True
    children = list(path.iterdir())
    return any(child.suffix in BAG_SUFFIXES for child in children) and not any(map(Path.is_dir, children))


def _one(job: ReplayJob) -> dict[str, Any]:
    with BagReader(job.bag, job.settings.namespace) as reader:
        begin_ns, span_ns = reader.span_ns()
    with progress_bars() as bars:
        advance = bars.add(job.bag.name)
        numbers = run_job(job, advance=lambda now_ns: advance(max(0, now_ns - begin_ns), span_ns))
    files = [BAG_NAME, SCORE_NAME, *([REPORT_NAME] if job.has_report else [])]
    sys.stdout.write(overview_text(numbers) + f"written to {job.out}: {', '.join(files)}\n")
    return numbers


def _many(job: ReplayJob, workers: int, cluster: str) -> dict[str, dict[str, Any]]:
    jobs = jobs_for(find_bags(job.bag), job.bag, job.out, job)
    with folder_lock(job.out), progress_bars() as bars:
        advance = bars.add(f"{len(jobs)} bags")
        finished: list[FinishedJob] = []

        def show(item: FinishedJob) -> None:
            finished.append(item)
            advance(len(finished), len(jobs))
            if item.error:
                bars.console.print(f"{item.bag}: {item.error}", markup=False, soft_wrap=True)

        finished = run_batch(jobs, workers, show, cluster)
    summary = write_summary(finished, job.out)
    path = write_table(finished, job.out)
    done = len(finished) - len(summary["failed"])
    sys.stdout.write(f"{done} of {len(finished)} bags replayed, {summary['resumed']} of them before\n")
    sys.stdout.write(f"written to {job.out}, one row per bag to {path.name}\n")
    if summary["failed"]:
        raise ValueError(f"{len(summary['failed'])} of {len(finished)} bags could not be replayed")
    return {str(item.bag): read_score(item.out)["numbers"] for item in finished}


def _compare(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "timar replay compare",
        description="Compare two results of `timar replay` over the same bags, window by window.",
    )
    parser.add_argument("first", type=Path, metavar="A", help="--out of a replay, of one bag or of many")
    parser.add_argument("second", type=Path, metavar="B", help="the same bags, with something changed")
    parser.add_argument("--out", type=Path, help="write the comparison as JSON")
    parser.add_argument("--allow-worse", action="store_true", help="status 0 even when something is worse")
    arguments = parser.parse_args(argv)
    compared = compare_runs(arguments.first, arguments.second)
    sys.stdout.write(table(compared))
    if arguments.out is not None:
        write_json(arguments.out, compared.content())
    return FAILED if compared.worse and not arguments.allow_worse else 0


def _scenarios(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "timar replay scenarios",
        description="Run scenario files (YAML) and report which keep their thresholds.",
    )
    parser.add_argument(
        "scenarios", type=Path, nargs="*", default=[Path("examples/scenarios")],
        help="files, or folders of them (default: examples/scenarios)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("runs/scenarios"), help="results (%(default)s)")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes (as many as cores: %(default)s)"
    )
    parser.add_argument("--model", help="in place of the scenarios' own")
    parser.add_argument("--engine", help="in place of the scenarios' own")
    arguments = parser.parse_args(argv)
    with folder_lock(arguments.out):
        outcomes = run_scenarios(
            arguments.scenarios, arguments.out, arguments.workers, arguments.model, arguments.engine
        )
        content = {each.name: {"passed": each.is_passed, "failures": each.failures} for each in outcomes}
        write_json(arguments.out / "scenarios.json", content)
    for outcome in outcomes:
        sys.stdout.write(f"{'passed' if outcome.is_passed else 'FAILED':<7} {outcome.name}\n")
        sys.stdout.write("".join(f"        {line}\n" for line in outcome.failures))
    return 0 if all(outcome.is_passed for outcome in outcomes) else FAILED
