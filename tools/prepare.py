"""Set up what a target of the Makefile needs: system packages, .venv by uv from uv.lock, the ROS 2 workspace.

Called before every target that runs something. Each step looks at what is there and does what is missing, so
that a second call takes under two seconds, and a call after an interruption goes on there. Standard library
only: this file runs before anything is installed.
"""

from __future__ import annotations

import argparse
import ctypes.util
import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST, NEWEST = (3, 10), (3, 13)
OLDEST_OF_VOICE_BOTS = (3, 11)
CPU_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
# Group -> groups of uv.lock (pyproject.toml), beside what running the head needs.
GROUPS: dict[str, tuple[str, ...]] = {
    "training": ("training",),
    "perception": ("perception",),
    "talk": ("talk",),
    "tests": ("training", "perception", "tests"),
    "sound": (),
    "browser": (),
    # An environment of its own: see install_voice_bots.
    "voice-bots": (),
}

# Paths of the machine that built the ROS 2 wheels, left in their CMake files.
_BUILDER_INCLUDE = re.compile(r"/opt/python/[^/;\"\s]+/include/python3\.\d+t?")
_BUILDER_NUMPY = re.compile(r"/opt/python/[^;\"\s]*?/site-packages/numpy/_?core/include")
# They read a list of files as ASCII, which cuts the path of a folder with other letters in two.
_ASCII_LIST = (
    'file(STRINGS "${idl_output}" idl_tuples)',
    'file(STRINGS "${idl_output}" idl_tuples ENCODING UTF-8)',
)

Probe = Callable[[str], bool]
"""Tells, given the interpreter of the environment, whether something is there."""


class SetupError(RuntimeError):
    """Set-up cannot go on; the message says why and what to do."""


def program(*names: str) -> Probe:
    """Probe for one of some programs."""
    return lambda _python: any(map(shutil.which, names))


def library(name: str) -> Probe:
    """Probe for a shared library."""
    return lambda _python: ctypes.util.find_library(name) is not None


def runs(code: str) -> Probe:
    """Probe for what the interpreter itself must have."""
    return lambda python: (
        not subprocess.run([python, "-c", code], capture_output=True, check=False).returncode
    )


# Group -> Debian's name of a package -> how to see that what it provides is there.
SYSTEM_PACKAGES: dict[str, dict[str, Probe]] = {
    "run": {
        "cmake": program("cmake"),
        "g++": program("g++", "c++"),
        "make": program("make"),
        "python3-venv": runs("import ensurepip, venv"),
        "python3-dev": runs("import os, sysconfig; os.stat(sysconfig.get_path('include') + '/Python.h')"),
        "libportaudio2": library("portaudio"),
    },
    # MediaPipe is linked to both, though it computes on the processor.
    "perception": {"libegl1": library("EGL"), "libgles2": library("GLESv2")},
    # The fallback voice; the dialogue does without where it cannot be had.
    "talk": {"espeak-ng": program("espeak-ng")},
    "sound": {
        "pulseaudio": program("pulseaudio"),
        "pulseaudio-utils": program("paplay"),
        "libasound2-plugins": lambda _: any(
            Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so")
        ),
        "espeak-ng": program("espeak-ng"),
    },
    "browser": {"chromium": program("chromium", "chromium-browser", "google-chrome")},
}
# Some systems lack them (Ubuntu's Chromium is a snap): set-up goes on, and the tests that need them say so.
OPTIONAL = {"chromium", "espeak-ng"}


def install_system_packages(groups: Sequence[str], python: str, tried: Sequence[str] = ()) -> list[str]:
    """Install what is missing, as root or by a sudo that asks nothing.

    Args:
        groups: Groups of `SYSTEM_PACKAGES`.
        python: Interpreter of the environment.
        tried: Optional packages that could not be had before.

    Returns:
        Optional packages that cannot be had here.

    Raises:
        SetupError: That is not possible, or did not help; the message is a line to type.
    """
    probes = {name: probe for group in groups for name, probe in SYSTEM_PACKAGES.get(group, {}).items()}

    def missing() -> set[str]:
        return {name for name, is_there in probes.items() if not is_there(python)}

    left = missing()
    if left <= set(tried):
        return sorted(left)
    has_apt = shutil.which("apt-get") is not None
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if has_apt and (not sudo or (shutil.which("sudo") and _succeeds([*sudo, "true"]))):
        run_apt([*sudo, "apt-get", "update"])
        # What some systems lack comes alone, so that it keeps nothing else away.
        for names in (left - OPTIONAL, *({name} for name in sorted(left & OPTIONAL))):
            if names:
                run_apt([*sudo, "apt-get", "install", "-y", "--no-install-recommends", *sorted(names)])
        left = missing()
    listed = " ".join(sorted(left))
    if left - OPTIONAL:
        raise SetupError(
            "system packages are missing and cannot be installed from here; type this, then make again:\n"
            f"sudo apt-get update && sudo apt-get install -y {listed}"
            if has_apt
            else f"install these (Debian's names) by your system's installer, then make again: {listed}"
        )
    if left:
        say(f"going on without {listed}, which cannot be had here; the tests that need it say so")
    return sorted(left)


