"""The commands import, export, engines and generate: of `timar`, and alone of `timar-model`, without ROS."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from timar_model.architecture.config import FRAMES_PER_SECOND, SAMPLES_PER_FRAME
from timar_model.engines import find_engine
from timar_model.engines.environment import environment_troubles
from timar_model.engines.int8_kernels import INSTRUCTIONS
from timar_model.engines.obstacles import is_installed, obstacles
from timar_model.machine import cores, cpu_flags

if TYPE_CHECKING:
    from timar_common.progress import ProgressBars

    from timar_model.loading import LoadedModel
    from timar_model.model_folder import ModelFolder


def import_model(argv: list[str]) -> int:
    """Turn a published TIMAR checkpoint, from the hub or from here, into a model that runs here."""
    parser = argparse.ArgumentParser(
        prog="timar import",
        description=import_model.__doc__,
        epilog="The hub's own variables count: HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE, HF_TOKEN.",
    )
    parser.add_argument(
        "source",
        help="hub:OWNER/NAME[@REVISION], such as hub:coderchen01/TIMAR; or a folder or file that is here: "
        "the .pth of the released code, its state dict as .safetensors, or a model folder",
    )
    parser.add_argument(
        "out",
        type=Path,
        nargs="?",
        help="the model folder to write (default: NAME in ~/.local/share/timar/models; model:=NAME finds it)",
    )
    parser.add_argument("--file", default="", help="which weight file, where the source holds several")
    parser.add_argument(
        "--speech-encoder",
        default="",
        metavar="SOURCE",
        help="folder or hub name of the wav2vec 2.0 (default: facebook/wav2vec2-large-960h-lv60-self)",
    )
    parser.add_argument("--heads", type=int, help="attention heads, where the width is no published one")
    parser.add_argument(
        "--weights", choices=("model_ema", "model"), help="which set of a .pth (default: EMA where it is)"
    )
    parser.add_argument(
        "--statistics", type=Path, help="JSON or .npz with mean and std of the motion, 56 values each"
    )
    parser.add_argument(
        "--no-export",
        action="store_true",
        help="only the weights: no graphs, for which `timar export` is there",
    )
    arguments = parser.parse_args(argv)
    from timar_common.progress import progress_bars

    from timar_model import importing
    from timar_model.loading import LoadedModel

    try:
        options = importing.ImportOptions(
            arguments.file,
            arguments.speech_encoder,
            arguments.heads,
            arguments.weights,
            arguments.statistics,
            () if arguments.no_export else importing.variants_here(),
        )
        with progress_bars() as bars:
            log = _timed_log(bars)
            folder = importing.import_model(arguments.source, arguments.out, options, log, bars)
    except (ValueError, OSError) as error:
        return _fail("import", error)
    log(f"{folder.path} holds {folder.manifest['parameters'] / 1e6:.1f} M parameters ({folder.sha256[:12]})")
    if not arguments.no_export:
        _measure_for_auto(LoadedModel.of(folder), log)
    sys.stdout.write("start it with:\n")
    for command in importing.start_commands(folder):
        sys.stdout.write(f"  {command}\n")
    return 0


def export(argv: list[str]) -> int:
    """Add ONNX graphs to a model folder, so that it runs without torch."""
    parser = argparse.ArgumentParser(prog="timar export", description=export.__doc__)
    parser.add_argument("model", help="a model folder, or a shipped name")
    parser.add_argument("--int8", action="store_true", help="also int8 graphs, the fastest on a CPU")
    parser.add_argument("--float16", action="store_true", help="also float16 graphs, for CUDA and TensorRT")
    parser.add_argument(
        "--largest-error",
        type=float,
        metavar="SHARE",
        help="a layer whose output int8 changes by more, of its size, stays float (0.03)",
    )
    parser.add_argument(
        "--weight-bits",
        type=int,
        choices=(7, 8),
        default=8,
        help="of int8 weights: 8 is more exact; 7 starts at once on processors without byte products (8)",
    )
    arguments = parser.parse_args(argv)
    variants = ["float32", *(name for name in ("int8", "float16") if getattr(arguments, name))]
    from timar_common.folder_lock import folder_lock

    from timar_model.importing import room_for
    from timar_model.loading import find_model

    log = _timed_log()
    try:
        from timar_model.engines.export import export_onnx

        model = find_model(arguments.model)
        with folder_lock(model), room_for(model):
            options = {"largest_error": arguments.largest_error, "weight_bits": arguments.weight_bits}
            folder = export_onnx(model, tuple(variants), log, **options)
    except (ValueError, OSError, ImportError) as error:
        return _fail("export", error)
    graphs = [name for name in folder.manifest["files"] if name.endswith(".onnx")]
    log(f"{folder.path} holds {', '.join(graphs)}")
    for layer, change in folder.manifest["engines"].get("onnx-int8", {}).get("float_layers", {}).items():
        log(f"stays float: {layer} (int8 would change its output by {100 * change:.1f} %)")
    return 0


def engines(argv: list[str]) -> int:
    """Print which engines this machine can run, and why not."""
    parser = argparse.ArgumentParser(prog="timar engines", description=engines.__doc__)
    parser.add_argument("model", nargs="?", default="calm-head", help="a model folder, or a shipped name")
    parser.add_argument(
        "--measure", action="store_true", help="also measure what each costs here, by threads; takes a while"
    )
    arguments = parser.parse_args(argv)
    from timar_model.loading import find_model
    from timar_model.model_folder import read_model

    try:
        folder = read_model(find_model(arguments.model))
    except (OSError, ValueError) as error:
        return _fail("engines", error)
    for line in providers():
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"int8 products are computed {int8_products(cpu_flags())}\n")
    for name, why_not in obstacles(folder).items():
        state = "runs" if not why_not else f"does not run: {why_not}"
        sys.stdout.write(f"{name:<11} {describe(name)}\n{'':<11} {state}\n")
    return _measure_engines(folder) if arguments.measure else 0


def generate(argv: list[str]) -> int:
    """Generate the head's motion for two sound files, the user's and its own; without head or ROS."""
    parser = argparse.ArgumentParser(
        prog="timar generate",
        description=generate.__doc__,
        epilog="OUT.npz holds exp (T, 50), FLAME's expression, and pose (T, 6), axis-angle of neck [0:3] and "
        "jaw [3:6] in radians, 25 frames a second from the first sample on. Nods and other gestures, which "
        "the running head draws over it, are not in it.",
    )
    parser.add_argument("user", type=Path, metavar="USER.wav", help="the person's voice, at any rate")
    parser.add_argument("agent", type=Path, metavar="AGENT.wav", help="the head's own voice, at any rate")
    parser.add_argument("out", type=Path, metavar="OUT.npz", help="the file to write")
    parser.add_argument("--model", default="calm-head", help="a model folder, or a name (%(default)s)")
    parser.add_argument("--engine", default="", help="one of `engines` (onnx, where the model has graphs)")
    parser.add_argument("--user-motion", type=Path, metavar="NPZ", help="how the person moved, like OUT.npz")
    parser.add_argument("--turn-frames", type=int, metavar="F", help="length of a turn (the model's)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another motion (%(default)s)")
    arguments = parser.parse_args(argv)
    from timar_common.motion_file import MotionTrack, read_motion, write_motion
    from timar_common.progress import progress_bars
    from timar_common.wav import SoundFile

    from timar_model.loading import find_model, load_model
    from timar_model.session.recording import session_turns

    log, voices = _timed_log(), []
    try:
        for path in (arguments.user, arguments.agent):
            with SoundFile(path) as file:
                voices.append(file.read_all().astype(np.float32) / 32768)
                for warning in file.warnings:
                    log(f"{path}: {warning}")
        seen = read_motion(arguments.user_motion) if arguments.user_motion else None
        model = load_model(find_model(arguments.model))
        engine = arguments.engine or ("onnx" if any(model.path.glob("*.onnx")) else "torch")
        session = model.session(engine, seed=arguments.seed)
        turn_frames = arguments.turn_frames or model.config.turn_frames
        samples = min(len(voice) for voice in voices)
        if samples < turn_frames * SAMPLES_PER_FRAME:
            raise ValueError(
                f"the shorter file holds {samples / 16_000:.2f} s; expected at least one turn, "
                f"{turn_frames / FRAMES_PER_SECOND:.2f} s"
            )
        turns: list[np.ndarray] = []
        with progress_bars() as bars:
            advance = bars.add("turns")
            for turn in session_turns(session, (voices[0], voices[1], seen), turn_frames):
                turns.append(turn)
                advance(len(turns), samples // (turn_frames * SAMPLES_PER_FRAME))
        motion = np.concatenate(turns)
        write_motion(arguments.out, MotionTrack(motion, np.ones((len(motion), 3), np.bool_)))
    except (ValueError, OSError, ImportError) as error:
        return _fail("generate", error)
    seconds = len(motion) / FRAMES_PER_SECOND
    log(f"{arguments.out} holds {len(motion)} frames ({seconds:.1f} s), by {model.path.name}")
    return 0


ALONE = {"run": generate, "import": import_model, "export": export, "engines": engines}
"""What `timar-model` offers."""


def main(argv: list[str] | None = None) -> int:
    """Run a command of `timar-model`: the model without a head; needs neither ROS nor, with graphs, torch."""
    parser = argparse.ArgumentParser(prog="timar-model", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in ALONE.items():
        commands.add_parser(name, help=(command.__doc__ or "").partition("\n")[0], add_help=False)
    arguments, rest = parser.parse_known_args(argv)
    return ALONE[arguments.command](rest)


def _measure_engines(folder: ModelFolder) -> int:
    """Print what each engine that runs costs, the exported float32 graph first; and what auto takes."""
    from timar_model.engines.measuring import measure, settings_to_compare, table
    from timar_model.loading import LoadedModel

    model = LoadedModel.of(folder)
    able = [name for name, why_not in obstacles(folder).items() if not why_not]
    able.sort(key=lambda name: name != "onnx")
    costs = []
    for setting in settings_to_compare(folder.config, able, sorted({1, cores()})):
        sys.stderr.write(f"measuring {setting}\n")
        try:
            costs.append(measure(model, setting))
        except (OSError, ValueError, ImportError) as error:
            sys.stderr.write(f"timar engines: {setting} is left out: {error}\n")
    model.close_engines()
    if not costs:
        return _fail("engines", ValueError(f"no engine runs {folder.path} here"))
    for line in table(costs):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(
        "window full; RTF: busy time of turns, previews and window moves per second of conversation; CPU: "
        "processor seconds likewise; the last column: largest difference of jaw and neck from the first row\n"
    )
    _measure_for_auto(model, _timed_log())
    return 0


def _measure_for_auto(model: LoadedModel, log: Callable[[str], None]) -> None:
    """Measure what `auto` takes on this machine, and say it; a start finds it kept."""
    from timar_model.engines.choosing import choose

    try:
        choice = choose(model, log=log)
    except ValueError as error:
        log(f"nothing was measured: {error}")
        return
    log(f"engine:=auto takes {choice.sentence()}")
    if not choice.picked.holds:
        log(choice.trouble(model))


def providers() -> list[str]:
    """Return lines on what the installed onnxruntime computes, and what it lacks."""
    troubles = [*environment_troubles()]
    if not is_installed("onnxruntime"):
        return troubles
    import onnxruntime

    from timar_model.engines.providers import PROVIDERS, provider_obstacles

    available = onnxruntime.get_available_providers()
    return [
        f"onnxruntime {onnxruntime.__version__} brings {', '.join(available)}",
        *(
            f"{provider} is not there (needs onnxruntime-gpu and an NVIDIA device)"
            for provider in PROVIDERS[:2]
            if provider not in available
        ),
        *filter(None, provider_obstacles().values()),
        *troubles,
    ]


def int8_products(flags: set[str]) -> str:
    """Say how a processor with such flags multiplies bytes, best first; what int8 is worth depends on it."""
    for flag, how in INSTRUCTIONS.items():
        if flag in flags:
            return f"by {how}"
    return "without instructions made for it: slower, and with weights of 7 bits where products saturate"


def describe(name: str) -> str:
    """Return an engine's description: the first line of the docstring of what opens it."""
    try:
        return (find_engine(name).__doc__ or "").strip().partition("\n")[0].rstrip(".")
    except ValueError:
        return ""


def _timed_log(bars: ProgressBars | None = None) -> Callable[[str], None]:
    """Return what prints lines with the time since the command began; above bars where there are some."""
    started = time.monotonic()

    def log(line: str) -> None:
        timed = f"{time.monotonic() - started:6.1f} s  {line}"
        if bars is not None and bars.console.is_terminal and sys.stdout.isatty():
            bars.console.print(timed, markup=False, highlight=False)
        else:
            sys.stdout.write(f"{timed}\n")
            sys.stdout.flush()

    return log


def _fail(command: str, error: Exception) -> int:
    # An OSError with a number would print it in front.
    said = error.strerror if isinstance(error, OSError) and error.strerror and not error.filename else error
    sys.stderr.write(f"timar {command}: {said}\n")
    return 1
