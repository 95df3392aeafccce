"""Set-up: what it refuses, what it repairs, and that it does things once."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
prepare = importlib.import_module("prepare")
system_packages = importlib.import_module("system_packages")
lock = importlib.import_module("lock")


def test_sourced_ros_distribution_is_refused_with_the_way_to_build_there():
    with pytest.raises(prepare.SetupError, match=r"ROS 2 jazzy .* colcon build .* ros2 launch timar_bringup"):
        prepare.refuse_ros_distribution({"ROS_DISTRO": "jazzy"})
    prepare.refuse_ros_distribution({})


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


def test_cmake_files_of_the_wheels_get_this_machines_include_folders(tmp_path):
    share = tmp_path / "share with spaces" / "rclpy" / "cmake"
    share.mkdir(parents=True)
    left = "/opt/python/cp312-cp312"
    file = share / "export.cmake"
    file.write_text(
        f'set(_inc "{left}/include/python3.12;/usr/include")\n'
        f'"{left}/lib/python3.12/site-packages/numpy/_core/include"\n'
    )
    (share / "other.cmake").write_text("set(_inc /usr/include)\n")
    include, numpy_include = r"/py\1/include/python3.11", "/venv with spaces/numpy/_core/include"
    assert prepare.repair_cmake_files(tmp_path / "share with spaces", include, numpy_include) == 1
    assert file.read_text() == f'set(_inc "{include};/usr/include")\n"{numpy_include}"\n'
    assert prepare.repair_cmake_files(tmp_path / "share with spaces", include, numpy_include) == 0


def test_half_installed_package_is_forgotten_so_that_pip_installs_it_again(tmp_path):
    whole, half = tmp_path / "whole-1.0.dist-info", tmp_path / "half-1.0.dist-info"
    for folder in (whole, half):
        folder.mkdir()
        (folder / "METADATA").write_text("Name: x\n")
    (whole / "RECORD").write_text("")
    assert prepare.drop_half_installed(tmp_path) == ["half-1.0.dist-info"]
    assert whole.is_dir()
    assert not half.exists()


def test_step_runs_again_only_when_its_inputs_change(tmp_path):
    ran = []
    for digest in ("a", "a", "b", "b"):
        prepare.Steps(tmp_path).run("step", "a step", digest, lambda digest=digest: ran.append(digest))
    assert ran == ["a", "b"]


def test_step_that_was_interrupted_is_done_again(tmp_path):
    def interrupted() -> None:
        raise KeyboardInterrupt

    steps = prepare.Steps(tmp_path)
    steps.run("step", "a step", "a", lambda: None)
    with pytest.raises(KeyboardInterrupt):
        steps.run("step", "a step", "b", interrupted)
    for digest in ("a", "b"):
        ran = []
        prepare.Steps(tmp_path).run("step", "a step", digest, lambda ran=ran: ran.append(1))
        assert ran == [1], digest


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


def test_running_brings_no_torch_and_tests_add_it_without_doing_anything_twice(tmp_path, monkeypatch):
    for name in ("run", "alone", "perception", "train", "test", "cuda", "constraints"):
        (tmp_path / "requirements").mkdir(exist_ok=True)
        (tmp_path / "requirements" / f"{name}.txt").write_text(
            "torch==1.0\n" if name == "constraints" else ""
        )
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "setup.py").write_text("")
    install = tmp_path / "ros2_ws" / "install"
    install.mkdir(parents=True)
    (install / "local_setup.bash").write_text("")
    monkeypatch.setattr(system_packages, "install_missing", lambda *_: [])
    for action in ("make_venv", "pip", "install_torch", "install_training", "repair_cmake", "build"):
        monkeypatch.setattr(prepare.Setup, f"_{action}", lambda self, *_: None)

    def steps(*, training: bool = False, perception: bool = False, tests: bool = False) -> list[str]:
        setup = prepare.Setup(
            tmp_path,
            sys.executable,
            with_training=training,
            with_tests=tests,
            with_cuda=False,
            with_perception=perception,
        )
        return setup.run()

    assert steps() == ["venv", "packages", "training", "cmake", "workspace"]
    assert steps() == []
    assert steps(perception=True) == ["perception-packages"]
    assert steps(training=True) == ["torch", "training-packages"]
    assert steps(tests=True) == ["test-packages"]
    assert steps() == steps(training=True) == steps(tests=True) == []
    (tmp_path / "requirements" / "train.txt").write_text("transformers\n")
    assert steps() == []
    assert steps(tests=True) == ["training-packages"]


def test_missing_system_packages_are_said_in_one_line_to_type(monkeypatch):
    monkeypatch.setattr(system_packages.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(
        system_packages.shutil, "which", lambda name: "/usr/bin/apt-get" if name == "apt-get" else None
    )
    absent = [
        system_packages.SystemPackage("cmake", lambda python: False),
        system_packages.SystemPackage("libportaudio2", lambda python: False),
        system_packages.SystemPackage("make", lambda python: True),
    ]
    with pytest.raises(system_packages.MissingPackagesError) as error:
        system_packages.install_missing(absent, sys.executable, lambda text: None)
    last = str(error.value).splitlines()[-1]
    assert last == "sudo apt-get update && sudo apt-get install -y cmake libportaudio2"


def test_optional_package_that_cannot_be_had_does_not_stop_the_setup(monkeypatch):
    monkeypatch.setattr(system_packages.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(system_packages.shutil, "which", lambda name: None)
    said: list[str] = []
    browser = system_packages.SystemPackage("chromium", lambda python: False, is_optional=True)
    assert system_packages.install_missing([browser], sys.executable, said.append) == [browser]
    assert "chromium" in said[-1]


def test_what_the_test_components_stand_on_is_installed_for_the_tests():
    names = {package.name for package in system_packages.needed(with_tests=True, with_perception=True)}
    assert set(prepare.TEST_COMPONENTS.values()) <= names


def test_locked_versions_that_differ_between_pythons_carry_a_marker():
    lines = lock.merge(
        {"3.10": {"numpy": "2.2.6", "rich": "14.0"}, "3.11": {"numpy": "2.4.6", "rich": "14.0"}}
    )
    assert lines == [
        'numpy==2.2.6; python_version == "3.10"',
        'numpy==2.4.6; python_version == "3.11"',
        "rich==14.0",
    ]


def test_every_requirement_is_pinned_for_every_python():
    folder = ROOT / "requirements"
    pins: dict[str, list[str]] = {}
    for line in (folder / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition("==")
            pins.setdefault(name, []).append(rest)
    for file in ("run.txt", "test.txt"):
        for line in (folder / file).read_text().splitlines():
            if not line or line.startswith(("#", "-")):
                continue
            name = line.partition(";")[0].partition("<")[0].strip().lower()
            assert name in pins, f"{file}: {name} has no pin; make lock"
            marked = " ".join(pins[name])
            if "python_version" in marked:
                for python in ("3.10", "3.11", "3.12", "3.13"):
                    assert f'"{python}"' in marked, (name, python)


def test_make_alone_lists_every_target_with_its_meaning():
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in (
        "setup",
        "demo",
        "run",
        "test",
        "lint",
        "format",
        "types",
        "bench",
        "docs",
        "lock",
        "clean",
    ):
        assert f"  make {target} " in shown
