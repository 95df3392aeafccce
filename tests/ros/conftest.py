"""Every run of the ROS tests keeps to itself: its own domain, this machine, quick discovery."""

from __future__ import annotations

import os
from pathlib import Path

BRINGUP = Path(__file__).resolve().parents[2] / "ros2_ws" / "src" / "timar_bringup"

# Read by the middleware at rclpy.init, so it must be set before any test begins.
os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
os.environ.setdefault("FASTDDS_DEFAULT_PROFILES_FILE", str(BRINGUP / "config" / "fastdds.xml"))
