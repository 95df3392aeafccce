"""Whatever the project imports is in pyproject.toml and uv.lock, and running the head needs no torch."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "ros2_ws" / "src"
# Module -> distribution, where the two names differ.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "dynamixel_sdk": "dynamixel-sdk",
    "faster_whisper": "faster-whisper",
    "huggingface_hub": "huggingface-hub",
    "livekit": "livekit-agents",
    "pipecat": "pipecat-ai",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "typing_extensions": "typing-extensions",
    "sklearn": "scikit-learn",
    "webrtcvad": "webrtcvad-wheels",
    "yaml": "pyyaml",
}
# rosdep key -> what pip would call it.
BY_ROSDEP = {
    "python3-cryptography": "cryptography",
    "python3-matplotlib": "matplotlib",
    "python3-numpy": "numpy",
    "python3-opencv": "opencv-python-headless",
    "python3-pil": "pillow",
    "python3-rich": "rich",
    "python3-scipy": "scipy",
    "python3-yaml": "pyyaml",
    "xacro": "xacro",
}
ROS = {"rclpy", "launch", "launch_ros", "ament_index_python", "rcl_interfaces", "builtin_interfaces"}
OF_THE_WORKSPACE_BUILD = {"colcon-common-extensions", "setuptools"}


# pytest brings tomli for Python 3.10.
tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
LOCK = tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))


def names(requirements: list) -> set[str]:
    """Return the distributions that some requirements name."""
    return {re.split(r"[<>=; ]", one)[0].lower() for one in requirements if isinstance(one, str)}


def required(*groups: str) -> set[str]:
    """Return the distributions of what runs the head ("run") and of groups of pyproject.toml."""
    found = set()
    for group in groups:
        found |= names(
            PROJECT["project"]["dependencies"] if group == "run" else PROJECT["dependency-groups"][group]
        )
    return found


def native() -> set[str]:
    return listed_in("native.txt")


def listed_in(name: str) -> set[str]:
    """Return the distributions that a file of the folder requirements lists."""
    lines = (ROOT / "requirements" / name).read_text("utf-8").splitlines()
    return names([line for line in lines if line and not line.startswith(("#", "-"))])


def files(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            if path.name != "setup.py" and "build" not in path.parts:
                yield path


def third_party(paths: Iterator[Path]) -> dict[str, list[str]]:
    """Return the distributions imported anywhere in some files, each with the files that do."""
    ours = {path.stem for path in (ROOT / "tests" / "support").glob("*.py")}
    ours |= {path.stem for folder in ("tools", "benchmarks") for path in (ROOT / folder).glob("*.py")}
    found: dict[str, list[str]] = {}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            for module in {name.split(".")[0] for name in names}:
                is_ours = module.startswith("timar_") or module in ours
                is_ros = module in ROS or module.endswith(("_msgs", "_srvs"))
                if not (is_ours or is_ros or module in sys.stdlib_module_names):
                    name = DISTRIBUTIONS.get(module, module).lower()
                    found.setdefault(name, []).append(str(path.relative_to(ROOT)))
    return found


VOICE_BOTS = ("timar_pipecat", "timar_livekit")
"""Packages that run beside a bot, in its environment."""


def packages() -> list[Path]:
    every = [path for path in sorted(SOURCE.iterdir()) if not path.is_symlink()]
    return [path for path in every if path.name not in VOICE_BOTS]


def test_packages_of_the_head_import_only_what_running_it_brings():
    heads = third_party(files(*(package for package in packages() if package.name != "timar_model")))
    missing = {name: where for name, where in heads.items() if name not in required("run", "cluster")}
    optional = {"perception": "timar_perception", "talk": "timar_dialogue"}
    for group, package in optional.items():
        own = [name for name in missing if name in required(group)]
        assert own, f"group {group} has nothing that {package} imports"
        assert all(package in file for name in own for file in missing.pop(name))
    assert missing == {}, "only face tracking and dialogue may need more"


def test_model_and_training_import_only_what_training_brings():
    found = third_party(files(ROOT / "timar_model" / "timar_model", ROOT / "training"))
    listed = required("run", "training") | {"torch"}
    assert {name: where for name, where in found.items() if name not in listed} == {}


def test_tests_benchmarks_and_examples_import_only_what_is_listed():
    listed = required("run", "perception", "training", "tests", "cluster") | {"torch"}
    listed |= listed_in("voice-bots.in")
    found = third_party(files(*(ROOT / name for name in ("tests", "benchmarks", "examples", "tools"))))
    assert {name: where for name, where in found.items() if name not in listed} == {}


def test_packages_beside_a_bot_import_only_what_its_environment_holds():
    found = third_party(files(*(SOURCE / name for name in VOICE_BOTS), SOURCE / "timar_websocket"))
    client = {
        file for where in found.values() for file in where if "server" not in file and "node" not in file
    }
    listed = listed_in("voice-bots.in")
    assert {name: where for name, where in found.items() if name not in listed and client & set(where)} == {}
    pinned = listed_in("voice-bots.txt")
    assert listed <= pinned, "write requirements/voice-bots.txt again, as voice-bots.in says"


def test_running_the_head_brings_no_torch():
    assert not ((required("run") | native()) & {"torch", "accelerate", "transformers", "onnx"})


def test_lock_holds_neither_build_of_torch_and_no_second_opencv():
    """A lock that held PyPI's torch would bring gigabytes of CUDA to machines without a GPU."""
    locked = {package["name"] for package in LOCK["package"]}
    assert not {name for name in locked if re.match(r"torch|nvidia-|triton|opencv-(?!python-headless)", name)}
    needs_of_torch = {"filelock", "fsspec", "jinja2", "networkx", "sympy", "typing-extensions"}
    assert needs_of_torch <= required("training"), "what torch needs comes by the lock"


def test_every_requirement_is_locked_for_every_python():
    versions: dict[str, list[dict]] = {}
    for package in LOCK["package"]:
        versions.setdefault(package["name"], []).append(package)
    listed = required("run", *PROJECT["dependency-groups"])
    assert {name.replace("_", "-") for name in listed} <= set(versions)
    assert LOCK["requires-python"].replace(" ", "") == PROJECT["project"]["requires-python"]
    forks = " ".join(LOCK["resolution-markers"])
    for python in ("< '3.11'", "== '3.11.*'", "== '3.12.*'", ">= '3.13'"):
        assert f"python_full_version {python}" in forks
    for machine in ("x86_64", "aarch64"):
        assert f"platform_machine == '{machine}'" in forks


def test_what_rosdep_lacks_is_all_the_head_needs_without_wheels_and_what_rosdep_brings():
    """The line of docs/setup.md once lacked half of it."""
    keys = {
        element.text
        for package in packages()
        for element in ElementTree.parse(package / "package.xml").getroot()
        if element.tag.endswith("depend") and element.text
    }
    by_rosdep = {name for key, name in BY_ROSDEP.items() if key in keys}
    ours = {"timar-training", "silero-vad"}
    needed = {name for name in required("run") if not name.startswith("ros-")} - OF_THE_WORKSPACE_BUILD - ours
    assert native() - {"numpy"} == needed - by_rosdep
    assert "-r requirements/native.txt" in (ROOT / "docs" / "setup.md").read_text("utf-8")


def test_releases_of_the_installer_and_of_torch_are_pinned():
    for name in ("uv", "torch"):
        lines = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8").split()
        assert re.fullmatch(rf"{name}==\d+\.\d+\.\d+", lines[-1])
