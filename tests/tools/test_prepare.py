"""Set-up: what it refuses, what it repairs, and that it does things once."""

from __future__ import annotations

import importlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
prepare = importlib.import_module("prepare")


def test_sourced_ros_distribution_is_left_aside_and_what_else_was_set_stays(tmp_path):
    """A person whose .bashrc sources ROS 2 types `make demo` as everybody does."""
    underlay, overlay = "/opt/ros/jazzy", tmp_path / "ws" / "install"
    sourced = {
        "ROS_DISTRO": "jazzy",
        "ROS_VERSION": "2",
        "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp",
        "ROS_DOMAIN_ID": "7",
        "AMENT_PREFIX_PATH": f"{overlay / 'pkg'}:{underlay}",
        "COLCON_PREFIX_PATH": str(overlay),
        "CMAKE_PREFIX_PATH": f"{overlay / 'pkg'}:/my/cmake",
        "PYTHONPATH": f"{overlay}/pkg/lib/python3.12:{underlay}/lib/python3.12/site-packages:/my lib",
        "LD_LIBRARY_PATH": f"{underlay}/opt/rviz_ogre_vendor/lib:{underlay}/lib",
        "PATH": f"{underlay}/bin:{os.environ['PATH']}",
    }
    shell = f". '{ROOT}/tools/leave_ros.bash'; env -0"
    done = subprocess.run(["bash", "-c", shell], env=sourced, capture_output=True, text=True, check=True)
    assert "ROS 2 jazzy is sourced in this shell; it is left aside here" in done.stderr
    left = dict(line.split("=", 1) for line in done.stdout.split("\0") if line)
    assert left["PATH"] == os.environ["PATH"]
    assert (left["PYTHONPATH"], left["CMAKE_PREFIX_PATH"], left["ROS_DOMAIN_ID"]) == (
        "/my lib",
        "/my/cmake",
        "7",
    )
    assert not {"ROS_DISTRO", "ROS_VERSION", "RMW_IMPLEMENTATION", "AMENT_PREFIX_PATH"} & set(left)
    assert left["LD_LIBRARY_PATH"] == ""


def test_shell_without_a_ros_distribution_is_left_as_it_is():
    shell = f"set -eu; . '{ROOT}/tools/leave_ros.bash'; echo \"$PATH\""
    plain = {"PATH": f"{os.environ['PATH']}:/a b"}
    done = subprocess.run(["bash", "-c", shell], env=plain, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"{plain['PATH']}\n", "")


def test_python_that_is_missing_or_too_old_is_named(tmp_path):
    old = tmp_path / "python-old"
    old.write_text("#!/bin/sh\necho 3 8\n")
    old.chmod(0o755)
    with pytest.raises(
        prepare.SetupError, match=r"Python 3\.10 to 3\.13 is needed, and .*python-old is 3\.8"
    ):
        prepare.choose_python(str(old))
    with pytest.raises(prepare.SetupError, match="no-such-python is missing"):
        prepare.choose_python("no-such-python")


def test_cmake_files_of_the_wheels_get_this_machines_include_folders_and_uvs_cache_stays(
    tmp_path, monkeypatch
):
    """uv links files of a wheel to its cache: what is written into one would be in every environment."""
    environment = prepare.Environment(tmp_path / "with spaces")
    share = environment.venv / "share" / "rclpy" / "cmake"
    share.mkdir(parents=True)
    left = "/opt/python/cp312-cp312"
    numpy_left = f"{left}/lib/python3.12/site-packages/numpy/_core/include"
    text = f'set(_inc "{left}/include/python3.12;/usr/include")\n"{numpy_left}"\n'
    cached = tmp_path / "cached.cmake"
    cached.write_text(text)
    os.link(cached, share / "export.cmake")
    (share / "other.cmake").write_text("set(_inc /usr/include)\n")
    listing = share / "rosidl_adapt_interfaces.cmake"
    listing.write_text('  file(STRINGS "${idl_output}" idl_tuples)\n')
    include, numpy_include = r"/py\1/include/python3.11", "/venv with spaces/numpy/_core/include"
    monkeypatch.setattr(prepare.subprocess, "check_output", lambda *_, **__: f"{include}\n{numpy_include}\n")
    assert environment.repair_cmake_files() == 2
    assert listing.read_text() == '  file(STRINGS "${idl_output}" idl_tuples ENCODING UTF-8)\n'
    assert (share / "export.cmake").read_text() == f'set(_inc "{include};/usr/include")\n"{numpy_include}"\n'
    assert cached.read_text() == text
    assert environment.repair_cmake_files() == 0


