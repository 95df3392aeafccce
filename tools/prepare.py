"""Set everything up on a bare machine, once: system packages, virtual environment, ROS 2 wheels, workspace.

Called by the Makefile before every target that runs something; each step leaves a stamp with the hash of what
it was made from, so that a second call only compares hashes, and a call after an interruption goes on there.
Standard library only: this file runs before anything is installed.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import system_packages  # noqa: E402 - found beside this file

OLDEST, NEWEST = (3, 10), (3, 13)
CPU_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
WORKSPACE_INPUTS = {"package.xml", "setup.py", "setup.cfg", "CMakeLists.txt"}
INTERFACE_SUFFIXES = {".msg", ".srv", ".action"}
TAIL_LINES = 30
# Test marker -> the system package it stands on.
TEST_COMPONENTS = {"ros": "cmake", "sound": "pulseaudio", "browser": "chromium"}

# Paths of the machine that built the ROS 2 wheels, left in their CMake files.
_BUILDER_INCLUDE = re.compile(r"/opt/python/[^/;\"\s]+/include/python3\.\d+t?")
_BUILDER_NUMPY = re.compile(r"/opt/python/[^;\"\s]*?/site-packages/numpy/_?core/include")


class SetupError(RuntimeError):
    """Set-up cannot go on; the message says why and what to do."""


def refuse_ros_distribution(environment: Mapping[str, str]) -> None:
    """Refuse to mix a sourced ROS 2 distribution with the wheels.

    Raises:
        SetupError: ROS_DISTRO is set; the message says how the project is built there.
    """
    distribution = environment.get("ROS_DISTRO")
    if distribution:
        raise SetupError(
            f"ROS 2 {distribution} is sourced in this shell, and the wheels of this set-up do not mix with "
            "it. Build with it: cd ros2_ws && rosdep install --from-paths src --ignore-src -y && "
            "colcon build --symlink-install && . install/setup.bash && "
            "ros2 launch timar_bringup robot.launch.py (docs/setup.md); "
            "or call make from a shell that does not source it"
        )


def choose_python(wanted: str | None) -> str:
    """Return the interpreter to build the virtual environment with.

    Args:
        wanted: Its name or path when it was given (PYTHON=...); it is then the only candidate.

    Raises:
        SetupError: There is none of a supported version.
    """
    span = f"Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
    names = (
        [wanted]
        if wanted
        else ["python3", *(f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1))]
    )
    seen = []
    for name in names:
        version = python_version(name)
        if version is not None and OLDEST <= version <= NEWEST:
            return name
        seen.append(f"{name} is {'missing' if version is None else '.'.join(map(str, version))}")
    raise SetupError(
        f"{span} is needed, and {'; '.join(seen)}. Install one, or name it: make PYTHON=python3.11"
    )


def python_version(python: str) -> tuple[int, int] | None:
    """Return an interpreter's version, or None when it does not run."""
    code = "import sys; print(sys.version_info[0], sys.version_info[1])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return None
    if done.returncode:
        return None
    major, minor = done.stdout.split()
    return int(major), int(minor)


class Steps:
    """Run steps that are out of date, and say so."""

    def __init__(self, stamps: Path) -> None:
        self._stamps = stamps
        self.ran: list[str] = []

    def run(self, name: str, said: str, digest: str, action: Callable[[], None]) -> str:
        """Do a step unless it was already done from the same inputs; return its digest."""
        stamp = self._stamps / name
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == digest:
            return digest
        stamp.unlink(missing_ok=True)
        say(f"{said} ...")
        began_s = time.monotonic()
        action()
        self._stamps.mkdir(parents=True, exist_ok=True)
        unfinished = stamp.with_suffix(".new")
        unfinished.write_text(digest, encoding="utf-8")
        unfinished.replace(stamp)
        say(f"{said}: done in {time.monotonic() - began_s:.0f} s")
        self.ran.append(name)
        return digest


def digest_of(*parts: str | Path) -> str:
    """Return one hash of texts and of files' contents."""
    total = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part.encode()
        total.update(hashlib.sha256(content).digest())
    return total.hexdigest()


