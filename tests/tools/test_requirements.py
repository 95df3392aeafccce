"""Whatever the project imports is in a requirements file, and running the head needs no torch."""

from __future__ import annotations

import ast
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
    "pywebrtc_audio": "pywebrtc-audio",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "webrtcvad": "webrtcvad-wheels",
    "yaml": "pyyaml",
}
# rosdep key -> what pip would call it.
BY_ROSDEP = {
    "python3-matplotlib": "matplotlib",
    "python3-numpy": "numpy",
    "python3-opencv": "opencv-python-headless",
    "python3-pil": "pillow",
    "python3-rich": "rich",
    "python3-scipy": "scipy",
    "python3-yaml": "pyyaml",
}
ROS = {"rclpy", "launch", "launch_ros", "ament_index_python", "rcl_interfaces", "builtin_interfaces"}
OF_THE_WORKSPACE_BUILD = {"colcon-common-extensions", "setuptools"}


def required(*names: str) -> set[str]:
    found = set()
    for name in names:
        for line in (ROOT / "requirements" / f"{name}.txt").read_text("utf-8").splitlines():
            if line and not line.startswith(("#", "-")):
                found.add(re.split(r"[<>=; ]", line)[0].lower())
    return found


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


def rooms() -> list[Path]:
    return [path for path in sorted(SOURCE.iterdir()) if not path.is_symlink()]


def test_rooms_of_the_head_import_only_what_running_it_brings():
    heads = third_party(files(*(room for room in rooms() if room.name != "timar_model")))
    missing = {name: where for name, where in heads.items() if name not in required("run", "extra")}
    eyes = {"mediapipe", "opencv-python-headless"}
    assert set(missing) == eyes & required("perception"), "the eyes alone may need more, and only themselves"
    assert all("timar_perception" in file for name in eyes for file in missing[name])


def test_model_and_training_import_only_what_training_brings():
    found = third_party(files(ROOT / "timar_model" / "timar_model", ROOT / "training"))
    missing = {
        name: where for name, where in found.items() if name not in required("run", "train") | {"torch"}
    }
    assert missing == {}


def test_tests_benchmarks_and_examples_import_only_what_is_listed():
    listed = required("run", "perception", "train", "test", "extra") | {"torch"}
    found = third_party(files(*(ROOT / name for name in ("tests", "benchmarks", "examples", "tools"))))
    assert {name: where for name, where in found.items() if name not in listed} == {}


def test_running_the_head_brings_no_torch():
    assert not (required("run", "native") & {"torch", "accelerate", "transformers", "onnx"})


def test_what_comes_without_its_dependencies_is_pinned_and_asked_for_nowhere_else():
    """pip would bring torch with silero-vad; the lock would then hold it as well."""
    lock = (ROOT / "tools" / "lock.py").read_text("utf-8")
    assert required("alone") == {name for name in required("alone") if f'"{name}==' in lock}
    assert not required("alone") & required("run", "train", "test", "extra", "native")
    assert required("perception") - {"absl-py", "flatbuffers"} == {
        name for name in required("perception") if f"{name}==" in lock
    }


def test_what_rosdep_lacks_is_all_the_head_needs_without_wheels_and_what_rosdep_brings():
    """The line of docs/setup.md once lacked half of it."""
    keys = {
        element.text
        for room in rooms()
        for element in ElementTree.parse(room / "package.xml").getroot()
        if element.tag.endswith("depend") and element.text
    }
    by_rosdep = {name for key, name in BY_ROSDEP.items() if key in keys}
    needed = {name for name in required("run") if not name.startswith("ros-")} - OF_THE_WORKSPACE_BUILD
    assert required("native") - {"numpy"} == needed - by_rosdep
    assert "-r requirements/native.txt" in (ROOT / "docs" / "setup.md").read_text("utf-8")


def test_every_third_party_import_has_a_pin():
    pinned = {
        line.partition("==")[0]
        for line in (ROOT / "requirements" / "constraints.txt").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    }
    assert required("run", "alone", "perception", "train", "test", "extra") | {"torch"} <= pinned