def test_half_installed_package_is_forgotten_so_that_it_is_installed_again(tmp_path):
    names = ("whole-1.0", "half-1.0", "no_record-1.0")
    for name, files in zip(names, (("INSTALLER", "RECORD"), ("RECORD",), ("INSTALLER",)), strict=True):
        folder = tmp_path / f"{name}.dist-info"
        folder.mkdir()
        for file in ("METADATA", *files):
            (folder / file).write_text("Name: x\n")
    (tmp_path / "half-1.0.data" / "data").mkdir(parents=True)
    assert sorted(prepare.forget_half_installed(tmp_path)) == [
        "half-1.0.dist-info",
        "no_record-1.0.dist-info",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["whole-1.0.dist-info"]


def test_workspace_is_built_again_for_new_interfaces_and_data_files_but_not_for_python(tmp_path):
    package = tmp_path / "src" / "pkg"
    (package / "pkg").mkdir(parents=True)
    (package / "package.xml").write_text("<package/>")
    (package / "A.msg").write_text("int64 a\n")
    (package / "robot.yaml").write_text("a: 1\n")

    def digest() -> str:
        return prepare.workspace_digest(tmp_path / "src")

    before = digest()
    (package / "pkg" / "core.py").write_text("A = 1\n")
    (package / "robot.yaml").write_text("a: 2\n")
    assert digest() == before
    (package / "A.msg").write_text("int32 a\n")
    changed = digest()
    assert changed != before
    (package / "head.urdf").write_text("<robot/>")
    assert digest() != changed


def test_workspace_is_built_once_and_again_after_an_interruption(tmp_path, monkeypatch):
    (tmp_path / "ros2_ws" / "src").mkdir(parents=True)
    install = tmp_path / "ros2_ws" / "install"
    calls = []

    def build(command, *_):
        calls.append(command)
        install.mkdir(exist_ok=True)
        (install / "local_setup.bash").touch()
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "run", build)
    environment = prepare.Environment(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        environment.build_workspace()
    for _ in range(3):
        environment.build_workspace()
    assert len(calls) == 2


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An environment whose commands are only noted."""
    site = tmp_path / ".venv" / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    (tmp_path / "requirements").mkdir()
    for name in ("uv", "torch"):
        (tmp_path / "requirements" / f"{name}.txt").write_text(f"# why\n{name}==1.0\n")
    commands: list[str] = []
    monkeypatch.setattr(prepare, "run", lambda command, *_: commands.append(" ".join(map(str, command))))
    monkeypatch.setattr(prepare, "_succeeds", lambda *_: False)
    return tmp_path, site, commands


def installed_dist(site: Path, name: str) -> None:
    folder = site / f"{name}.dist-info"
    folder.mkdir()
    for file in ("INSTALLER", "RECORD"):
        (folder / file).touch()


def test_running_brings_no_torch_and_nothing_takes_away_what_is_there(installed):
    root, site, commands = installed
    prepare.Environment(root).install_packages(set())
    assert "torch==" not in " ".join(commands)
    assert commands[0].endswith("uv==1.0")
    assert "uv sync --frozen --inexact" in commands[1]
    assert "--group" not in commands[1]
    installed_dist(site, "uv-1.0")
    commands.clear()
    prepare.Environment(root).install_packages({"training", "tests"})
    assert next(command.split()[-1] for command in commands) == "torch==1.0", "no CPU build was found"
    assert "--group tests --group training" in commands[1]
    installed_dist(site, "torch-1.0+cpu")
    commands.clear()
    prepare.Environment(root).install_packages({"training"})
    assert len(commands) == 1


def test_cuda_takes_the_place_of_the_builds_for_the_processor(installed):
    root, site, commands = installed
    for name in ("uv-1.0", "torch-1.0+cpu", "onnxruntime-1.0"):
        installed_dist(site, name)
    prepare.Environment(root, is_cuda=True).install_packages({"training"})
    torch, uninstall, sync = commands
    assert "--force-reinstall torch==1.0" in torch
    assert uninstall.endswith("uninstall --python " + str(root / ".venv/bin/python") + " onnxruntime")
    assert "--group cuda" in sync
    assert "--no-install-package onnxruntime" in sync


def test_what_is_complete_is_not_installed_again(installed, monkeypatch):
    root, site, commands = installed
    installed_dist(site, "uv-1.0")
    monkeypatch.setattr(prepare, "_succeeds", lambda *_: True)
    prepare.Environment(root).install_packages({"perception"})
    assert commands == []


def test_cache_lies_in_the_environment_where_home_cannot_be_written(tmp_path, monkeypatch):
    writable = prepare.uv_environment({"HOME": str(tmp_path)}, tmp_path / ".venv")
    assert writable["UV_CACHE_DIR"] == str(tmp_path / ".cache" / "uv")
    monkeypatch.setattr(prepare.os, "access", lambda *_: False)
    sealed = prepare.uv_environment({"HOME": "/"}, tmp_path / ".venv")
    assert sealed["UV_CACHE_DIR"] == str(tmp_path / ".venv" / ".uv-cache")


def absent(names, monkeypatch, programs):
    monkeypatch.setattr(prepare.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(
        prepare.shutil, "which", lambda name: f"/usr/bin/{name}" if name in programs else None
    )
    monkeypatch.setattr(prepare, "SYSTEM_PACKAGES", {"run": {name: lambda _: False for name in names}})


def test_missing_system_packages_are_listed_in_one_line_to_type(monkeypatch):
    absent(["cmake", "libportaudio2"], monkeypatch, ["apt-get"])
    with pytest.raises(prepare.SetupError) as error:
        prepare.install_system_packages(["run"], sys.executable)
    last = str(error.value).splitlines()[-1]
    assert last == "sudo apt-get update && sudo apt-get install -y cmake libportaudio2"


def test_optional_package_that_cannot_be_had_does_not_stop_the_setup_and_is_tried_once(monkeypatch, capsys):
    absent(["chromium"], monkeypatch, [])
    assert prepare.install_system_packages(["run"], sys.executable) == ["chromium"]
    assert "going on without chromium" in capsys.readouterr().out
    assert prepare.install_system_packages(["run"], sys.executable, ["chromium"]) == ["chromium"]
    assert capsys.readouterr().out == ""


def test_big_packages_of_the_tests_are_fetched_with_progress(tmp_path, capsys):
    apt = tmp_path / "apt-get"
    apt.write_text(
        "#!/bin/sh\nprintf '%s\\n' dlstatus:1:4.5:x dlstatus:1:9.9:x dlstatus:2:55.0:x - pmstatus:a:100:x\n"
    )
    apt.chmod(0o755)
    prepare.run_apt([str(apt), "install", "chromium"])
    shown = capsys.readouterr().out.splitlines()[1:]
    assert shown == ["setup: downloading, 0 %", "setup: downloading, 50 %", "setup: installing, 100 %"]


def test_browser_and_sound_server_come_only_with_the_tests_that_need_them():
    for group, packages in prepare.SYSTEM_PACKAGES.items():
        assert ("chromium" in packages) == (group == "browser")
        assert ("pulseaudio" in packages) == (group == "sound")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "\ntest-fast: setup-tests " in makefile
    assert "\ntest: setup-all-tests " in makefile


def test_make_alone_lists_every_target_with_its_meaning():
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in (
        "setup", "demo", "run", "test", "test-fast", "test-slow", "lint", "format", "types", "bench", "docs",
        "lock", "clean",
    ):  # fmt: skip
        assert f"  make {target} " in shown


@pytest.mark.ros
def test_environment_is_whole_when_it_is_sourced_by_a_program_that_runs_in_it() -> None:
    """`make bench` starts `make demo`: the wheels believed a library path that had been left aside."""
    script = f". {shlex.quote(str(ROOT / 'tools/env.bash'))} && python -c 'import rclpy'"
    subprocess.run(["bash", "-c", script], check=True, timeout=60)
