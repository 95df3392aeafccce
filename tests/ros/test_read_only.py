"""A node on a file system that may not be written: it starts, and its log goes elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from node_process import PATIENCE_S

pytestmark = pytest.mark.ros

NODE = """
import os
import rclpy
from timar_bringup.composer import ros_environment
os.environ.update(ros_environment(os.environ))
rclpy.init()
rclpy.create_node("logger").get_logger().info("up")
print(os.environ["ROS_LOG_DIR"])
"""


def test_node_starts_where_home_is_read_only(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    mount = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o ro none "$0" && exec "$@"', str(home)]
    if subprocess.run([*mount, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a read-only file system needs root and mount namespaces")
    elsewhere = ("ROS_LOG_DIR", "ROS_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in elsewhere}
    environment["HOME"] = str(home)
    command = [*mount, sys.executable, "-c", NODE]
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert run.returncode == 0, run.stderr
    assert not Path(run.stdout.strip()).is_relative_to(home)
