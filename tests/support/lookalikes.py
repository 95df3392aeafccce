"""Interface packages that look like other projects', built by rosidl once and kept: same names, same fields.

Both audio_common_msgs cannot be installed at once, so each lives in a prefix of its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / ".venv" / ".timar" / "lookalikes"

PACKAGES: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "ros_drivers": {
        "audio_common_msgs": {
            "AudioData": "uint8[] data",
            "AudioDataStamped": "std_msgs/Header header\naudio_common_msgs/AudioData audio",
            "AudioInfo": (
                "uint8 channels\nuint32 sample_rate\nstring sample_format\nuint32 bitrate\n"
                "string coding_format"
            ),
        },
        "hri_msgs": {"IdsList": "std_msgs/Header header\nstring[] ids"},
    },
    "mgonzs13": {
        "audio_common_msgs": {
            "AudioData": (
                "float32[] float32_data\nint32[] int32_data\nint16[] int16_data\nint8[] int8_data\n"
                "uint8[] uint8_data"
            ),
            "AudioInfo": "int32 format\nint32 channels\nint32 rate\nint32 chunk",
            "Audio": "audio_common_msgs/AudioData audio_data\naudio_common_msgs/AudioInfo info",
            "AudioStamped": "std_msgs/Header header\naudio_common_msgs/Audio audio",
        },
    },
}
"""Prefix -> package -> message -> its fields."""

# Only what rclpy needs is generated: C, its type support, and Python. C++ would take twice the time.
CMAKE = """cmake_minimum_required(VERSION 3.16)
project({name})
find_package(ament_cmake REQUIRED)
find_package(std_msgs REQUIRED)
{generators}
rosidl_generate_interfaces({name} {files} DEPENDENCIES std_msgs)
ament_package()
"""
GENERATORS = (
    "rosidl_cmake",
    "rosidl_generator_type_description",
    "rosidl_generator_c",
    "rosidl_generator_cpp",
    "rosidl_typesupport_introspection_c",
    "rosidl_typesupport_fastrtps_c",
    "rosidl_typesupport_fastrtps_cpp",
    "rosidl_typesupport_c",
    "rosidl_generator_py",
)
MANIFEST = """<?xml version="1.0"?>
<package format="3">
  <name>{name}</name>
  <version>0.0.1</version>
  <description>Looks like another project's package of this name, for tests.</description>
  <maintainer email="timar@example.org">TIMAR head developers</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <depend>std_msgs</depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""


def lookalike(prefix: str) -> dict[str, str]:
    """Build a prefix unless it is there, and return the environment of a process that has sourced it.

    Raises:
        RuntimeError: It does not build; the end of what colcon wrote is in the message.
    """
    packages = PACKAGES[prefix]
    folder = KEPT / f"{prefix}-{_digest(packages)}"
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / f"{prefix}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "built").is_file():
            _build(folder, packages)
            (folder / "built").touch()
    return _sourced(folder / "install", packages)


def _digest(packages: Mapping[str, Mapping[str, str]]) -> str:
    text = repr((packages, CMAKE, GENERATORS, sys.version_info[:2]))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _build(folder: Path, packages: Mapping[str, Mapping[str, str]]) -> None:
    for name, messages in packages.items():
        package = folder / "src" / name
        (package / "msg").mkdir(parents=True, exist_ok=True)
        (package / "package.xml").write_text(MANIFEST.format(name=name))
        generators = "\n".join(f"find_package({generator} REQUIRED)" for generator in GENERATORS)
        files = " ".join(f'"msg/{message}.msg"' for message in messages)
        (package / "CMakeLists.txt").write_text(CMAKE.format(name=name, generators=generators, files=files))
        for message, fields in messages.items():
            (package / "msg" / f"{message}.msg").write_text(fields + "\n")
    environment = os.environ | {"AMENT_PREFIX_PATH": sys.prefix, "CMAKE_BUILD_PARALLEL_LEVEL": "2"}
    command = [sys.executable, "-m", "colcon", "build", "--cmake-args", "-DBUILD_TESTING=OFF"]
    command += [f"-DPython3_EXECUTABLE={sys.executable}", "-DCMAKE_C_FLAGS=-O0", "-DCMAKE_CXX_FLAGS=-O0"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{folder} does not build:\n{(done.stdout + done.stderr)[-3000:]}")


def _sourced(install: Path, packages: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    environment = dict(os.environ)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for name in packages:
        for variable, part in (
            ("AMENT_PREFIX_PATH", ""),
            ("LD_LIBRARY_PATH", "lib"),
            ("PYTHONPATH", f"lib/{version}/site-packages"),
        ):
            before = environment.get(variable)
            path = str(install / name / part) if part else str(install / name)
            environment[variable] = os.pathsep.join([path, *([before] if before else [])])
    return environment