def workspace_digest(source: Path, *more: str) -> str:
    """Return the hash of what a colcon build depends on.

    Python files are linked into the build and need no new one; package descriptions and interfaces count by
    content, all other files (URDF, parameters, launch files, models) by name.
    """
    parts: list[str | Path] = [*more, str(source)]
    for path in sorted(_source_files(source)):
        parts.append(str(path.relative_to(source)))
        if path.name in WORKSPACE_INPUTS or path.suffix in INTERFACE_SUFFIXES:
            parts.append(path)
    return digest_of(*parts)


def _source_files(source: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(source, followlinks=True):
        folders[:] = [
            name for name in folders if name not in ("__pycache__", "build") and "egg-info" not in name
        ]
        for name in files:
            if not name.endswith((".py", ".pyc")) or name == "setup.py" or name.endswith(".launch.py"):
                yield Path(folder) / name


class Setup:
    """The set-up of one checkout."""

    def __init__(
        self,
        root: Path,
        python: str | None,
        *,
        with_training: bool,
        with_tests: bool,
        with_cuda: bool,
        with_perception: bool,
    ) -> None:
        self.root = root
        self.venv = root / ".venv"
        self.workspace = root / "ros2_ws"
        self.with_training = with_training or with_tests
        self.with_tests = with_tests
        self.with_cuda = with_cuda
        self.with_perception = with_perception or with_tests
        self.requirements = root / "requirements"
        self._wanted_python = python

    @property
    def python(self) -> Path:
        """The virtual environment's interpreter."""
        return self.venv / "bin" / "python"

    def run(self) -> list[str]:
        """Do what is missing; return the steps that were done."""
        steps = Steps(self.venv / ".timar")
        python = self._chosen_python()
        wanted = system_packages.needed(with_tests=self.with_tests, with_perception=self.with_perception)
        lacking = system_packages.install_missing(wanted, python, say)
        version = python_version(python)
        base = steps.run(
            "venv",
            "virtual environment",
            digest_of(str(self.venv), str(version)),
            lambda: self._make_venv(python),
        )
        constraints = self.requirements / "constraints.txt"
        chain = steps.run(
            "packages",
            "ROS 2 wheels and Python packages (some minutes the first time)",
            digest_of(base, constraints, self.requirements / "run.txt", self.requirements / "alone.txt"),
            self._install_packages,
        )
        if self.with_cuda:
            chain = steps.run(
                "cuda",
                "onnxruntime for CUDA",
                digest_of(chain, self.requirements / "cuda.txt"),
                self._install_cuda,
            )
        if self.with_perception:
            steps.run(
                "perception-packages",
                "packages of the eyes",
                digest_of(chain, self.requirements / "perception.txt"),
                lambda: self._pip("--no-deps", "-r", str(self.requirements / "perception.txt")),
            )
        if self.with_training:
            torch = steps.run(
                "torch",
                "torch",
                digest_of(base, torch_pin(constraints), str(self.with_cuda)),
                self._install_torch,
            )
            steps.run(
                "training-packages",
                "packages of training",
                digest_of(torch, constraints, self.requirements / "train.txt"),
                lambda: self._pip("-r", str(self.requirements / "train.txt")),
            )
        if self.with_tests:
            steps.run(
                "test-packages",
                "packages of the tests",
                digest_of(base, constraints, self.requirements / "test.txt"),
                lambda: self._pip("-r", str(self.requirements / "test.txt")),
            )
        steps.run(
            "training",
            "commands of training",
            digest_of(chain, str(self.root), self.root / "training" / "setup.py"),
            self._install_training,
        )
        cmake = steps.run("cmake", "CMake paths of the ROS 2 wheels", digest_of(chain), self._repair_cmake)
        digest = workspace_digest(self.workspace / "src", cmake)
        if not (self.workspace / "install" / "local_setup.bash").is_file():
            (self.venv / ".timar" / "workspace").unlink(missing_ok=True)
        steps.run("workspace", "workspace (about a minute the first time)", digest, self._build)
        if self.with_tests:
            self._write_components({package.name for package in lacking})
        return steps.ran

    def _write_components(self, lacking: set[str]) -> None:
        """Say which components the tests can rely on; what this system cannot have may be skipped."""
        components = [name for name, package in TEST_COMPONENTS.items() if package not in lacking]
        (self.venv / ".timar" / "components").write_text(",".join(components), encoding="utf-8")

    def _chosen_python(self) -> str:
        """Prefer the interpreter the environment was made with, unless another one is asked for."""
        record = self.venv / "pyvenv.cfg"
        if self._wanted_python is None and record.is_file() and self.python.exists():
            return str(self.python)
        return choose_python(self._wanted_python)

    def _make_venv(self, python: str) -> None:
        """Make the environment; one that works and has the right Python is kept."""
        check = [str(self.python), "-m", "pip", "--version"]
        works = (self.venv / "bin" / "activate").is_file() and (
            subprocess.run(check, capture_output=True, check=False).returncode == 0
        )
        if not works or python_version(str(self.python)) != python_version(python):
            # The old interpreter cannot make the environment it is in.
            outside = choose_python(self._wanted_python) if python == str(self.python) else python
            run([outside, "-m", "venv", "--clear", str(self.venv)])

    def _pip(self, *arguments: str) -> None:
        for site in self.venv.glob("lib/python3.*/site-packages"):
            drop_half_installed(site)
        run([*self._pip_install(), *arguments])

    def _pip_install(self) -> list[str]:
        constraints = str(self.requirements / "constraints.txt")
        command = [str(self.python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        return [*command, "-c", constraints]

    def _install_packages(self) -> None:
        """Install what the head runs on; what would bring torch comes without what it asks for."""
        self._pip("-r", str(self.requirements / "run.txt"))
        self._pip("--no-deps", "-r", str(self.requirements / "alone.txt"))

    def _install_torch(self) -> None:
        """Install the CPU build, from the sources pip knows, else from PyTorch's own index."""
        pin = torch_pin(self.requirements / "constraints.txt")
        if self.with_cuda:
            run([str(self.python), "-m", "pip", "uninstall", "--quiet", "-y", "torch"])
            self._pip(pin)
            return
        wanted = f"{pin}+cpu"
        for extra in ([], ["--extra-index-url", CPU_TORCH_INDEX, "--retries", "1", "--timeout", "15"]):
            found = subprocess.run(
                [*self._pip_install(), "--dry-run", "--no-deps", *extra, wanted],
                capture_output=True,
                check=False,
            )
            if found.returncode == 0:
                self._pip(*extra, wanted)
                return
        say(f"the CPU build {wanted} was not found; taking {pin} with CUDA's libraries, several GB")
        self._pip(pin)

    def _install_training(self) -> None:
        """Make `timar_training` importable and its commands known by a link; nothing is fetched."""
        source = str(self.root / "training")
        run([*self._pip_install()[:-2], "--no-deps", "--no-build-isolation", "--no-index", "-e", source])

    def _install_cuda(self) -> None:
        # Both packages hold the module onnxruntime.
        run([str(self.python), "-m", "pip", "uninstall", "--quiet", "-y", "onnxruntime"])
        run([*self._pip_install()[:-2], "-r", str(self.requirements / "cuda.txt")])

    def _repair_cmake(self) -> None:
        code = "import numpy, sysconfig; print(sysconfig.get_path('include'), numpy.get_include(), sep='\\n')"
        include, numpy_include = run([str(self.python), "-c", code]).splitlines()
        repaired = repair_cmake_files(self.venv / "share", include, numpy_include)
        say(f"{repaired} CMake files repaired")

    def _build(self) -> None:
        """Build the workspace; one that was built at another place or for another Python is built anew."""
        identity = f"{self.root}\n{python_version(str(self.python))}\n"
        mark = self.workspace / "build" / ".timar-identity"
        if not mark.is_file() or mark.read_text(encoding="utf-8") != identity:
            for name in ("build", "install", "log"):
                shutil.rmtree(self.workspace / name, ignore_errors=True)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text(identity, encoding="utf-8")
        command = [str(self.python), "-m", "colcon", "build", "--symlink-install"]
        command += ["--cmake-args", "-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={self.python}"]
        run(command, cwd=self.workspace, environment=colcon_environment(os.environ, self.venv))


def torch_pin(constraints: Path) -> str:
    """Return the line ``torch==X`` of a constraints file.

    Raises:
        SetupError: There is none.
    """
    for line in constraints.read_text(encoding="utf-8").splitlines():
        if line.startswith("torch=="):
            return line.strip()
    raise SetupError(f"{constraints} has no line 'torch==VERSION'; restore the file from git")


def colcon_environment(base: Mapping[str, str], venv: Path) -> dict[str, str]:
    """Return the environment of a build: the virtual environment's wheels and nothing built before."""
    scrubbed = {"AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "COLCON_PREFIX_PATH", "PYTHONPATH", "PYTHONHOME"}
    environment = {name: value for name, value in base.items() if name not in scrubbed}
    environment["VIRTUAL_ENV"] = str(venv)
    environment["AMENT_PREFIX_PATH"] = str(venv)
    environment["PATH"] = f"{venv / 'bin'}{os.pathsep}{base.get('PATH', os.defpath)}"
    return environment


def repair_cmake_files(share: Path, include: str, numpy_include: str) -> int:
    """Put this machine's include folders where the wheels' CMake files name their builder's.

    Returns:
        How many files were changed.
    """
    changed = 0
    for path in sorted(share.rglob("*.cmake")):
        text = path.read_text(encoding="utf-8")
        repaired = _BUILDER_NUMPY.sub(lambda _: numpy_include, text)
        repaired = _BUILDER_INCLUDE.sub(lambda _: include, repaired)
        if repaired != text:
            path.write_text(repaired, encoding="utf-8")
            changed += 1
    return changed


def drop_half_installed(site_packages: Path) -> list[str]:
    """Forget packages whose installation was interrupted, so that pip installs them again.

    pip writes RECORD last; a package without one looks installed and is not.
    """
    dropped = []
    for folder in sorted(site_packages.glob("*.dist-info")):
        if not (folder / "RECORD").is_file():
            shutil.rmtree(folder)
            dropped.append(folder.name)
    return dropped


def run(command: Sequence[str], cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it wrote to standard output.

    Raises:
        SetupError: It failed; the end of what it wrote is in the message.
    """
    done = subprocess.run(
        list(command),
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-TAIL_LINES:])
        raise SetupError(f"{' '.join(command)} ended with status {done.returncode}:\n{tail}")
    return done.stdout


def say(text: str) -> None:
    """Write one line of progress."""
    sys.stdout.write(f"setup: {text}\n")
    sys.stdout.flush()


def main(argv: list[str] | None = None) -> int:
    """Do what is missing and return 0, or say why not and return 1."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--training", action="store_true", help="also torch and what training needs")
    parser.add_argument("--tests", action="store_true", help="also what training, tests and linters need")
    parser.add_argument("--perception", action="store_true", help="also what the eyes need")
    parser.add_argument("--cuda", action="store_true", help="CUDA builds of torch and onnxruntime")
    parser.add_argument("--python", default=None, help="interpreter of the virtual environment")
    options = parser.parse_args(argv)
    with (ROOT / "Makefile").open(encoding="utf-8") as lock:
        try:
            refuse_ros_distribution(os.environ)
            fcntl.flock(lock, fcntl.LOCK_EX)
            Setup(
                ROOT,
                options.python or None,
                with_training=options.training,
                with_tests=options.tests,
                with_cuda=options.cuda,
                with_perception=options.perception,
            ).run()
        except (SetupError, system_packages.MissingPackagesError) as error:
            return _fail(str(error))
        except KeyboardInterrupt:
            return _fail("interrupted; the next call goes on here")
    return 0


def _fail(sentence: str) -> int:
    sys.stderr.write(f"setup: {sentence}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