def run_apt(command: Sequence[str]) -> None:
    """Run apt-get and write how far it is, every tenth of the way."""
    say(" ".join(command))
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    shown = ""
    with subprocess.Popen(
        [*command, "-qq", "-o", "APT::Status-Fd=1"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as running:
        for line in running.stdout or ():
            # dlstatus:NUMBER:PERCENT:TEXT while downloading, pmstatus:PACKAGE:PERCENT:TEXT while installing.
            if status := re.match(r"(dl|pm)status:[^:]*:(\d+)", line):
                stage = "downloading" if status[1] == "dl" else "installing"
                progress = f"{stage}, {int(status[2]) // 10 * 10} %"
                if progress != shown:
                    say(progress)
                shown = progress


def choose_python(wanted: str | None) -> str:
    """Return the interpreter to build the virtual environment with: the wanted one, else the first found.

    Raises:
        SetupError: There is none of a supported version.
    """
    seen = []
    minors = range(NEWEST[1], OLDEST[1] - 1, -1)
    for name in [wanted] if wanted else ["python3", *(f"python3.{minor}" for minor in minors)]:
        version = python_version(name)
        if version and OLDEST <= version <= NEWEST:
            return name
        seen.append(f"{name} is {'.'.join(map(str, version)) if version else 'missing'}")
    raise SetupError(
        f"Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]} is needed, and {'; '.join(seen)}. "
        "Install one, or name it: make PYTHON=python3.11"
    )


@functools.cache
def python_version(python: str) -> tuple[int, ...]:
    """Return an interpreter's version, (3, 11); empty when it does not run."""
    command = [python, "-c", "import sys; print(*sys.version_info[:2])"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ()
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else ()


class Environment:
    """The virtual environment and the built workspace of one checkout."""

    def __init__(self, root: Path, *, is_cuda: bool = False) -> None:
        self.root = root
        self.venv = root / ".venv"
        self.python = str(self.venv / "bin" / "python")
        self.is_cuda = is_cuda

    def set_up(self, groups: set[str], python: str | None) -> None:
        """Do what is missing; what else is there stays."""
        uv_groups = {group for name in groups for group in GROUPS[name]}
        version = python_version(self.python) if (self.venv / "bin" / "activate").is_file() else ()
        chosen = self.python if version and python is None else choose_python(python)
        record = self.venv / "unavailable"
        tried = record.read_text(encoding="utf-8").split() if record.is_file() else []
        unavailable = install_system_packages(["run", *sorted(groups | uv_groups)], chosen, tried)
        if not version or version != python_version(chosen):
            say(f"virtual environment .venv, by {chosen}")
            run([chosen, "-m", "venv", "--clear", str(self.venv)])
            python_version.cache_clear()
        self.install_packages(uv_groups)
        self.repair_cmake_files()
        self.build_workspace()
        has_bots = "voice-bots" in groups and self.install_voice_bots()
        record.write_text("\n".join({*tried, *unavailable}), encoding="utf-8")
        # What the tests can rely on (tests/conftest.py).
        there = {"ros": True, "sound": "sound" in groups, "bots": has_bots}
        there["browser"] = "browser" in groups and "chromium" not in unavailable
        ready = [name for name, is_there in there.items() if is_there]
        (self.venv / "components").write_text(",".join(ready), encoding="utf-8")

    def install_packages(self, uv_groups: set[str]) -> None:
        """Install uv, then what uv.lock says for some groups; torch, which no lock can hold, by pip."""
        site = next(self.venv.glob("lib/python3.*/site-packages"))
        forget_half_installed(site)
        pip = [self.python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        uv_pin = (self.root / "requirements" / "uv.txt").read_text(encoding="utf-8").split()[-1]
        if not (site / f"{uv_pin.replace('==', '-')}.dist-info").is_dir():
            say(f"{uv_pin}, which installs all others ...")
            run([*pip, uv_pin])
        if "training" in uv_groups:
            self._install_torch(site, pip)
        uv = [str(self.venv / "bin" / "uv")]
        sync = [*uv, "sync", "--frozen", "--inexact", "--python", self.python]
        for group in sorted(uv_groups | ({"cuda"} if self.is_cuda else set())):
            sync += ["--group", group]
        environment = uv_environment(os.environ, self.venv)
        if self.is_cuda or any(site.glob("onnxruntime_gpu-*.dist-info")):
            # Both packages hold the module onnxruntime.
            sync += ["--no-install-package", "onnxruntime"]
            if any(site.glob("onnxruntime-*.dist-info")):
                run([*uv, "pip", "uninstall", "--python", self.python, "onnxruntime"], None, environment)
        if not _succeeds([*sync, "--check"], self.root, environment):
            say("packages of uv.lock (some minutes the first time) ...")
            run(sync, self.root, environment)

    def install_voice_bots(self) -> bool:
        """Install Pipecat and LiveKit Agents into .venv/voice-bots, and tell whether that can be had.

        They ask for other versions of some packages than the head, whose process they are never in.
        """
        if python_version(self.python) < OLDEST_OF_VOICE_BOTS:
            say("going on without Pipecat and LiveKit Agents, which need Python 3.11; their tests say so")
            return False
        folder, pins = self.venv / "voice-bots", self.root / "requirements" / "voice-bots.txt"
        stamp, wanted = folder / "pins", pins.read_text(encoding="utf-8")
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
            return True
        say("Pipecat and LiveKit Agents, for the tests with genuine voice bots ...")
        shutil.rmtree(folder, ignore_errors=True)
        uv, environment = str(self.venv / "bin" / "uv"), uv_environment(os.environ, self.venv)
        run([uv, "venv", "--quiet", "--python", self.python, str(folder)], self.root, environment)
        install = [uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python")]
        run([*install, "-r", str(pins)], self.root, environment)
        stamp.write_text(wanted, encoding="utf-8")
        return True

    def _install_torch(self, site: Path, pip: list[str]) -> None:
        """Install the CPU build, from the sources pip knows or PyTorch's index, else CUDA's from PyPI."""
        pin = (self.root / "requirements" / "torch.txt").read_text(encoding="utf-8").split()[-1]
        there = [folder.name for folder in site.glob(f"{pin.replace('==', '-')}*.dist-info")]
        if there and not (self.is_cuda and "+cpu" in there[0]):
            return
        index = ["--extra-index-url", CPU_TORCH_INDEX, "--retries", "1", "--timeout", "15"]
        for extra in () if self.is_cuda else ([], index):
            say(f"{pin}, CPU build{', from ' + CPU_TORCH_INDEX if extra else ''} ...")
            if _succeeds([*pip, "--no-deps", *extra, f"{pin}+cpu"]):
                return
        say(f"{pin} with CUDA's libraries, several GB ...")
        run([*pip, "--force-reinstall", pin])

    def repair_cmake_files(self) -> int:
        """Put this machine's include folders for those of the wheels' builder, and let file lists be UTF-8.

        Returns:
            How many files were changed.
        """
        texts = {path: path.read_text(encoding="utf-8") for path in self.venv.glob("share/**/*.cmake")}
        stale = {
            path: text for path, text in texts.items() if "/opt/python/" in text or _ASCII_LIST[0] in text
        }
        if stale:
            code = (
                "import numpy, sysconfig as s; print(s.get_path('include'), numpy.get_include(), sep='\\n')"
            )
            found = subprocess.check_output([self.python, "-c", code], text=True)
            include, numpy_include = found.splitlines()
            for path, text in stale.items():
                text = _BUILDER_NUMPY.sub(lambda _: numpy_include, text.replace(*_ASCII_LIST))
                path.unlink()  # It may be a hard link into uv's cache.
                path.write_text(_BUILDER_INCLUDE.sub(lambda _: include, text), encoding="utf-8")
        return len(stale)

    def build_workspace(self) -> None:
        """Build the ROS 2 workspace when what a build depends on has changed since."""
        workspace = self.root / "ros2_ws"
        stamp = workspace / "build" / ".timar-digest"
        wheels = sorted(path.name for path in self.venv.glob("lib/*/site-packages/ros_kilted*.dist-info"))
        identity = f"{self.root} {python_version(self.python)} {wheels}"
        digest = f"{identity}\n{workspace_digest(workspace / 'src')}\n"
        built = stamp.read_text(encoding="utf-8") if stamp.is_file() else ""
        if built == digest and (workspace / "install" / "local_setup.bash").is_file():
            return
        if built.partition("\n")[0] != identity:
            for name in ("build", "install", "log"):
                shutil.rmtree(workspace / name, ignore_errors=True)
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(f"{identity}\nunfinished\n", encoding="utf-8")
        say("workspace ros2_ws (about a minute the first time) ...")
        command = [self.python, "-m", "colcon", "build", "--symlink-install"]
        command += ["--cmake-args", "-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={self.python}"]
        run(command, workspace, build_environment(os.environ, self.venv))
        stamp.write_text(digest, encoding="utf-8")


def forget_half_installed(site: Path) -> list[str]:
    """Forget packages whose installation was interrupted: they look installed and are not.

    pip and uv write INSTALLER and RECORD last. A folder NAME.data is what uv had not yet moved
    to its place; it does not start again over one.
    """
    for folder in site.glob("*.data"):
        shutil.rmtree(folder)
    ended = ("INSTALLER", "RECORD")
    half = [path for path in site.glob("*.dist-info") if not all((path / name).is_file() for name in ended)]
    for folder in half:
        say(f"{folder.name} was left half installed; it is installed again")
        shutil.rmtree(folder)
    return [folder.name for folder in half]


def workspace_digest(source: Path) -> str:
    """Return the hash of what a colcon build depends on.

    Python files are linked into the build and need no new one; package descriptions and interfaces count by
    content, all other files (URDF, parameters, launch files, models) by name.
    """
    total = hashlib.sha256()
    by_content = ("package.xml", "setup.py", "setup.cfg", "CMakeLists.txt", ".msg", ".srv", ".action")
    for folder, folders, files in os.walk(source, followlinks=True):
        folders[:] = sorted(
            name for name in folders if name not in ("__pycache__", "build") and "egg-info" not in name
        )
        for path in (Path(folder, name) for name in sorted(files)):
            if path.suffix in (".py", ".pyc") and path.name != "setup.py" and ".launch" not in path.suffixes:
                continue
            total.update(f"{path.relative_to(source)}\0".encode())
            if path.name.endswith(by_content):
                total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def uv_environment(base: Mapping[str, str], venv: Path) -> dict[str, str]:
    """Return uv's environment: this virtual environment, no other Python, a cache it can write."""
    home = base.get("XDG_CACHE_HOME") or Path(base.get("HOME") or "/", ".cache")
    cache = Path(base.get("UV_CACHE_DIR") or Path(home, "uv"))
    if not os.access(next(folder for folder in (cache, *cache.parents) if folder.exists()), os.W_OK):
        cache = venv / ".uv-cache"
    ours = {"UV_PROJECT_ENVIRONMENT": str(venv), "UV_PYTHON_DOWNLOADS": "never", "UV_CACHE_DIR": str(cache)}
    return {**base, **ours}


def build_environment(base: Mapping[str, str], venv: Path) -> dict[str, str]:
    """Return the environment of a build: the virtual environment's wheels and nothing built before."""
    dropped = {"CMAKE_PREFIX_PATH", "COLCON_PREFIX_PATH", "PYTHONPATH", "PYTHONHOME"}
    environment = {name: value for name, value in base.items() if name not in dropped}
    path = f"{venv / 'bin'}{os.pathsep}{base.get('PATH', os.defpath)}"
    # Without, colcon adds -lN: make then waits while the machine is busy, and two minutes became forty.
    jobs = {"MAKEFLAGS": f"-j{os.cpu_count() or 1} -l1000"} | environment
    return {**jobs, "VIRTUAL_ENV": str(venv), "AMENT_PREFIX_PATH": str(venv), "PATH": path}


def run(
    command: Sequence[str], cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> None:
    """Run a command that writes for itself.

    Raises:
        SetupError: It failed.
    """
    status = subprocess.run(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, check=False
    ).returncode
    if status:
        said = " ".join(command)
        raise SetupError(f"a command ended with status {status}, for the reason it gave above: {said}")


def _succeeds(
    command: Sequence[str], cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> bool:
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, check=False)
    return done.returncode == 0


def say(text: str) -> None:
    """Write one line of progress."""
    sys.stdout.write(f"setup: {text}\n")
    sys.stdout.flush()


def main(argv: list[str] | None = None) -> int:
    """Do what is missing and return 0, or say why not and return 1."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("groups", nargs="*", choices=[*GROUPS, []], help="beside what running the head needs")
    parser.add_argument("--cuda", action="store_true", help="CUDA builds of torch and onnxruntime")
    parser.add_argument("--python", default=None, help="interpreter of the virtual environment")
    options = parser.parse_args(argv)
    try:
        with (ROOT / "Makefile").open(encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            Environment(ROOT, is_cuda=options.cuda).set_up(set(options.groups), options.python or None)
    except SetupError as error:
        sys.stderr.write(f"setup: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("setup: interrupted; the next call goes on here\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
