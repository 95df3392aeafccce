"""What `make wheels` builds runs where there is no ROS, no torch and nothing else of this project."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from timar_common.motion_file import read_motion
from timar_common.wav import read_wav
from timar_model.session.recording import run_session

from timar_model import load_model

ROOT = Path(__file__).resolve().parents[2]
VOICES = [ROOT / "examples" / "data" / "conversation" / f"conversation_speaker{n}.wav" for n in (1, 2)]
UV = Path(sys.prefix, "bin", "uv")


@pytest.mark.slow
@pytest.mark.skipif(
    not UV.is_file(), reason="uv comes with `make setup`, beside the interpreter of the tests"
)
def test_from_an_empty_environment_to_the_motion_of_two_wavs_within_a_minute(tmp_path: Path):
    environment = {**os.environ, "PATH": f"{UV.parent}:{os.environ['PATH']}"}
    environment.pop("VIRTUAL_ENV", None)
    environment.pop("PYTHONPATH", None)
    build = subprocess.run(
        [ROOT / "tools" / "wheels.bash", tmp_path / "dist"], env=environment, capture_output=True, text=True
    )
    if "error sending request" in build.stderr:
        pytest.skip("no package registry can be reached from here")
    assert build.returncode == 0, build.stderr

    began_s, python = time.monotonic(), tmp_path / "venv" / "bin" / "python"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"], check=True)
    install = [UV, "pip", "install", "--quiet", "--no-cache", "--python", python]
    install += ["--find-links", tmp_path / "dist", "timar-model"]
    subprocess.run(install, env=environment, check=True)
    program, out = python.parent / "timar-model", tmp_path / "motion.npz"
    # An environment of its own: nothing of this workspace is on its path.
    alone = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    subprocess.run([program, "run", *VOICES, out], env=alone, cwd=tmp_path, check=True)
    took_s = time.monotonic() - began_s

    voices = [read_wav(voice).astype(np.float32) / 32768 for voice in VOICES]
    expected = run_session(load_model("calm-head").session("onnx"), *voices)
    # Another release of onnxruntime sums in another order.
    assert np.abs(read_motion(out).vector - expected).max() < 1e-3
    done = subprocess.run(
        [program, "run", tmp_path / "no.wav", VOICES[1], out], env=alone, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "no sound file" in done.stderr
    assert "Traceback" not in done.stderr
    installed = {
        path.name.partition("-")[0] for path in python.parents[1].glob("lib/*/site-packages/*.dist-info")
    }
    assert not installed & {"torch", "rclpy", "ros_kilted_rclpy", "transformers"}
    assert took_s < 60
