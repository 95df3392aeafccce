"""No image leaves the machine, enters a bag, or is needed by a head without face tracking."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from timar_bringup.graph import plan, read_arguments
from timar_common.topics import TOPICS
from timar_perception.perception_component import PerceptionComponent

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ros2_ws/src/timar_perception"
OF_PERCEPTION = ("cv2", "mediapipe")


def test_no_topic_that_the_recorder_takes_carries_images():
    assert [topic.name for topic in TOPICS.values() if "Image" in topic.type_name] == []
    recorder = (ROOT / "ros2_ws/src/timar_bag/timar_bag/recorder_node.py").read_text("utf-8")
    assert "image" not in recorder.lower(), "the recorder knows no topic but those of the table"


def test_perception_publishes_nothing_but_motion():
    assert PerceptionComponent.outputs == ("user/motion",)
    sources = [path.read_text("utf-8") for path in PACKAGE.rglob("*.py")]
    for word in (
        "create_topic_publisher", "create_publisher", "create_external_publisher",
        "imwrite", "VideoWriter", "imencode", "socket", "urllib", "requests", ".tofile(", "np.save",
    ):  # fmt: skip
        assert not any(word in source for source in sources), (
            f"perception must not write or send images: {word}"
        )


def test_the_landmark_library_cannot_speak_to_the_network():
    """From 0.10.35 on MediaPipe reports its use to Google, by libcurl; the pinned version has none."""
    # Found and not imported: MediaPipe opens PortAudio, which then sees no sound server that starts later.
    package = importlib.util.find_spec("mediapipe")
    assert package is not None
    assert package.origin is not None
    library = Path(package.origin).parent / "tasks" / "c" / "libmediapipe.so"
    content = library.read_bytes()
    for name in (b"curl_easy", b"getaddrinfo", b"clearcut"):
        assert name not in content, f"{library} contains {name.decode()}"


def test_perception_is_off_unless_asked_for():
    assert "perception" not in [planned.node.name for planned in plan(read_arguments([])).nodes]


def test_the_graph_without_perception_needs_nothing_of_its_libraries():
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({OF_PERCEPTION!r}))\n"
        "from timar_bringup.graph import plan, read_arguments\n"
        "import importlib, pkgutil\n"
        "for planned in plan(read_arguments([])).nodes:\n"
        "    package = importlib.import_module(planned.node.package)\n"
        "    for module in pkgutil.iter_modules(package.__path__, planned.node.package + '.'):\n"
        "        if not module.name.endswith('_node'):\n"
        "            importlib.import_module(module.name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
