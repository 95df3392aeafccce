"""The action follow_joint_trajectory, with an interface of control_msgs' documented fields built for it.

The wheels of ROS 2 lack control_msgs, and a distribution has it: where it is there, it is used.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ros

pytest.importorskip("rclpy", reason="needs ROS 2: run `make setup`")
pytest.importorskip("timar_msgs.msg", reason="needs the built workspace: run `make build`")

ROOT = Path(__file__).resolve().parents[2]
INTERFACE = ROOT / "tests/interfaces/control_msgs"
CASES = ROOT / "tests/support/follow_joint_trajectory_cases.py"
PREFIXES = ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PATH")


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """An environment that has control_msgs: this one, or with the interface built once and kept in .state."""
    if importlib.util.find_spec("control_msgs") is not None:
        return dict(os.environ)
    total = hashlib.sha256(f"{ROOT} {sys.version}".encode())
    for path in sorted(path for path in INTERFACE.rglob("*") if path.is_file()):
        total.update(path.read_bytes())
    folder = ROOT / ".state" / f"control_msgs-{total.hexdigest()[:12]}"
    script = folder / "install/control_msgs/share/control_msgs/package.bash"
    if not script.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        build = [sys.executable, "-m", "colcon", "--log-base", str(folder / "log"), "build"]
        build += ["--base-paths", str(INTERFACE), "--build-base", str(folder / "build")]
        build += ["--install-base", str(folder / "install"), "--cmake-args", "-DBUILD_TESTING=OFF"]
        build.append(f"-DPython3_EXECUTABLE={sys.executable}")
        jobs = {"MAKEFLAGS": f"-j{os.cpu_count() or 1} -l1000", **os.environ}
        made = subprocess.run(build, cwd=folder, env=jobs, capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stdout + made.stderr
    setup = folder / "install/local_setup.bash"
    command = 'source "$1" >/dev/null 2>&1; "$2" -c "import os, json; print(json.dumps(dict(os.environ)))"'
    shown = subprocess.run(
        ["bash", "-c", command, "bash", setup, sys.executable], capture_output=True, text=True, check=True
    )
    found = json.loads(shown.stdout)
    return {**os.environ, **{name: found[name] for name in PREFIXES if name in found}}


def test_clients_of_the_action_move_the_head(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CASES)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout


def test_without_control_msgs_the_log_says_that_the_action_is_absent() -> None:
    if importlib.util.find_spec("control_msgs") is not None:
        pytest.skip("control_msgs is installed here")
    from timar_retargeting import trajectory_action_node

    assert trajectory_action_node.FollowJointTrajectory is None
    assert "external/joint_trajectory takes trajectories" in trajectory_action_node.ABSENT
