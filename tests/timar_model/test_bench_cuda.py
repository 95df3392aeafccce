"""`make bench-cuda` without a device: says so in one line, and its code runs on the CPU in a reduced form."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here: make bench-cuda measures it")
def test_without_a_device_it_says_so_and_finds_every_engine_right_on_the_cpu(tmp_path):
    page = tmp_path / "cuda.md"
    command = [sys.executable, str(ROOT / "benchmarks" / "bench_cuda.py"), "--out", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    said = [line for line in done.stderr.splitlines() if "no CUDA device" in line]
    assert len(said) == 1
    for engine in ("torch float32", "torch bfloat16", "torch float16", "onnx CPU float16"):
        assert f"| {engine} |" in done.stdout
    assert not page.exists()
